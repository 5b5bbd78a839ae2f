"""llama-server as a router with a preset for every model, and as instances of one fixed model each: a unit for each of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address
from posixpath import dirname

from inventory.errors import PaddockError
from inventory.fleet import Fleet, Host
from inventory.knowledge import Knowledge
from inventory.options import Options, as_arguments
from resources import Directory, File, Port, Release, Resource, Service, User
from roles import tunnel
from roles.devices import OTHER_GGML, reads_proc
from roles.llama_server import callers, container, environment, proxy
from roles.llama_server.cards import nodes, pin
from roles.llama_server.drafting import drafting
from roles.llama_server.interfaces import address_at
from roles.llama_server.settings import LlamaServerSettings, api_key_name
from roles.llama_server.slots import directories, keyed
from roles.llama_server.workers import TUNNEL, addresses, endpoints, started_with, tunnels
from roles.preset import Preset, layered, uncut
from roles.role import address_of, listed_as, loopback_of, render
from roles.sandbox import HOME, HOMES, Grants, grants, hidden
from roles.server import CALLERS, KEY_FILE, Server

RELEASE = "/opt/paddock/llama.cpp/current"
DIRECTORY = "/etc/paddock/llama-server"
PRESETS = f"{DIRECTORY}/presets.ini"
WAIT_SCRIPT = f"{DIRECTORY}/wait-for.sh"
WAIT_UNIT = "paddock-gpu-nodes.service"
SLOTS_SCRIPT = f"{DIRECTORY}/slots.sh"

WAY_IN = tunnel.Tunnel(
    "paddock-http-tunnel.service", "/etc/paddock/http-tunnel", "Encrypted way to the llama.cpp servers of this host", group=CALLERS
)

NICE, FIFO = (0, -5, -10, -20), (0, 40, 80, 90)
"""By llama.cpp's priority the nice value (common/common.cpp: set_process_priority) and that of SCHED_FIFO (ggml-cpu.c:
ggml_thread_apply_priority) that it takes."""

CACHE_MIB_A_GIB, CACHE_MOST_MIB = 128, 8192
"""llama.cpp keeps up to 8 GiB of prompts in memory, on every host: here it is an eighth of the memory, and never more than that."""

ROUTERS_OWN = frozenset(
    ("timeout", "to", "threads-http", "path", "cors-methods", "cors-headers", "cors-credentials", "no-cors-credentials")
)
"""What a router takes of its role's preset, of a version whose options nobody knows yet."""

Value = str | int | float | bool


def plan(host: Host, settings: LlamaServerSettings, fleet: Fleet, knowledge: Knowledge) -> Iterator[Resource]:
    if settings.user:
        yield Directory("/var/lib/systemd/linger")
        yield File(f"/var/lib/systemd/linger/{settings.user}", "")  # its services run also while it is not logged in (systemd-logind)
    else:
        yield User("llama-server", HOME)
        yield User(CALLERS, "/nonexistent")
        yield Directory(HOME, owner="llama-server", group="llama-server", mode=0o750)
    yield Directory("/etc/paddock")
    yield Directory(DIRECTORY, exclusive=True)
    key = _key(host, settings, knowledge)
    yield from key
    yield from tunnels(host, fleet, knowledge)
    yield from _waiting(fleet.servers(host.name), knowledge)
    yield from _written_to(fleet.servers(host.name), fleet)
    if any(_slots(server, fleet, knowledge) for server in fleet.servers(host.name)):
        yield File(SLOTS_SCRIPT, render("llama_server/slots.sh"), mode=0o755)
    if not settings.user:
        yield callers.script()
    release = knowledge.releases.get(host.name)
    runs = tuple(container.resources(settings, release if isinstance(release, Release) else None))
    yield from runs
    starts = tuple(each for each in runs if isinstance(each, File) and each.path == container.SCRIPT)
    for server in fleet.servers(host.name):
        presets = (*_presets(server, settings, fleet, knowledge), *environment.of_file(server, settings, knowledge))
        unit = _unit(server, settings, fleet, knowledge)
        yield from presets
        yield unit
        models = (f"model:{path}" for name in server.models for path in fleet.model_paths(host.name, name))
        port = _port(server, fleet, knowledge)
        yield Service(
            server.unit,
            restarts=(unit, *presets, *key, *starts),
            runs=(f"release:{RELEASE}", *dict.fromkeys(models)),
            ports=() if server.listener else (port,),
            user=settings.user or "",
            answers=_answers(server, fleet),
            drains=bool(server.listener),
            cuts="" if server.listener else "what it is answering breaks off, and nobody is answered meanwhile",
            alike=f"{server.group} of {server.models[0]}" if server.group else "",
        )
        if server.listener:
            yield from proxy.resources(server, settings, _listens(server, fleet, knowledge), port)
    ways = [each for each in fleet.tunnels_to(host.name) if each.socket in {server.socket for server in fleet.servers(host.name)}]
    yield from tunnel.inwards(WAY_IN, ways, knowledge, settings.expiry)


