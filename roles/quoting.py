"""Filters of the templates: text as one value of the file that it lands in, whatever is in it.

Each is named after its reader: `{{ path | sh }}` is one word of a shell, `{{ path | unit }}` one word of a systemd unit. A filter raises
Unquotable where its reader has no way to write the text.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Mapping

from jinja2.utils import htmlsafe_json_dumps

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
"""Characters that some reader takes for the end of a line, or refuses."""


class Unquotable(ValueError):
    """Text that the file cannot hold. Its words say which text, and why."""

    def __init__(self, text: str, why: str) -> None:
        super().__init__(f"{json.dumps(text)} {why}")


def line(value: object) -> str:
    """Text within a line: of a comment, of a here-document, of a list with an entry a line."""
    text = str(value)
    if CONTROL.search(text):
        raise Unquotable(text, "has a line break or another control character in it")
    return text


def word(value: object) -> str:
    """A column of a list whose columns are separated by spaces."""
    text = line(value)
    if not text or re.search(r"\s", text):
        raise Unquotable(text, "is empty or has a space in it, where a list separates its columns")
    return text


def sh(value: object) -> str:
    """One word of a POSIX shell."""
    text = str(value)
    if "\0" in text:
        raise Unquotable(text, "has a null byte in it, which no shell can hold")
    return shlex.quote(text)


def unit(value: object) -> str:
    """One word of a setting that systemd splits into words: Environment=, After=, ReadWritePaths= (systemd.syntax(7))."""
    text = line(value).replace("%", "%%")
    return text if re.fullmatch(r"[^\s\"'\\;]+", text) else f'"{_escaped(text)}"'


def exec_word(value: object) -> str:
    """One argument of ExecStart=, where a dollar sign too is doubled (systemd.service(5))."""
    return unit(str(value).replace("$", "$$"))


def unit_text(value: object) -> str:
    """A setting that systemd reads to the end of its line, quotes and all, or a part of one: Description=, User=, EnvironmentFile=."""
    text = line(value).replace("%", "%%")
    if text != text.strip() or text.endswith("\\"):
        raise Unquotable(text, "has a space or a backslash at one end, which a unit would lose")
    return text


def environment(value: object) -> str:
    """A value in a file of EnvironmentFile=, where a backslash stands before what a shell would read within double quotes
    (systemd.exec(5); src/basic/env-file.c)."""
    return '"' + re.sub(r'([\\"`$])', r"\\\1", line(value)) + '"'


def bind(value: object) -> str:
    """One path of BindReadOnlyPaths=, where a colon stands before where it is bound to (systemd.exec(5))."""
    return '"' + _escaped(line(value).replace("%", "%%")).replace(":", "\\:") + '"'


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def caddy(value: object) -> str:
    """One token of a Caddyfile (https://caddyserver.com/docs/caddyfile/concepts#tokens-and-quotes)."""
    text = line(value)
    if "{" in text or "}" in text:
        raise Unquotable(text, "has a brace in it, where Caddy would look for a placeholder")
    if re.fullmatch(r"[A-Za-z0-9_./:@%+=,~&?*\[\]-]+", text):
        return text
    if "\\" not in text:
        return '"' + text.replace('"', '\\"') + '"'
    if "`" in text:
        raise Unquotable(text, "has both a backslash and a backtick in it, for which a Caddyfile has no quotes")
    return f"`{text}`"


def caddy_json(value: object) -> str:
    """An object as JSON, one token of a Caddyfile. Braces within its texts are escaped as JSON does: a placeholder is none."""
    escapes = {"{": "\\u007b", "}": "\\u007d", "`": "\\u0060"}
    written = str(htmlsafe_json_dumps(value, sort_keys=True))
    return "`" + re.sub(r'"(?:[^"\\]|\\.)*"', lambda text: re.sub("[{}`]", lambda found: escapes[found[0]], text[0]), written) + "`"


def ini(value: object) -> str:
    """A value of llama-server's presets, which know no quotes (common/preset.cpp)."""
    text = line(value)
    if found := re.search("[;#]", text):
        raise Unquotable(text, f"has {found[0]} in it, where llama-server would cut the value")
    if text != text.strip():
        raise Unquotable(text, "has a space at one end, which llama-server would cut")
    return text


def ini_name(value: object) -> str:
    """A section or a key there."""
    text = ini(value)
    if not text or re.search(r"[\s=\[\]]", text):
        raise Unquotable(text, "cannot be the name of a section or of an option in presets")
    return text


def yaml(value: object) -> str:
    """A scalar of YAML, always as a text: `"yes"`."""
    return re.sub(
        r"[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]", lambda found: f"\\u{ord(found[0]):04x}", json.dumps(str(value), ensure_ascii=False)
    )


def nft(value: object) -> str:
    """A part of a rule of nftables, made of words, numbers, addresses and sets of them."""
    text = line(value)
    if not re.fullmatch(r"[A-Za-z0-9 _{},.:/]+", text):
        raise Unquotable(text, "has a character in it that no rule of addresses and ports has")
    return text


FILTERS: Mapping[str, Callable[[object], str]] = {
    "line": line,
    "word": word,
    "sh": sh,
    "unit": unit,
    "exec": exec_word,
    "unit_text": unit_text,
    "bind": bind,
    "environment": environment,
    "caddy": caddy,
    "caddy_json": caddy_json,
    "ini": ini,
    "ini_name": ini_name,
    "yaml": yaml,
    "nft": nft,
}
"""By their names in templates. HTML has Jinja's own, `e`."""
