"""What a host says that it measured of two releases (resources/measure.sh), read as what anybody may have written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Base64Bytes, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from inventory.bounds import MEASURED, size_words
from inventory.errors import PaddockError
from roles.llama_cpp.measuring import Name
from roles.wording import one_line

Seconds = Annotated[float, Field(ge=0, le=86400)]
Kib = Annotated[int, Field(ge=0, le=1 << 40)]
Number = Annotated[int, Field(ge=0, le=10_000)]


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class _OfASide(_Line):
    side: Name
    pass_: Annotated[Literal[1, 2], Field(alias="pass")]


class Answer(_OfASide):
    """What came back of one request. `status` is HTTP's, or 0; `ended` curl's exit code; `first_s` and `last_s` say when the first and the
    last event of a stream came, 0 where none did, and `total_s` when all was there, each from when the question had been sent."""

    event: Literal["answer"]
    round: Annotated[int, Field(ge=0, le=128)]
    ask: Annotated[str, Field(max_length=40)]
    status: Number
    ended: Number
    first_s: Seconds
    last_s: Seconds
    total_s: Seconds
    answer: Base64Bytes

    @property
    def came(self) -> bool:
        return self.status == 200 and self.ended == 0


class Started(_OfASide):
    """How long a server took until it was healthy."""

    event: Literal["started"]
    seconds: Seconds


class Memory(_OfASide):
    """What the server's processes held at the end of a pass."""

    event: Literal["memory"]
    host_kib: Kib
    card_kib: Kib


class Gone(_OfASide):
    """Why a server was measured no further, and what it was at."""

    event: Literal["gone"]
    ask: Annotated[str, Field(max_length=40)]
    why: Base64Bytes

    @property
    def words(self) -> str:
        return one_line(self.why.decode(errors="replace"))


class Log(_OfASide):
    """The end of what a server has written in a pass."""

    event: Literal["log"]
    text: Base64Bytes


class _End(_Line):
    event: Literal["end"]


LINE: TypeAdapter[Answer | Started | Memory | Gone | Log | _End] = TypeAdapter(
    Annotated[Answer | Started | Memory | Gone | Log | _End, Field(discriminator="event")]
)


@dataclass
class Measurements:
    """What was measured, run by run: in each of them both servers were started, measured and stopped twice. `log` is the canary's last."""

    answers: list[tuple[int, Answer]] = field(default_factory=list)
    started: list[tuple[int, Started]] = field(default_factory=list)
    memory: list[tuple[int, Memory]] = field(default_factory=list)
    gone: list[Gone] = field(default_factory=list)
    log: bytes = b""
    runs: int = 0

    def add(self, host: str, lines: Iterable[str]) -> None:
        """One more run. Raises PaddockError where the host says something else, or stops before the end."""
        ended = False
        for line in _bounded(host, lines):
            try:
                found = LINE.validate_json(line)
            except ValidationError:
                raise PaddockError(f"{host}: does not say what was measured, but {one_line(line[:80])}") from None
            match found:
                case Answer():
                    self.answers.append((self.runs, found))
                case Started():
                    self.started.append((self.runs, found))
                case Memory():
                    self.memory.append((self.runs, found))
                case Gone():
                    self.gone.append(found)
                case Log():
                    self.log = found.text if found.side == "canary" else self.log
                case _:
                    ended = True
        if not ended:
            raise PaddockError(f"{host}: what was measured ends in the middle: try again")
        self.runs += 1


def _bounded(host: str, lines: Iterable[str]) -> Iterator[str]:
    size = 0
    for count, line in enumerate(lines, 1):
        size += len(line)
        if size > MEASURED.size or count > MEASURED.items or len(line) > MEASURED.piece:
            words = f"{size_words(MEASURED.size)}, {MEASURED.items:,} lines or {size_words(MEASURED.piece)} a line"
            raise PaddockError(f"{host}: says more of what was measured than {words}")
        yield line