def _port(server: Server, fleet: Fleet, knowledge: Knowledge) -> Port:
    """Where other hosts reach it through a tunnel, it has loopback for its own."""
    addresses = tuple(listed_as(address_of(each)) for each in _listens(server, fleet, knowledge))
    if fleet.is_tunnelled(server):
        return Port(server.port, addresses, server.listener, shared=True)
    watchers = () if server.encrypted else fleet.watchers(server.host)
    callers = tuple(dict.fromkeys((*fleet.callers(server.host), *watchers)))
    return Port(server.port, addresses, server.listener or server.unit, reachable_from=callers)


def _listens(server: Server, fleet: Fleet, knowledge: Knowledge) -> tuple[str, ...]:
    """`ADDRESS:PORT` of each place where it is called."""
    hardware = knowledge.hardware.get(server.host)
    if server.interface and hardware:
        own = address_at(server, fleet, hardware.addresses)
        return (loopback_of(server.listen),) if fleet.is_tunnelled(server) else (own, loopback_of(server.listen))
    return (loopback_of(server.listen) if fleet.is_tunnelled(server) else server.listen,)


def _answers(server: Server, fleet: Fleet) -> str:
    """Nothing until it is warm and callers are let in. Of an account's own an instance answers 503 until it has read its model; a router
    reads one when it is asked for it."""
    if server.kind == "router" and not server.listener:
        return ""  # it answers as soon as it listens
    head = "--head " if server.listener else ""  # HAProxy before it says so whether callers are let in
    return f"curl --silent --fail --max-time 5 {head}{fleet.asked(server, '/health')}"


def needs(host: Host, settings: LlamaServerSettings, fleet: Fleet) -> Iterator[str]:
    """The other hosts whose workers must answer before this one loads its models."""
    yield from dict.fromkeys(worker for server in fleet.servers(host.name) for worker in server.workers)


def refusals(host: Host, settings: LlamaServerSettings, fleet: Fleet, knowledge: Knowledge) -> Iterator[str]:
    """Why its llama-servers could not load its models, or these cannot have the memory that they would take."""
    from roles.llama_server import demands, workers  # demands asks this module for the defaults

    yield from workers.refusals(host, fleet, knowledge)
    yield from dict.fromkeys(line for server in fleet.servers(host.name) for line in environment.refusals(server, settings, knowledge))
    for server in fleet.servers(host.name):
        if server.container and not server.egress and _grants(server, fleet).peers:
            words = f"{server.name} could not reach its RPC servers from a container that is alone: set `egress`, or leave out `runtime`"
            yield f"hosts.{host.name}.roles.llama_server.runtime: {words}"
    yield from demands.refusals(host.name, fleet, knowledge, knowledge.shapes)


def remarks(host: Host, settings: LlamaServerSettings, fleet: Fleet, knowledge: Knowledge) -> Iterator[str]:
    """Of its models' contexts, and of memory that nobody could check."""
    from roles.llama_server import demands

    yield from _clear_text(host, settings, fleet)
    if settings.egress:
        words = "`egress` lets its servers connect to any machine: whoever may ask one can have it call an address, as an `image_url`"
        yield f"hosts.{host.name}.roles.llama_server: {words}"
    yield from demands.remarks(host.name, fleet, knowledge, knowledge.shapes)
    yield from demands.unchecked(host.name, fleet, knowledge, knowledge.shapes)


