"""Whatever a host answers, each fact is one, or is refused with a typed error; and that in time."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from deploys.uploads import BytesThere
from facts.build import BuildStatus
from facts.condition import condition
from facts.hardware import HardwareFact
from facts.neighbours import caddyfile, input_chains
from facts.state import State, probe_script
from resources.owner import owner_of
from roles.host_plan import host_plan
from tests.hostile import text
from tests.share import chance, spread
from tests.unit.hardware.test_condition import HALO, PI
from tests.unit.roles import everything

RECORDED = sorted((Path(__file__).parent / "recorded").glob("*.txt"))
SECONDS = 5.0

CADDY = """there
{"admin": {"listen": "localhost:2019"}, "apps": {"http": {"http_port": 80, "servers": {"srv0": {"listen": [":8443", "tcp4/0.0.0.0:443"],\
 "automatic_https": {"skip": ["a.home.example"]}, "routes": [{"match": [{"host": ["a.home.example"]}], "handle": [{"root": "/srv"}]}],\
 "tls_connection_policies": [{"match": {"sni": ["a.home.example"]}}]}}}}}"""
DISK = "#disk\n/dev/vdb 9000000 8640000 360000 96% /var\n#memory\nMemTotal: 8000000 kB\nMemAvailable: 160000 kB\n"
MORE = f"{DISK}#pressure\nfull avg10=9.00 avg60=12.34 avg300=1.00 total=1\n#acted\n5 chat.restarted\n#health\nchat 0\n#names\nx\n"
BUILD = "ActiveState=failed\nSubState=failed\nResult=exit-code\n|[1/2] Building\n|error: no"

ODD = (
    *("", "0", "-1", "9" * 320, "9" * 5000, "1e999", "nan", "inf", "-", "²", "٣", "0x", "0x" + "f" * 5000, "x" * 100_000, "\t", "\t" * 50),
    *("=", ":", "#", "#end", "%", "null", "[]", "{}", "Infinity", "NaN", '"', "\\", "\ud800", "\x00", "\x1b[2J", "�", text.LINE),
)
"""What a word of an answer, or all of it, may be instead."""


@cache
def resources() -> tuple[Any, ...]:
    fleet = everything.fleet()
    plans = [host_plan(host, fleet, everything.context(fleet)) for host in fleet.hosts.values()]
    return tuple(each for plan in plans for part in plan.values() for each in part)


def probed() -> list[str]:
    """What this machine says of what is planned for hosts with every role."""
    done = subprocess.run(["sh", "-s"], input=probe_script(resources()), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return done.stdout.splitlines()


def state(lines: list[str]) -> object:
    fact = State()
    fact.command(resources())
    return fact.process(lines)


def shown(lines: list[str]) -> object:
    found = condition(lines)
    return [*found.lines()], found.as_data()


READ: dict[str, tuple[Callable[[list[str]], object], tuple[type[Exception], ...], Callable[[], list[list[str]]]]] = {
    "hardware": (HardwareFact().process, (ValueError, LookupError), lambda: [path.read_text().splitlines() for path in RECORDED]),
    "probe": (state, (ValueError, LookupError), lambda: [probed()]),
    "build": (BuildStatus().process, (), lambda: [BUILD.splitlines()]),
    "bytes": (BytesThere().process, (), lambda: [["100"]]),
    "condition": (shown, (), lambda: [PI.format(bits="0x50005").splitlines(), HALO.splitlines(), MORE.splitlines()]),
    "Caddyfile": (caddyfile, (), lambda: [CADDY.splitlines()]),
    "nftables": (lambda lines: list(input_chains(lines)), (), lambda: [["inet filter input 22 8000-8100"]]),
    "owner": (owner_of, (), lambda: [["fleet home 0123456789abcdef 2026-03-01T12:00:01.000000Z"]]),
}
"""What reads an answer, the errors that its caller tells as `its answer makes no sense`, and good answers."""


def answers(good: list[list[str]], draw: random.Random, many: int) -> Iterator[list[str]]:
    """Odd ones: of nothing, of noise, of 10 MB, and good ones that are cut, out of order, or have other words in them."""
    noise = draw.randbytes(4000).decode(errors="replace").splitlines()
    yield from ([""], noise, ["x" * 10_000_000], ["x y"] * 500_000, ["#"] * 100_000, [text.LINE] * 100, text.LINES.splitlines())
    for _ in range(many):
        lines = list(draw.choice(good)) or [""]
        for _ in range(draw.choice((1, 1, 3))):
            at = draw.randrange(len(lines) + 1)
            match draw.randrange(6):
                case 0:
                    lines = lines[:at]
                case 1:
                    draw.shuffle(lines)
                case 2:
                    lines[at:at] = draw.choice((noise, draw.choice(good), [draw.choice(ODD)], lines[at : at + 1] * 1000))
                case 3 if lines:
                    lines[at % len(lines)] = draw.choice(ODD)
                case _ if lines:
                    lines[at % len(lines)] = changed(lines[at % len(lines)], draw)
        yield lines


def changed(line: str, draw: random.Random) -> str:
    """With another word in it."""
    separator = draw.choice((" ", "\t", "=", ":", ",", '"'))
    words = line.split(separator)
    words[draw.randrange(len(words))] = draw.choice(ODD)
    return separator.join(words)


@pytest.mark.parametrize("what", READ)
def test_an_odd_answer_is_read_or_refused_in_time(what: str) -> None:
    read, errors, good = READ[what]
    draw = chance(f"odd answers: {what}")
    for lines in answers(good(), draw, len(spread("odd answers", range(20_000), 200))):
        began = time.process_time()
        with suppress(*errors):
            read(lines)
        assert time.process_time() - began < SECONDS, [line[:80] for line in lines[:80]]
