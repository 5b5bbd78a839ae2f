"""Time that passes at once, and asks for a dispatcher to place."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

from paddock_gateway.contract import Account, Ask, BackendState
from paddock_gateway.fair.dispatcher import FairDispatcher
from paddock_gateway.settings import Backend, Configuration, Limits, Model, Queue, Target

T = TypeVar("T")


class VirtualLoop(asyncio.SelectorEventLoop):
    """Where nothing is ready, the clock goes on to the next timer."""

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__(_Selector(self))

    def time(self) -> float:
        return self.now


class _Selector(selectors.SelectSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self.loop = loop

    def select(self, timeout: float | None = None) -> list[Any]:
        assert timeout is not None, "everything waits for something that never comes"
        self.loop.now += max(0.0, timeout)
        return []


def run(main: Coroutine[Any, Any, T]) -> T:
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(main)
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left))
        loop.close()


def configuration(
    models: dict[str, list[tuple[str, str]]], *, limits: dict[str, Limits] | None = None, queue: Queue | None = None, **more: Any
) -> Configuration:
    names = {backend for targets in models.values() for backend, _ in targets}
    return Configuration(
        listen=("127.0.0.1:8001",),
        database="sqlite:/nowhere",
        pepper_file="/nowhere",
        state="/nowhere",
        backends={name: Backend(url="http://192.0.2.10:8080") for name in names},
        models={
            name: Model(targets=tuple(Target(*target) for target in targets), limits=(limits or {}).get(name, Limits()))
            for name, targets in models.items()
        },
        queue=queue or Queue(length=10_000, per_user=10_000, wait_s=1e6),
        **more,
    )


ONE = {"m": [("one", "m")]}
TWO = {"m": [("one", "m"), ("two", "m")]}


def dispatcher(said: Configuration, slots: int = 4, **more: Any) -> FairDispatcher:
    """With every back end up. Its clock is the loop's."""
    made = FairDispatcher(said, clock=asyncio.get_running_loop().time, **more)
    for name in said.backends:
        made.update(name, BackendState(up=True, slots=slots))
    return made


def ask(
    user: str = "ann",
    said: dict[str, list[tuple[str, str]]] = ONE,
    model: str = "m",
    *,
    tokens: int = 100,
    weight: float = 1.0,
    limits: Limits | None = None,
    talk: tuple[str, ...] = (),
    exclude: frozenset[str] = frozenset(),
) -> Ask:
    """`talk` is the conversation, a word for each message."""
    digests = tuple("/".join(talk[: at + 1]).encode() for at in range(len(talk)))
    account = Account(user, f"key-of-{user}", None, limits or Limits(), weight)
    return Ask(account, model, tuple(said[model]), tokens, digests, exclude)


def at_rest(one: FairDispatcher) -> None:
    figures = one.figures()
    assert (figures.waiting, figures.running, figures.waiting_by_model) == (0, 0, {})
    assert set(figures.running_by_backend.values()) <= {0}
    assert one._admission.limiter.in_use() == 0
    assert not one._waiting_of and not one._kept.requests and not one._admission.entering
    for queue in one._queues:
        assert (queue.waiting, queue.running, queue.lanes, queue.flows) == (0, 0, {}, {})
    assert all(not slot.busy for backend in one._backends.all.values() for process in backend.processes.values() for slot in process.slots)
