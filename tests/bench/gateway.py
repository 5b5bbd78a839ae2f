"""What the gateway costs a request, beside no gateway and beside LiteLLM's proxy: `make bench-gateway`.

    python -m tests.bench.gateway [ROUNDS] [--anyway]

First all run on this machine before a back end that answers at once, then with and without the gateway before a real llama-server of a lab
host with a tiny model. They take turns, so that whatever else the machine does hits all alike. The
gateway does all that it does on a host: keys, limits, turns, the log in SQLite, metrics. LiteLLM has one master key, no limits and no log;
it is installed into build/litellm once. wrk sends the requests. What stands before a back end has a core of its own; the back end and wrk
share another. A machine with other work is refused, as its figures say nothing; --anyway measures all the same.

CPU is all that a contender's processes take, by the kernel's count. Memory is the proportional share (PSS).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cli.views.table import table
from tests.bench.__main__ import machine
from tests.bench.processes import CORES, alone, cpu_s, memory_mib
from tests.gateway.process import ROOT, back_end, free_port, key_of, running, wait_for
from tests.lab_fleet import lab_fleet

ROUNDS, SECONDS, AT_ONCE, STREAMS, REAL_SLOTS = 5, 4, 32, 1000, 8
BUSY = 0.5
"""A load average above this, before anything was started, says that the machine has other work."""

LITELLM = ("litellm[proxy]==1.108.7", "prometheus_client")
KINDS = {"plain": {"max_tokens": 8}, "long": {}, "stream": {"max_tokens": 8, "stream": True}}
"""What the caller asks for: a whole answer of a few tokens, a whole one of as many as there are, which goes up as a stream, a stream."""

AIMS = {"p50_ms": 0.5, "cpu": 30.0, "mib": 64.0, "of_direct": 0.95}

INVENTORY = f"""
fleet: gwbench
domain: home.example
hosts:
  box:
    address: 192.0.2.10
    roles:
      base: {{time: elsewhere}}
      llama_cpp: {{source: {{sdist: llama-cpp-python==0.3.36}}, ui: false}}
      models:
      llama_server:
        api_key: false
        encrypted: false
        instances:
          one: {{model: tiny, listen: "0.0.0.0:8081", preset: {{threads: 1, threads-batch: 1}}}}
models:
  tiny: {{source: tiny, preset: {{ctx-size: 8192, parallel: {REAL_SLOTS}, cache-ram: 0}}}}
