"""A GGUF's header is read from a file and over HTTP, and nothing that is in one does harm."""

from __future__ import annotations

import re
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import cast

import pytest
from gguf import GGUFReader, GGUFWriter
from hypothesis import given, settings
from hypothesis import strategies as st

from control.models.gguf import local_shape, remote_shape
from control.models.tiny_model import write as write_tiny
from control.servers.file_on_host import shape_on_host
from control.ssh.reach import Reach
from inventory.errors import PaddockError
from inventory.model_shape import as_data, from_data
from tests.unit.sparse_model import MODELS, SparseModel, llama_8b, retyped, write

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 4661\n"


@dataclass
class Site:
    """A web server with one directory. `ranges` and `answer` are what a test makes of it."""

    directory: Path
    url: str = ""
    ranges: bool = True
    answer: tuple[int, bytes] | None = None
    sent: int = 0
    asked: list[str] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    this = Site(tmp_path)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            this.asked.append(self.headers.get("Range", ""))
            this.tokens.add(self.headers.get("Authorization", ""))
            if this.answer:
                self._say(this.answer[0], this.answer[1], {})
                return
            path = this.directory / self.path.lstrip("/")
            size, span = path.stat().st_size, re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            with path.open("rb") as file:
                if span and this.ranges:
                    file.seek(int(span[1]))
                    body = file.read(int(span[2]) - int(span[1]) + 1)
                    self._say(206 if body else 416, body, {"Content-Range": f"bytes {span[1]}-{int(span[1]) + len(body) - 1}/{size}"})
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(size))
                self.end_headers()
                try:
                    while piece := file.read(1 << 16):
                        self.wfile.write(piece)
                        this.sent += len(piece)
                except OSError:
                    pass  # who asked has heard enough

        def _say(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)
            this.sent += len(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    this.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield this
    server.shutdown()


def tokenized(path: Path, tokens: int = 100_000) -> Path:
    """A header of some MiB, as a vocabulary makes it."""
    writer = GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(4096)
    writer.add_embedding_length(64)
    writer.add_head_count(2)
    writer.add_token_list([f"a word of the vocabulary, {number}" for number in range(tokens)])
    writer.add_token_scores([0.0] * tokens)
    writer.add_token_types([1] * tokens)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("name", MODELS)
def test_the_sizes_are_those_that_gguf_py_finds(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / "model.gguf", MODELS[name]())
    shape, theirs = local_shape(path), GGUFReader(path)
    assert shape.tensor_bytes == sum(int(tensor.n_bytes) for tensor in theirs.tensors)
    layers = shape.layer_bytes if isinstance(shape.layer_bytes, tuple) else (shape.layer_bytes,) * shape.block_count
    assert [layers[1], layers[-1]] == [
        sum(int(tensor.n_bytes) for tensor in theirs.tensors if tensor.name.startswith(f"blk.{layer}."))
        for layer in (1, shape.block_count - 1)
    ]
    assert shape.input_bytes + shape.output_bytes + sum(layers) == shape.tensor_bytes


def test_the_numbers_of_a_header_are_told(tmp_path: Path) -> None:
    shape = local_shape(write(tmp_path / "model.gguf", MODELS["gpt_oss_20b"]()))
    assert (shape.architecture, shape.block_count, shape.embedding_length, shape.vocabulary) == ("gpt-oss", 24, 2880, 201088)
    assert (shape.head_count, shape.head_count_kv, shape.key_length, shape.sliding_window) == (64, 8, 64, 128)
    assert (shape.expert_count, shape.expert_used_count) == (32, 4)


def test_layers_that_differ_have_a_number_each_and_those_alike_one(tmp_path: Path) -> None:
    model = llama_8b()
    heads = [8] * 31 + [0]
    other = SparseModel("lfm2", {**model.keys, "attention.head_count_kv": heads}, model.vocabulary, model.tensors)
    shape = local_shape(write(tmp_path / "model.gguf", other))
    assert (shape.head_count, shape.head_count_kv) == (32, tuple(heads))


def test_a_shape_outlives_its_json_and_is_short(tmp_path: Path) -> None:
    import json

    shape = local_shape(write(tmp_path / "model.gguf", MODELS["qwen3_30b_a3b"]()))
    text = json.dumps(as_data(shape))
    again = from_data(json.loads(text), "home.models.lock")
    assert again == shape
    assert again.tensor_types == shape.tensor_types != ()
    assert len(text) < 1000


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"architecture": "llama", "tensor_bytes": "many"},
        {"architecture": "llama", "tensor_bytes": 1, "colour": 3},
        {"architecture": "llama", "tensor_bytes": 1, "tensor_types": [[31, "t"]]},
        {"architecture": "llama", "tensor_bytes": 1, "tensor_types": 31},
    ],
)
def test_a_shape_that_somebody_else_wrote_is_refused_in_a_line(data: dict[str, object]) -> None:
    with pytest.raises(PaddockError, match=r"^home.models.lock: it says nothing sensible of \w+(, \w+)*: `paddock models pull --lock`"):
        from_data(data, "home.models.lock")


