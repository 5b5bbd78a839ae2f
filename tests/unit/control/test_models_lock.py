"""The models' lock: what it pins, when it is refused, and what the sources may answer. The server is a real one, in this process."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli import main
from control.models.gguf import local_shape
from control.models.hugging_face import chosen, projector
from control.models.local import tiny_model
from control.models.lock import write_lock
from inventory.errors import InventoryError, PaddockError
from inventory.load import load, loaded, require_lock
from inventory.model_components import Component
from inventory.model_lock import lock_path, read_lock
from inventory.model_shape import from_data
from inventory.model_sources import BesideModel, ModelSource
from tests.model_server import COMMIT, ModelServer, model_server

TINY = b"GGUF is how it begins"
OTHER = b"GGUF and how it goes on"
REPOSITORY = "org/Small-GGUF"
TOKEN = "hf_nobody"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelServer]:
    with model_server() as served:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{served.port}/")
        served.repositories[REPOSITORY] = {"small-Q4_K_M.gguf": TINY, "small-Q8_0.gguf": OTHER, "mmproj-F16.gguf": OTHER, "README.md": b"#"}
        yield served


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home.yml"


def write(path: Path, source: object) -> None:
    roles = {"llama_cpp": {}, "models": {}, "llama_server": {"models": ["small"]}}
    host = {"address": "192.0.2.10", "roles": roles}
    document = {"fleet": "home", "domain": "home.example", "hosts": {"ai": host}, "models": {"small": {"source": source}}}
    path.write_text(json.dumps(document))  # JSON is YAML


def lock(path: Path, *anew: str, token: str = "") -> ModelSource:
    """Writes the lock, and gives the model's source as a fleet then has it."""
    write_lock(path, load(path), {"hf-token": token} if token else {}, anew)
    require_lock(loaded(path))
    source = load(path).models["small"].source
    assert isinstance(source, ModelSource)
    return source


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_repository_is_pinned_to_its_commit_and_its_digest(server: ModelServer, path: Path) -> None:
    write(path, {"hf": REPOSITORY, "include": "*Q4*"})
    source = lock(path)
    assert (source.revision, [(each.name, each.sha256, each.size) for each in source.digests]) == (
        COMMIT,
        [("small-Q4_K_M.gguf", sha256(TINY), len(TINY))],
    )


def test_nothing_of_a_repository_is_downloaded_for_it(server: ModelServer, path: Path) -> None:
    write(path, {"hf": REPOSITORY, "file": "small-Q8_0.gguf"})
    lock(path)
    whole = [each.path for each in server.asked if not each.path.startswith("/api/") and each.ends is None]
    assert not whole  # but the header, by a range
    assert server.asked


def test_what_decides_how_much_memory_a_model_takes_is_kept_with_it(server: ModelServer, path: Path) -> None:
    server.repositories[REPOSITORY]["real-Q2_K.gguf"] = tiny_model().read_bytes()
    write(path, {"hf": REPOSITORY, "include": "*Q2_K*"})
    lock(path)
    shape = read_lock(path).models["small"].shape
    assert shape and from_data(shape, "the lock") == local_shape(tiny_model())


@pytest.mark.parametrize("api, answer", [("revision/main", b"[]"), ("revision/main", b'{"id": 1}'), (f"tree/{COMMIT}", b'{"a": 1}')])
def test_json_that_is_no_list_of_files_is_said_so(server: ModelServer, path: Path, api: str, answer: bytes) -> None:
    del server.repositories[REPOSITORY]
    server.files[f"/api/models/{REPOSITORY}/revision/main"] = json.dumps({"sha": COMMIT}).encode()
    server.files[f"/api/models/{REPOSITORY}/{api}"] = answer
    write(path, {"hf": REPOSITORY, "include": "*Q4*"})
    with pytest.raises(PaddockError, match=r"^models\.small\.source\.hf: http://127.0.0.1:\d+ sends something else than a list of files"):
        lock(path)