"""


@dataclass
class Contender:
    name: str
    url: str
    key: str
    pid: int = 0
    """0: nothing stands before the back end."""
    rates: dict[str, list[float]] = field(default_factory=dict)
    """Requests a second, by kind of request."""
    costs: dict[str, list[float]] = field(default_factory=dict)
    """Microseconds of CPU a request."""
    middles: list[float] = field(default_factory=list)
    """Milliseconds of half of all requests, one connection at half of its capacity."""
    most_mib: float = 0.0


def main(rounds: int, *, anyway: bool) -> int:
    before = os.getloadavg()[0]
    if before > BUSY and not anyway:
        print(f"the machine has other work (load {before:.1f}, at most {BUSY}): wait, or measure with --anyway", file=sys.stderr)
        return 1
    if len(CORES) < 2:
        print("two cores are needed: one for what is measured, one for the back end and wrk", file=sys.stderr)
        return 1
    if not shutil.which("wrk"):
        print("wrk, which sends the requests, is not here: apt-get install wrk", file=sys.stderr)
        return 1
    os.sched_setaffinity(0, {CORES[-1]})  # and so for all that is started here
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        directory = Path(scratch)
        contenders = [stack.enter_context(each) for each in started(directory, stack)]
        for number in range(rounds + 1):
            for kind in KINDS:
                for each in contenders:
                    rate, cost = throughput(each, directory, kind)
                    print(f"  {number or 'warming up'}  {kind:6}  {each.name:8}  {rate:8.0f} requests/s  {cost:8.0f} us of CPU", flush=True)
                    if number:
                        each.rates.setdefault(kind, []).append(rate)
                        each.costs.setdefault(kind, []).append(cost)
            for each in contenders:
                middle = latency(each, directory)
                if number:
                    each.middles.append(middle)
        held = streams(directory)
        real = list(before_llama_server(rounds, directory))
    print(table(list(rows(contenders))))
    print(f"{STREAMS} streams open at once: {held:.0f} MiB")
    print(table(real))
    print(machine(before))
    return 0


def rows(contenders: list[Contender]) -> Iterator[tuple[str, ...]]:
    yield "medians", *(f"{kind}/s" for kind in KINDS), *(f"CPU us {kind}" for kind in KINDS), "p50 of one ms", "added ms", "MiB"
    direct, _, rival = contenders
    for each in contenders:
        figures = [statistics.median(each.rates[kind]) for kind in KINDS]
        costs = [statistics.median(each.costs[kind]) for kind in KINDS]
        added = statistics.median(a - b for a, b in zip(each.middles, direct.middles, strict=True))
        yield (
            each.name,
            *(f"{figure:.0f}" for figure in figures),
            *(f"{cost:.0f}" for cost in costs),
            f"{statistics.median(each.middles):.2f}",
            f"{added:+.2f}",
            f"{each.most_mib:.0f}",
        )
    ours = contenders[1]
    times = [statistics.median(theirs / own for theirs, own in zip(rival.costs[kind], ours.costs[kind], strict=True)) for kind in KINDS]
    least = f"at least {AIMS['cpu']:.0f}"
    yield "LiteLLM's CPU, of the gateway's", "", "", "", *(f"{each:.0f}" for each in times), "", "", ""
    yield "aims", "", "", "", least, "", least, "", f"at most {AIMS['p50_ms']}", f"under {AIMS['mib']:.0f}"


def before_llama_server(rounds: int, directory: Path) -> Iterator[tuple[str, ...]]:
    """Requests a second with the gateway, of those without, in the same round."""
    ratios: dict[str, list[float]] = {}
    (directory / "lab").mkdir()
    with lab_fleet("gwbench", directory / "lab", INVENTORY, ready=True) as lab:
        lab.up("--no-verify")
        lab.on("box", f"taskset --all-tasks --cpu-list --pid {CORES[-1]} $(systemctl show --property MainPID --value llama-server-one)")
        url = f"http://{lab.host('box').address}:8081"
        with _direct(url) as direct, _gateway(directory / "real", url) as gateway:
            for number in range(rounds + 1):
                for kind in ("plain", "stream"):
                    alone, behind = (throughput(each, directory, kind, REAL_SLOTS)[0] for each in (direct, gateway))
                    print(
                        f"  {number or 'warming up'}  {kind:6}  llama-server {alone:6.0f} requests/s, behind it {behind:6.0f}", flush=True
                    )
                    if number:
                        ratios.setdefault(kind, []).append(behind / alone)
    yield f"a real llama-server, {REAL_SLOTS} connections", "median", "from", "to", "aim"
    for kind, found in ratios.items():
        yield kind, *(f"{each:.3f}" for each in (statistics.median(found), min(found), max(found))), f"at least {AIMS['of_direct']}"


def started(directory: Path, stack: ExitStack) -> Iterator[AbstractContextManager[Contender]]:
    """Nothing, the gateway, and LiteLLM, each before a back end of its own that is like the others'."""
    back_ends = [stack.enter_context(instant()) for _ in range(3)]
    yield _direct(back_ends[0])
    yield _gateway(directory, back_ends[1])
    yield _litellm(directory, back_ends[2])


