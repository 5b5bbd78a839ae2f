"""How fast servers are, as checks find it out: what the fleet knows of that goes in, what was found goes back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from resources import Reached, reached_of


@dataclass
class Speeds:
    """See `roles.speed.Speeds`. What is told and kept lies in the file `into`, a JSON object a line, where there is one."""

    known: tuple[Reached, ...] = ()
    anew: bool = False
    into: Path | None = None
    told: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Speeds:
        return cls(reached_of(data["known"]), data["anew"], Path(data["into"]))

    def tell(self, words: str) -> None:
        if words not in self.told:
            self.told.append(words)
            self._add({"words": words})

    def keep(self, reached: Reached) -> None:
        self._add({"reached": reached.text})

    def _add(self, line: Mapping[str, str]) -> None:
        if self.into:
            with self.into.open("a", encoding="utf-8") as file:
                file.write(f"{json.dumps(line)}\n")