def test_a_local_file_that_is_no_model_is_not_pinned(path: Path) -> None:
    (path.parent / "small.gguf").write_bytes(b"PK and so on")
    write(path, {"local": "small.gguf"})
    with pytest.raises(PaddockError, match=r"^models\.small\.source\.local: small\.gguf is not a GGUF: name the model's file$"):
        lock(path)
    assert not lock_path(path).exists()


def test_a_url_is_read_once_for_its_digest(server: ModelServer, path: Path) -> None:
    server.files["/small.gguf"] = TINY
    write(path, {"url": f"http://127.0.0.1:{server.port}/small.gguf"})
    assert [(each.sha256, each.size) for each in lock(path).digests] == [(sha256(TINY), len(TINY))]
    lock(path)
    assert len([each for each in server.asked if each.ends is None]) == 1  # the other asks for the header alone


def test_every_part_of_a_local_model_is_pinned(path: Path) -> None:
    for at, content in enumerate((TINY, OTHER), 1):
        (path.parent / f"small-{at:05d}-of-00002.gguf").write_bytes(content)
    write(path, {"local": "small-00001-of-00002.gguf"})
    assert [each.sha256 for each in lock(path).digests] == [sha256(TINY), sha256(OTHER)]


def test_a_model_that_says_its_digest_needs_no_lock(path: Path) -> None:
    write(path, {"url": "https://models.home.example/small.gguf", "sha256": "0" * 64})
    require_lock(loaded(path))
    write_lock(path, load(path), {})
    assert not lock_path(path).exists()


