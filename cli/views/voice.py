"""An answer as it comes."""

from __future__ import annotations

from typing import Any, TextIO

from cli.views.colour import dimmed

CONTROL = {code: None for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}
"""What a model says must not steer the terminal."""


class Voice:
    """Prints what a model thinks, dimmed and only on a terminal, and what it says."""

    def __init__(self, stream: TextIO) -> None:
        self.said: list[str] = []
        self.stream = stream
        self.live = stream.isatty()
        self.thinking = False
        self.last = "\n"

    def think(self, text: str) -> None:
        if text and self.live:
            self._write(dimmed(text.translate(CONTROL), self.stream))
            self.thinking = True

    def say(self, text: str) -> None:
        if not text:
            return
        if self.thinking:
            self._write("\n\n")
            self.thinking = False
        self.said.append(text)
        self._write(text.translate(CONTROL) if self.live else text)

    def end(self) -> None:
        if not self.last.endswith("\n"):
            self._write("\n")

    def _write(self, text: str) -> None:
        self.stream.write(text)
        self.stream.flush()
        self.last = text or self.last


def pace(timings: dict[str, Any], stopped: bool) -> str:
    if not timings:
        return "(stopped)" if stopped else ""
    tokens, pace = timings.get("predicted_n", 0), timings.get("predicted_per_second", 0.0)
    return f"({tokens} tokens, {pace:.1f} tokens/s; {timings.get('prompt_n', 0)} read, {timings.get('cache_n', 0)} remembered)"