def test_each_type_of_tensor_is_told_with_the_first_that_is_of_it_and_its_file(tmp_path: Path) -> None:
    shape = local_shape(write(tmp_path / "model.gguf", llama_8b()))
    assert [(number, name, file) for number, name, _, file in shape.tensor_types] == [
        (0, "F32", "model.gguf"),
        (13, "Q5_K", "model.gguf"),
        (14, "Q6_K", "model.gguf"),
    ]
    assert shape.tensor_types[1][2] == "token_embd.weight"


def test_of_shards_the_file_is_named_in_which_a_type_is(tmp_path: Path) -> None:
    last = shards(tmp_path)[2]
    tensor = f"{llama_8b().tensors[2][0]}.weight"
    retyped(last, tensor, 139)
    found = {number: (name, file) for number, _, name, file in local_shape(tmp_path / "model-00001-of-00003.gguf").tensor_types}
    assert found[139] == (tensor, last.name)


@pytest.mark.parametrize(("kind", "name"), [(31, ""), (36, ""), (38, ""), (139, ""), (39, "MXFP4"), (999, "")])
def test_a_type_that_is_not_known_here_is_noted_and_as_large_as_its_place_in_the_file(tmp_path: Path, kind: int, name: str) -> None:
    """A fork of llama.cpp may load it: who refuses is who knows the host's table."""
    path = retyped(write_tiny(tmp_path / "model.gguf"), "blk.0.ffn_up.weight", kind)
    shape, before = local_shape(path), local_shape(write_tiny(tmp_path / "before.gguf"))
    assert (kind, name, "blk.0.ffn_up.weight", "model.gguf") in shape.tensor_types
    assert abs(shape.tensor_bytes - before.tensor_bytes) <= (32 if not name else before.tensor_bytes)


def shards(directory: Path) -> list[Path]:
    """A model in three files, as llama-gguf-split writes it: the first has all keys, and each some tensors."""
    model, found = llama_8b(), []
    for number in range(3):
        keys = {**model.keys, "x": 0} if number == 0 else {}
        path = directory / f"model-{number + 1:05}-of-00003.gguf"
        found.append(write(path, SparseModel("llama", keys, model.vocabulary, model.tensors[number::3]), shard=(number, 3)))
    return found


def test_of_shards_all_tensors_count_whichever_is_named(tmp_path: Path) -> None:
    whole = local_shape(write(tmp_path / "whole.gguf", llama_8b()))
    assert {local_shape(each) for each in shards(tmp_path)} == {whole}


def test_a_shard_that_is_missing_is_named(tmp_path: Path) -> None:
    shards(tmp_path)[1].unlink()
    with pytest.raises(PaddockError, match=r"model-00002-of-00003.gguf: No such file"):
        local_shape(tmp_path / "model-00001-of-00003.gguf")


def test_over_http_shards_are_found_too(site: Site) -> None:
    first = shards(site.directory)[0]
    assert remote_shape(f"{site.url}/model-00001-of-00003.gguf") == local_shape(first)


def test_over_http_only_the_header_is_fetched(site: Site) -> None:
    path = write(site.directory / "model.gguf", llama_8b())
    assert remote_shape(f"{site.url}/model.gguf") == local_shape(path)
    assert (len(site.asked), site.sent) == (1, 1 << 20)


def test_a_long_header_is_fetched_in_ranges_that_grow(site: Site) -> None:
    path = tokenized(site.directory / "model.gguf")
    assert path.stat().st_size > 4 << 20
    assert remote_shape(f"{site.url}/model.gguf").vocabulary == 100_000
    assert site.asked[:3] == [f"bytes={start << 20}-{(end << 20) - 1}" for start, end in ((0, 1), (1, 2), (2, 4))]