def test_an_inventory_without_its_lock_is_refused_with_the_command_to_run(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(path, {"hf": REPOSITORY, "include": "*Q4*"})
    assert main(["-i", str(path), "check"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"{path}:1:") and said.count("\n") == 1
    assert said.endswith(
        "models.small.source: nothing says which file it is, neither a sha256 here nor the lock: run `paddock models pull --lock small`\n"
    )


def test_a_lock_of_another_source_is_refused(server: ModelServer, path: Path) -> None:
    write(path, {"hf": REPOSITORY, "include": "*Q4*"})
    lock(path)
    write(path, {"hf": REPOSITORY, "include": "*Q8*"})
    with pytest.raises(InventoryError, match=r"the lock is of another source than this: run `paddock models pull --lock small`"):
        require_lock(loaded(path))
    assert lock(path).digests[0].sha256 == sha256(OTHER)


def test_a_pin_stays_until_it_is_asked_for_anew(server: ModelServer, path: Path) -> None:
    write(path, {"hf": REPOSITORY, "include": "*Q4*"})
    lock(path)
    server.repositories[REPOSITORY]["small-Q4_K_M.gguf"] = OTHER
    assert lock(path).digests[0].sha256 == sha256(TINY)
    assert lock(path, "small").digests[0].sha256 == sha256(OTHER)


def test_what_left_the_inventory_leaves_the_lock(server: ModelServer, path: Path) -> None:
    write(path, {"hf": REPOSITORY, "include": "*Q4*"})
    lock(path)
    write(path, "tiny")
    write_lock(path, load(path), {})
    assert json.loads(lock_path(path).read_text())["models"] == {}


def test_a_damaged_lock_is_told_with_what_to_do(path: Path) -> None:
    write(path, "tiny")
    lock_path(path).write_text('{"version": 1, "models": {"small": {}}}')
    with pytest.raises(
        InventoryError, match=r"home\.models\.lock: is not a lock of models \(models\.small\.source: .*\): put it back from git"
    ):
        load(path)


def test_a_private_repository_takes_the_secret_token_and_says_so_without(server: ModelServer, path: Path) -> None:
    server.tokens[f"/api/models/{REPOSITORY}"] = TOKEN
    write(path, {"hf": REPOSITORY, "include": "*Q4*"})
    with pytest.raises(
        PaddockError, match=r"models\.small\.source\.hf: .* answers 401 for org/Small-GGUF at main: .*paddock secrets set hf-token"
    ):
        lock(path)
    with pytest.raises(PaddockError, match=r"answers 401 .* does the token in the secret hf-token have access to it\?"):
        lock(path, token="another")
    assert lock(path, token=TOKEN).revision == COMMIT
    assert TOKEN not in lock_path(path).read_text()


def test_a_token_is_not_passed_on_to_another_host(server: ModelServer, path: Path) -> None:
    server.moved[f"/api/models/{REPOSITORY}/revision/main"] = f"http://localhost:{server.port}/api/models/{REPOSITORY}/revision/{COMMIT}"
    write(path, {"hf": REPOSITORY, "include": "*Q4*"})
    lock(path, token=TOKEN)
    assert [each.authorization for each in server.asked if "/revision/" in each.path] == [f"Bearer {TOKEN}", ""]


def test_no_login_of_somebodys_netrc_goes_before_the_token(server: ModelServer, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = path.parent / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    write(path, {"hf": REPOSITORY, "include": "*Q4*"})
    lock(path, token=TOKEN)
    assert {each.authorization for each in server.asked} == {f"Bearer {TOKEN}"}
    assert any("/resolve/" in each.path for each in server.asked)


def test_a_token_with_a_line_break_is_refused(server: ModelServer, path: Path) -> None:
    write(path, {"hf": REPOSITORY, "include": "*Q4*"})
    with pytest.raises(PaddockError, match="the secret hf-token is not a token"):
        lock(path, token="one\r\nHost: another")


@pytest.mark.parametrize(
    ("status", "words"),
    [(404, "answers 404: is the repository right"), (200, "sends something else than a list of files"), (500, "answers 500")],
)
def test_a_hub_that_answers_something_else_is_told_in_words(server: ModelServer, path: Path, status: int, words: str) -> None:
    api = f"/api/models/{REPOSITORY}/revision/main"
    server.statuses[api] = status
    write(path, {"hf": REPOSITORY, "include": "*Q4*"})
    with pytest.raises(PaddockError, match=r"models\.small\.source\.hf: ") as refused:
        lock(path)
    assert words.replace("answers 404", "answers 404 for org/Small-GGUF at main") in str(refused.value)


@pytest.mark.parametrize(
    ("status", "words"), [(404, "answers 404"), (200, "what comes is a web page: is the address right, and does it want a login")]
)
def test_a_url_that_answers_something_else_is_told_in_words(server: ModelServer, path: Path, status: int, words: str) -> None:
    server.statuses["/small.gguf"] = status
    write(path, {"url": f"http://127.0.0.1:{server.port}/small.gguf"})
    with pytest.raises(PaddockError, match=words):
        lock(path)
    assert not lock_path(path).exists()


def test_what_is_empty_is_no_model(server: ModelServer, path: Path) -> None:
    server.files["/small.gguf"] = b""
    write(path, {"url": f"http://127.0.0.1:{server.port}/small.gguf?signature=1"})
    with pytest.raises(PaddockError, match=rf"^http://127.0.0.1:{server.port}/small\.gguf: what comes is empty: is the address right\?$"):
        lock(path)
    (path.parent / "small.gguf").touch()
    write(path, {"local": "small.gguf"})
    with pytest.raises(PaddockError, match=r"^models\.small\.source\.local: small\.gguf is empty: put the model there, or name another"):
        lock(path)
    assert not lock_path(path).exists()


def test_a_url_that_is_cut_off_gives_no_digest(server: ModelServer, path: Path) -> None:
    server.files["/small.gguf"] = TINY
    server.cuts["/small.gguf"] = [7]
    write(path, {"url": f"http://127.0.0.1:{server.port}/small.gguf"})
    with pytest.raises(PaddockError, match=r"small\.gguf: "):
        lock(path)
    assert not lock_path(path).exists()


def component(**asked: str) -> Component:
    return Component("small", "models.small", ModelSource.model_validate({"hf": REPOSITORY, **asked}))


def with_files(path: Path, source: object, **files: object) -> None:
    write(path, source)
    document = json.loads(path.read_text())
    document["models"]["small"] |= files
    path.write_text(json.dumps(document))


def test_a_projector_is_found_beside_the_model_and_pinned(server: ModelServer, path: Path) -> None:
    with_files(path, {"hf": REPOSITORY, "include": "*Q4*"}, mmproj="auto")
    lock(path)
    _, projector = load(path).models["small"].components("small")
    assert isinstance(projector.source, ModelSource)
    assert (projector.source.revision, [each.name for each in projector.source.digests]) == (COMMIT, ["mmproj-F16.gguf"])
    assert [projector.source.origin_of(0)] == [f"hf {REPOSITORY} {COMMIT} mmproj-F16.gguf"]
    assert list(read_lock(path).models) == ["small", "small+mmproj"]
    before = lock_path(path).read_text()
    lock(path)
    assert lock_path(path).read_text() == before


def test_a_projector_is_looked_for_anew_where_another_model_of_the_repository_is_meant(server: ModelServer, path: Path) -> None:
    with_files(path, {"hf": REPOSITORY, "include": "*Q4*"}, mmproj="auto")
    lock(path)
    with_files(path, {"hf": REPOSITORY, "include": "*Q8*"}, mmproj="auto")
    with pytest.raises(InventoryError, match=r"models\.small\.mmproj: the lock is of another source than this"):
        require_lock(loaded(path))
    lock(path)


def test_a_file_that_is_not_pinned_is_told_at_its_source(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path.write_text(
        "fleet: home\ndomain: home.example\nhosts: {ai: {address: 192.0.2.1, roles: {llama_cpp: , models: , "
        "llama_server: {models: [small]}}}}\nmodels:\n  small:\n    lora:\n    - source: {path: /srv/a.gguf, sha256: "
        f"{'0' * 64}}}\n    - scale: 2\n      source: {{hf: org/Tone}}\n"
    )
    assert main(["-i", str(path), "check"]) == 2
    assert capsys.readouterr().err == (
        f"{path}:9:7: models.small.lora.1.source: nothing says which file it is, neither a sha256 here nor the lock: run"
        " `paddock models pull --lock small`\n"
    )


def test_a_text_that_git_itself_keeps_is_read_for_its_digest_with_the_token(server: ModelServer, path: Path) -> None:
    server.repositories[REPOSITORY]["chat.jinja"] = b"{{ messages }}"
    server.tokens[f"/{REPOSITORY}"] = TOKEN
    with_files(path, "tiny", chat_template_file={"source": {"hf": REPOSITORY, "file": "chat.jinja"}})
    write_lock(path, load(path), {"hf-token": TOKEN})
    assert [(each.sha256, each.size) for each in read_lock(path).models["small+chat-template-file"].files] == [
        (sha256(b"{{ messages }}"), 14)
    ]


def test_a_web_page_is_no_template(server: ModelServer, path: Path) -> None:
    server.statuses["/chat.jinja"] = 200
    with_files(path, "tiny", chat_template_file={"source": {"url": f"http://127.0.0.1:{server.port}/chat.jinja"}})
    with pytest.raises(PaddockError, match=r"chat\.jinja: what comes is a web page"):
        write_lock(path, load(path), {})


def test_a_local_template_need_be_no_gguf_but_a_draft_has_to(path: Path) -> None:
    (path.parent / "chat.jinja").write_text("{{ messages }}")
    with_files(path, "tiny", chat_template_file={"source": {"local": "chat.jinja"}})
    write_lock(path, load(path), {})
    with_files(path, "tiny", draft={"source": {"local": "chat.jinja"}})
    with pytest.raises(PaddockError, match=r"^models\.small\.draft\.source\.local: chat\.jinja is not a GGUF"):
        write_lock(path, load(path), {})


@pytest.mark.parametrize(
    ("model", "names", "found"),
    [
        (
            "m-Q4_K_M.gguf",
            ["mmproj-F32.gguf", "mmproj-F16.gguf", "mmproj-BF16.gguf"],
            "mmproj-F16.gguf",
        ),  # the first of two that are as near
        ("m-Q8_0.gguf", ["mmproj-F16.gguf", "mmproj-Q8_0.gguf"], "mmproj-Q8_0.gguf"),
        ("Q4/m-Q4_0.gguf", ["mmproj-Q4_0.gguf", "Q4/mmproj-F32.gguf", "Q8/mmproj-F16.gguf"], "Q4/mmproj-F32.gguf"),
        ("Q4/m-Q4_0-00001-of-00002.gguf", ["Q8/mmproj-F16.gguf", "m.mmproj-f16.gguf"], "m.mmproj-f16.gguf"),
    ],
)
def test_of_several_projectors_it_is_the_one_that_llama_server_would_take(model: str, names: list[str], found: str) -> None:
    parts = [model.replace("00001-of", "00002-of")] if "-of-" in model else []
    assert projector(BesideModel(hf=REPOSITORY, of=model), [*names, model, *parts], "here") == found


def test_a_repository_without_a_projector_is_told(server: ModelServer, path: Path) -> None:
    del server.repositories[REPOSITORY]["mmproj-F16.gguf"]
    with_files(path, {"hf": REPOSITORY, "include": "*Q4*"}, mmproj="auto")
    words = r"^models\.small\.mmproj: org/Small-GGUF has no projector \(mmproj…gguf\) beside small-Q4_K_M\.gguf: name it with `source`$"
    with pytest.raises(PaddockError, match=words):
        lock(path)


NAMES = ["Q4/m-00001-of-00002.gguf", "Q4/m-00002-of-00002.gguf", "m-Q8_0.gguf", "mmproj-F16.gguf", "README.md"]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"file": "m-Q8_0.gguf"}, ("m-Q8_0.gguf",)),
        ({"file": "Q4/m-00001-of-00002.gguf"}, ("Q4/m-00001-of-00002.gguf", "Q4/m-00002-of-00002.gguf")),
        ({"include": "*Q8_0*"}, ("m-Q8_0.gguf",)),
        ({"include": "Q4/*"}, ("Q4/m-00001-of-00002.gguf", "Q4/m-00002-of-00002.gguf")),
        ({"include": "mmproj*"}, ("mmproj-F16.gguf",)),
    ],
)
def test_a_file_or_a_pattern_means_one_model_with_all_its_parts(asked: dict[str, str], found: tuple[str, ...]) -> None:
    assert chosen(component(**asked), NAMES, "here") == found


@pytest.mark.parametrize(
    ("asked", "names", "words"),
    [
        ({}, NAMES, "here: 2 models in org/Small-GGUF fit: name one with `file`: Q4/m-00001-of-00002.gguf, m-Q8_0.gguf"),
        ({"include": "*Q5*"}, NAMES, r"nothing in org/Small-GGUF fits \*Q5\*: there are Q4/"),
        ({"include": "Q4/*"}, NAMES[:1], "nothing in org/Small-GGUF fits"),
        ({"file": "m-Q8_O.gguf"}, NAMES, r'org/Small-GGUF has no file m-Q8_O\.gguf \(did you mean "m-Q8_0\.gguf"\?\)'),
        ({"file": "Q4/m-00001-of-00002.gguf"}, NAMES[:1], "has no file Q4/m-00002-of-00002.gguf"),
        ({}, ["README.md"], "there are no GGUF files at all"),
    ],
)
def test_what_means_none_or_several_is_told_with_what_there_is(asked: dict[str, str], names: list[str], words: str) -> None:
    with pytest.raises(PaddockError, match=words):
        chosen(component(**asked), names, "here")
