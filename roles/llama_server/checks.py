"""What the llama-servers do, asked on their own host: each serves the models that are declared, as a user who can do nothing else."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from shlex import quote
from statistics import median
from typing import Any

from testinfra.backend.base import CommandResult
from testinfra.host import Host as TestinfraHost

from inventory.bounds import from_json
from inventory.fleet import Fleet, Host
from resources import SPEEDS, File, Reached, Release, Resource, Speed, expected, lines_of, note_sh, of_kind, reached_of
from roles.llama_server import speeds as trials
from roles.llama_server.settings import LlamaServerSettings
from roles.llama_server.workers import endpoints
from roles.preset import Preset
from roles.role import render
from roles.sandbox import grants
from roles.server import CALLERS, Server, question
from roles.speed import Floor, Speeds, is_timed, mark, trial

LOAD_TIMEOUT_S = 600
"""A model of many GiB is read from a disk first."""

TIMED_OUT = 28
"""curl's exit code: https://curl.se/docs/manpage.html#EXIT"""

ANSWER_S = 10
"""A server says within that that it is well, or that it reads its model: also while it computes."""


CARDS = r"/dev/(dri/(render|card)|nvidia[0-9]|nvmap|nvgpu/)"
"""What a process has open that computes on a card."""

PROCESSOR = {"device": "none", "dev": "none", "n-gpu-layers": "0", "gpu-layers": "0", "ngl": "0"}
"""Options with which a model is to be computed on the processor."""

HIDDEN = re.compile(r"^InaccessiblePaths=-(.*)$", re.MULTILINE)

OF_ANY = "GGML_VK_VISIBLE_DEVICES"
"""Where a release has this, its device may be the processor's own (llama_cpp: vulkan_device)."""


def check_health(host: TestinfraHost, fleet: Fleet, this: Host) -> None:
    for server in fleet.servers(this.name):
        assert ask(host, fleet, server, "/health") == {"status": "ok"}, server.name


def check_computes_on_its_workers(host: TestinfraHost, fleet: Fleet, this: Host) -> None:
    """An instance holds a connection to each of them as long as it has its model."""
    for server in fleet.servers(this.name):
        for worker, endpoint in zip(server.workers, endpoints(server, fleet), strict=True):
            connected = host.check_output("ss -Htnp state established %s", f"( dst {endpoint} )")
            words = f"{server.name} has no connection to its worker {worker}: `paddock logs {this.name}` says why"
            assert f"pid={_main_pid(host, server)}," in connected, words


def check_lists_exactly_the_declared_models(host: TestinfraHost, fleet: Fleet, this: Host) -> None:
    for server in fleet.servers(this.name):
        # An instance has its aliases beside its name, and goes by the first in their order (tools/server/server-context.cpp: model_name).
        names = [(each["id"], *each.get("aliases", ())) for each in ask(host, fleet, server, "/v1/models")["data"]]
        listed = {next((name for name in each if name in server.models), each[0]) for each in names}
        assert listed == set(server.models), f"{server.name} lists {', '.join(sorted(listed))}"


def check_every_model_answers_with_its_own_context(host: TestinfraHost, settings: LlamaServerSettings, fleet: Fleet, this: Host) -> None:
    for server in fleet.servers(this.name):
        for name in server.models:
            if server.kind == "router" and not settings.autoload and _listed(host, fleet, server)[name]["value"] != "loaded":
                continue  # nobody has asked for it to be loaded
            preset = fleet.preset(server, name)
            answer = ask(host, fleet, server, *question(name, preset))
            assert "error" not in answer, f"{server.name}, {name}: {answer['error']}"
            if size := context_size(preset):
                assert _context(host, fleet, server, name) == size, f"{server.name}, {name}: its context is not {size}"


