"""Small readers of what is rendered, each after its consumer's own: what text becomes, and the structure that is left without it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser

import yaml

EXEC = re.compile(r"Exec[A-Z][A-Za-z]*")

LISTS = frozenset(
    (
        *("After", "Before", "Wants", "Requires", "RequiredBy", "WantedBy", "Conflicts", "PartOf", "ReloadPropagatedFrom"),
        *("RequiresMountsFor", "Environment", "ReadWritePaths", "BindReadOnlyPaths", "RuntimeDirectory", "DeviceAllow"),
        "SupplementaryGroups",
        *("RestrictAddressFamilies", "SystemCallFilter", "SystemCallArchitectures", "IPAddressAllow", "IPAddressDeny"),
    )
)
"""Settings of a unit that systemd splits into words."""


PATHS = frozenset(("ReadWritePaths", "BindReadOnlyPaths"))
"""Settings in which a colon may stand behind a backslash."""


def unit_words(value: str, *, c_escapes: bool = False) -> list[str]:
    """As systemd splits a setting (src/basic/extract-word.c), with specifiers left as they are."""
    words: list[str] = []
    word: list[str] | None = None
    quote, characters = "", iter(value)
    for each in characters:
        if each == "\\":
            word = [] if word is None else word
            after = next(characters)  # a backslash at the end is an error
            word.append({"n": "\n", "t": "\t"}.get(after, after) if c_escapes else after)
        elif quote:
            quote = "" if each == quote else quote
            if quote:
                assert word is not None
                word.append(each)
        elif each in "\"'" and word is None:
            word, quote = [], each
        elif each in "\"'":
            quote = each
        elif each in " \t\n\r":
            if word is not None:
                words.append("".join(word))
            word = None
        else:
            word = [*(word or []), each]
    assert not quote, f"a quote is left open: {value}"
    return words if word is None else [*words, "".join(word)]


def unit(text: str) -> Iterator[tuple[str, ...]]:
    """Sections and settings in their order, with the number of words and of what systemd would expand."""
    lines = iter(text.splitlines())
    for line in lines:
        if not line.strip() or line.lstrip().startswith(("#", ";")):
            continue
        while line.endswith("\\"):
            line = line[:-1] + " " + next(lines)
        if line.startswith("["):
            yield (line,)
            continue
        key, equals, value = line.partition("=")
        assert equals and re.fullmatch(r"[A-Z][A-Za-z0-9]*", key), line
        expanded = value.replace("%%", "").count("%")
        if EXEC.fullmatch(key):
            words = unit_words(value.lstrip("@-:+!"))
            expanded += sum(each.replace("$$", "").count("$") for each in words)
            assert ";" not in words
        elif key in LISTS:
            words = unit_words(value)
        else:
            words = [value]
        yield key, str(len(words)), str(expanded)


def environment_value(value: str) -> str:
    """As systemd reads a value of a file of variables that stands in double quotes (src/basic/env-file.c: parse_env_file_internal)."""
    assert re.fullmatch(r'"(?:[^"\\]|\\.)*"', value, re.DOTALL), value
    return re.sub(r'\\([\\"`$])', r"\1", value[1:-1])


def ini_value(value: str) -> str:
    """As llama-server reads a value of its presets (common/preset.cpp)."""
    return re.split("[;#]", value, maxsplit=1)[0].strip()


def ini(text: str) -> Iterator[tuple[str, ...]]:
    """Sections, and how many options each has."""
    for line in text.split("\n"):
        if section := re.fullmatch(r"\[([^\]]+)\]", line):
            yield ("section", str(section[1] == "*"))
        elif line and not line.startswith("#"):
            key, equals, value = line.partition("=")
            assert equals and ini_value(value) == value.strip() and key.strip() == key[:-1], line
            yield ("option",)


def caddy_lines(text: str) -> list[list[tuple[str, str]]]:
    """A Caddyfile's tokens, each with its quote, line by line (caddyconfig/caddyfile/lexer.go)."""
    lines: list[list[tuple[str, str]]] = []
    token, quote, comment, escaped, number, begun = "", "", False, False, 0, 0

    def end(kind: str) -> None:
        if lines and begun == lines_at[-1]:
            lines[-1].append((token, kind))
        else:
            lines.append([(token, kind)])
            lines_at.append(begun)

    lines_at: list[int] = []
    for each in [*text, "\n"]:
        if quote == "`":
            if each == "`":
                end(quote)
                token, quote = "", ""
            else:
                token += each
        elif quote == '"':
            if escaped:
                token, escaped = token + ("" if each == '"' else "\\") + each, False
            elif each == "\\":
                escaped = True
            elif each == '"':
                end(quote)
                token, quote = "", ""
            else:
                token += each
        elif each.isspace():
            comment = comment and each != "\n"
            if token and not comment:
                end("")
                token = ""
        elif comment:
            pass
        elif not token and each == "#":
            comment = True
        elif not token and each in '"`':
            quote, begun = each, number
        else:
            begun = begun if token else number
            token += each
        number += each == "\n"
    assert not quote, "a quote is left open"
    return lines


