from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from roles.expiry import ExpirySettings
from roles.references import Finding, Whole
from roles.role import Endpoint, MemoryMax, RoleSettings
from roles.server import Worker

if TYPE_CHECKING:
    from roles.rehearsal import Rehearsal


class RpcWorkerSettings(RoleSettings):
    """llama.cpp's ggml-rpc-server, which computes a part of a model for one llama-server of another host: an instance there names this host
    in `workers`.

    The other host reaches it through a tunnel (HAProxy): encrypted, and each end accepts only the other's own certificate. ggml-rpc-server
    itself asks nobody who he is, and whoever reaches it may run code as its account.
    """

    listen: Endpoint
    """The address and port for the other host, such as `192.0.2.11:50051`: the tunnel listens there."""

    encrypted: bool = True
    """With `false` there is no tunnel: ggml-rpc-server listens on the network itself, everything is clear text, and nobody is asked for a
    certificate. Use it only on a network of your own, with the role firewall."""

    memory_max: MemoryMax | None = None
    """The memory limit, in systemd's notation: `24G`. Required if this host has llama-servers of its own."""

    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Threads, if it computes on the processor; by default half of the cores."""

    cache: bool = False
    """Keep large tensors on disk, below /var/cache/paddock-rpc, so that the model is not sent again at each start. Nothing limits its
    size."""

    expiry: ExpirySettings = ExpirySettings()
    """Warnings before the certificates of the two hosts expire."""

    def endpoints(self) -> Iterator[str]:
        yield self.listen

    def worker(self, host: str) -> Worker:
        return Worker(host, self.listen, self.encrypted, self.memory_max, self.model_dump_json(exclude={"expiry"}))

    def rehearsed(self, here: Rehearsal) -> tuple[RpcWorkerSettings, list[str]]:
        moved, told = here.moved(self)
        expiry, more = self.expiry.rehearsed(here)
        return moved.model_copy(update={"expiry": expiry}), [*told, *more]

    def details(self) -> Iterable[str]:
        yield f"RPC worker on {self.listen}"

    @classmethod
    def companions(cls, host: str) -> Mapping[str, str]:
        return {"llama_cpp": f"rpc_worker needs llama.cpp on the same host: add the role llama_cpp to {host}"}

    def references(self, host: str, fleet: Whole) -> Iterator[Finding]:
        """It computes for one server at a time, and shares its host's memory with no server that nobody counts."""
        at = ("roles", "rpc_worker")
        users = fleet.servers_of_worker(host)
        if len(users) > 1:
            names = " and ".join(f"{each.host}/{each.name}" for each in users)
            yield Finding(at, f"{names} both name {host} in `workers`, and a worker computes for one server: leave it out of the others")
        if "llama_server" in fleet.roles[host] and not self.memory_max:
            words = f"{host} has llama-servers of its own: give rpc_worker a memory_max, which their memory is then counted without"
            yield Finding(at, words)
        if self.listen.startswith(("127.", "[::1]")):
            yield Finding((*at, "listen"), f"{self.listen} is loopback: other hosts reach an address of its network", of_value=True)
        if not self.encrypted and "[" in self.listen:
            yield Finding((*at, "listen"), "RPC itself takes no IPv6 address: use one of IPv4, or leave `encrypted` out", of_value=True)