def check_computes_on_a_card_where_it_is_built_for_one(host: TestinfraHost, fleet: Fleet, this: Host, plan: Sequence[Resource]) -> None:
    """A server whose card was not ready when it started serves from the processor, in silence."""
    for release in of_kind(plan, Release):
        if not release.devices or OF_ANY in dict(release.environment):
            continue
        for server in fleet.servers(this.name):
            if any(_is_for_the_processor(fleet.preset(server, name)) for name in server.models):
                continue
            for pid in _with_models(host, server):
                found = host.run(f"find /proc/%s/fd -lname '/dev/*' -printf '%%l\\n' | grep -qE {quote(CARDS)}", pid)
                words = f"{server.name} computes on the processor, not on {', '.join(release.devices)}: no card is open in process {pid}"
                assert found.rc == 0, f"{words}. `paddock restart` starts it anew, where its card is ready now"


def check_opens_no_card_that_is_hidden_from_it(host: TestinfraHost, fleet: Fleet, this: Host, plan: Sequence[Resource]) -> None:
    """systemd passes over in silence what a kernel does not let an account hide."""
    units = {each.path: each for each in of_kind(plan, File)}
    for server in fleet.servers(this.name):
        unit = units.get(f"/etc/systemd/{server.scope}/{server.unit}")
        hidden = HIDDEN.findall(unit.data.decode()) if unit else []
        for pid in _with_models(host, server) if hidden else ():
            nodes = " ".join(f"$(readlink -f {quote(each)})" for each in hidden)
            seen = host.run(f"for node in {nodes}; do find /proc/%s/fd -lname $node -printf '%%l\n'; done", pid).stdout.split()
            words = f"{server.name} has {' and '.join(seen)} open, of a card that `gpus` does not name"
            assert not seen, f"{words}: user namespaces are closed to accounts here: leave out `user`"


def check_runs_as_its_own_user(host: TestinfraHost, fleet: Fleet, this: Host) -> None:
    for server in fleet.servers(this.name):
        pid = _main_pid(host, server)
        assert host.check_output("stat --format=%%U /proc/%s", pid) == server.user, server.name


def check_workers_listen_on_loopback_alone(host: TestinfraHost, fleet: Fleet, this: Host) -> None:
    own = {server.port for server in fleet.servers(this.name) if not server.listener}
    sockets = [line.split() for line in lines_of(host.check_output("ss -Hltnp")) if '"llama-server"' in line]
    workers = [each[3] for each in sockets if int(each[3].rpartition(":")[2]) not in own]
    outside = [address for address in workers if not address.startswith(("127.", "[::1]"))]
    assert not outside, f"reachable from elsewhere, past the router: {', '.join(outside)}"


def check_a_server_is_alone_with_its_workers(host: TestinfraHost, settings: LlamaServerSettings, fleet: Fleet, this: Host) -> None:
    """It has a network of its own, with loopback and nothing else, unless it may call other machines."""
    for server in fleet.servers(this.name):
        calls = server.workers or grants(fleet.preset(server, name) for name in server.models).peers
        if server.scope == "user" or settings.egress or calls:
            continue
        found = host.check_output("nsenter --net=/proc/%s/ns/net ip -oneline link | wc -l", _main_pid(host, server))
        assert found == "1", f"{server.name} is in a network with {found} interfaces: only loopback should be there"


def check_its_socket_is_closed_to_other_accounts(host: TestinfraHost, fleet: Fleet, this: Host) -> None:
    for server in fleet.servers(this.name):
        if server.socket:
            seen = host.check_output("stat --format='%%U %%G %%a' %s", server.socket)
            assert seen == f"root {CALLERS} 660", f"{server.socket}: {seen}"


def check_nobody_gets_an_answer_without_the_key(host: TestinfraHost, settings: LlamaServerSettings, fleet: Fleet, this: Host) -> None:
    for server in fleet.servers(this.name) if settings.api_key else ():
        asked = fleet.asked(server, "/v1/models?autoload=false")
        status = f"curl --silent --max-time {ANSWER_S} --output /dev/null --write-out %{{http_code}} {asked}"
        assert host.check_output(status) == "401", server.name


