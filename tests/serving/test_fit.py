"""What Paddock computes that a model takes is what llama.cpp's own programs find: llama-fit-params on models of real size, whose weights
are holes in their files, and llama-server, which really allocates it, on their first layers."""

from __future__ import annotations

import base64
import gzip
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from control.models.gguf import local_shape
from inventory.model_shape import ModelShape
from inventory.options import SHIPPED, read
from roles.llama_server.memory import MIB, Memory, needs
from roles.llama_server.memory_options import Value, memory_options
from roles.llama_server.overrides import overridden
from tests.lab_fleet import lab_fleet
from tests.share import each_kind, turn
from tests.unit.sparse_model import MODELS, SparseModel, header, shortened, write

pytestmark = turn(0, of=5)

FLEET = """
fleet: fit
domain: home.example
networks: [192.0.2.0/24]
hosts:
  fit1:
    address: 192.0.2.10
    roles:
      base:
      llama_cpp: {accelerator: cpu, ui: false, programs: [llama-fit-params]}
      models:
      llama_server: {models: [demo]}
models: {demo: {preset: {ctx-size: 1024}}}
"""

PORT = 18999


@dataclass(frozen=True)
class Bench:
    """A host with llama.cpp: how to run a script there, where its programs are, and a directory for files."""

    on: Callable[[str], str]
    programs: str
    directory: str
    scratch: Path

    def place(self, name: str, model: SparseModel) -> tuple[str, ModelShape]:
        """Writes a model to the host, where it takes no more room than here: its path, and its shape."""
        local = write(self.scratch / f"{name}.gguf", model)
        path, packed = f"{self.directory}/{name}.gguf", base64.b64encode(gzip.compress(header(local))).decode()
        self.on(f"mkdir -p {self.directory}; echo {packed} | base64 -d | gunzip >{path}; truncate -s {local.stat().st_size} {path}")
        return path, local_shape(local)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with lab_fleet("fit", tmp_path_factory.mktemp("fit"), FLEET, ready=True) as fleet:
        fleet.up("--no-verify")
        run = lambda script: fleet.on("fit1", script)  # noqa: E731
        yield Bench(run, "/opt/paddock/llama.cpp/current/bin", "/var/tmp/fit", tmp_path_factory.mktemp("models"))


def flags(options: Mapping[str, Value]) -> str:
    """`{swa-full: True}` → `--swa-full`"""
    return " ".join(f"--{name}" if value is True else f"--{name} {value}" for name, value in options.items())


GENERATING = [name for name in MODELS if name != "nomic_embed_text"]
OPTIONS: list[dict[str, Value]] = [
    {"ctx-size": 16384},
    {"ctx-size": 16384, "cache-type-k": "q8_0", "cache-type-v": "q8_0", "ubatch-size": 64},
    {"ctx-size": 65536, "cache-type-k": "q4_0", "cache-type-v": "q4_0"},
    {"ctx-size": 0, "cache-type-k": "q8_0", "cache-type-v": "q8_0"},
    {"ctx-size": 20000, "parallel": 3, "cache-type-k": "q5_1", "cache-type-v": "q5_1"},
    {"ctx-size": 5000, "parallel": 3, "flash-attn": "off"},
    {"ctx-size": 4096, "ubatch-size": 2048},
    {"ctx-size": 16384, "swa-full": True},
]
EMBEDDING: list[dict[str, Value]] = [
    {"ctx-size": 2048, "batch-size": 2048, "ubatch-size": 2048},
    {"ctx-size": 2048, "batch-size": 2048, "ubatch-size": 2048, "flash-attn": "off"},
    {"ctx-size": 8192},
]
EVERY = [(name, options) for name in GENERATING for options in OPTIONS] + [("nomic_embed_text", options) for options in EMBEDDING]
CASES = each_kind("fits", EVERY, lambda case: [case[0]], lambda case: [flags(case[1])])


@pytest.mark.parametrize(("name", "options"), CASES, ids=[f"{name}-{flags(options)}" for name, options in CASES])
def test_llama_fit_params_finds_the_same_cache_and_a_total_within_a_tenth(bench: Bench, name: str, options: dict[str, Value]) -> None:
    path, shape = bench.place(name, MODELS[name]())
    asked = {"parallel": 1, **options}
    printed = bench.on(f"{bench.programs}/llama-fit-params -m {path} {flags(asked)} --no-repack --fit-print on 2>/dev/null")
    weights, kv, compute = map(int, re.findall(r"^Host (\d+) (\d+) (\d+) ?$", printed, re.M)[0])
    # llama-fit-params prepares an output for every token of a batch, llama-server for one a slot.
    found = needs(shape, replace(memory_options(asked), outputs=1 << 16)).host
    told = f"{name} {flags(options)}: {weights} + {kv} + {compute} MiB, Paddock: {_mib(found)}"
    print(told, flush=True)
    assert found.kv // MIB == kv, told
    assert abs(found.weights / MIB - weights) < 2, told
    assert abs(found.total / MIB / (weights + kv + compute) - 1) < 0.1, told


