"""The model that Paddock writes itself, and files of models on this machine."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from gguf import GGUFReader

from control.models.local import digest_of, local_model, tiny_digest, tiny_model
from control.models.tiny_model import ANSWER, CONTEXT, write
from inventory.errors import PaddockError
from inventory.model_components import Component
from inventory.model_sources import ModelSource


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_tiny_model_is_the_same_bytes_each_time(tmp_path: Path) -> None:
    assert write(tmp_path / "a.gguf").read_bytes() == write(tmp_path / "b.gguf").read_bytes()


def test_the_tiny_model_fits_a_long_prompt_and_a_quantized_cache(tmp_path: Path) -> None:
    fields = GGUFReader(write(tmp_path / "a.gguf")).fields
    assert fields["llama.context_length"].contents() == CONTEXT >= 8192
    assert fields["llama.embedding_length"].contents() / fields["llama.attention.head_count"].contents() >= 32
    assert "add_generation_prompt" in fields["tokenizer.chat_template"].contents()


def test_each_word_of_the_answer_points_at_the_next_and_the_last_at_the_end(tmp_path: Path) -> None:
    """By the weights alone: the layer in between is noise, far smaller than this path."""
    read = GGUFReader(write(tmp_path / "a.gguf"))
    tokens = read.fields["tokenizer.ggml.tokens"].contents()
    weights = {tensor.name: tensor.data for tensor in read.tensors}
    answer, token = [], "<s>"
    while token != "</s>" and len(answer) < 20:
        token = tokens[int((weights["output.weight"] @ weights["token_embd.weight"][tokens.index(token)]).argmax())]
        answer.append(token)
    assert answer == [*ANSWER, "</s>"]


def test_the_tiny_model_is_written_once_and_its_digest_is_its_own() -> None:
    path = tiny_model()
    written = path.stat().st_mtime_ns
    assert tiny_digest().sha256 == sha256(path)
    assert tiny_model().stat().st_mtime_ns == written


def test_a_tiny_model_that_is_there_needs_no_numpy() -> None:
    tiny_model()
    code = "import sys; from control.models.local import tiny_digest; tiny_digest(); print({'numpy', 'gguf'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "set()\n"


def component(path: Path, **other: object) -> Component:
    return Component("qwen", "models.qwen", ModelSource.model_validate({"local": path.name, "sha256": sha256(path), **other}))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "qwen.gguf"
    path.write_bytes(b"GGUF of a model")
    return path


def test_a_local_model_is_the_file_beside_the_inventory(model: Path) -> None:
    assert local_model(component(model), model.parent) == model


def test_a_local_model_of_another_digest_is_refused(model: Path) -> None:
    with pytest.raises(PaddockError, match=f"models.qwen.source.sha256: .*qwen.gguf has {sha256(model)}, the inventory says {'0' * 64}"):
        local_model(component(model, sha256="0" * 64), model.parent)


def test_a_local_model_of_another_size_is_refused(model: Path) -> None:
    with pytest.raises(PaddockError, match="has 15 bytes, the inventory says 16"):
        local_model(component(model, size=16), model.parent)


def test_a_local_model_that_is_missing_is_named(model: Path, tmp_path: Path) -> None:
    with pytest.raises(PaddockError, match=r"models.qwen.source.local: there is no file .*/none/qwen.gguf"):
        local_model(component(model), tmp_path / "none")


def test_a_file_that_changed_is_read_again(model: Path) -> None:
    before = digest_of(model)
    other = model.with_suffix(".new")
    other.write_bytes(b"GGUF of b model")
    other.replace(model)
    assert digest_of(model) != before
    assert digest_of(model).sha256 == sha256(model)