def check_is_not_slower_than_its_floor(host: TestinfraHost, fleet: Fleet, this: Host, plan: Sequence[Resource], speeds: Speeds) -> None:
    """Of the models that are loaded and awake. What was never measured is measured, while nobody uses the host, and kept there."""
    release = next(iter(of_kind(plan, Release)), None)
    share = fleet.upgrade.floor_percent
    if not share or release is None:
        return
    there = reached_of(lines_of(host.run("cat -- %s", SPEEDS).stdout))
    known, slow = [*speeds.known, *there], []
    for server in _loaded(host, fleet, this, release.name):
        found = None if speeds.anew else expected(known, server.release, server.mark)
        if found and (words := trials.held(server, Floor(found, share), speeds.tell)):
            slow.append(words)
        elif (not found or found.release != server.release) and (counted := trials.measured(server, speeds.tell)):
            found = _reached(server, counted)
            speeds.keep(found)
        if found and found.release == server.release and found not in there:
            host.check_output("sh -c %s", note_sh([found]))
    assert not slow, "; ".join(slow)


def _loaded(host: TestinfraHost, fleet: Fleet, this: Host, release: str) -> Iterator[trials.Tried]:
    """What can be measured of a host's servers: no model is loaded for it, and none woken."""
    numbers = iter(range(1, 1 << 30))
    for server in fleet.servers(this.name):
        for model in _loaded_in(host, fleet, server):
            preset = fleet.preset(server, model)
            if not is_timed(server, preset) or _is_asleep(host, fleet, server, model):
                continue

            def try_in(within_s: float, server: Server = server, model: str = model, preset: Preset = preset) -> trials.Trial:
                path, body = trial(model, preset, next(numbers))
                done = _asked(host, fleet, server, path, body, round(within_s))
                if done.rc == TIMED_OUT:
                    raise trials.TooSlow
                if done.rc:
                    raise trials.NoAnswer(" ".join(done.stderr.split()) or f"curl ended with {done.rc}")
                return trials.trial_of(from_json(done.stdout))

            unit, way = server.unit, mark(server, model, fleet.models[model].source, preset)
            in_use = partial(_in_use, host, fleet, this, server)
            yield trials.Tried(release, way, unit, model, try_in, in_use, partial(time.sleep, 1))


def _in_use(host: TestinfraHost, fleet: Fleet, this: Host, tried: Server, given_up: int) -> str:
    """Why no speed is measured on the host now: what one server computes, the others do not. Empty where all of them are idle, so many
    trials that were `given_up` aside."""
    for server in fleet.servers(this.name):
        for model in _loaded_in(host, fleet, server):
            if _is_asleep(host, fleet, server, model):
                continue
            use = trials.uses(ask(host, fleet, server, f"/slots{_of(server, model)}"), given_up if server == tried else 0)
            if use == "busy":
                return f"{server.name} is busy"
            if use == "unknown":
                return f"{server.name} does not tell its slots, so nobody knows whether it is busy"
    return ""


def _loaded_in(host: TestinfraHost, fleet: Fleet, server: Server) -> Sequence[str]:
    if server.kind == "instance":
        return server.models
    return [name for name, each in _listed(host, fleet, server).items() if each["value"] == "loaded" and name in server.models]


def _is_asleep(host: TestinfraHost, fleet: Fleet, server: Server, model: str) -> bool:
    """To ask for its slots would wake it."""
    may = "sleep-idle-seconds" in fleet.preset(server, model)
    return may and bool(ask(host, fleet, server, f"/props{_of(server, model)}").get("is_sleeping"))


def _of(server: Server, model: str) -> str:
    """What a question for one of a router's models ends with."""
    return f"?model={model}&autoload=false" if server.kind == "router" else ""


def _reached(server: trials.Tried, counted: Sequence[trials.Trial]) -> Reached:
    prompts, generation = ([getattr(each, name) for each in counted] for name in ("prompts", "generation"))
    tokens = round(median(each.tokens for each in counted))
    who = (server.release, server.mark, server.unit, server.model)
    return Reached(*who, Speed.of(prompts), Speed.of(generation), tokens, len(counted), datetime.now(UTC))


