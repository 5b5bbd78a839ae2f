"""How a machine is doing at this moment, beside what is declared of it: heat, a weak power supply, lost servers, certificates that end, a
reboot that is due."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

CONDITION_SH = """
echo "#temperature"; for at in /sys/class/thermal/thermal_zone*; do [ ! -r $at/temp ] || echo "$(cat $at/type) $(cat $at/temp)"; done
echo "#throttled"; timeout 10 vcgencmd get_throttled
echo "#fault"; cat /run/paddock/watchdog/*.fault
for each in /etc/paddock/expiry/*.sh; do [ ! -e $each ] || timeout 30 sh $each --look; done
echo "#pages-declared"; sed -n 's/^options ttm pages_limit=//p' /etc/modprobe.d/paddock-ttm.conf
echo "#pages"; cat /sys/module/amdttm/parameters/pages_limit || cat /sys/module/ttm/parameters/pages_limit
echo "#page-bytes"; getconf PAGESIZE
exit 0
"""
"""Prints what `condition` reads. What a machine does not have is left out."""

PROCESSORS = ("cpu-thermal", "cpu_thermal", "soc-thermal", "x86_pkg_temp")
"""The kinds of thermal zones that are a processor's: the first is a Raspberry Pi's."""

THROTTLED = {0: "too little voltage from its power supply", 1: "a capped clock", 2: "throttling", 3: "the soft temperature limit"}
"""Bits of `vcgencmd get_throttled`: what is so now; 16 higher, what has been so since the start.
https://www.raspberrypi.com/documentation/computers/os.html#get_throttled"""


@dataclass(frozen=True)
class Condition:
    temperature_c: float | None = None
    """The processor's."""
    throttled: int | None = None
    """What a Raspberry Pi's firmware says of its power and its heat, as bits; None on any other machine."""
    faults: tuple[str, ...] = ()
    """What the watchdog has found, a sentence a server, and certificates that near their end."""
    reboot: str = ""
    """Why a reboot is due; empty where none is."""

    def lines(self) -> Iterator[str]:
        """All of it in words, the worst first; nothing of a machine that is well and has no thermometer."""
        yield from self.faults
        if self.reboot:
            yield f"a reboot is due: {self.reboot}"
        said = [f"{self.temperature_c:.0f} °C"] if self.temperature_c is not None else []
        if self.throttled is not None:
            now, before = _words(self.throttled), _words(self.throttled >> 16 & ~self.throttled)
            said += [f"held back now by {now}"] if now else []
            said += [f"held back before, since its start, by {before}"] if before else []
            said += ["not throttled since its start"] if not now and not before else []
        if said:
            yield "; ".join(said)

    def as_data(self) -> Mapping[str, object]:
        """For `--json`."""
        return {"temperature_c": self.temperature_c, "throttled": self.throttled, "faults": list(self.faults), "reboot": self.reboot}


def condition(output: Iterable[str]) -> Condition:
    """What `CONDITION_SH` printed: `Condition(temperature_c=54.8, throttled=0x50005, …)`"""
    sections: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in output:
        if line.startswith("#"):
            lines = sections.setdefault(line[1:].strip(), [])
        elif line.strip():
            lines.append(line.strip())
    throttled = re.match(r"throttled=(0x[0-9a-fA-F]+)$", " ".join(sections.get("throttled", ())))
    return Condition(
        temperature_c=max(_temperatures(sections.get("temperature", ())), default=None),
        throttled=int(throttled[1], 16) if throttled else None,
        faults=tuple(sections.get("fault", ())),
        reboot=_reboot(*(_first(sections.get(each, ())) for each in ("pages-declared", "pages", "page-bytes"))),
    )


def _words(bits: int) -> str:
    return " and ".join(words for bit, words in THROTTLED.items() if bits >> bit & 1)


def _temperatures(lines: Iterable[str]) -> Iterator[float]:
    for line in lines:
        kind, _, millidegrees = line.rpartition(" ")
        if kind in PROCESSORS and re.fullmatch(r"-?\d+", millidegrees):
            yield int(millidegrees) / 1000


def _first(lines: Iterable[str]) -> int:
    """The first number; 0 where there is none."""
    return int(next(filter(str.isdecimal, lines), 0))


def _reboot(declared: int, in_force: int, page_bytes: int) -> str:
    """Where AMD's driver is not loaded, nothing is in force."""
    if not declared or not in_force or declared == in_force:
        return ""
    found, wanted = (pages * page_bytes >> 20 for pages in (in_force, declared))
    return f"until then the graphics may take {found} MiB, not {wanted}"