SERVED: list[tuple[str, int, dict[str, Value]]] = [
    ("llama_8b", 2, {"ctx-size": 8192, "cache-type-k": "q8_0", "cache-type-v": "q8_0"}),
    ("llama_8b", 2, {"ctx-size": 5000, "parallel": 2, "flash-attn": "off"}),
    ("llama_8b", 2, {"ctx-size": 5000, "parallel": 2, "kv-unified": True, "no-kv-offload": True}),
    ("qwen3_30b_a3b", 2, {"ctx-size": 8192, "ubatch-size": 256}),
    ("qwen35_35b_a3b", 5, {"ctx-size": 8192, "parallel": 2}),
    ("gpt_oss_20b", 2, {"ctx-size": 8192, "parallel": 2}),
    ("gemma3_4b", 7, {"ctx-size": 8192}),
    ("deepseek_v2_lite", 2, {"ctx-size": 8192}),
    ("nomic_embed_text", 12, {"ctx-size": 2048, "embeddings": True, "batch-size": 2048, "ubatch-size": 2048}),
]


@pytest.mark.parametrize(("name", "layers", "options"), SERVED, ids=[f"{name}-{layers}-{flags(each)}" for name, layers, each in SERVED])
def test_llama_server_allocates_the_same_cache_and_a_total_within_a_tenth(
    bench: Bench, name: str, layers: int, options: dict[str, Value]
) -> None:
    path, shape = bench.place(f"{name}-{layers}", shortened(MODELS[name](), layers))
    log = bench.on(_served(f"{bench.programs}/llama-server -m {path} {flags(options)}", f"{bench.directory}/server.log"))
    found, real = needs(shape, memory_options(options)).host, _allocated(log)
    told = f"{name}, {layers} layers, {flags(options)}: llama-server {_mib(real)}, Paddock {_mib(found)}"
    print(told, flush=True)
    assert abs(found.kv - real.kv) <= MIB // 50, told  # the log has two decimals of each buffer
    assert abs(found.total / real.total - 1) < 0.1, told


TRAINED: dict[str, Value] = {"override-kv": "llama.context_length=int:4096"}
SIZED: list[dict[str, Value]] = [
    {"kv-unified-per-slot": 2048},
    {"kv-unified-per-slot": 2000, "parallel": 3},
    {"kv-unified-per-slot": 1024, "ctx-size": 8192},
    {**TRAINED, "kv-unified-per-slot": 1024, "ctx-size": 0},
    {**TRAINED, "kv-unified-per-slot": 8192, "parallel": 2},
    {**TRAINED, "ctx-size": 16384},
    {**TRAINED, "parallel": 3},
    {**TRAINED, "ctx-size": 16384, "rope-scaling": "yarn", "rope-scale": 2},
    {**TRAINED, "ctx-size": 16384, "rope-scaling": "linear", "rope-scale": 2},
]


@pytest.mark.parametrize("options", SIZED, ids=flags)
def test_llama_server_sizes_contexts_and_slots_the_same(bench: Bench, options: dict[str, Value]) -> None:
    path, shape = bench.place("llama_8b-2", shortened(MODELS["llama_8b"](), 2))
    log = bench.on(_served(f"{bench.programs}/llama-server -m {path} {flags(options)}", f"{bench.directory}/server.log", fit="on"))
    found = needs(overridden(shape, options), memory_options(options, read(SHIPPED.read_text()).sizing))
    real = log.rpartition("constructing llama_context")[2]  # `fit` makes a context before it, to try
    slot = re.search(r"n_ctx_slot = (\d+)", real)
    assert slot, log
    assert (found.context, abs(found.host.kv - _allocated(log, real).kv) <= MIB // 50) == (int(slot[1]), True), log


def _served(command: str, log: str, fit: str = "off") -> str:
    """Starts a server, waits until it answers, ends it, and prints its log."""
    return f"""
{command} --no-repack --no-warmup --fit {fit} --no-webui --offline --host 127.0.0.1 --port {PORT} -lv 6 >{log} 2>&1 & server=$!
for tick in $(seq 300); do
    curl -fs -o /dev/null http://127.0.0.1:{PORT}/health && break
    kill -0 $server 2>/dev/null || break
    sleep 0.2
done
kill $server 2>/dev/null; wait $server
grep -E 'buffer size *=|constructing llama_context|n_ctx_slot' {log} || tail -5 {log}
"""


def _allocated(log: str, part: str = "") -> Memory:
    """What a server's log, or this part of it, says of buffers."""
    text = part or log
    sizes = {kind: sum(map(float, re.findall(rf"{kind} buffer size = +([\d.]+) MiB", text))) for kind in ("model", "KV", "RS", "compute")}
    assert part or sizes["model"], log
    return Memory(int(sizes["model"] * MIB), int((sizes["KV"] + sizes["RS"]) * MIB), int(sizes["compute"] * MIB))


def _mib(memory: Memory) -> str:
    return " + ".join(f"{size / MIB:.1f}" for size in (memory.weights, memory.kv, memory.compute))