def test_a_server_without_ranges_is_listened_to_as_far_as_the_header_goes(site: Site) -> None:
    site.ranges = False
    path = write(site.directory / "model.gguf", llama_8b())
    assert remote_shape(f"{site.url}/model.gguf") == local_shape(path)
    assert site.sent < 100 << 20 < path.stat().st_size


def test_a_token_is_sent_and_never_told(site: Site) -> None:
    write(site.directory / "model.gguf", llama_8b())
    remote_shape(f"{site.url}/model.gguf", token="hf_secret")
    assert site.tokens == {"Bearer hf_secret"}
    site.answer = (403, b"")
    with pytest.raises(PaddockError) as refused:
        remote_shape(f"{site.url}/model.gguf", token="hf_secret")
    assert "hf_secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((404, b"gone"), "there is no such file (HTTP 404)"),
        ((401, b""), "it wants a token that may read it (HTTP 401)"),
        ((403, b""), "the token may not read it, or its licence has to be accepted on its page first (HTTP 403)"),
        ((200, b"<!DOCTYPE html><html>log in</html>"), "it is a web page, not a GGUF"),
        ((200, LFS), "it is a pointer of Git LFS"),
        ((200, b""), "it is empty"),
    ],
)
def test_what_is_no_model_is_said_in_a_line(site: Site, answer: tuple[int, bytes], words: str) -> None:
    site.answer = answer
    with pytest.raises(PaddockError) as refused:
        remote_shape(f"{site.url}/model.gguf")
    assert str(refused.value).startswith(f"{site.url}/model.gguf: {words}")
    assert "\n" not in str(refused.value)


def test_a_header_that_was_cut_is_found_out_over_http_too(site: Site) -> None:
    path = tokenized(site.directory / "model.gguf")
    with path.open("r+b") as file:
        file.truncate(3_000_000)
    with pytest.raises(PaddockError, match="it is cut off after 3000000 bytes, in its header: fetch it again"):
        remote_shape(f"{site.url}/model.gguf")


def test_nobody_there_is_said_in_a_line(site: Site) -> None:
    with pytest.raises(PaddockError, match=r"^http://127\.0\.0\.1:1/model\.gguf: [^\n]+$"):
        remote_shape("http://127.0.0.1:1/model.gguf")


def test_a_password_in_an_address_is_not_told(site: Site) -> None:
    site.answer = (404, b"")
    with pytest.raises(PaddockError) as refused:
        remote_shape(f"{site.url.replace('http://', 'http://me:hush@')}/model.gguf")
    assert "hush" not in str(refused.value)


def test_a_download_that_was_cut_is_found_out(tmp_path: Path) -> None:
    path = write(tmp_path / "model.gguf", llama_8b())
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(size - 1_000_000)
    with pytest.raises(
        PaddockError, match=f"it is cut off: it has {size - 1_000_000} bytes, and its tensors go on to {size}: fetch it again"
    ):
        local_shape(path)


def header(*, version: int = 3, tensors: int = 0, keys: int = 0, rest: bytes = b"") -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, keys) + rest


def text(value: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(value) if length is None else length) + value


def key(value: bytes, name: bytes = text(b"x")) -> bytes:
    return header(keys=1, rest=name + value)


def tensor(rest: bytes) -> bytes:
    return header(tensors=1, rest=text(b"t") + rest)