def _clear_text(host: Host, settings: LlamaServerSettings, fleet: Fleet) -> Iterator[str]:
    open_ones = [each for each in fleet.servers(host.name) if fleet.callers_of(each) and not fleet.is_tunnelled(each)]
    if open_ones:
        callers = " and ".join(dict.fromkeys(caller for each in open_ones for caller in fleet.callers_of(each)))
        words = f"NOT ENCRYPTED: what {callers} asks and gets is clear text on the network"
        why = "`encrypted: false` says so" if not settings.encrypted else f"services of the account {settings.user} cannot have a tunnel"
        yield f"hosts.{host.name}.roles.llama_server: {words}, and whoever has its address is let in ({why})"


def _key(host: Host, settings: LlamaServerSettings, knowledge: Knowledge) -> tuple[File, ...]:
    """By a variable, for what stands on a command line is everybody's to read, and a router hands its own flags to no worker."""
    if not settings.api_key:
        return ()
    key = knowledge.key(api_key_name(host.name))
    return (File(KEY_FILE, f"LLAMA_API_KEY={key}\n", **environment.readable(settings), secret=True),)


def _presets(server: Server, settings: LlamaServerSettings, fleet: Fleet, knowledge: Knowledge) -> tuple[File, ...]:
    """A router's models."""
    if server.kind != "router":
        return ()
    own = routers_own(server.preset, knowledge.options.get(server.host))
    release = _release(server, knowledge)
    of_models = keyed({option: value for option, value in server.preset.items() if option not in own}, release)
    shared = {**defaults(server, settings, _memory_mib(server, knowledge), shared=fleet.is_shared(server)), **of_models}
    models = {
        name: {
            "model": fleet.model_path(server.host, name),
            **({"alias": ",".join(entry.aliases)} if entry.aliases else {}),
            **_options(
                keyed({**fleet.own_preset(server.host, name), **drafting(server, name, fleet, knowledge)}, release), f"models.{name}"
            ),
        }
        for name, entry in ((name, fleet.models[name]) for name in server.models)
    }
    of_all = _options(shared, f"hosts.{server.host}.roles.llama_server")
    return (File(PRESETS, render("llama_server/presets.ini.j2", defaults=of_all, models=models)),)


def _unit(server: Server, settings: LlamaServerSettings, fleet: Fleet, knowledge: Knowledge) -> File:
    release, hardware = _release(server, knowledge), knowledge.hardware.get(server.host)
    pinned = pin(server, hardware, release.backend) if release else None
    own = dict((*(release.environment if release else ()), *(pinned.environment if pinned else ())))
    asked = _grants(server, fleet)
    files = tuple(path for name in server.models for path in fleet.model_paths(server.host, name))
    reads = tuple(each for each in asked.reads if each not in files)
    paths = (*dict.fromkeys(files), *reads)
    waits = _nodes(server, knowledge)
    variables = environment.of_unit(server, settings, own)
    secrets = [*filter(None, (server.key_file,)), *(each.path for each in environment.of_file(server, settings, knowledge))]
    program, arguments = [f"{RELEASE}/bin/llama-server"], list(_arguments(server, settings, fleet, knowledge))
    if server.container:
        read = (*((PRESETS,) if server.kind == "router" else ()), *paths)
        given = container.Asked(
            reads=read,
            writes=(HOME, *(path for path in asked.writes if path != HOME and not hidden(path, (HOME,)))),
            secrets=tuple(secrets),
            environment=tuple(variables.items()),
            nice=NICE[asked.priority],
            fifo=FIFO[asked.priority],
        )
        first, *rest = container.command(server, settings, release, pinned, given)
        program, arguments = first[:1], [first[1:], *rest, program, *arguments]
    text = render(
        "llama_server/llama-server.service.j2",
        description="llama.cpp server" if server.kind == "router" else f"llama.cpp server of {server.models[0]}",
        program=program[0],
        arguments=arguments,
        container=server.container,
        container_script=container.SCRIPT,
        engine_group=container.GROUP,
        presets=PRESETS if server.kind == "router" else "",
        user=settings.user,
        memory_max=server.memory_max,
        secrets=secrets,
        networked=server.egress or bool(asked.peers or server.workers),
        egress=server.egress,
        runtime=proxy.runtime(server),
        admit=callers.admit(server, fleet) if server.listener else (),
        drain=callers.drain(server),
        stop_s=server.stop_s,
        environment=[f"{name}={value}" for name, value in variables.items()],
        devices=pinned.devices if pinned else (),
        hidden=(*(pinned.hidden if pinned else ()), *(OTHER_GGML if release and release.downloads else ())),
        reads_proc=release is not None
        and (reads_proc(hardware, release.backend) or (release.backend == "cuda" and environment.is_unified(server, settings))),
        mounts=tuple(dict.fromkeys((dirname(RELEASE), *map(dirname, files), *reads, *asked.writes))),
        shown=[path for path in paths if hidden(path)],
        shows_home=any(hidden(path, HOMES) for path in paths),
        state=[path.removeprefix(f"{dirname(HOME)}/") for path in asked.writes if path != HOME and hidden(path, (HOME,))],
        writes=[path for path in asked.writes if not hidden(path, (HOME,))],
        makes=[path for path in asked.writes if hidden(path)],
        slots_script=SLOTS_SCRIPT,
        slots=_slots(server, fleet, knowledge),
        wait_script=WAIT_SCRIPT,
        wait_unit=WAIT_UNIT if waits and not settings.user else "",
        waits=(*waits, f"{RELEASE}/bin/llama-server", *paths),
        priority=asked.priority,
        nice=NICE[asked.priority],
        fifo=FIFO[asked.priority],
        peers=[*asked.peers, *addresses(server, fleet)],
        computes_elsewhere=TUNNEL.unit if server.workers else "",
        workers=started_with(server, fleet, knowledge),
    )
    return File(f"/etc/systemd/{server.scope}/{server.unit}", text)


