"""What options of llama-server ask of the sandbox of its unit: files, directories to write to, priority, locked memory, other hosts.

The unit grants what is asked for here and nothing else (roles/llama_server/plan.py). What it cannot grant, `paddock check` refuses with the
reason (inventory/presets.py). Read off llama.cpp's common/arg.cpp in llama-cpp-python 0.3.36, by every spelling of an option.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from posixpath import dirname, normpath

from roles.preset import REFUSED, is_on
from roles.role import SHARED_DIRECTORY, is_address
from roles.server import Server
from roles.wording import quoted

NVIDIAS = ("char-nvidia-frontend", "char-nvidia", "char-nvidia-uvm", "char-nvidia-caps")
"""What NVIDIA's driver opens, for Vulkan too: /dev/nvidiactl and nvidia-modeset have the major number of the cards."""

HOME = "/var/lib/llama-server"
"""The home of the system user llama-server, which its units may write to."""

READ = frozenset(
    (
        *("mmproj", "mm", "spec-draft-model", "md", "model-draft"),
        *("grammar-file", "json-schema-file", "jf", "chat-template-file", "ui-config-file", "webui-config-file"),
        # common/speculative.cpp saves neither of the two
        *("lookup-cache-static", "lcs", "lookup-cache-dynamic", "lcd"),
        *("path", "media-path", "video-ffmpeg-dir"),
    )
)
"""Options that name a file or a directory to read."""

LISTED, SCALED = frozenset(("lora", "control-vector")), frozenset(("lora-scaled", "control-vector-scaled"))
"""Options that name several files, `a.gguf,b.gguf`, and those that have a scale behind each, `a.gguf:0.5`."""

ITEM = re.compile(r'(?:"[^"]*"|[^",])+')
"""One of several (common/arg.cpp: parse_csv_row)."""

WRITTEN, LOGGED = frozenset(("slot-save-path", "log-prompts-dir")), frozenset(("log-file",))
"""Options that name a directory to write to, and a file."""

PRIORITY = frozenset(("prio", "prio-batch"))
"""Options that raise the priority of threads. Those of a draft model are read, and used nowhere."""

LOCKED = frozenset(("load-mode", "lm", "mlock"))
"""Options that may lock a model in memory."""

RPC = "rpc"

BEYOND: Mapping[str, str] = {
    "path": "serves the files of a directory to every caller",
    "media-path": "lets every caller read the files of a directory",
    "slot-save-path": "lets every caller write files, and read what others have asked",
    "log-prompts-dir": "writes what every caller asks into files",
    "log-file": "writes a log whose size nothing limits",
    "video-ffmpeg-dir": "runs programs of a directory",
    RPC: "sends the model and what callers ask to other hosts, unencrypted",
}
"""Options by which llama-server does more than answer with its models: the setting `opens` has to name each."""

HINTS = re.compile(
    r"(?i)(?<![a-z])(fname|files?|path|dir|directory|url|servers?|hosts?|address|ports?|socket|cmd|command|program|exec|shell|proxy|mcp|tools?"
    r"|agent|listen|bind|rpc|download|upload|remote)(?![a-z])"
)
"""In the name of an option, or of its value: it may open a file or a connection."""

HARMLESS = frozenset(("no-host",))
"""Options that only sound so."""

HOMES, TEMPORARY = ("/home", "/root", "/run/user"), ("/tmp", "/var/tmp")
"""What ProtectHome= and PrivateTmp= hide."""

OF_THE_SYSTEM = re.compile(r"/(bin|boot|dev|etc|lib\w*|proc|run|sbin|sys|usr|opt/paddock|var/lib/paddock)(/.*)?")
"""Directories that llama-server must not write to."""


@dataclass(frozen=True)
class Grants:
    """What a server's unit must grant. `reads` are paths, `writes` directories, `peers` the IP addresses of RPC servers."""

    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    priority: int = 0
    """llama.cpp's: 0 normal, 1 medium, 2 high, 3 realtime."""
    peers: tuple[str, ...] = ()


def grants(presets: Iterable[Mapping[str, object]]) -> Grants:
    """What the presets of a server's models ask for, all together. Relative paths and names of hosts are left out: check refuses them."""
    said = [(option, str(value)) for preset in presets for option, value in preset.items()]
    reads = dict.fromkeys(path for each in said for path in paths_read(*each) if path.startswith("/"))
    writes = dict.fromkeys(path for each in said for path in directories_written(*each) if path.startswith("/"))
    peers = dict.fromkeys(host for each in said for host in _rpc_hosts(*each) if is_address(host))
    return Grants(tuple(reads), tuple(writes), max((priority(*each) for each in said), default=0), tuple(peers))


def hidden(path: str, below: Iterable[str] = (*HOMES, *TEMPORARY)) -> bool:
    """Whether a system service does not see the path unless its unit shows it."""
    return any(path == each or path.startswith(f"{each}/") for each in below)


