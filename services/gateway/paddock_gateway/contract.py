"""What the parts of the gateway ask of each other: who asks, what a request costs, where it goes, what became of it.

The way of a request: `Keys.account` says who asks · `Dispatcher.place` holds its limits, its turn and its slot · the proxy sends it there ·
`Dispatcher.done` settles what it took · `RequestLog.add` keeps a row. Of these only `account` of a key that nobody has seen yet, and
`place`, wait.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from paddock_gateway.settings import Configuration, Limits


@dataclass(frozen=True, slots=True)
class Account:
    """Who holds a key. `user` is what limits, shares, caches and the log go by: two keys of one user count together."""

    user: str
    key: str
    """The id of the key, never the key."""
    models: frozenset[str] | None
    """Ids and aliases that it may use; None: all."""
    limits: Limits
    weight: float = 1.0
    admin: bool = False


@dataclass(frozen=True, slots=True)
class Ask:
    """A request that wants a place. `targets` are the back ends that serve the model, each with the model's id there."""

    account: Account
    model: str
    """The public id."""
    targets: tuple[tuple[str, str], ...]
    tokens: int
    """What it may take at most, as well as one can tell: prompt (bytes / 3) and the tokens that it asks for."""
    prefixes: tuple[bytes, ...] = ()
    """Digests of the conversation up to each message, the shortest first. None where the route keeps no cache."""
    exclude: frozenset[str] = frozenset()
    """Back ends that have just failed it."""


@dataclass(slots=True)
class Place:
    """A slot that is this request's until `Dispatcher.done`."""

    backend: str
    model: str
    """The id there."""
    slot: int | None
    """For `id_slot`; None where the back end is to choose."""
    cache: bool
    """For `cache_prompt`: false where the slot may hold another user's conversation."""
    queued_s: float = 0.0
    position: int = 0
    """In the queue as it came: 0 where it did not wait."""


@dataclass(slots=True)
class Used:
    """What a request took, as the back end says it; 0 where it does not."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    """Of the prompt's."""
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Forecast:
    """`position` in the queue and the seconds that it is expected to wait; 0 where a place is free."""

    position: int
    wait_s: float


@dataclass(frozen=True, slots=True)
class BackendState:
    """What is known of a back end. `loaded` are the ids of the models that a router has loaded; None where it is no router."""

    up: bool
    slots: int
    loaded: frozenset[str] | None = None
    models_max: int = 0


class Dispatcher(Protocol):
    """Limits, turns and slots. Implemented by paddock_gateway.fair.dispatcher.FairDispatcher."""

    async def place(self, ask: Ask) -> Place:
        """Raises Failure: 429 with Retry-After where a limit is reached, the queue is full or the wait was too long; 503 where no back end
        is left, or the gateway drains. Cancelling it gives everything back."""

    def done(self, place: Place, used: Used | None, *, whole: bool) -> None:
        """Settles the reserved tokens with `used` (None: what the request took is unknown, the reservation stands), frees the slot, and
        notes what the slot now holds. Not `whole`: the answer was broken off, and the slot's cache is nobody's."""

    def again(self, place: Place) -> None:
        """Gives the slot back and keeps the limits' reservation: the next `place` of the same Ask with `exclude` does not count twice."""

    def forecast(self, ask: Ask) -> Forecast: ...

    def update(self, backend: str, state: BackendState) -> None:
        """What a look at a back end found. Slots that went away take no request any more; what a back end kept before it was down is
        forgotten."""

    def drain(self) -> None: ...

    def resume(self) -> None: ...

    @property
    def draining(self) -> bool: ...

    async def idle(self) -> None:
        """Returns when nothing waits and nothing runs."""

    def figures(self) -> Figures: ...


@dataclass(frozen=True, slots=True)
class Figures:
    """For metrics and health."""

    waiting: int
    running: int
    waiting_by_model: dict[str, int] = field(default_factory=dict)
    running_by_backend: dict[str, int] = field(default_factory=dict)
    slots_by_backend: dict[str, int] = field(default_factory=dict)
    swaps_by_backend: dict[str, int] = field(default_factory=dict)
    limited: dict[str, int] = field(default_factory=dict)
    """Refusals by kind: requests, tokens, parallel, queue, wait."""


class Lender(Protocol):
    """Limits that several gateways share through a database. Implemented by paddock_gateway.store.lending."""

    async def lend(self, subject: str, kind: str, window_s: int, limit: int, amount: int) -> int:
        """Takes up to `amount` of what is left of the subject's limit in the running window for this gateway; 0 where nothing is left."""

    async def give_back(self, subject: str, kind: str, window_s: int, amount: int) -> None: ...