def caddy(text: str) -> Iterator[tuple[str, ...]]:
    """Of each line how many tokens it has, where it opens or closes a block, and what Caddy would replace in it."""
    depth = 0
    for line in caddy_lines(text):
        depth += sum((token == "{") - (token == "}") for token, _ in line)
        assert depth >= 0
        replaced = [found for token, _ in line if not token.startswith('{"') for found in re.findall(r"\{[^{}\s]+\}", token)]
        yield (*("x" if token not in "{}" else token for token, _ in line), *replaced)
    assert depth == 0


def nft(text: str) -> Iterator[tuple[str, ...]]:
    """Of each statement its words, without the addresses and numbers, and where it opens or closes a block."""
    for line in text.split("\n"):
        for each in line.split("#", 1)[0].split(";"):
            words = re.findall(r"[{}]|[^\s{}]+", re.sub(r"\{ [0-9a-f:./, ]+ \}", "0", each))
            if words:
                yield tuple(word if re.fullmatch(r"[a-z_]+|[{}]", word) else "x" for word in words)


def shell(text: str) -> Iterator[tuple[str, ...]]:
    """Of each line outside of comments how many words it has; of a here-document how many columns each of its lines has."""
    document = ""
    words, quote = 0, ""
    in_word = escaped = comment = False
    for line in text.split("\n"):
        if document:
            if line == document:
                document = ""
            yield ("document", str(len(re.split(r"\t", line))))
            continue
        for each in f"{line}\n":
            if comment:
                continue
            if escaped:
                escaped, in_word = False, True
            elif each == "\\" and quote != "'":
                escaped = True
            elif quote:
                quote = "" if each == quote else quote
            elif each in "\"'":
                quote, in_word = each, True
            elif each == "#" and not in_word:
                comment = True
            elif each.isspace():
                words, in_word = words + in_word, False
            else:
                in_word = True
        comment = False
        if not quote:
            yield (str(words),)
            words = 0
        if found := re.search(r"<<'(\w+)'$", line):
            document = found[1]


def shape(value: object) -> object:
    """Of data what it is made of."""
    if isinstance(value, dict):
        return [shape(each) for each in value.values()]
    return [shape(each) for each in value] if isinstance(value, list) else type(value).__name__


def structure(path: str, text: str) -> object:
    """Of a file that lands on a host all that no text of a person may change."""
    name = path.rpartition("/")[2]
    if text.startswith("#!/bin/sh\n"):
        return list(shell(text))
    if path.startswith("/etc/systemd/"):
        return list(unit(text))
    if name.endswith(".ini"):
        return list(ini(text))
    if name.endswith(".caddy") or name.endswith(".admin"):
        return list(caddy(text))
    if name.endswith(".nft"):
        return list(nft(text))
    if name.endswith(".json"):
        return shape(json.loads(text))
    if name.endswith((".yml", ".yaml")):
        return shape(yaml.safe_load(text))
    if name == "servers":
        return [len(line.split(" ")) for line in text.splitlines() if not line.startswith("#")]
    return len(text.split("\n"))


# What a reader makes of a file: its values as they are to the program that reads it.


ACTIVE = "\x01"
"""Before a character by which a shell does more than read it."""


