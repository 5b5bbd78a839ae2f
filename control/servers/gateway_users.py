"""The users who were made at a gateway, asked and changed by its own command on its host, as root. What it answers is checked.

A key is in no argument list: a command line names users and ids of keys, and a new key comes back through its output.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from control.ssh.reach import Reach
from inventory.errors import PaddockError
from roles.role import Settings
from roles.users import COMMAND
from roles.wording import one_line

TIMEOUT_S = 60

Text = Annotated[str, Field(max_length=1024)]
Moment = Annotated[float, Field(ge=0, le=253_402_300_799, allow_inf_nan=False)]
"""Seconds since 1970, until the year 9999."""

T = TypeVar("T")


class KeyRecord(Settings, extra="ignore"):
    """What a gateway keeps of a key. `models` None is all of them, `limits` has only what is limited."""

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}$")]
    user: Annotated[str, Field(min_length=1, max_length=256)]
    label: Text = ""
    hint: Text = ""
    models: Annotated[tuple[Text, ...], Field(max_length=10_000)] | None = None
    limits: dict[Text, int | None] | None = None
    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    admin: bool = False
    created: Moment | None = None
    expires: Moment | None = None
    disabled: bool = False
    declared: bool = False


class NewKey(KeyRecord):
    """A key as it was made, with what is kept of it; nobody is shown it again."""

    key: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._~+/=-]{15,511}$", repr=False)]


class _User(Settings, extra="ignore"):
    name: Annotated[str, Field(min_length=1, max_length=256)]


RECORDS: TypeAdapter[tuple[KeyRecord, ...]] = TypeAdapter(tuple[KeyRecord, ...])
NEW_KEY = TypeAdapter(NewKey)
USERS: TypeAdapter[tuple[_User, ...]] = TypeAdapter(tuple[_User, ...])


@dataclass(frozen=True)
class Terms:
    """What is said of a new key, and of its user where that is new too. `expires` is a day or a number of days: `2027-01-01`, `30d`."""

    label: str = ""
    expires: str = ""
    of_user: Mapping[str, str] = field(default_factory=dict)
    """Option of `create-user` → value: `models` → `chat,small`."""
    admin: bool = False


class GatewayUsers:
    """The users of the gateway on one host. Every method raises PaddockError with what the host says where it fails."""

    def __init__(self, reach: Reach, host: str) -> None:
        self.reach, self.host = reach, host

    def records(self) -> tuple[KeyRecord, ...]:
        return self._asked(RECORDS, "keys", "list")

    def exists(self, user: str) -> bool:
        """Whether there is such a user, with a key or without."""
        return any(each.name == user for each in self._asked(USERS, "list-users"))

    def create(self, user: str, terms: Terms) -> NewKey:
        """A new user with a key."""
        options = [f"--{name}={value}" for name, value in terms.of_user.items()]
        return self._new(user, "create-user", f"--username={user}", *options, *_of_key(terms), *(["--admin"] if terms.admin else []))

    def add_key(self, user: str, terms: Terms) -> NewKey:
        """Another key of a user."""
        return self._new(user, "keys", "create", f"--user={user}", *_of_key(terms))

    def revoke(self, key: KeyRecord) -> None:
        self._said("keys", "revoke", key.id)

    def rotate(self, key: KeyRecord) -> NewKey:
        return self._new(key.user, "keys", "rotate", key.id)

    def _new(self, user: str, *words: str) -> NewKey:
        made = self._asked(NEW_KEY, *words)
        if made.user != user:
            raise PaddockError(f"{self.host}: its gateway answers for another user than {user}")
        return made

    def _asked(self, kind: TypeAdapter[T], *words: str) -> T:
        return parsed(kind, self._said(*words), f"{self.host}: what its gateway answers to `{words[0]}`")

    def _said(self, *words: str) -> str:
        return "\n".join(self.reach.shell(self.host, script(*words), "the gateway's users"))


def parsed(kind: TypeAdapter[T], said: str, what: str) -> T:
    """What a gateway has said. Raises PaddockError where it is not of this kind; the words have nothing of it, for a key may be in it."""
    try:
        return kind.validate_json(said, strict=True)
    except ValueError as error:
        raise PaddockError(f"{what} makes no sense{_where(error)}") from None


def script(*words: str) -> str:
    """What a shell of root's is to run: in a directory that is root's alone, for Python takes modules from where it is started."""
    program = shlex.quote(COMMAND[0])
    missing = "echo 'no gateway is installed there: `paddock up` does that' >&2; exit 1"
    command = shlex.join(("timeout", str(TIMEOUT_S), *COMMAND, *words, "--json"))
    return f"cd / || exit\n[ -x {program} ] || {{ {missing}; }}\nexec {command} </dev/null\n"


def _of_key(terms: Terms) -> list[str]:
    return [f"--{name}={value}" for name, value in (("label", terms.label), ("expires", terms.expires)) if value]


def _where(error: ValueError) -> str:
    """The place of the first thing that is wrong, without its value."""
    if not isinstance(error, ValidationError):
        return ""
    at = ".".join(map(str, error.errors(include_input=False, include_url=False, include_context=False)[0]["loc"]))
    return f" (at {one_line(at[:64])})" if at else ""