def _grants(server: Server, fleet: Fleet) -> Grants:
    return grants(fleet.preset(server, name) for name in server.models)


def _slots(server: Server, fleet: Fleet, knowledge: Knowledge) -> tuple[str, ...]:
    return directories((fleet.preset(server, name) for name in server.models), _release(server, knowledge))


def _nodes(server: Server, knowledge: Knowledge) -> tuple[str, ...]:
    release = _release(server, knowledge)
    return nodes(server, knowledge.hardware.get(server.host), release.backend) if release else ()


def _waiting(servers: Sequence[Server], knowledge: Knowledge) -> Iterator[File]:
    """What waits at boot: for system services a unit before theirs, for an account's own the script that theirs run."""
    found = tuple(dict.fromkeys(node for server in servers if server.scope == "system" for node in _nodes(server, knowledge)))
    if found or any(server.scope == "user" for server in servers):
        yield File(WAIT_SCRIPT, render("llama_server/wait-for.sh"), mode=0o755)
    if found:
        text = render("llama_server/paddock-gpu-nodes.service.j2", script=WAIT_SCRIPT, nodes=found)
        yield File(f"/etc/systemd/system/{WAIT_UNIT}", text)


def _written_to(servers: Sequence[Server], fleet: Fleet) -> Iterator[Directory]:
    """The directories that options have the servers write to. Root makes none in a home, or where everybody may write: the unit does."""
    named = ((path, server) for server in servers for path in _grants(server, fleet).writes)
    wanted = {path: server for path, server in named if not hidden(path) and not hidden(path, (HOME,))}
    for path, server in wanted.items():
        group, mode = ("llama-server", 0o750) if server.scope == "system" else ("root", 0o700)
        yield Directory(path, owner=server.user, group=group, mode=mode)


def _arguments(server: Server, settings: LlamaServerSettings, fleet: Fleet, knowledge: Knowledge) -> Iterator[list[str]]:
    """The command line, an element for each of its lines. A router's has what is the router's own: the rest would win over every preset."""
    release = _release(server, knowledge)
    # With a Unix socket the port is only what `paddock models list` tells the server's own process by.
    yield ["--host", proxy.own_socket(server) if server.listener else str(ip_address(server.address)), "--port", str(server.port)]
    if server.kind == "router":
        yield [
            "--models-preset",
            PRESETS,
            "--models-max",
            str(settings.models_max),
            *([] if settings.autoload else ["--no-models-autoload"]),
        ]
        options = knowledge.options.get(server.host)
        yield from flags(keyed(routers_own(server.preset, options), release), options)
    else:
        (model,) = server.models
        yield ["--model", fleet.model_path(server.host, model), "--alias", ",".join(_names(model, server, fleet, knowledge))]
        if server.workers:
            yield ["--rpc", ",".join(endpoints(server, fleet))]
        servers, memory_mib = len(fleet.servers(server.host)), _memory_mib(server, knowledge)
        shared = defaults(server, settings, memory_mib, servers, fleet.is_shared(server))
        own = keyed({**fleet.preset(server, model), **drafting(server, model, fleet, knowledge)}, release)
        yield from flags(layered(shared, own), knowledge.options.get(server.host))
    yield ["--offline", *([] if release and release.ui else ["--no-ui"]), "--cors-origins", "localhost"]


