"""How a machine is doing at this moment, beside what is declared of it: heat, a weak power supply, lost servers, certificates that end,
full disks, scarce memory, DNS, a reboot that is due."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from shlex import quote

from resources import Reached, reached_of

NO_COUNT = re.compile(r"\d{19,}")
"""More than Linux counts."""

CONDITION_SH = r"""
echo "#temperature"
for at in /sys/class/thermal/thermal_zone*; do
  [ ! -r "$at/temp" ] || echo "$(cat "$at/type") $(cat "$at/temp")"
done
echo "#throttled"
timeout 10 vcgencmd get_throttled
echo "#fault"
cat /run/paddock/watchdog/*.fault
for each in /etc/paddock/expiry/*.sh; do
  [ ! -e "$each" ] || timeout 30 sh "$each" --look
done
echo "#acted"
for each in /run/paddock/watchdog/*.restarted; do
  [ ! -e "$each" ] || echo "$(($(cut -d. -f1 /proc/uptime) - $(cat "$each"))) ${each##*/}"
done
echo "#speed"
tail -n 100 /var/lib/paddock/speeds
echo "#disk"
df -P -k / /var /var/lib/paddock /opt | sed 1d | sort -u
echo "#pressure"
cat /proc/pressure/memory
echo "#memory"
grep -E '^Mem(Total|Available):' /proc/meminfo
echo "#names"
# A host without a way out, or with a proxy, resolves no names.
if [ -n "$(ip route show default)$(ip -6 route show default)" ] && ! apt-config dump | grep -q '^Acquire::https\?::Proxy '; then
  cat /etc/apt/sources.list /etc/apt/sources.list.d/* | sed -nE 's,^[^#]*https?://([a-z0-9.-]*[a-z])[:/].*,\1,p' | sort -u |
    while read -r name; do
      echo "$name"
      timeout 10 getent ahosts "$name" | head -n 1
    done
fi
echo "#pages-declared"
sed -n 's/^options ttm pages_limit=//p' /etc/modprobe.d/paddock-ttm.conf
echo "#pages"
cat /sys/module/amdttm/parameters/pages_limit || cat /sys/module/ttm/parameters/pages_limit
echo "#page-bytes"
getconf PAGESIZE
exit 0
"""
"""Prints what `condition` reads. What a machine does not have is left out."""

ANSWER_S = 10
"""How long a llama-server may take to say that it is well. It says so while it computes, too."""

ACTED_S = 3600
"""How long status tells of what the watchdog has done."""

FULL_DISK_PERCENT = 95
FULL_MEMORY_PERCENT = 3
STALLED_PERCENT = 10
"""Of the last minute, in which all programs waited for memory: `full avg60` of https://docs.kernel.org/accounting/psi.html"""

PROCESSORS = ("cpu-thermal", "cpu_thermal", "soc-thermal", "x86_pkg_temp")
"""The kinds of thermal zones that are a processor's: the first is a Raspberry Pi's."""

THROTTLED = {0: "too little voltage from its power supply", 1: "a capped clock", 2: "throttling", 3: "the soft temperature limit"}
"""Bits of `vcgencmd get_throttled`: what is so now; 16 higher, what has been so since the start.
https://www.raspberrypi.com/documentation/computers/os.html#get_throttled"""


def health_sh(servers: Mapping[str, str]) -> str:
    """Asks the llama-servers of a host (name → what curl is to be given), all at once, whether they are well; `condition` reads what it
    prints."""
    ask = f"curl -s -o /dev/null -m {ANSWER_S}"
    asks = (f"{{ {ask} {at}; echo $? {quote(name)}; }} &" for name, at in servers.items())
    return "\n".join(['echo "#health"', *asks, "wait", ""])


@dataclass(frozen=True)
class Condition:
    temperature_c: float | None = None
    """The processor's."""
    throttled: int | None = None
    """What a Raspberry Pi's firmware says of its power and its heat, as bits; None on any other machine."""
    faults: tuple[str, ...] = ()
    """What the watchdog has found or done, a sentence a server, certificates that near their end, full disks, scarce memory, lost DNS."""
    reached: tuple[Reached, ...] = ()
    """How fast the host's servers were."""
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
            lines.append(NO_COUNT.sub("?", line.strip()))
    throttled = re.match(r"throttled=(0x[0-9a-fA-F]{1,16})$", " ".join(sections.get("throttled", ())))
    return Condition(
        temperature_c=max(_temperatures(sections.get("temperature", ())), default=None),
        throttled=int(throttled[1], 16) if throttled else None,
        faults=(
            *_deaf(sections.get("health", ())),
            *sections.get("fault", ()),
            *_acted(sections.get("acted", ())),
            *_full_disks(sections.get("disk", ())),
            *_scarce_memory(sections.get("memory", ()), sections.get("pressure", ())),
            *_no_names(sections.get("names", ())),
        ),
        reached=reached_of(sections.get("speed", ())),
        reboot=_reboot(*(_first(sections.get(each, ())) for each in ("pages-declared", "pages", "page-bytes"))),
    )


def _words(bits: int) -> str:
    return " and ".join(words for bit, words in THROTTLED.items() if bits >> bit & 1)


def _temperatures(lines: Iterable[str]) -> Iterator[float]:
    for line in lines:
        kind, _, millidegrees = line.rpartition(" ")
        if kind in PROCESSORS and re.fullmatch(r"-?\d+", millidegrees):
            yield int(millidegrees) / 1000


def _deaf(lines: Iterable[str]) -> Iterator[str]:
    """curl's exit code, and who was asked: 28 is that time has run out. https://curl.se/docs/manpage.html#EXIT"""
    for line in lines:
        code, _, server = line.partition(" ")
        if code != "0":
            yield f"{server} hangs: no answer to /health in {ANSWER_S} s" if code == "28" else f"{server} does not answer (curl: {code})"


def _no_names(lines: Iterable[str]) -> Iterator[str]:
    """The names of the archives that apt asks, each followed by an address where it resolves. One of them may be gone; not all of them."""
    asked = list(lines)
    names = [each for each in asked if len(each.split()) == 1]
    if names and len(names) == len(asked):
        yield f"DNS: no name resolves, not even {names[0]}, from which it gets its packages"


def _acted(lines: Iterable[str]) -> Iterator[str]:
    """Seconds ago, and the file in which the watchdog noted it."""
    for line in lines:
        ago, _, file = line.partition(" ")
        if ago.isdecimal() and int(ago) < ACTED_S:
            who, _, speed = file.removesuffix(".restarted").partition(":")
            why = ", which was too slow," if speed else ""
            yield f"the watchdog restarted {who}{why} {int(ago) // 60} min ago: see journalctl -u paddock-watchdog"


def _full_disks(lines: Iterable[str]) -> Iterator[str]:
    """`/dev/sda2 1000 950 50 95% /var`, of `df -P -k`"""
    for line in lines:
        fields = line.split(None, 5)
        if len(fields) == 6 and fields[3].isdecimal() and fields[4].rstrip("%").isdecimal() and int(fields[4][:-1]) >= FULL_DISK_PERCENT:
            yield f"the disk of {fields[5]} is {fields[4]} full: {int(fields[3]) >> 10} MiB are free"


def _scarce_memory(memory: Iterable[str], pressure: Iterable[str]) -> Iterator[str]:
    found = {name: int(size) for name, size in re.findall(r"^(Mem\w+): +(\d+)", "\n".join(memory), re.MULTILINE)}
    if found.get("MemTotal") and found.get("MemAvailable", 0) * 100 < found["MemTotal"] * FULL_MEMORY_PERCENT:
        yield f"memory: {found.get('MemAvailable', 0) >> 10} MiB of {found['MemTotal'] >> 10} are available"
    stalled = re.search(r"^full .*avg60=(\d+\.\d+)", "\n".join(pressure), re.MULTILINE)
    if stalled and float(stalled[1]) >= STALLED_PERCENT:
        yield f"memory: all programs waited for it during {float(stalled[1]):.0f} % of the last minute"


def _first(lines: Iterable[str]) -> int:
    """The first number; 0 where there is none."""
    return int(next(filter(str.isdecimal, lines), 0))


def _reboot(declared: int, in_force: int, page_bytes: int) -> str:
    """Where AMD's driver is not loaded, nothing is in force."""
    if not declared or not in_force or declared == in_force:
        return ""
    found, wanted = (pages * page_bytes >> 20 for pages in (in_force, declared))
    return f"until then the graphics may take {found} MiB, not {wanted}"