def unit_values(text: str) -> Iterator[tuple[str, ...]]:
    """Section, setting and words, without quotes and with what is doubled once."""
    section, lines = "", iter(text.split("\n"))
    for line in lines:
        if not line.strip() or line.lstrip().startswith(("#", ";")):
            continue
        while line.endswith("\\"):
            line = line[:-1] + " " + next(lines)
        if line.startswith("["):
            section = line
            continue
        key, equals, value = line.partition("=")
        assert equals, line
        assert not re.search(r"\\[^\\\"':]", value.replace("\\\\", "")), f"an escape: {line}"
        if EXEC.fullmatch(key):
            words = [_undoubled(each, "$") for each in unit_words(value)]
        else:
            words = unit_words(value.replace("\\:", ":") if key in PATHS else value) if key in LISTS else [value.strip()]
        yield section, key, *(_undoubled(each, "%") for each in words)


def _undoubled(text: str, sign: str) -> str:
    """What is doubled once; one that stands alone is no text, but is expanded."""
    return sign.join(each.replace(sign, ACTIVE + sign) for each in text.split(2 * sign))


def ini_values(text: str) -> Iterator[tuple[str, ...]]:
    section = ""
    for line in text.split("\n"):
        if found := re.fullmatch(r"\[([^\]]+)\]", line):
            section = found[1]
        elif line and not line.startswith(("#", ";")):
            key, _, value = line.partition("=")
            yield section, key.strip(), ini_value(value)


def shell_values(text: str) -> Iterator[str]:
    """The words of a script without their quotes, and the lines of here-documents."""
    document, words, quote, word, within = "", [], "", "", False
    begins, escaped, comment = False, False, False
    for line in text.split("\n"):
        if document:
            document = "" if line == document else document
            yield line
            continue
        for each in f"{line}\n":
            if comment:
                comment = each != "\n"
            elif escaped:
                word, escaped = word + ("\\" if quote == '"' and each not in '$`"\\\n' else "") + each, False
            elif each == "\\" and quote != "'":
                escaped = begins = True
            elif quote:
                quote, word = ("", word) if each == quote else (quote, word + (ACTIVE if quote == '"' and each in "$`" else "") + each)
            elif each in "\"'":
                quote, begins = each, True
            elif each == "#" and not begins:
                comment = True
            elif each.isspace():
                if begins:
                    words.append(word)
                word, begins = "", False
            else:
                word, begins = word + (ACTIVE if each in "$`;&|<>()*?[~!{}" else "") + each, True
        if not quote:
            yield from words
            words = []
        if found := re.search(r"<<'(\w+)'$", line):
            document = found[1]
    assert not quote and not within


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, ...]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append(("<", tag, *(str(each) for pair in attrs for each in pair)))

    def handle_endtag(self, tag: str) -> None:
        self.found.append((">", tag))

    def handle_data(self, data: str) -> None:
        self.found.append(("text", data))

    def handle_comment(self, data: str) -> None:
        self.found.append(("comment", data))


def html_values(text: str) -> list[tuple[str, ...]]:
    page = _Page()
    page.feed(text)
    page.close()
    return page.found


def flat(value: object) -> Iterator[str]:
    """The texts of data, keys included, in their order."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from (key, *flat(each))
    elif isinstance(value, list):
        yield "["
        for each in value:
            yield from flat(each)
    else:
        yield str(value)


def values(path: str, text: str) -> list[object]:
    """Of a file that lands on a host, or in an export, what its reader reads."""
    name = path.rpartition("/")[2]
    if text.startswith("#!/bin/sh\n") or path == "build" or name.endswith(".words"):
        return list(shell_values(text))
    if path.startswith("/etc/systemd/"):
        return list(unit_values(text))
    if name.endswith(".ini"):
        return list(ini_values(text))
    if name.endswith((".caddy", ".admin")):
        return [tuple(token for token, _ in line) for line in caddy_lines(text)]
    if name.endswith(".json"):
        return list(flat(json.loads(text)))
    if name.endswith((".yml", ".yaml")):
        return list(flat(yaml.safe_load(text)))
    if name.endswith(".html"):
        return list(html_values(text))
    return list(text.split("\n"))
