"""Where llama.cpp's source comes from: a tree, an archive, a Git repository, a package index. Each of them real, and on this machine."""

from __future__ import annotations

import functools
import hashlib
import http.server
import io
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError
from small_page import keep_node, small_page

from control.fetching.download import indexes, without_password
from control.llama_cpp.sources import source_archive, tree_digest
from inventory.errors import PaddockError
from roles.source import Source

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
    with pytest.raises(PaddockError, match=f"not {'a' * 64}; what came is kept as .*wrong-b9999.tar.gz"):
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


@pytest.fixture
def index(served: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """A package index with llama-cpp-python 0.3.36, whose address pip is configured for; the digest it promises."""
    root, address = served
    data = packed("llama_cpp_python-0.3.36/vendor/llama.cpp/", TREE)
    page = root / "simple/llama-cpp-python"
    page.mkdir(parents=True)
    (root / "llama_cpp_python-0.3.36.tar.gz").write_bytes(data)
    (page / "index.html").write_text(f'<a href="/llama_cpp_python-0.3.36.tar.gz#sha256={sha256(data)}">llama_cpp_python-0.3.36.tar.gz</a>')
    monkeypatch.setenv("PIP_INDEX_URL", f"{address}/simple/")
    return sha256(data)


@pytest.mark.parametrize("pinned", [False, True])
def test_a_source_distribution_comes_from_the_index_that_pip_is_configured_for(index: str, pinned: bool) -> None:
    source = Source(sdist="llama-cpp-python==0.3.36", sha256=index if pinned else None)
    assert names(source_archive(source, Path("/"))) == KEPT


def test_an_index_that_promises_another_digest_than_the_inventory_is_refused(index: str) -> None:
    with pytest.raises(PaddockError, match=f"the inventory says sha256 {'b' * 64}, the index {index}"):
        source_archive(Source(sdist="llama-cpp-python==0.3.36", sha256="b" * 64), Path("/"))


def test_a_version_that_the_index_does_not_have_is_named_with_those_it_has(index: str) -> None:
    with pytest.raises(PaddockError, match=r"has no source of 9\.9 \(but of 0\.3\.36\)"):
        source_archive(Source(sdist="llama-cpp-python==9.9"), Path("/"))


def test_an_index_without_the_project_is_named(served: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", f"{served[1]}/simple/")
    with pytest.raises(PaddockError, match=r"/simple/ has no llama-cpp-python; the index is pip's"):
        source_archive(Source(sdist="llama-cpp-python==0.3.36"), Path("/"))


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
