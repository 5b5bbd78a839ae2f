"""llama-server as a router with a preset for every model, and as instances of one fixed model each: a unit for each of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import ip_address

from inventory.context import Context
from inventory.options import Options, as_arguments
from inventory.schema import Fleet, Host
from inventory.servers import KEY_FILE, Server
from roles.llama_server.cards import pin
from roles.llama_server.settings import LlamaServerSettings, api_key_name
from roles.preset import Preset, layered
from roles.resources import Directory, File, Port, Release, Resource, Service, User
from roles.role import listed_as, render

RELEASE = "/opt/paddock/llama.cpp/current"
HOME = "/var/lib/llama-server"
DIRECTORY = "/etc/paddock/llama-server"
PRESETS = f"{DIRECTORY}/presets.ini"

HIDDEN = ("/home/", "/root/", "/run/user/")
"""What the unit's ProtectHome= hides, and a model may lie in all the same."""

CACHE_MIB_A_GIB, CACHE_MOST_MIB = 128, 8192
"""llama.cpp keeps up to 8 GiB of prompts in memory, on every host: here it is an eighth of the memory, and never more than that."""

Value = str | int | float | bool


def plan(host: Host, settings: LlamaServerSettings, fleet: Fleet, context: Context) -> Iterator[Resource]:
    if settings.user:
        yield Directory("/var/lib/systemd/linger")
        yield File(f"/var/lib/systemd/linger/{settings.user}", "")  # its services run also while it is not logged in (systemd-logind)
    else:
        yield User("llama-server", HOME)
        yield Directory(HOME, owner="llama-server", group="llama-server", mode=0o750)
    yield Directory("/etc/paddock")
    yield Directory(DIRECTORY, exclusive=True)
    key = _key(host, settings, context)
    yield from key
    for server in fleet.servers(host.name):
        presets = _presets(server, settings, fleet, context)
        unit = _unit(server, settings, fleet, context)
        yield from presets
        yield unit
        models = (f"model:{path}" for name in server.models for path in fleet.model_paths(host.name, name))
        listens = (listed_as(server.address),)
        yield Service(
            server.unit,
            restarts=(unit, *presets, *key),
            runs=(f"release:{RELEASE}", *dict.fromkeys(models)),
            ports=(Port(server.port, listens, server.unit, reachable_from=fleet.callers(host.name)),),
            user=settings.user or "",
        )


def _key(host: Host, settings: LlamaServerSettings, context: Context) -> tuple[File, ...]:
    """By a variable, for what stands on a command line is everybody's to read, and a router hands its own flags to no worker."""
    if not settings.api_key:
        return ()
    key = context.key(api_key_name(host.name))
    return (File(KEY_FILE, f"LLAMA_API_KEY={key}\n", owner=settings.user or "root", mode=0o400 if settings.user else 0o600, secret=True),)


def _presets(server: Server, settings: LlamaServerSettings, fleet: Fleet, context: Context) -> tuple[File, ...]:
    """A router's models."""
    if server.kind != "router":
        return ()
    shared = {**defaults(settings, _memory_mib(server, context)), **server.preset}
    models = {
        name: {
            "model": fleet.model_path(server.host, name),
            **({"alias": ",".join(entry.aliases)} if entry.aliases else {}),
            **_options(entry.preset),
        }
        for name, entry in fleet.served_models(server.host).items()
        if name in server.models
    }
    return (File(PRESETS, render("llama_server/presets.ini.j2", defaults=_options(shared), models=models)),)


def _unit(server: Server, settings: LlamaServerSettings, fleet: Fleet, context: Context) -> File:
    release, hardware = _release(server, context), context.hardware.get(server.host)
    pinned = pin(server, hardware, release.backend) if release else None
    address = ip_address(server.address)
    environment = (*(release.environment if release else ()), *(pinned.environment if pinned else ()))
    paths = (path for name in server.models for path in fleet.model_paths(server.host, name))
    text = render(
        "llama_server/llama-server.service.j2",
        description="llama.cpp server" if server.kind == "router" else f"llama.cpp server of {server.models[0]}",
        program=f"{RELEASE}/bin/llama-server",
        arguments=[" ".join(_quoted(each) for each in line) for line in _arguments(server, settings, fleet, context)],
        presets=PRESETS if server.kind == "router" else "",
        user=settings.user,
        memory_max=server.memory_max,
        key_file=server.key_file,
        loopback=address.is_loopback,
        at_boot=not (address.is_loopback or address.is_unspecified),
        environment=[f"{name}={value}" for name, value in environment],
        devices=pinned.devices if pinned else (),
        hidden=[path for path in dict.fromkeys(paths) if path.startswith(HIDDEN)],
    )
    return File(f"/etc/systemd/{server.scope}/{server.unit}", text)


def _arguments(server: Server, settings: LlamaServerSettings, fleet: Fleet, context: Context) -> Iterator[list[str]]:
    """The command line, an element for each of its lines. A router's has what is the router's own: the rest would win over every preset."""
    release = _release(server, context)
    yield ["--host", str(ip_address(server.address)), "--port", str(server.port)]
    if server.kind == "router":
        yield [
            "--models-preset",
            PRESETS,
            "--models-max",
            str(settings.models_max),
            *([] if settings.autoload else ["--no-models-autoload"]),
        ]
    else:
        (model,) = server.models
        yield ["--model", fleet.model_path(server.host, model), "--alias", model]
        shared = defaults(settings, _memory_mib(server, context), len(fleet.servers(server.host)))
        yield from flags(layered(shared, fleet.preset(server, model)), context.options.get(server.host))
    yield ["--offline", *([] if release and release.ui else ["--no-ui"]), "--cors-origins", "localhost"]


def flags(preset: Preset, options: Options | None) -> Iterator[list[str]]:
    """A preset as an instance's command line has it: `{metrics: true, jinja: false}` → `--metrics`, `--no-jinja`. Of a version whose
    options nobody knows yet, it is as most of them are."""
    if options:
        yield from as_arguments(preset, options)
        return
    for option, value in preset.items():
        yield [f"--{option}" if value else f"--no-{option}"] if isinstance(value, bool) else [f"--{option}", str(value)]


def _quoted(argument: str) -> str:
    """A word of ExecStart= (systemd.service(5))."""
    text = argument.replace("%", "%%").replace("$", "$$")
    if text and not any(each in text for each in " \t\"'\\;"):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _release(server: Server, context: Context) -> Release | None:
    release = context.releases.get(server.host)
    return release if isinstance(release, Release) else None


def _memory_mib(server: Server, context: Context) -> int:
    hardware = context.hardware.get(server.host)
    return hardware.memory_mib if hardware else 0


def defaults(settings: LlamaServerSettings, memory_mib: int, servers: int = 1) -> Mapping[str, Value]:
    """What every model is served with unless the inventory says otherwise. `memory_mib` 0 is a machine that nobody has looked at yet."""
    at_a_time = servers if servers > 1 else settings.models_max or max(1, len(settings.models))
    # In steps of a GiB: what the kernel takes for itself, and so the rest, changes with its version.
    gib = -(-memory_mib // 1024)
    cache = {"cache-ram": min(CACHE_MIB_A_GIB * gib, CACHE_MOST_MIB) // at_a_time} if gib else {}
    return {**cache, "metrics": True}


def _options(preset: Mapping[str, Value]) -> dict[str, str]:
    return {option: _text(value) for option, value in preset.items()}


def _text(value: Value) -> str:
    """`True` → `true`: llama.cpp reads on, enabled, true and 1 alike (common/arg.cpp: is_truthy)."""
    return str(value).lower() if isinstance(value, bool) else str(value)