class Keys(Protocol):
    """Implemented by paddock_gateway.keys.KeyTable."""

    def known(self, key: str) -> Account | None:
        """Without waiting: None where the database has to be asked."""

    async def account(self, key: str) -> Account:
        """Raises Failure: 401 for a key that is unknown, expired, revoked or disabled, 503 where the database cannot be asked."""


@dataclass(slots=True)
class Row:
    """A row of llama_requests."""

    username: str
    path: str
    model: str
    backend: str
    status_code: int
    duration_ms: float
    ttft_ms: float | None
    queued_ms: float
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    request_bytes: int
    response_bytes: int
    created_at: float
    """Seconds since 1970, when the request came."""
    request_id: str = ""


class RequestLog(Protocol):
    """Implemented by paddock_gateway.request_log.BatchLog."""

    def add(self, row: Row) -> None:
        """Never waits, never raises. A row that finds no room is counted as dropped."""


class Observer(Protocol):
    """What metrics hear. Implemented by paddock_gateway.metrics.Metrics. Cheap: it is called on the path of each request."""

    def answered(self, row: Row) -> None: ...

    def retried(self, backend: str) -> None: ...


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """What is kept of a key. Limits, models and weight are its user's."""

    id: str
    user: str
    label: str
    hint: str
    """The first and last characters, by which a person knows it again: `sk-Ab…xy9Z`."""
    models: tuple[str, ...] | None
    limits: Limits | None
    weight: float
    admin: bool
    created: float
    expires: float | None
    """Both in seconds since 1970."""
    disabled: bool
    declared: bool
    """The inventory declares it: only the inventory changes it."""


class Users(Protocol):
    """Users and their keys in the database. Implemented by paddock_gateway.store.users.

    `which` is a key's id or the key itself. Each method raises Failure: 404 where there is none, 409 where the inventory declares it or
    the name is taken, 503 where the database is away.
    """

    async def create(
        self,
        user: str,
        *,
        label: str = "",
        models: Sequence[str] | None = None,
        limits: Limits | None = None,
        weight: float | None = None,
        expires: float | None = None,
        admin: bool = False,
        new: bool = False,
    ) -> tuple[str, KeyRecord]:
        """A new key, shown this once. The user is made where it does not exist; what is given here then replaces what was said of it.
        `new`: it must not exist yet (409), not even without a key."""

    async def list(self, user: str | None = None) -> Sequence[KeyRecord]: ...

    async def show(self, which: str) -> KeyRecord: ...

    async def revoke(self, which: str) -> KeyRecord: ...

    async def set_disabled(self, which: str, disabled: bool) -> KeyRecord: ...

    async def rotate(self, which: str) -> tuple[str, KeyRecord]:
        """A new key in place of this one, which is refused from now on."""


class Upstream(Protocol):
    """The way to the back ends for the gateway's own APIs. Implemented by paddock_gateway.proxy.upstream."""

    def chunks(
        self, account: Account, path: str, body: Mapping[str, Any], *, logged_as: str, request_id: str = ""
    ) -> AsyncIterator[Mapping[str, Any]]:
        """Asks `path` (`/v1/chat/completions`) for a stream from a back end of `body["model"]`, in its turn, and writes the row under the
        path `logged_as`. Gives each event, parsed; the last has `usage`. Raises Failure. Closing it cancels the request upstream."""

    def context(self, model: str) -> int:
        """Tokens of one conversation with a model, by its id or an alias: the least that its back ends have said, else what the settings
        say; 0 where neither does."""


@dataclass
class Readiness:
    """What has to happen before the gateway says that it is ready. Nothing: it is."""

    awaits: set[str] = field(default_factory=set)
    """In words: `the model's warm-up`."""


@dataclass(frozen=True)
class Parts:
    """What the routes of every API are given."""

    configuration: Configuration
    keys: Keys
    users: Users
    dispatcher: Dispatcher
    log: RequestLog
    observer: Observer
    upstream: Upstream
    readiness: Readiness = field(default_factory=Readiness)


def nearest(name: str, names: Sequence[str]) -> str:
    """` Did you mean "qwen-3b"?`, or nothing where no name is near."""
    from difflib import get_close_matches

    found = get_close_matches(name, names, n=1, cutoff=0.5)
    return f' Did you mean "{found[0]}"?' if found else ""
