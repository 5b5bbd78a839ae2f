"""How text of a person is repeated to them, and what they may have meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable
from functools import lru_cache

UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ufeff\ud800-\udfff]")
"""What steers a terminal, or the order in which it shows text, and is no tab and no line's end."""


def legible(text: str) -> str:
    """With what nobody would see made visible: `\\x1b`."""
    return UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def one_line(text: str) -> str:
    """As `legible`, with line ends too made visible."""
    return legible(text).replace("\n", "\\n")


def shortened(text: str) -> str:
    return text if len(text) <= 64 else f"{text[:60]}…"


def quoted(text: str) -> str:
    """The text between quotes, shortened where it is long: `"cuda-pascl"`."""
    return f'"{shortened(text)}"'


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` (did you mean "accelerator"?)`, or nothing where no known word is close."""
    close = _closest(word[:128], tuple(known))
    return f' (did you mean "{close}"?)' if close else ""


@lru_cache(maxsize=1024)
def _closest(word: str, known: tuple[str, ...]) -> str:
    """As `difflib.get_close_matches(word, known, n=1, cutoff=0.55)`, which compares also what the best so far rules out."""
    matcher, best = difflib.SequenceMatcher(b=word), (0.55, "")
    for each in known:
        if len(each) > 256:  # what somebody else has named
            continue
        matcher.set_seq1(each)
        if matcher.real_quick_ratio() >= best[0] and matcher.quick_ratio() >= best[0]:
            best = max(best, (matcher.ratio(), each))
    return best[1]


def one_of(words: Collection[str]) -> str:
    """`text, a whole number or true/false`"""
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last
