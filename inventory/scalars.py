"""What a plain scalar means in YAML 1.1, and where people stumble over it.

The source is https://yaml.org/type/ in PyYAML's reading, but that digests stay text, and that numbers in another base than ten are refused.
"""

from __future__ import annotations

import re

DIGITS = 19
"""A longer number is a digest that happens to have no letters, and text."""

TRUE = frozenset(("yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"))
FALSE = frozenset(("no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"))
NULL = frozenset(("", "~", "null", "Null", "NULL"))
WHOLE = re.compile(r"[-+]?(0|[1-9][0-9_]*)")
DECIMAL = re.compile(r"[-+]?([0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)([eE][-+][0-9]+)?")
OTHER_BASE = re.compile(r"[-+]?(0[0-7_]+|0x[0-9a-fA-F_]+|0b[01_]+)")
SIXTIES = re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?")
NOT_FINITE = {".inf": "inf", "+.inf": "inf", "-.inf": "-inf", ".nan": "nan"}


def meant(text: str) -> str | int | float | bool | None:
    """The value that a plain scalar stands for: `off` → False, `2.11` → 2.11, `2.11.4` → itself."""
    if text in NULL:
        return None
    if text in TRUE or text in FALSE:
        return text in TRUE
    if WHOLE.fullmatch(text) and len(text) <= DIGITS:
        return int(text.replace("_", ""))
    if DECIMAL.fullmatch(text) and len(text) <= 2 * DIGITS:
        return float(text.replace("_", ""))
    return float(NOT_FINITE[text.lower()]) if text.lower() in NOT_FINITE else text


def trap(text: str) -> str:
    """What to say of a plain scalar that YAML reads as a number which nobody meant."""
    if len(text) > DIGITS or not any(pattern.fullmatch(text) for pattern in (OTHER_BASE, SIXTIES)):
        return ""
    base = "in base 60, like minutes and seconds" if ":" in text else "as a number in another base than ten"
    return f'YAML reads {text} {base}: write "{text}" in quotes if it is text, or the number in decimal digits'


def as_read(text: str) -> str:
    """What YAML makes of a plain scalar where text is wanted: `YAML reads on as true: write "on" in quotes`."""
    kind = "true" if text in TRUE else "false" if text in FALSE else "a number"
    return f'YAML reads {text} as {kind}: write "{text}" in quotes'