def _names(model: str, server: Server, fleet: Fleet, knowledge: Knowledge) -> tuple[str, ...]:
    """What an instance calls its model. An older llama.cpp takes one name, whatever is in it."""
    options = knowledge.options.get(server.host)
    alias = options.find("alias") if options else None
    return (model, *fleet.models[model].aliases) if alias is None or alias.several else (model,)


def routers_own(preset: Preset, options: Options | None) -> Preset:
    """What of its role's preset a router takes itself: how it answers requests. It hands that on to what it starts."""
    return {option: value for option, value in preset.items() if _is_routers_own(option, options)}


def _is_routers_own(option: str, options: Options | None) -> bool:
    if options is None:
        return option in ROUTERS_OWN
    found = options.find(option)
    return found is not None and found.part == "server"


def flags(preset: Preset, options: Options | None) -> Iterator[list[str]]:
    """A preset as an instance's command line has it: `{metrics: true, jinja: false}` → `--metrics`, `--no-jinja`. Of a version whose
    options nobody knows yet, it is as most of them are."""
    if options:
        yield from as_arguments(preset, options)
        return
    for option, value in preset.items():
        yield [f"--{option}" if value else f"--no-{option}"] if isinstance(value, bool) else [f"--{option}", str(value)]


def _release(server: Server, knowledge: Knowledge) -> Release | None:
    release = knowledge.releases.get(server.host)
    return release if isinstance(release, Release) else None


def _memory_mib(server: Server, knowledge: Knowledge) -> int:
    hardware = knowledge.hardware.get(server.host)
    return hardware.memory_mib if hardware else 0


def defaults(server: Server, settings: LlamaServerSettings, memory_mib: int, servers: int = 1, shared: bool = False) -> Mapping[str, Value]:
    """What every model is served with unless the inventory says otherwise. `memory_mib` 0 is a machine that nobody has looked at yet. One
    that is `shared` by strangers keeps no prompts in memory (ggml-org/llama.cpp#27148), and then caches no idle slot either
    (tools/server/server-context.cpp)."""
    if shared:
        return {"cache-ram": 0, "metrics": True}
    models = settings.models_max or max(1, len(settings.models))
    # In steps of a GiB: what the kernel takes for itself, and so the rest, changes with its version.
    gib = -(-memory_mib // 1024)
    cache_mib = min(CACHE_MIB_A_GIB * gib, CACHE_MOST_MIB) // (servers if servers > 1 else models)
    if limit_mib := mib(server.memory_max):
        cache_mib = min(cache_mib, CACHE_MIB_A_GIB * limit_mib // 1024 // (models if server.kind == "router" else 1))
    return {**({"cache-ram": cache_mib} if gib else {}), "metrics": True}


def mib(size: str | None) -> int:
    """As systemd writes it: `24G`; 0 where there is no limit."""
    return int(size[:-1]) * 1024 ** "KMGT".index(size[-1]) // 1024 if size else 0


def _options(preset: Mapping[str, Value], where: str) -> dict[str, str]:
    """As a preset file has them. Raises PaddockError for a value that it cannot hold, with the place `where` the preset stands."""
    for option, value in preset.items():
        if words := uncut(value):
            raise PaddockError(f"{where}.preset.{option}: {words}")
    return {option: _text(value) for option, value in preset.items()}


def _text(value: Value) -> str:
    """`True` → `true`: llama.cpp reads on, enabled, true and 1 alike (common/arg.cpp: is_truthy)."""
    return str(value).lower() if isinstance(value, bool) else str(value)
