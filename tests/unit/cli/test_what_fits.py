"""Models that a host's llama.cpp does not load, and memory that nobody knows: `check`, `plan`, `models fit` and `models pull` say so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli import main
from control.llama_cpp.definitions import HEADER
from control.models.tiny_model import write
from control.state.fleet import FleetState
from inventory.hardware import Hardware
from inventory.model_lock import read_lock
from tests.unit.llama_server.test_options import ROUTED as ARGUMENTS
from tests.unit.llama_server.test_options import TENSORS, tree
from tests.unit.sparse_model import llama_8b, retyped
from tests.unit.sparse_model import write as write_sparse

TENSOR = "blk.0.attn_q.weight"

HARDWARE = Hardware("x86_64", "a processor", frozenset({"sse4_2"}), 2, 16384, "debian 13")

UNSEEN = "hosts.ai: memory unknown: not checked: nobody has looked at its hardware yet: `paddock plan` does"
UNREAD = "hosts.ai: models.chat: memory unknown: not checked: nobody has read its header yet: `paddock models fit` does"


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An inventory with one model, a file beside it. Notes on models are kept in the test's own directory."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("PADDOCK_STATE", raising=False)
    write(tmp_path / "chat.gguf")
    return inventory(tmp_path / "home.yml")


def inventory(path: Path, **llama_cpp: object) -> Path:
    roles = {"llama_cpp": llama_cpp, "models": {}, "llama_server": {"models": ["chat"]}}
    host = {"address": "127.0.0.1", "port": 1, "roles": roles}
    models = {"chat": {"source": {"local": "chat.gguf"}, "preset": {"parallel": 1}}}
    path.write_text(json.dumps({"fleet": "home", "domain": "home.example", "hosts": {"ai": host}, "models": models}))
    return path


def _column(path: Path, key: str) -> int:
    """Where a key stands in the one line of the inventory."""
    return path.read_text().index(f'"{key}": {{') + 1


def looked_at(path: Path, hardware: Hardware = HARDWARE) -> None:
    FleetState.of(path, "home").save_hardware("ai", hardware)


def run(path: Path, capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    """What it says, on both streams."""
    assert main(["-i", str(path), *words]) == code
    said = capsys.readouterr()
    return said.out + said.err


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (31, "31 (Q4_0_4_4), which was removed from llama.cpp: use Q4_0, which llama.cpp repacks itself"),
        (36, "36 (IQ4_NL_4_4), which was removed from llama.cpp: use IQ4_NL, which llama.cpp repacks itself"),
        (5, "5 (Q4_3), which was removed from llama.cpp: use another quantization"),
        (139, "139, which it does not know: use another quantization, or a llama.cpp that has this type"),
    ],
)
def test_a_type_that_llama_cpp_does_not_load_is_refused_by_every_verb(
    path: Path, capsys: pytest.CaptureFixture[str], kind: int, words: str
) -> None:
    retyped(path.parent / "chat.gguf", TENSOR, kind)
    line = f"hosts.ai: models.chat: llama.cpp 0.3.36 cannot load chat.gguf: its tensor {TENSOR} is of type {words}\n"
    assert run(path, capsys, "models", "pull", "--lock", code=1).endswith(line)
    assert "chat" in read_lock(path).models
    looked_at(path)
    assert run(path, capsys, "check", code=2) == f"{path}:1:{_column(path, 'chat')}: {line}"
    assert line in run(path, capsys, "models", "fit", code=1)
    assert run(path, capsys, "models", "pull", code=1) == f"{line}nothing was fetched\n"
    assert line.removeprefix("hosts.ai: ") in run(path, capsys, "plan", "--offline", code=1)


def test_what_a_fork_of_llama_cpp_loads_is_not_refused(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    retyped(path.parent / "chat.gguf", TENSOR, 139)
    tree(path.parent / "fork", ARGUMENTS)
    inventory(path, source={"path": "fork"})
    assert "cannot load" not in run(path, capsys, "models", "pull", "--lock")
    (path.parent / "fork" / HEADER).write_text(TENSORS.replace("GGML_TYPE_IQ4_K = 139", ""))
    assert "llama.cpp fork cannot load chat.gguf: its tensor" in run(path, capsys, "check", code=2)
    (path.parent / "fork" / HEADER).unlink()  # where nobody knows the table, nobody is refused
    assert "no errors" in run(path, capsys, "check")
    said = run(path, capsys, "models", "pull", "--lock")
    assert "hosts.ai: models.chat: types of tensors not checked: nobody has seen the table of its llama.cpp's source" in said


def test_a_model_that_llama_cpp_loads_passes(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "cannot load" not in run(path, capsys, "models", "pull", "--lock")
    looked_at(path)
    for words in (["check"], ["models", "fit"]):
        said = run(path, capsys, *words)
        assert "not checked" not in said and "cannot load" not in said


def test_memory_that_nobody_knows_is_said_to_be_unknown_by_every_verb(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(path, capsys, "models", "pull", "--lock")
    assert UNSEEN in run(path, capsys, "check")
    said = run(path, capsys, "models", "fit", code=1)
    assert "ai: memory unknown: not checked\n" in said and UNSEEN in said
    found = json.loads(run(path, capsys, "models", "fit", "--json", code=1))
    assert found["hosts"]["ai"] == {"places": [], "refused": [], "unchecked": [UNSEEN], "remarks": []}
    assert UNSEEN in run(path, capsys, "plan", "--offline", code=1)


def test_a_model_whose_header_nobody_has_read_is_named(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(path, capsys, "models", "pull", "--lock")
    lock = path.with_name("home.models.lock")
    document = json.loads(lock.read_text())
    del document["models"]["chat"]["shape"]
    lock.write_text(json.dumps(document))
    looked_at(path)
    assert UNREAD in run(path, capsys, "check")
    content = (path.parent / "chat.gguf").read_bytes()
    (path.parent / "chat.gguf").write_bytes(content[:3000])
    said = run(path, capsys, "models", "pull", "--lock", "chat")
    assert "models.chat: types of tensors unknown: not checked: " in said and "it is cut off after 3000 bytes" in said
    (path.parent / "chat.gguf").unlink()
    said = run(path, capsys, "models", "fit", code=1)
    assert "hosts.ai: models.chat: memory unknown: not checked: " in said
    assert "chat.gguf" in said


def test_check_plan_and_fit_agree_on_what_is_too_much(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_sparse(path.parent / "chat.gguf", llama_8b())
    document = json.loads(path.read_text())
    document["models"]["chat"]["preset"] = {"kv-unified-per-slot": 131072}
    path.write_text(json.dumps(document))
    document["models"]["chat"]["source"]["sha256"] = "1" * 64
    path.write_text(json.dumps(document))
    looked_at(path)
    line = "host memory has 15360 MiB and would need "
    fits = run(path, capsys, "models", "fit", code=1)
    assert f"hosts.ai: {line}" in fits
    refusal = next(each for each in fits.splitlines() if line in each)
    assert run(path, capsys, "check", code=2) == f"{path}:1:{_column(path, 'ai')}: {refusal}\n"
    assert f"ai: {refusal.removeprefix('hosts.ai: ')}\n" in run(path, capsys, "plan", "--offline", code=1)


@pytest.mark.parametrize(
    ("preset", "at", "words"),
    [
        ({"cache-type-v": "q9"}, '"q9"', "cache-type-v: a KV cache has no type q9: it is one of f32, f16, bf16, q8_0"),
        (
            {"ctx-size": 4096, "ctv": "q8_0", "flash-attn": "off"},
            '"q8_0"',
            "cache-type-v: q8_0: a quantized cache of values needs flash attention: leave `flash-attn` on, or use f16",
        ),
    ],
)
@pytest.mark.parametrize("in_role", [False, True])
def test_a_type_that_a_cache_cannot_have_is_told_at_its_value(
    path: Path, capsys: pytest.CaptureFixture[str], preset: dict[str, object], at: str, words: str, in_role: bool
) -> None:
    """Where nobody has seen the options of the host's llama.cpp, what is known of memory says it."""
    inventory(path, source={"sdist": "llama-cpp-python==0.3.99", "sha256": "1" * 64})
    run(path, capsys, "models", "pull", "--lock")
    document = json.loads(path.read_text())
    of_role = document["hosts"]["ai"]["roles"]["llama_server"]
    (of_role if in_role else document["models"]["chat"])["preset"] = preset
    path.write_text(json.dumps(document))
    looked_at(path)
    told = run(path, capsys, "check", code=2)
    assert told.startswith(f"{path}:1:{path.read_text().index(at) + 1}: models.chat.preset: chat: {words}")