def context_size(preset: Preset) -> str:
    """The context that the inventory asks for, `c` being the same option; empty where it leaves that to the model."""
    return str(preset.get("ctx-size", preset.get("c", "")))


def ask(host: TestinfraHost, fleet: Fleet, server: Server, path: str, body: Mapping[str, Any] | None = None) -> Any:
    """What the server answers, parsed: an error of its own too. The key, where it asks for one, is read on the host, and stands in no
    command line there."""
    done = _asked(host, fleet, server, path, body)
    assert done.rc == 0, f"{server.name}: {' '.join(done.stderr.split()) or f'curl ended with {done.rc}'}"
    return from_json(done.stdout)


def _asked(
    host: TestinfraHost, fleet: Fleet, server: Server, path: str, body: Mapping[str, Any] | None, within_s: int = LOAD_TIMEOUT_S
) -> CommandResult:
    data = f"--header 'Content-Type: application/json' --data {quote(json.dumps(body))}" if body is not None else ""
    # While it reads its model, an instance answers 503.
    patience = f"--retry {LOAD_TIMEOUT_S} --retry-delay 1 --retry-max-time {LOAD_TIMEOUT_S}" if path == "/health" else ""
    command = f"curl --silent --show-error --max-time {within_s} {patience} {data} {fleet.asked(server, path)}"
    if server.key_file:
        told = _holds_its_port(server)
        command = f"""{told}. {server.key_file}; printf 'header = "Authorization: Bearer %s"' "$LLAMA_API_KEY" | {command} --config -"""
    # One that hangs would be waited for as one that reads its model.
    health = fleet.asked(server, "/health")
    hangs = quote(f"{server.name} hangs: no answer to /health in {ANSWER_S} s")
    alive = f"curl --silent --output /dev/null --max-time {ANSWER_S} {health}; [ $? != 28 ] || {{ echo {hangs} >&2; exit 1; }}"
    return host.run(f"{alive}; {command}")


def _holds_its_port(server: Server) -> str:
    """Ends with words where a TCP port is another's. A key is sent to nobody else; a Unix socket is root's to make."""
    if server.socket:
        return ""
    squatted = quote(f"another account listens on port {server.port}: it is not sent the key")
    return f"{server.holds_its_port} || {{ echo {squatted} >&2; exit 1; }}; "


def _context(host: TestinfraHost, fleet: Fleet, server: Server, model: str) -> str:
    """The context that its process was started with."""
    if server.kind == "router":
        arguments = _listed(host, fleet, server)[model]["args"]
    else:
        pid = _main_pid(host, server)
        arguments = lines_of(host.check_output(r"tr '\0' '\n' </proc/%s/cmdline", pid))
    return next((arguments[at + 1] for at, each in enumerate(arguments) if each in ("--ctx-size", "-c")), "")


def _is_for_the_processor(preset: Preset) -> bool:
    return any(str(preset.get(option)) == value for option, value in PROCESSOR.items())


def _with_models(host: TestinfraHost, server: Server) -> list[str]:
    """The processes that have a model: an instance itself, a router's workers."""
    main = _main_pid(host, server)
    if server.kind == "instance":
        return [main]
    return str(host.run("pgrep --parent %s --exact llama-server", main).stdout).split()


def _main_pid(host: TestinfraHost, server: Server) -> str:
    """Of llama-server itself, not of what starts a container with it."""
    if server.container:
        return str(host.check_output("docker inspect --format '{{.State.Pid}}' %s", server.container))
    if server.scope == "system":
        return str(host.check_output("systemctl show --property=MainPID --value %s", server.unit))
    command = f"{render('manager.sh')}\nmanager %s show --property=MainPID --value %s"
    return str(host.check_output(command, server.user, server.unit))


def _listed(host: TestinfraHost, fleet: Fleet, server: Server) -> dict[str, Any]:
    """A router's models, each with its status."""
    return {each["id"]: each["status"] for each in ask(host, fleet, server, "/models")["data"]}