def refusal(option: str, value: object, server: Server) -> str:
    """Why the unit of a server cannot grant what an option asks for, and what to do; empty where it can."""
    text = str(value)
    for path in paths_read(option, text):
        if words := _unclear(option, path):
            return words
        if path == "/":
            return f"{quoted(option)} is all of the host: name a directory below it"
        if path in (*HOMES, *TEMPORARY) and server.scope == "system":
            return f"{quoted(option)} is all of {path}, which the unit of llama-server hides: name what is to be read below it"
    for directory in directories_written(option, text):
        if words := _unclear(option, directory) or _unwritable(option, directory, server):
            return words
    if server.scope == "user":
        return _beyond_an_account(option, text, server.user)
    if not server.egress:
        for host in _rpc_hosts(option, text):
            if not is_address(host):
                words = f"a server reaches only the addresses that its unit names: write the IP address of {host}, or set `egress`"
                return f"{quoted(option)} has {quoted(host)} in it, and {words}"
    return ""


def unopened(spellings: Collection[str], hint: str, server: Server) -> str:
    """Why an option, given by all of its spellings, stands in no preset of a server whose `opens` does not name it; empty where it may."""
    if not server.opens.isdisjoint(spellings):
        return ""
    does = next((BEYOND[each] for each in spellings if each in BEYOND), "")
    if not does and any(map(HINTS.search, (*spellings, hint))) and KNOWN.isdisjoint(spellings):
        does = "may open files or connections: Paddock does not know this option"
    return f"{does}: leave it out, or name it in `opens` of llama_server on {server.host}" if does else ""


KNOWN = READ | LISTED | SCALED | HARMLESS | BEYOND.keys() | REFUSED.keys()


def paths_read(option: str, value: str) -> Iterator[str]:
    """The files and directories that an option names to be read."""
    if option in READ:
        yield _bare(value)
    elif option in LISTED | SCALED:
        for item in ITEM.findall(value):
            path = item.replace('"', "")
            yield _bare(path.partition(":")[0] if option in SCALED else path)


def directories_written(option: str, value: str) -> Iterator[str]:
    """The directories that an option has llama-server write to."""
    if option in WRITTEN:
        yield _bare(value)
    elif option in LOGGED:
        yield dirname(value)


def priority(option: str, value: str) -> int:
    return int(value) if option in PRIORITY and value in ("1", "2", "3") else 0


def _rpc_hosts(option: str, value: str) -> Iterator[str]:
    """`192.0.2.7:50052,192.0.2.8:50052` → the hosts (ggml-rpc.cpp: parse_endpoint)"""
    if option == RPC:
        yield from (each.partition(":")[0].strip() for each in value.split(","))


def _bare(path: str) -> str:
    return path.rstrip("/") or path


def _unclear(option: str, path: str) -> str:
    if not path.startswith("/"):
        return f"{quoted(option)} needs an absolute path: where llama-server would look for {quoted(path)} depends on its unit"
    if re.search(r"[\\\"':]", path):
        return f"{quoted(option)} has a path with a quote, a backslash or a colon in it, which a unit cannot contain: rename {path}"
    if normpath(path) != path:
        return f"{quoted(option)} has a path with a dot, two dots or two slashes in it: write {normpath(path)}"
    return ""


def _unwritable(option: str, directory: str, server: Server) -> str:
    system = server.scope == "system"
    name = f"{HOME if system else f'/home/{server.user}'}/{'logs' if option in LOGGED else 'slots'}"
    better = f"name a directory such as {name}"
    if system and hidden(directory):
        return f"{quoted(option)} is written to, and the unit of llama-server hides {_top(directory)}: {better}"
    if not system and hidden(directory, ("/root", HOME)):
        return f"{quoted(option)} is written to, and the account {server.user} cannot write to {directory}: {better}"
    if hidden(directory) or (system and directory == HOME):
        return ""
    if OF_THE_SYSTEM.fullmatch(directory) or SHARED_DIRECTORY.fullmatch(directory):
        return f"{quoted(option)} is written to, and {directory} is the system's, or shared: {better}"
    return ""


def _top(path: str) -> str:
    return next(each for each in (*HOMES, *TEMPORARY) if hidden(path, (each,)))


def _beyond_an_account(option: str, value: str, account: str) -> str:
    """What an account's own services may not do: its manager has no right to hand on."""
    may_not = f"which a service of the account {account} may not: leave out `user`, or"
    if priority(option, value):
        return f'"{option}: {value}" raises the priority of threads, {may_not} use 0'
    if option in LOCKED and ("mlock" in value or (option == "mlock" and is_on(value))):
        return f'"{option}: {value}" locks the model in memory, {may_not} use another mode'
    return ""
