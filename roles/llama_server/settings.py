from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from roles.preset import Preset
from roles.role import Endpoint, Matches, RoleSettings


class LlamaServerSettings(RoleSettings):
    """llama-server as a router: one process that starts a server for each model when somebody asks for it."""

    listen: Endpoint = "127.0.0.1:8080"
    """Where it answers. Loopback unless a reverse proxy on another host needs to reach it."""

    models: tuple[str, ...] = ()
    """Names out of the fleet's `models`, in the order in which they are listed."""

    models_max: Annotated[int, Field(ge=0)] = 1
    """Models in memory at a time; 0 is no limit."""

    autoload: bool = True
    """Whether a request loads the model that it names."""

    preset: Preset = {}
    """Options for every model, as llama-server's long options without dashes: `{ctx-size: 8192, cache-type-k: q8_0}`."""

    memory_max: Annotated[str, Matches(r"[0-9]+[KMGT]", "is no amount of memory, such as 24G")] | None = None
    """The most memory that the service may take, as systemd writes it: `24G`."""

    def endpoints(self) -> Iterator[str]:
        yield self.listen
