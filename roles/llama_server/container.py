"""A llama-server in a container: its unit stays, with all that holds for it, and starts a container in the program's place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from resources import File, Release, Resource
from roles import dockerfile
from roles.llama_server import proxy
from roles.llama_server.cards import CardPin
from roles.llama_server.settings import LlamaServerSettings
from roles.role import render
from roles.sandbox import HOME
from roles.server import Server

DIRECTORY = "/etc/paddock/llama-server"
SCRIPT = f"{DIRECTORY}/container.sh"
DOCKERFILE = f"{DIRECTORY}/Dockerfile"

GROUP = "docker"
"""Who is in it may start containers."""

UNKNOWN = "to-be-detected"
"""The tag of an image with a release of which nothing is known yet."""

CUDA_VISIBLE = "CUDA_VISIBLE_DEVICES"
CDI = "nvidia.com/gpu"
"""As NVIDIA's container toolkit names cards for CDI: by UUID, by number, and `all`."""

NODES = {"char-drm": "/dev/dri"}
"""Where the devices lie that a unit names by their kind."""


@dataclass(frozen=True)
class Asked:
    """What a server needs beside its program: files and directories that it reads and writes, files with secrets, variables, its limits."""

    reads: tuple[str, ...]
    writes: tuple[str, ...]
    secrets: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    nice: int = 0
    fifo: int = 0


def resources(settings: LlamaServerSettings, release: Release | None) -> Iterator[Resource]:
    """The image of the host's release, and what starts containers of it."""
    if settings.runtime == "native" or not settings.base_image:
        return
    yield File(SCRIPT, render("llama_server/container.sh"), mode=0o755)
    if release:
        yield File(DOCKERFILE, dockerfile.dockerfile(release, settings.base_image))
        yield dockerfile.image(release, settings.base_image, DOCKERFILE)


def command(server: Server, settings: LlamaServerSettings, release: Release | None, pin: CardPin | None, asked: Asked) -> list[list[str]]:
    """What a unit runs in front of llama-server's own command line, an element for each line."""
    return list(_command(server, settings, release, pin or CardPin(), asked))


def _command(server: Server, settings: LlamaServerSettings, release: Release | None, pin: CardPin, asked: Asked) -> Iterator[list[str]]:
    built = dockerfile.image(release, settings.base_image, DOCKERFILE) if release and settings.base_image else None
    yield ["/bin/sh", SCRIPT, "run", server.container, *_nodes(pin), "--"]
    yield ["--pull", "never", "--label", f"paddock.image={dockerfile.IMAGE}", "--log-driver", "local", "--log-opt", "max-size=10m"]
    yield ["--network", "host" if server.egress else "none"]
    yield ["--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
    if asked.nice:
        yield ["--ulimit", f"nice={20 - asked.nice}", "--ulimit", f"rtprio={asked.fifo}"]
    if server.memory_max:
        yield ["--memory", server.memory_max.lower(), "--memory-swap", "-1"]
    yield from (["--device", f"{CDI}={card}"] for card in _cards(pin))
    yield from (["--mount", _mount(path, path, "readonly")] for path in asked.reads)
    yield from (["--mount", _mount(path, path)] for path in (*asked.writes, f"/run/{proxy.runtime(server)}"))
    yield from (["--mount", _mount(path, f"{dockerfile.SECRETS}/{path.rpartition('/')[2]}", "readonly")] for path in asked.secrets)
    yield ["--workdir", HOME, "--env", f"HOME={HOME}"]
    yield from (["--env", f"{name}={value}"] for name, value in asked.environment if _holds(name, value))
    yield [built.reference if built else f"{dockerfile.IMAGE}:{UNKNOWN}"]


def _nodes(pin: CardPin) -> Iterator[str]:
    """What Docker hands on itself. NVIDIA's nodes come by CDI, with the driver's libraries."""
    yield from (NODES.get(each, each) for each in pin.devices if each.startswith("/dev/dri") or each in ("/dev/kfd", *NODES))


def _cards(pin: CardPin) -> Iterable[str]:
    if not any(each.startswith("char-nvidia") for each in pin.devices):
        return ()
    return dict(pin.environment).get(CUDA_VISIBLE, "all").split(",")


def _holds(name: str, value: str) -> bool:
    """Numbers of cards are those of the host, and it sees only its own."""
    return name != CUDA_VISIBLE or not any(each.isdecimal() for each in value.split(","))


def _mount(source: str, target: str, *more: str) -> str:
    """As `--mount` reads it: a line of CSV."""
    return ",".join(_csv(each) for each in ("type=bind", f"source={source}", f"target={target}", *more))


def _csv(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if "," in text or '"' in text else text