EXABYTE = 1 << 60
HOSTILE: dict[str, tuple[bytes, str]] = {
    "an old version": (header(version=1), "it is a GGUF of version 1, not of 2 or 3"),
    "the other byte order": (header(version=3 << 24), "it is a GGUF for big-endian machines"),
    "more keys than there are": (header(keys=EXABYTE), "its header speaks of 0 tensors and"),
    "a long name": (key(b"", name=text(b"x", EXABYTE)), f"its header has a name of {EXABYTE} bytes"),
    "a name that ends the line": (key(struct.pack("<I", 99), name=text(b"x\n\x1b[31m")), "x??[31m is of a kind that no GGUF has (99)"),
    "a long text": (key(struct.pack("<IQ", 8, EXABYTE)), "its header says that it goes on beyond 64 MiB"),
    "a long list": (key(struct.pack("<IIQ", 9, 4, EXABYTE)), "its header says that it goes on beyond 64 MiB"),
    "a list of endless empty words": (key(struct.pack("<IIQ", 9, 8, EXABYTE)), "it is cut off after"),
    "a list of lists": (key(struct.pack("<IIQ", 9, 9, 1)), "x is an array of a kind that no GGUF has (9)"),
    "an unknown kind": (key(struct.pack("<I", 99)), "x is of a kind that no GGUF has (99)"),
    "a tensor of 99 dimensions": (tensor(struct.pack("<I", 99)), "its tensor t has 99 dimensions"),
    "a large tensor": (tensor(struct.pack("<IQIQ", 1, EXABYTE, 0, 0)), "its tensor t is larger than any model"),
    "an unknown type without weights": (
        tensor(struct.pack("<IQIQ", 1, 32, 999, 0)),
        "it is cut off: it has 57 bytes, and its tensors go on",
    ),
    "an unknown type, far away": (tensor(struct.pack("<IQIQ", 1, 32, 999, 1 << 40)), "it is cut off: it has 57 bytes"),
    "no architecture": (header(), "its header does not say which architecture it is"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_header_that_lies_is_refused_in_a_line(what: str, tmp_path: Path) -> None:
    data, words = HOSTILE[what]
    path = tmp_path / "model.gguf"
    path.write_bytes(data)
    with pytest.raises(PaddockError) as refused:
        local_shape(path)
    assert str(refused.value).startswith(f"{path}: {words}")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("block_count", 0, "llama.block_count is 0, which llama.cpp does not take"),
        ("block_count", 100_000, "llama.block_count is 100000, which llama.cpp does not take"),
        ("nextn_predict_layers", 99, "llama.nextn_predict_layers is more than there are blocks (32)"),
        ("attention.head_count_kv", [8, 8], "llama.attention.head_count_kv has 2 numbers for 32 layers"),
        ("context_length", 4096.5, "llama.context_length is 4096.5, where llama.cpp takes a number"),
    ],
)
def test_a_number_that_cannot_be_is_named(key: str, value: int | float | list[int], words: str, tmp_path: Path) -> None:
    model = llama_8b()
    path = write(tmp_path / "model.gguf", SparseModel("llama", {**model.keys, key: value}, model.vocabulary, model.tensors))
    with pytest.raises(PaddockError, match=f"^{re.escape(str(path))}: {re.escape(words)}"):
        local_shape(path)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Callable[[list[tuple[int, int]], int], Path]:
    directory = tmp_path_factory.mktemp("damaged")
    good = write_tiny(directory / "good.gguf").read_bytes()

    def make(edits: list[tuple[int, int]], length: int) -> Path:
        data = bytearray(good)
        for at, byte in edits:
            data[at % 8000] = byte
        path = directory / "bad.gguf"
        path.write_bytes(bytes(data[: length or len(data)]))
        return path

    return make


@settings(max_examples=300, deadline=None)
@given(edits=st.lists(st.tuples(st.integers(0, 8000), st.integers(0, 255)), max_size=4), length=st.integers(0, 9000))
def test_whatever_is_damaged_ends_in_a_shape_or_in_one_line(
    damaged: Callable[[list[tuple[int, int]], int], Path], edits: list[tuple[int, int]], length: int
) -> None:
    try:
        assert local_shape(damaged(edits, length)).block_count <= 512
    except PaddockError as error:
        assert "\n" not in str(error)


class LocalHost:
    """A host's shell, without the connection."""

    def shell(self, host: str, script: str, doing: str) -> list[str]:
        return subprocess.run(["sh", "-c", script], stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()


def test_a_file_on_a_host_is_read_as_one_here_and_one_that_is_not_there_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "it's a model.gguf"
    write_tiny(path)
    reach = cast("Reach", LocalHost())
    assert shape_on_host(reach, "ai", str(path)) == local_shape(path)
    retyped(path, "blk.0.ffn_down.weight", 139)  # the last one
    with pytest.raises(PaddockError, match=r"its tensor blk\.0\.ffn_down\.weight is of type 139, and nobody says where the file ends"):
        shape_on_host(reach, "ai", str(path))
    with pytest.raises(PaddockError, match="it is empty"):
        shape_on_host(reach, "ai", str(tmp_path / "none.gguf"))
