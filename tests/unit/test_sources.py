"""Where llama.cpp's source comes from: a tree, an archive, a Git repository, a package index. Each of them real, and on this machine."""

from __future__ import annotations

import functools
import hashlib
import http.server
import io
import json
import re
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from pydantic import ValidationError
from small_page import keep_node, small_page

from cli import main
from control.fetching.download import without_password
from control.fetching.package_index import indexes
from control.llama_cpp.lock import sources, write_lock
from control.llama_cpp.sources import source_archive, tree_digest
from inventory.errors import PaddockError
from inventory.load import load, loaded, require_lock
from roles.source import PINNED, Source

TREE = {
    "CMakeLists.txt": "project(llama.cpp)",
    "include/llama.h": "#pragma once",
    "src/llama.cpp": "int llama;",
    "scripts/version.sh": "#!/bin/sh\n",
    "tools/ui/CMakeLists.txt": "",
    "vendor/stb/docs/readme.c": "int kept;",
}
UNREAD = {
    "models/vocab.gguf": "75 MB",
    "docs/build.md": "…",
    ".github/workflows/x.yml": "",
    "tools/ui/src/app.js": "",
    "tools/ui/dist/index.html": "of who knows which source",
    "tools/ui/node_modules/x/CMakeLists.txt": "",
    "build/CMakeCache.txt": "",
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No cache, no configuration of pip and of Git but a test's own."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return home


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name, text in {**TREE, **UNREAD}.items():
        file = tmp_path / "llama.cpp" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (tmp_path / "llama.cpp/scripts/version.sh").chmod(0o755)
    return tmp_path / "llama.cpp"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A directory, and the address that serves it."""
    root = tmp_path / "served"
    root.mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(root))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield root, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def packed(top: str, files: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(f"{top}{name}")
            member.size, member.mode = len(text.encode()), 0o755 if name.endswith(".sh") else 0o644
            tar.addfile(member, io.BytesIO(text.encode()))
    return buffer.getvalue()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def names(archive: Path) -> set[str]:
    with tarfile.open(archive) as tar:
        return {member.name for member in tar}


KEPT = {f"llama.cpp/{name}" for name in TREE}


def test_a_tree_is_packed_without_what_no_build_reads(tree: Path) -> None:
    assert names(source_archive(Source(path="llama.cpp"), tree.parent)) == KEPT


def test_the_same_tree_gives_the_same_bytes_wherever_and_whenever(tree: Path, tmp_path: Path, home: Path) -> None:
    first = source_archive(Source(path="llama.cpp"), tree.parent).read_bytes()
    shutil.rmtree(home / ".cache")
    copy = tmp_path / "elsewhere/llama.cpp"
    shutil.copytree(tree, copy, copy_function=shutil.copy)
    assert source_archive(Source(path=str(copy)), Path("/")).read_bytes() == first


def test_a_trees_digest_follows_what_a_build_reads_and_nothing_else(tree: Path) -> None:
    before = tree_digest(tree)
    (tree / "docs/build.md").write_text("changed")
    assert tree_digest(tree) == before
    (tree / "src/llama.cpp").write_text("changed")
    assert tree_digest(tree) != before


def test_a_changed_tree_is_packed_anew(tree: Path) -> None:
    before = source_archive(Source(path="llama.cpp"), tree.parent)
    (tree / "src/llama.cpp").write_text("changed")
    assert source_archive(Source(path="llama.cpp"), tree.parent) != before


def test_a_trees_digest_follows_its_web_page(tree: Path) -> None:
    before = tree_digest(tree)
    (tree / "tools/ui/dist/index.html").write_text("changed")
    assert tree_digest(tree) == before
    (tree / "tools/ui/src/app.js").write_text("changed")
    assert tree_digest(tree) != before


@pytest.fixture
def with_page(tree: Path, home: Path) -> Path:
    """A tree with a web page."""
    keep_node(home)
    for name, content in small_page().items():
        file = tree / "tools/ui" / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(content)
    return tree


def content(archive: Path, name: str) -> bytes:
    with tarfile.open(archive) as tar:
        file = tar.extractfile(f"llama.cpp/{name}")
        assert file
        return file.read()


def test_a_web_page_travels_built(with_page: Path) -> None:
    archive = source_archive(Source(path=str(with_page)), Path("/"), ui=True)
    assert {"llama.cpp/tools/ui/dist/index.html", "llama.cpp/tools/ui/dist/_app/bundle.js"} <= names(archive)
    assert content(archive, "tools/ui/dist/index.html") == b"a page"
    assert not [name for name in names(archive) if name.startswith("llama.cpp/tools/ui/src/")]


def test_a_source_without_its_web_page_has_none_whatever_lies_in_the_tree(with_page: Path) -> None:
    plain, full = (source_archive(Source(path=str(with_page)), Path("/"), ui=ui) for ui in (False, True))
    assert names(full) - names(plain) == {"llama.cpp/tools/ui/dist/index.html", "llama.cpp/tools/ui/dist/_app/bundle.js"}
    assert names(plain) < names(full)


def test_the_same_source_gives_the_same_bytes_with_its_web_page_too(with_page: Path, home: Path) -> None:
    first = source_archive(Source(path=str(with_page)), Path("/"), ui=True).read_bytes()
    shutil.rmtree(home / ".cache/paddock/sources")
    shutil.rmtree(home / ".cache/paddock/pages")
    assert source_archive(Source(path=str(with_page)), Path("/"), ui=True).read_bytes() == first


def test_a_web_page_that_cannot_be_built_leaves_no_archive(with_page: Path, home: Path) -> None:
    (with_page / "tools/ui/build.cjs").write_text("process.exit(1)")
    with pytest.raises(PaddockError, match="`npm run build` failed"):
        source_archive(Source(path=str(with_page)), Path("/"), ui=True)
    assert list((home / ".cache/paddock/sources").iterdir()) == []


def test_a_source_that_has_no_web_page_goes_as_it_is(tree: Path) -> None:
    assert names(source_archive(Source(path=str(tree)), Path("/"), ui=True)) == KEPT


def test_an_executable_stays_executable(tree: Path) -> None:
    with tarfile.open(source_archive(Source(path="llama.cpp"), tree.parent)) as tar:
        assert tar.getmember("llama.cpp/scripts/version.sh").mode == 0o755
        assert tar.getmember("llama.cpp/src/llama.cpp").mode == 0o644


def test_a_directory_that_is_no_llama_cpp_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PaddockError, match=r"is not a llama\.cpp source tree"):
        source_archive(Source(path="."), tmp_path)


def test_an_archive_is_fetched_once(served: tuple[Path, str]) -> None:
    root, address = served
    data = packed("llama.cpp-b9999/", {**TREE, **UNREAD})
    (root / "b9999.tar.gz").write_bytes(data)
    source = Source(archive=f"{address}/b9999.tar.gz", sha256=sha256(data))
    told: list[tuple[str, int, int]] = []
    first = source_archive(source, Path("/"), lambda *each: told.append(each))
    assert names(first) == KEPT
    assert told[-1] == ("b9999.tar.gz", len(data), len(data))
    (root / "b9999.tar.gz").unlink()
    assert source_archive(source, Path("/")) == first


def test_an_archive_with_another_digest_is_refused_and_kept_to_be_looked_at(served: tuple[Path, str], home: Path) -> None:
    root, address = served
    (root / "b9999.tar.gz").write_bytes(b"something else")
    with pytest.raises(PaddockError, match=f"not {'a' * 64}, so it was not used: .*; what came is kept as .*wrong-b9999.tar.gz"):
        source_archive(Source(archive=f"{address}/b9999.tar.gz", sha256="a" * 64), Path("/"))
    assert [each.name for each in (home / ".cache/paddock/sources").iterdir()] == ["wrong-b9999.tar.gz"]


def test_an_archive_that_is_gone_is_said_to_be_so(served: tuple[Path, str]) -> None:
    with pytest.raises(PaddockError, match=r"b1\.tar\.gz: answers 404"):
        source_archive(Source(archive=f"{served[1]}/b1.tar.gz", sha256="a" * 64), Path("/"))


def test_a_server_that_does_not_answer_is_said_to_be_so() -> None:
    with pytest.raises(PaddockError, match="cannot be reached"):
        source_archive(Source(archive="http://127.0.0.1:1/b1.tar.gz", sha256="a" * 64), Path("/"))


@pytest.mark.parametrize(
    ("data", "words"),
    [(packed("x/", {"a.c": ""}), "it contains no llama.cpp"), (b"<html>", "is not a readable tar archive")],
    ids=["of something else", "of no archive"],
)
def test_an_archive_without_a_llama_cpp_is_refused(served: tuple[Path, str], data: bytes, words: str) -> None:
    (served[0] / "x.tar.gz").write_bytes(data)
    with pytest.raises(PaddockError, match=words):
        source_archive(Source(archive=f"{served[1]}/x.tar.gz", sha256=sha256(data)), Path("/"))


def test_a_member_that_climbs_out_of_the_archive_is_left_out(served: tuple[Path, str]) -> None:
    data = packed("llama.cpp/", {**TREE, "src/../../../etc/cron.d/x": "evil"})
    (served[0] / "x.tar.gz").write_bytes(data)
    assert names(source_archive(Source(archive=f"{served[1]}/x.tar.gz", sha256=sha256(data)), Path("/"))) == KEPT


NAME, GENUINE = "llama-cpp-python==0.3.36", PINNED["llama-cpp-python==0.3.36"]
OTHER = "llama-cpp-python==0.3.35"


@pytest.fixture
def index(served: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A package index whose address pip is configured for: the sha256 of each source distribution that it has, under its name."""
    root, address = served
    page = root / "simple/llama-cpp-python"
    page.mkdir(parents=True)
    found, links = {}, []
    for name in (NAME, OTHER):
        version = name.partition("==")[2]
        data = packed(f"llama_cpp_python-{version}/vendor/llama.cpp/", {**TREE, "src/llama.cpp": f"int tampered; // {version}"})
        (root / f"llama_cpp_python-{version}.tar.gz").write_bytes(data)
        links.append(f'<a href="/llama_cpp_python-{version}.tar.gz#sha256={sha256(data)}">llama_cpp_python-{version}.tar.gz</a>')
        found[name] = sha256(data)
    (page / "index.html").write_text("\n".join(links))
    monkeypatch.setenv("PIP_INDEX_URL", f"{address}/simple/")
    return found


def test_a_source_distribution_comes_from_the_index_that_pip_is_configured_for(index: dict[str, str]) -> None:
    assert names(source_archive(Source(sdist=OTHER, sha256=index[OTHER]), Path("/"))) == KEPT


@pytest.mark.parametrize("promises", [True, False], ids=["that it says so", "that it keeps silent about it"])
def test_another_file_under_the_genuine_name_and_version_is_refused_unread(
    index: dict[str, str], served: tuple[Path, str], home: Path, promises: bool
) -> None:
    """What somebody serves who has the index, or the way to it; nobody has to have written a digest for it."""
    page = served[0] / "simple/llama-cpp-python/index.html"
    if not promises:
        page.write_text(page.read_text().replace(index[NAME], GENUINE))
    with pytest.raises(PaddockError) as refused:
        source_archive(Source(sdist=NAME), Path("/"))
    assert index[NAME] in str(refused.value) and GENUINE in str(refused.value)
    assert ("PIP_INDEX_URL" if promises else "take it from elsewhere") in str(refused.value)
    kept = [each.name for each in (home / ".cache/paddock/sources").iterdir()]
    assert kept == ([] if promises else ["wrong-llama_cpp_python-0.3.36.tar.gz"])


def test_an_index_that_promises_another_digest_than_the_inventory_is_refused(index: dict[str, str]) -> None:
    with pytest.raises(PaddockError, match=f"/simple/ is {index[OTHER]}, and {'b' * 64} is pinned, so it was not fetched: "):
        source_archive(Source(sdist=OTHER, sha256="b" * 64), Path("/"))


def test_a_source_distribution_of_no_known_digest_is_refused_before_anybody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple/")
    with pytest.raises(PaddockError, match=rf"nothing says which file {OTHER} is, .*: run `paddock artifacts pull --lock`"):
        source_archive(Source(sdist=OTHER), Path("/"))


@pytest.mark.parametrize("where", ["as the index", "as the link to the file", "by a redirect"])
def test_another_machine_is_asked_over_tls_only(
    index: dict[str, str], served: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    page, far = served[0] / "simple/llama-cpp-python/index.html", "http://192.0.2.66:1"
    if where == "as the index":
        monkeypatch.setenv("PIP_INDEX_URL", f"{far}/simple/")
    elif where == "as the link to the file":
        page.write_text(page.read_text().replace('href="', f'href="{far}'))
    else:
        moved = redirecting(f"{far}/simple/llama-cpp-python/")
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{moved.server_port}/simple/")
    with pytest.raises(PaddockError, match="is asked without TLS: use https, or, for an index of your own, `plain_http: true`"):
        source_archive(Source(sdist=OTHER, sha256=index[OTHER]), Path("/"))


def redirecting(to: str) -> http.server.ThreadingHTTPServer:
    class Moved(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", to)
            self.end_headers()

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Moved)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def test_an_inventory_can_allow_an_index_without_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def send(self: object, request: requests.PreparedRequest, **_: object) -> requests.Response:
        asked.append(str(request.url))
        raise requests.ConnectionError

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", send)
    monkeypatch.setenv("PIP_INDEX_URL", "http://mirror.home.example/simple/")
    with pytest.raises(PaddockError, match="cannot be reached"):
        source_archive(Source(sdist=NAME, plain_http=True), Path("/"))
    assert asked == ["http://mirror.home.example/simple/llama-cpp-python/"]


def test_only_an_index_can_be_allowed_without_tls() -> None:
    with pytest.raises(ValidationError, match="plain_http is for the package index of an sdist"):
        Source(path="llama.cpp", plain_http=True)


def test_a_version_that_the_index_does_not_have_is_named_with_those_it_has(index: dict[str, str]) -> None:
    with pytest.raises(PaddockError, match=r"has no source of 9\.9 \(but of 0\.3\.36, 0\.3\.35\)"):
        source_archive(Source(sdist="llama-cpp-python==9.9", sha256="a" * 64), Path("/"))


def test_an_index_without_the_project_is_named(served: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", f"{served[1]}/simple/")
    with pytest.raises(PaddockError, match=r"/simple/ has no llama-cpp-python; the index is pip's"):
        source_archive(Source(sdist=NAME), Path("/"))


# The lock


@pytest.fixture
def home_yml(tmp_path: Path) -> Path:
    """Two hosts: one builds what Paddock knows, the other a version of which nothing says which file it is."""
    path = tmp_path / "home.yml"
    hosts = {
        "ai": {"address": "192.0.2.10", "roles": {"llama_cpp": {}}},
        "old": {"address": "192.0.2.11", "roles": {"llama_cpp": {"source": {"sdist": OTHER}}}},
    }
    path.write_text(json.dumps({"fleet": "home", "domain": "home.example", "hosts": hosts}))  # JSON is YAML
    return path


def test_a_source_that_nothing_says_the_digest_of_is_refused_at_its_place(home_yml: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-i", str(home_yml), "check"]) == 2
    column = home_yml.read_text().index('"sdist"') + 1
    words = f"nothing says which file {OTHER} is, neither a sha256 here nor the lock: run `paddock artifacts pull --lock`"
    assert capsys.readouterr().err == f"{home_yml}:1:{column}: hosts.old.roles.llama_cpp.source.sdist: {words}\n"


def test_the_lock_pins_what_the_index_has_and_nothing_that_is_known(
    index: dict[str, str], home_yml: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["-i", str(home_yml), "artifacts", "pull", "--lock"]) == 0
    assert capsys.readouterr().out == f"{home_yml.with_name('home.sources.lock')}: 1 source. It belongs into git, as the inventory does\n"
    assert json.loads(home_yml.with_name("home.sources.lock").read_text())["sources"] == {OTHER: {"sha256": index[OTHER]}}
    require_lock(loaded(home_yml))
    (source,) = (each for each in sources(load(home_yml)) if each.sdist == OTHER)
    assert source.identity == f"sdist {OTHER} {index[OTHER]}"
    assert names(source_archive(source, Path("/"))) == KEPT


def test_an_index_that_says_no_digest_is_read_for_it(index: dict[str, str], served: tuple[Path, str], home_yml: Path) -> None:
    page = served[0] / "simple/llama-cpp-python/index.html"
    page.write_text(page.read_text().replace("#sha256=", "#md5="))
    lock = write_lock(home_yml, load(home_yml))
    assert lock.sources[OTHER].sha256 == index[OTHER]
    assert lock.sources[OTHER].size == (served[0] / "llama_cpp_python-0.3.35.tar.gz").stat().st_size


def test_a_pin_stays_until_it_is_asked_for_anew(index: dict[str, str], served: tuple[Path, str], home_yml: Path) -> None:
    write_lock(home_yml, load(home_yml))
    page = served[0] / "simple/llama-cpp-python/index.html"
    page.write_text(page.read_text().replace(index[OTHER], "c" * 64))
    assert write_lock(home_yml, load(home_yml)).sources[OTHER].sha256 == index[OTHER]
    assert main(["-i", str(home_yml), "artifacts", "pull", "--lock", OTHER]) == 0
    (source,) = (each for each in sources(load(home_yml)) if each.sdist == OTHER)
    assert source.sha256 == "c" * 64


def test_what_left_the_inventory_or_says_its_digest_leaves_the_lock(index: dict[str, str], home_yml: Path) -> None:
    write_lock(home_yml, load(home_yml))
    home_yml.write_text(home_yml.read_text().replace(f'"sdist": "{OTHER}"', f'"sdist": "{OTHER}", "sha256": "{"d" * 64}"'))
    assert write_lock(home_yml, load(home_yml)).sources == {}


def test_an_inventorys_digest_goes_before_the_locks(index: dict[str, str], home_yml: Path) -> None:
    write_lock(home_yml, load(home_yml))
    home_yml.write_text(home_yml.read_text().replace(f'"sdist": "{OTHER}"', f'"sdist": "{OTHER}", "sha256": "{"d" * 64}"'))
    assert {source.sha256 for source in sources(load(home_yml))} == {GENUINE, "d" * 64}


@pytest.mark.parametrize("text", ['{"version": 2}', '{"sources": {"a==1": {}}}', "[]", "\x00", '{"sources": {"a==1": {"sha256": "x"}}}'])
def test_a_damaged_lock_is_told_with_what_to_do(home_yml: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    home_yml.with_name("home.sources.lock").write_text(text)
    assert main(["-i", str(home_yml), "check"]) == 2
    told = capsys.readouterr().err
    assert "home.sources.lock: is not a lock of sources (" in told
    assert told.endswith("or remove it and run `paddock artifacts pull --lock`\n")


def test_a_name_that_the_inventory_does_not_have_is_not_pinned(home_yml: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-i", str(home_yml), "artifacts", "pull", "--lock", "llama-cpp-python==0.3.53"]) == 2
    assert 'is called "llama-cpp-python==0.3.53" (did you mean "llama-cpp-python==0.3.3' in capsys.readouterr().err


def test_all_sources_are_fetched_before_a_host_is_asked(index: dict[str, str], home_yml: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_lock(home_yml, load(home_yml))
    home_yml.write_text(home_yml.read_text().replace('{"llama_cpp": {}}', "{}"))
    assert main(["-i", str(home_yml), "artifacts", "pull"]) == 0
    assert re.search(r"^0\.3\.35 with its web page: \d+\.\d MiB, .*/sources/\w{32}\.tar\.gz$", capsys.readouterr().out, re.MULTILINE)


def test_a_commit_is_fetched_from_a_git_repository(tree: Path) -> None:
    def git(*command: str) -> str:
        return subprocess.run(["git", "-C", str(tree), *command], check=True, capture_output=True, text=True).stdout.strip()

    git("init", "--quiet")
    git("add", "--all")
    git("-c", "user.name=a", "-c", "user.email=a@home.example", "commit", "--quiet", "--message", "llama.cpp")
    assert names(source_archive(Source(git=f"file://{tree}", commit=git("rev-parse", "HEAD")), Path("/"))) == KEPT


def test_a_commit_that_is_not_there_fails_in_gits_words(tmp_path: Path) -> None:
    with pytest.raises(PaddockError, match=f"git fetch of {'c' * 40} failed: "):
        source_archive(Source(git=f"file://{tmp_path}/none", commit="c" * 40), Path("/"))


def test_gits_words_show_no_password() -> None:
    with pytest.raises(PaddockError) as refused:
        source_archive(Source(git="http://user:secret@127.0.0.1:9/x.git", commit="c" * 40), Path("/"))
    assert "127.0.0.1:9/x.git" in str(refused.value) and "secret" not in str(refused.value)


def test_a_failure_leaves_no_archive(tmp_path: Path, home: Path) -> None:
    with pytest.raises(PaddockError):
        source_archive(Source(git=f"file://{tmp_path}/none", commit="c" * 40), Path("/"))
    assert list((home / ".cache/paddock/sources").iterdir()) == []


def test_an_archive_needs_a_digest_and_a_repository_a_commit() -> None:
    with pytest.raises(ValidationError, match="an archive needs sha256"):
        Source(archive="https://home.example/x.tar.gz")
    with pytest.raises(ValidationError, match="needs the full commit"):
        Source(git="https://home.example/x.git")


def test_local_directories_are_no_package_index() -> None:
    pip = {"index-url": "https://a.home.example/simple", "extra-index-url": "file:///opt/x https://b.home.example/simple"}
    assert indexes(pip) == ["https://a.home.example/simple", "https://b.home.example/simple"]


def test_a_password_in_an_address_is_never_shown() -> None:
    assert without_password("https://user:secret@home.example/simple") == "https://home.example/simple"
