"""llama-server as a router: its unit, and a preset for every model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import ip_address

from inventory.context import Context
from inventory.schema import Fleet, Host
from roles.llama_server.settings import LlamaServerSettings
from roles.resources import Directory, File, Port, Release, Resource, Service, User
from roles.role import address_of, port_of, render

RELEASE = "/opt/paddock/llama.cpp/current"
HOME = "/var/lib/llama-server"
PRESETS = "/etc/paddock/llama-server/presets.ini"
UNIT = "llama-server.service"

DEVICES = {
    "cpu": (),
    "vulkan": ("char-drm",),
    "cuda": ("char-nvidia-frontend", "char-nvidia", "char-nvidia-uvm", "char-nvidia-caps"),
}
"""The kinds of devices, as /proc/devices names them, that each backend uses."""

HIDDEN = ("/home/", "/root/", "/run/user/")
"""What the unit's ProtectHome= hides, and a model may lie in all the same."""

CACHE_MIB_A_GIB, CACHE_MOST_MIB = 128, 8192
"""llama.cpp keeps up to 8 GiB of prompts in memory, on every host: here it is an eighth of the memory, and never more than that."""

Value = str | int | float | bool


def plan(host: Host, settings: LlamaServerSettings, fleet: Fleet, context: Context) -> Iterator[Resource]:
    models = fleet.served_models(host.name)
    paths = {name: fleet.model_path(host.name, name) for name in models}
    hardware, release = context.hardware.get(host.name), _release(host, context)
    presets = File(
        PRESETS,
        render(
            "llama_server/presets.ini.j2",
            defaults=_options({**defaults(settings, hardware.memory_mib if hardware else 0), **settings.preset}),
            models={name: {"model": paths[name], **_options(entry.preset)} for name, entry in models.items()},
        ),
    )
    address = ip_address(address_of(settings.listen))
    unit = File(
        f"/etc/systemd/system/{UNIT}",
        render(
            "llama_server/llama-server.service.j2",
            settings,
            address=str(address),
            port=port_of(settings.listen),
            loopback=address.is_loopback,
            at_boot=not (address.is_loopback or address.is_unspecified),
            release=RELEASE,
            presets=PRESETS,
            ui=release is not None and release.ui,
            environment=[f"{name}={value}" for name, value in (release.environment if release else ())],
            devices=DEVICES[release.backend] if release else (),
            hidden=[path for path in paths.values() if path.startswith(HIDDEN)],
        ),
    )
    # A socket that takes IPv6 and IPv4 alike is listed as `*`.
    port = Port(port_of(settings.listen), ("*" if str(address) == "::" else str(address),), UNIT)

    yield User("llama-server", HOME)
    yield Directory(HOME, owner="llama-server", group="llama-server", mode=0o750)
    yield Directory("/etc/paddock")
    yield Directory("/etc/paddock/llama-server", exclusive=True)
    yield presets
    yield unit
    yield Service(
        UNIT,
        restarts=(unit, presets),
        runs=(f"release:{RELEASE}", *(f"model:{path}" for path in dict.fromkeys(paths.values()))),
        ports=(port,),
    )


def _release(host: Host, context: Context) -> Release | None:
    release = context.releases.get(host.name)
    return release if isinstance(release, Release) else None


def defaults(settings: LlamaServerSettings, memory_mib: int) -> Mapping[str, Value]:
    """What every model is served with unless the inventory says otherwise. `memory_mib` 0 is a machine that nobody has looked at yet."""
    at_a_time = settings.models_max or max(1, len(settings.models))
    # In steps of a GiB: what the kernel takes for itself, and so the rest, changes with its version.
    gib = -(-memory_mib // 1024)
    cache = {"cache-ram": min(CACHE_MIB_A_GIB * gib, CACHE_MOST_MIB) // at_a_time} if gib else {}
    return {**cache, "metrics": True}


def _options(preset: Mapping[str, Value]) -> dict[str, str]:
    return {option: _text(value) for option, value in preset.items()}


def _text(value: Value) -> str:
    """`True` → `true`: llama.cpp reads on, enabled, true and 1 alike (common/arg.cpp: is_truthy)."""
    return str(value).lower() if isinstance(value, bool) else str(value)
