"""Environment variables of the servers: what a unit says of them, and the files by which it hands on secrets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypedDict

from inventory.errors import PaddockError
from inventory.knowledge import TO_BE_ISSUED, Knowledge
from resources import File
from roles.llama_server.settings import LlamaServerSettings, Variable
from roles.preset import CONTROL
from roles.role import render
from roles.secret_value import SecretValue
from roles.server import KEY_FILE, Server

UNIFIED = "GGML_CUDA_ENABLE_UNIFIED_MEMORY"
"""With it, CUDA takes of the host's memory what a card has no room for, and asks /proc/meminfo how much there is (ggml-cuda.cu)."""


def is_unified(server: Server, settings: LlamaServerSettings) -> bool:
    """Whether memory that a card lacks is the host's. llama.cpp asks whether the variable is there, not for its value."""
    return UNIFIED in _variables(server, settings)


def of_unit(server: Server, settings: LlamaServerSettings, own: Mapping[str, str]) -> Mapping[str, str]:
    """Those that the unit itself says, `own` among them: what the release and the cards need. Raises PaddockError for one of these that the
    inventory says too."""
    said = _variables(server, settings)
    for name in said:
        if name in own:
            raise PaddockError(f"{_where(name, server, settings)}: Paddock sets it to {own[name]} for this server: leave it out")
    return {**own, **{name: str(value) for name, value in said.items() if not isinstance(value, SecretValue)}}


def of_file(server: Server, settings: LlamaServerSettings, knowledge: Knowledge) -> Iterator[File]:
    """The file with those of a server that are secrets, if it has any: whose they are may read it, and no command line has them."""
    found = {name: knowledge.secrets.get(each.secret, TO_BE_ISSUED) for name, each in _secrets(server, settings).items()}
    for name, value in found.items():
        if CONTROL.search(value):
            words = "has a line break or another control character in it, which no file of variables can hold"
            raise PaddockError(f"{_where(name, server, settings)}: the secret {words}: `paddock secrets set` it anew")
    if found:
        path = f"{KEY_FILE.rpartition('/')[0]}/{server.unit.removesuffix('.service')}.env"
        yield File(path, render("llama_server/secrets.env.j2", secrets=found), **readable(settings), secret=True)


class Owned(TypedDict, total=False):
    """As a File takes it."""

    owner: str
    group: str
    mode: int


def readable(settings: LlamaServerSettings) -> Owned:
    """Whose a file with secrets is: systemd reads it, an account's own service does, or llama-server in its container."""
    if settings.user:
        return {"owner": settings.user, "mode": 0o400}
    return {"group": "llama-server", "mode": 0o640} if settings.runtime == "container" else {"mode": 0o600}


def refusals(server: Server, settings: LlamaServerSettings, knowledge: Knowledge) -> Iterator[str]:
    """The secrets that nobody has set yet."""
    for name, each in _secrets(server, settings).items():
        if words := each.missing(knowledge.secrets):
            yield f"{_where(name, server, settings)}: {words}"


def _variables(server: Server, settings: LlamaServerSettings) -> Mapping[str, Variable]:
    own = settings.instances[server.group].environment if server.group else {}
    return {**settings.environment, **own}


def _secrets(server: Server, settings: LlamaServerSettings) -> Mapping[str, SecretValue]:
    return {name: value for name, value in _variables(server, settings).items() if isinstance(value, SecretValue)}


def _where(name: str, server: Server, settings: LlamaServerSettings) -> str:
    """Where the inventory says it."""
    own = server.group and name in settings.instances[server.group].environment
    return f"hosts.{server.host}.{'.'.join(server.keys if own else server.shared_keys)}.environment.{name}"
