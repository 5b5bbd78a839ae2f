"""Which options a version of llama-server takes, read out of its own source: what `paddock check` knows before anything is built.

    ~/.cache/paddock/sources/<digest>.options.json        beside the sources, of each that was fetched

Those of the version that Paddock builds by default ship with it, and those of a source tree on this machine are read where it lies.
`python -m control.options` writes the shipped list anew.
"""

from __future__ import annotations

import hashlib
import re
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from control.cplusplus import Code, Token
from inventory.errors import InventoryError, PaddockError
from inventory.options import SHIPPED, Option, Options, Part, Takes, read
from inventory.presets import Judged, Known, judged, source_of
from inventory.schema import Fleet
from roles.llama_cpp.settings import LlamaCppSettings, Source

if TYPE_CHECKING:
    from control.download import Progress  # what fetches is loaded where something is fetched

READING = 1
"""Counted up when the same source is to give another list."""

ARGUMENTS, MODEL = "common/arg.cpp", "common/common.cpp"
HTTP, ROUTER = "tools/server/server-http.cpp", "tools/server/server-models.cpp"
FILES = (ARGUMENTS, MODEL, HTTP, ROUTER)
"""What is read of a source tree. Versions from before there was a router lack the last two."""

SERVER, EVERYBODY = "LLAMA_EXAMPLE_SERVER", "LLAMA_EXAMPLE_COMMON"


def known(beside: Path) -> Known:
    """What is known without a connection; a source's relative path starts at `beside`, the inventory's directory."""
    return lru_cache(maxsize=None)(lambda source: _known(source, beside))


def options_by_host(fleet: Fleet, beside: Path) -> dict[str, Options]:
    """The options of each host's llama-server, as far as they are known without a connection."""
    of = known(beside)
    return {host: found for host in fleet.hosts if (source := source_of(fleet, host)) and (found := of(source))}


def learned(source: Source, beside: Path, progress: Progress) -> Options:
    """The options of a source, which is fetched where that was not done yet. Raises PaddockError where it cannot be, or cannot be read."""
    from control.sources import source_archive

    return _known(source, beside) or _noted(source, source_archive(source, beside, progress))


def checked(path: Path, fleet: Fleet, progress: Progress | None = None) -> Judged:
    """The fleet's presets beside what its versions of llama-server take. Raises InventoryError with all that they would not.

    With `progress`, a source that nobody has seen yet is fetched first. One that cannot be is among the `unknown`, for a release that was
    imported needs no source; so is one that is written in a way which nobody could foresee.
    """
    found = judged(path, fleet, known(path.parent))
    if progress and found.unknown:
        for source in found.unknown:
            with suppress(PaddockError):
                learned(source, path.parent, progress)
        found = judged(path, fleet, known(path.parent))
    if found.problems:
        raise InventoryError(list(found.problems))
    return found


def options_of(files: Mapping[str, str], source: str, label: str) -> Options:
    """What a version of llama-server takes, out of its source: path → text, of FILES. Raises PaddockError where that has another form."""
    try:
        found = tuple(_options(files))
    except (ValueError, IndexError, KeyError) as error:
        raise PaddockError(f"llama.cpp {label}: its options cannot be read out of {ARGUMENTS}: {error}") from None
    if not {"port", "ctx-size"} <= {each.name for each in found}:
        raise PaddockError(
            f"llama.cpp {label}: its options cannot be read out of {ARGUMENTS}: it is written in another way than any before"
        )
    return Options(source, label, found)


def _known(source: Source, beside: Path) -> Options | None:
    if source.path:
        root = beside / Path(source.path).expanduser()
        stamps = tuple((name, (root / name).stat().st_mtime_ns) for name in FILES if (root / name).is_file())
        return _in_tree(root, stamps, source.identity, source.label)
    if (shipped := _shipped()) and shipped.source == source.identity:
        return shipped
    with suppress(OSError, ValueError, KeyError, TypeError):
        return read(_note(source).read_text())
    return None


@cache
def _in_tree(root: Path, stamps: tuple[tuple[str, int], ...], identity: str, label: str) -> Options | None:
    """Read once in a run, as long as no file in it changes: it takes a quarter of a second."""
    with suppress(PaddockError):
        return options_of({name: (root / name).read_text(errors="replace") for name, _ in stamps}, identity, label)
    return None


