"""A timer, the script that it runs, and the list of what that looks after."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from ipaddress import ip_address

from inventory.errors import PaddockError
from inventory.fleet import Fleet, Host
from inventory.knowledge import Knowledge
from resources import SPEEDS, Directory, File, Release, Resource, Service
from roles.preset import Preset, is_on, purpose, sleep_s
from roles.role import address_of, render
from roles.server import Server
from roles.speed import CAUSES, TRIAL_TOKENS, TRIALS, characters, is_timed, long_prompt, mark, slot_context
from roles.watchdog.settings import WatchdogSettings

DIRECTORY = "/etc/paddock/watchdog"
SCRIPT = f"{DIRECTORY}/watchdog.sh"
WATCHED = f"{DIRECTORY}/servers"
NOTIFY = f"{DIRECTORY}/notify"
PROMPT = f"{DIRECTORY}/prompt"
UNIT = "paddock-watchdog.service"
TIMER = "paddock-watchdog.timer"

RELEASE = "/opt/paddock/llama.cpp/current"

AROUND_S = 300
"""What a round may take beside its looks, the answer of one token and a stop: a start, telling somebody."""

START_S = 90
"""How long systemd may take to start a server, which then reads its model."""

SPEED_S = 300
"""What a look at a server's speed may take, after others of its host. A server whose look takes longer at its floor has none."""
SPEED_WAIT_S = 60

LOOKS = 10
"""The most looks at a server in a round."""

OPEN_DRIVERS = ("1002", "8086")
"""Vendors whose drivers tell in /proc/PID/fdinfo how much of a card's memory a process holds: AMD and Intel."""


def plan(host: Host, settings: WatchdogSettings, fleet: Fleet, knowledge: Knowledge) -> Iterator[Resource]:
    servers = fleet.servers(host.name)
    if not servers:
        raise PaddockError(f"hosts.{host.name}.roles.watchdog: there is no llama-server here to watch: remove the role from this host")
    share = fleet.upgrade.floor_percent if settings.speed_every_s else 0
    lines = [line for server in servers for line in watched(server, fleet, knowledge, timed=bool(share))]
    known = {"watched": WATCHED, "host": host.name, "notify_file": NOTIFY, "share": share, "speed_s": SPEED_S, "speed_wait_s": SPEED_WAIT_S}
    stop_s = max(server.stop_s for server in servers)
    of_trial = {"trials": TRIALS, "trial_tokens": TRIAL_TOKENS, "prompt": PROMPT, "causes": CAUSES, "speeds": SPEEDS, "current": RELEASE}
    script = render("watchdog/watchdog.sh.j2", settings, **known, **of_trial, restart_s=stop_s + START_S)
    units = [server.unit for server in servers if server.scope == "system"]
    called = [address_of(fleet.endpoint(server, server.host)) for server in servers if not server.socket]
    timeout_s = LOOKS * settings.look_s + settings.answer_s + stop_s + AROUND_S + (SPEED_WAIT_S + SPEED_S if share else 0)
    service = render(
        "watchdog/paddock-watchdog.service.j2",
        script=SCRIPT,
        units=units,
        timeout_s=timeout_s,
        addresses=list(dict.fromkeys(each for each in called if not ip_address(each).is_loopback)),
    )
    yield Directory("/etc/paddock")
    yield Directory(DIRECTORY, exclusive=True)
    yield File(WATCHED, render("watchdog/servers.j2", lines=lines))
    yield File(SCRIPT, script, mode=0o755)
    if share:
        yield File(PROMPT, long_prompt(None))
    if settings.notify:
        command = settings.notify if isinstance(settings.notify, str) else shlex.join(settings.notify)
        yield File(NOTIFY, f"{command}\n", mode=0o600)
    yield File(f"/etc/systemd/system/{UNIT}", service)
    timer = File(f"/etc/systemd/system/{TIMER}", render("watchdog/paddock-watchdog.timer.j2", settings))
    yield timer
    yield Service(TIMER, restarts=(timer,))


def watched(server: Server, fleet: Fleet, knowledge: Knowledge, *, timed: bool) -> Iterator[tuple[str, ...]]:
    """The lines of a server in the list, a word a column: an instance has one, a router one for itself and one for each model. The last two
    are for its speed, where that is `timed`."""
    user = server.user if server.scope == "user" else "-"
    where = f"unix:{server.socket}" if server.socket else f"http://{fleet.endpoint(server, server.host)}"
    who = (server.name, server.unit, user, where)
    key = server.key_file or "-"
    if server.kind == "router":
        yield (*who, "-", "none", "no", "none", key, "-", "0")
    for model in server.models:
        preset = fleet.preset(server, model)
        sleeps = _sleeps(preset, model)
        # One that may fall asleep is only looked at where looking does not wake it, which its metrics do not.
        ask = "none" if sleeps and not is_on(preset.get("metrics", True)) else purpose(preset)
        way, length = "-", 0
        if timed and not sleeps and is_timed(server, preset):
            way, length = mark(server, model, fleet.models[model].source, preset), characters(slot_context(preset))
        name = model if server.kind == "router" else "-"
        yield (*who, name, ask, "yes" if sleeps else "no", _memory(server, preset, knowledge), key, way, str(length))


def _sleeps(preset: Preset, model: str) -> bool:
    """Whether it may fall asleep. Raises PaddockError where nobody can tell."""
    try:
        return sleep_s(preset) >= 0
    except ValueError as error:
        raise PaddockError(f"models.{model}.preset: {error}") from None


def _memory(server: Server, preset: Preset, knowledge: Knowledge) -> str:
    """Who tells how much memory of the cards the server holds: `nvidia`, `drm`, or `none` where it needs none or nobody can tell."""
    release, hardware = knowledge.releases.get(server.host), knowledge.hardware.get(server.host)
    layers = next((preset[name] for name in ("n-gpu-layers", "gpu-layers", "ngl") if name in preset), "all")
    if not isinstance(release, Release) or not hardware or str(layers) == "0" or preset.get("device") == "none":
        return "none"
    if release.backend == "cuda":
        return "nvidia"
    real = any(each.kind in ("integrated", "discrete") for each in hardware.vulkan)
    vendors = {each.vendor for each in hardware.gpus}
    return "drm" if release.backend == "vulkan" and real and vendors and vendors <= set(OPEN_DRIVERS) else "none"
