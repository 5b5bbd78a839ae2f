"""Names by the dozen: `pi[1:9]` is nine of them."""

from __future__ import annotations

import re

MOST = 1024
RANGE = re.compile(r"(?P<before>[^\[\]]*)\[(?P<first>[0-9]{1,9}):(?P<last>[0-9]{1,9})\](?P<after>[^\[\]]*)")


class RangeError(ValueError):
    """A range that does not say which names are meant."""


def is_range(text: str) -> bool:
    """Whether brackets stand in it. Those around an IPv6 address are no range: `[2001:db8::1]`."""
    return ("[" in text or "]" in text) and not re.fullmatch(r"\[[0-9a-fA-F.]*:[0-9a-fA-F.]*:[0-9a-fA-F:.]*\]", text)


def expanded(text: str) -> tuple[str, ...]:
    """`pi[1:3]` → `pi1 pi2 pi3`, `pi[08:10]` → `pi08 pi09 pi10`, and a text without a range as it is. Both ends belong to it.

    Raises RangeError where it is not written like that, runs backwards, or is longer than 1024.
    """
    if not is_range(text):
        return (text,)
    match = RANGE.fullmatch(text)
    if not match:
        raise RangeError(f'"{text}" has brackets that are not a range: write one range, such as pi[1:9]')
    first, last = match["first"], match["last"]
    count = int(last) - int(first) + 1
    if count < 1:
        raise RangeError(f'"{text}" runs backwards: write {match["before"]}[{last}:{first}]{match["after"]}')
    if count > MOST:
        raise RangeError(f'"{text}" is {count} names, and a range is {MOST} at most')
    if first.startswith("0") and len(first) > 1 and len(first) != len(last):
        raise RangeError(f'"{text}" has zeros in front of one end only: give both ends the same number of digits')
    return tuple(f"{match['before']}{number:0{len(first)}d}{match['after']}" for number in range(int(first), int(last) + 1))