@lru_cache(maxsize=1)
def _shipped() -> Options | None:
    return read(SHIPPED.read_text()) if SHIPPED.is_file() else None


def _note(source: Source) -> Path:
    from control.sources import CACHE

    key = hashlib.sha256(f"{READING} {source.identity}".encode()).hexdigest()[:32]
    return CACHE.expanduser() / f"{key}.options.json"


def _noted(source: Source, archive: Path) -> Options:
    """The options in a source's archive, which are then known without it."""
    found = _in_archive(source, archive)
    scratch = _note(source).with_suffix(".new")
    scratch.write_text(found.written())
    scratch.replace(_note(source))
    return found


def _in_archive(source: Source, archive: Path) -> Options:
    with tarfile.open(archive) as tar:
        wanted = {f"llama.cpp/{name}": name for name in FILES}
        texts = {wanted[member.name]: _text(tar, member) for member in tar if member.name in wanted}
    return options_of(texts, source.identity, source.label)


def _text(tar: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    content = tar.extractfile(member)
    return content.read().decode(errors="replace") if content else ""


def _options(files: Mapping[str, str]) -> Iterator[Option]:
    code = Code.of(files[ARGUMENTS])
    lists = dict(_lists_of_programs(code))
    foreign = list(_for_other_programs(code))
    answering = _read_fields(files.get(HTTP, "")) - _read_fields(files.get(MODEL, ""))
    reserved = _reserved(files.get(ROUTER, ""))
    seen: set[tuple[str, ...]] = set()
    for bracket in code.calls("common_arg"):
        if any(bracket in each for each in foreign) or not _is_table_entry(code, bracket):
            continue
        more = dict(_methods(code, bracket))
        programs = _programs(code, more.get("set_examples"), lists) if "set_examples" in more else frozenset((EVERYBODY,))
        without = _programs(code, more["set_excludes"], lists) if "set_excludes" in more else frozenset()
        if ({SERVER, EVERYBODY} & programs and SERVER not in without) or "set_preset_only" in more:
            option = _option(code, bracket, more, answering, reserved)
            if option.names not in seen:
                seen.add(option.names)
                yield option


def _is_table_entry(code: Code, bracket: int) -> bool:
    """Whether it is `common_arg({"-c", "--ctx-size"}, …)`, and not a constructor's declaration."""
    return code.text(bracket + 1) == "{" and code.tokens[bracket + 2].kind == "string"


def _option(code: Code, bracket: int, more: Mapping[str, int], answering: frozenset[str], reserved: frozenset[str]) -> Option:
    names, *rest = code.parts(bracket)
    negated = rest.pop(0) if code.text(rest[0].start) == "{" else range(0)
    handler, words = rest[-1], " ".join(code.strings(rest[-2])) if len(rest) > 1 else ""
    takes, fields, called = _handled(code, handler)
    environment = "".join(code.strings(code.inside(more["set_env"]))) if "set_env" in more else ""
    part: Part = "model"
    if "set_preset_only" in more:
        part = "preset"
        takes = "text or on-off" if takes == "text" else takes  # the router asks whether it is on
    elif "exit" in called or {"usage", "completion"} & fields:
        part = "ends"
    elif "model" in fields:
        part = "source"
    elif environment in reserved:
        part = "router"
    elif fields & answering:
        part = "server"
    removed = re.search(r"has been removed\W*(.*)", words, re.DOTALL)
    deprecated = re.search(r"DEPRECATED(?::| in favor of)?\s*((?:use )?`?--[^\]:,()]*)?", words)
    instead = removed[1] if removed else (deprecated[1] or "") if deprecated else ""
    return Option(
        names=tuple(code.strings(names)),
        takes=takes,
        part=part,
        negated=tuple(code.strings(negated)),
        env=environment,
        hint="".join(code.strings(rest[0])) if takes not in ("nothing", "on-off") else "",
        gone="removed" if removed or "arg_removed" in called else "deprecated" if deprecated else "",
        instead=re.sub(r"^(?=`?--)", "use ", re.sub(r"\s+", " ", instead).strip(" .")).replace("`", ""),
    )


def _handled(code: Code, handler: range) -> tuple[Takes, frozenset[str], frozenset[str]]:
    """What a handler, `[](common_params & params, int value) {…}`, takes; the fields of `params` that it touches; all names in it."""
    bracket = next((index for index in handler if code.text(index) == "(" and index in code.closing), -1)
    opening = next((index for index in range(code.closing[bracket], handler.stop) if code.text(index) == "{"), -1) if bracket >= 0 else -1
    if opening < 0:
        raise ValueError("an option is handled by something that is no function written on the spot")
    body = code.inside(opening)
    names = frozenset(code.names(body))
    fields = frozenset(
        code.text(index + 2) for index in body if code.tokens[index] == Token("name", "params") and code.text(index + 1) == "."
    )
    parameters = code.parts(bracket)
    if len(parameters) != 2:
        return "nothing" if len(parameters) < 2 else "two", fields, names
    kinds = code.names(parameters[1])
    if "bool" in kinds:
        return "on-off", fields, names
    if "int" in kinds:
        return "whole", fields, names
    if {"is_truthy", "parse_bool_value"} & names:
        return "text or on-off", fields, names
    # What is nothing but a number is converted at once; what may be a word too is compared with it first.
    compared = any(code.text(index) == "==" for index in body)
    converted = {code.text(index - 2) for index in body if code.text(index) == kinds[-1] and code.text(index - 1) == "("}
    if not compared and converted & {"stof", "stod"}:
        return "decimal", fields, names
    if not compared and converted & {"stoi", "stol", "stoul", "stoull"}:
        return "whole", fields, names
    return "text", fields, names


def _methods(code: Code, bracket: int) -> Iterator[tuple[str, int]]:
    """`.set_env("…")` and what else is called on it: the name, and where its bracket is."""
    index = code.closing[bracket] + 1
    while code.text(index) == "." and code.text(index + 2) == "(":
        yield code.text(index + 1), index + 2
        index = code.closing[index + 2] + 1


def _programs(code: Code, bracket: int | None, lists: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """The programs that are named, one by one or by the name of a list."""
    names = code.names(code.inside(bracket)) if bracket else []
    return frozenset(program for name in names for program in lists.get(name, (name,)))


def _lists_of_programs(code: Code) -> Iterator[tuple[str, frozenset[str]]]:
    """`mmproj_examples = {LLAMA_EXAMPLE_MTMD, …}`"""
    for index in range(len(code.tokens) - 3):
        if code.text(index + 1) == "=" and code.text(index + 2) == "{" and code.text(index + 3).startswith("LLAMA_EXAMPLE_"):
            yield code.text(index), frozenset(code.names(code.inside(index + 2)))


def _for_other_programs(code: Code) -> Iterator[range]:
    """The blocks that a server never comes to: `if (ex == LLAMA_EXAMPLE_CLI) {…}`, and the `else {…}` of its own."""
    for bracket in code.calls("if"):
        condition = [code.text(index) for index in code.inside(bracket)]
        if len(condition) != 3 or condition[:2] != ["ex", "=="]:
            continue
        block = code.closing[bracket] + 1
        if code.text(block) == "{" and condition[2] != SERVER:
            yield code.inside(block)
        elif code.text(block) == "{" and (code.text(code.closing[block] + 1), code.text(code.closing[block] + 2)) == ("else", "{"):
            yield code.inside(code.closing[block] + 2)


def _read_fields(text: str) -> frozenset[str]:
    """`params.port` → `port`"""
    return frozenset(re.findall(r"\bparams\.(\w+)", text))


def _reserved(text: str) -> frozenset[str]:
    """The environment variables of what a router takes out of every model's options (tools/server/server-models.cpp)."""
    body = re.search(r"\bvoid unset_reserved_args\([^)]*\)\s*\{([^{}]*)", text)
    return frozenset(re.findall(r'unset_option\("(\w+)"\)', body[1])) if body else frozenset()


def shipped_anew() -> Options:
    """The options of what Paddock builds by default, out of its source, which is fetched where that was not done yet."""
    from control.sources import source_archive

    source = LlamaCppSettings().source
    return _in_archive(source, source_archive(source, Path()))


if __name__ == "__main__":
    SHIPPED.write_text(shipped_anew().written())
    print(f"{SHIPPED}: written anew")