@contextmanager
def instant() -> Iterator[str]:
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "tests.bench.instant", str(port), str(AT_ONCE)], cwd=ROOT)
    try:
        wait_for(f"http://127.0.0.1:{port}/health", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


@contextmanager
def _direct(back_end: str) -> Iterator[Contender]:
    yield Contender("direct", back_end, "")


@contextmanager
def _gateway(directory: Path, back_end: str) -> Iterator[Contender]:
    configuration = {
        "backends": {"one": {"url": back_end}},
        "models": {"tiny": {"targets": [{"backend": "one", "model": "tiny"}], "limits": {"requests": 10**9, "tokens": 10**12}}},
        "queue": {"length": 4000, "per_user": 4000},
    }
    ann = {"limits": {"requests": 10**9, "tokens": 10**12, "parallel": 4000}}
    with running(directory / "gateway", configuration, {"ann": ann, **{f"user{number}": {} for number in range(999)}}) as gateway:
        assert gateway.process
        alone(gateway.process.pid)
        yield Contender("gateway", gateway.url, key_of("ann"), gateway.process.pid)


@contextmanager
def _litellm(directory: Path, back_end: str) -> Iterator[Contender]:
    place = ROOT / "build" / "litellm"
    if not (place / "bin" / "litellm").exists():
        print("installing LiteLLM into build/litellm", flush=True)
        shutil.rmtree(place, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
        subprocess.run([str(place / "bin" / "pip"), "install", "--quiet", *LITELLM], check=True)
    port, key = free_port(), "sk-bench"
    parameters = {"model": "openai/tiny", "api_base": f"{back_end}/v1", "api_key": "none"}
    said = {
        "model_list": [{"model_name": "tiny", "litellm_params": parameters}],
        "general_settings": {"master_key": key},
        "litellm_settings": {"telemetry": False},
    }
    (directory / "litellm.yaml").write_text(json.dumps(said))
    environment = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MODE": "PRODUCTION"}
    command = [str(place / "bin" / "litellm"), "--config", str(directory / "litellm.yaml"), "--host", "127.0.0.1", "--port", str(port)]
    with (directory / "litellm.log").open("wb") as log:
        process = subprocess.Popen([*command, "--num_workers", "1", "--telemetry", "False"], stdout=log, stderr=log, env=environment)
    try:
        wait_for(f"http://127.0.0.1:{port}/health/liveliness", process, directory / "litellm.log", within_s=120)
        alone(process.pid)
        yield Contender("LiteLLM", f"http://127.0.0.1:{port}", key, process.pid)
    finally:
        process.kill()
        process.wait()


def throughput(contender: Contender, directory: Path, kind: str, connections: int = AT_ONCE) -> tuple[float, float]:
    """Requests a second, and microseconds of CPU a request."""
    began, number = cpu_s(contender.pid), 0
    number, seconds, _ = wrk(contender, directory, kind, connections=connections)
    contender.most_mib = max(contender.most_mib, memory_mib(contender.pid))
    return number / seconds, 1e6 * (cpu_s(contender.pid) - began) / max(number, 1)


def latency(contender: Contender, directory: Path) -> float:
    """Milliseconds at p50 of one connection, which asks again when it is answered."""
    return wrk(contender, directory, "plain", connections=1)[2]


def wrk(contender: Contender, directory: Path, kind: str, *, connections: int) -> tuple[int, float, float]:
    """Requests, seconds, and the p50 in milliseconds. All have to be answered with 200."""
    said = subprocess.run(_wrk(contender, directory, kind, connections), capture_output=True, text=True, check=True).stdout
    assert "Non-2xx" not in said, f"{contender.name}: {said}"
    found = re.search(r"(\d+) requests in ([\d.]+)(s|m)", said)
    middle = re.search(r"50%\s+([\d.]+)(us|ms|s)", said)
    assert found and middle, said
    unit = {"us": 0.001, "ms": 1.0, "s": 1000.0}[middle[2]]
    return int(found[1]), float(found[2]) * (60 if found[3] == "m" else 1), float(middle[1]) * unit


def _wrk(contender: Contender, directory: Path, kind: str, connections: int, **more: int) -> list[str]:
    message = {"role": "user", "content": "Say a word. " * 20}
    body = {"model": "tiny", "messages": [message], **KINDS[kind], **more}
    script = directory / "wrk.lua"
    script.write_text(
        f"wrk.method = 'POST'\nwrk.body = [==[{json.dumps(body)}]==]\nwrk.headers['Content-Type'] = 'application/json'\n"
        f"wrk.headers['Authorization'] = 'Bearer {contender.key}'\n"
    )
    command = ["wrk", "-t1", f"-c{connections}", f"-d{SECONDS}s", "--timeout", "30s", "--latency", "-s", str(script)]
    return [*command, f"{contender.url}/v1/chat/completions"]


def streams(directory: Path) -> float:
    """MiB of a gateway, at most, while so many streams are open at a back end that takes ten seconds for each."""
    with back_end(STREAMS, "--token-ms", "100") as url, _gateway(directory / "streams", url) as contender:
        asking = subprocess.Popen([*_wrk(contender, directory, "stream", STREAMS, max_tokens=100)], stdout=subprocess.DEVNULL)
        most = 0.0
        while asking.poll() is None:
            most = max(most, memory_mib(contender.pid))
            time.sleep(0.25)
    return most


if __name__ == "__main__":
    numbers = [int(each) for each in sys.argv[1:] if each.isdigit()]
    sys.exit(main(numbers[0] if numbers else ROUNDS, anyway="--anyway" in sys.argv))
