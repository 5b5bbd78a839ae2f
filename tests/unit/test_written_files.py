"""What Paddock writes on the control machine goes through `write_atomically`, or into a directory that nobody else knows or can write to.

A name that can be told beforehand may be somebody's link, and what is written to it is written elsewhere.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]

SCRATCH = "in a temporary directory of its own"
CACHE = "in ~/.cache/paddock, which is the person's own"

ELSEWHERE = {
    "control/fetching/download.py": SCRATCH,
    "control/fetching/images.py": SCRATCH,
    "control/llama_cpp/artifacts.py": SCRATCH,
    "control/llama_cpp/node.py": SCRATCH,
    "control/llama_cpp/sources.py": SCRATCH,
    "control/llama_cpp/options.py": CACHE,
    "control/llama_cpp/page.py": CACHE,
    "control/deployment/render.py": "in a directory that was made the moment before, each file exclusively",
    "control/deployment/verification.py": SCRATCH,
    "control/editing/candidate.py": "by the descriptor of a temporary file",
    "control/lifecycle/restore.py": SCRATCH,
    "control/state/sealing.py": "by the descriptor of a temporary file",
    "control/state/fleet.py": "write_atomically itself: by the descriptor of a temporary file",
    "lab/cache.py": CACHE,
    "lab/engine.py": CACHE,
    "lab/image.py": CACHE,
    "lab/lab_host.py": CACHE,
    "lab/vm.py": CACHE,
    "lab/vm_image.py": CACHE,
    "verification/outside.py": SCRATCH,
    "verification/speeds.py": SCRATCH,
}
"""Modules that write in another way, and why they may."""

WRITES = ("write_text", "write_bytes", "copyfile", "copy", "copy2", "copytree", "copymode")


def writing(tree: ast.AST) -> Iterator[int]:
    """The lines of a module that write to a file by its name, or open one to write."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id if isinstance(node.func, ast.Name) else ""
        owner = node.func.value.id if isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name) else ""
        modes = [each.value for each in (*node.args, *(word.value for word in node.keywords)) if isinstance(each, ast.Constant)]
        if any(word.arg == "fileobj" for word in node.keywords):  # an archive in what is open already
            continue
        opens = name in ("open", "fdopen") and any(isinstance(mode, str) and set(mode) & set("wax+") and len(mode) < 4 for mode in modes)
        if opens or (name in WRITES and (name.startswith("write") or owner == "shutil")):
            yield node.lineno


def modules() -> Iterator[tuple[str, ast.AST]]:
    for folder in ("cli", "control", "deploys", "facts", "inventory", "lab", "roles", "verification"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield str(path.relative_to(ROOT)), ast.parse(path.read_text(encoding="utf-8"))


def test_files_are_written_where_no_link_can_lie() -> None:
    found = {name: lines for name, tree in modules() if (lines := list(writing(tree)))}
    unknown = {name: lines for name, lines in found.items() if name not in ELSEWHERE}
    assert not unknown, "use write_atomically, or say in ELSEWHERE why not"
    assert not ELSEWHERE.keys() - found.keys(), "writes nothing any more"


def test_each_way_to_write_is_seen() -> None:
    ways = (
        "p.write_text(x)",
        "p.write_bytes(x)",
        "p.open('w')",
        "open(p, 'ab')",
        "p.open(mode='r+b')",
        "os.fdopen(n, 'w')",
        "shutil.copy(a, b)",
    )
    assert all(list(writing(ast.parse(way))) == [1] for way in ways)
    assert not [way for way in ("p.read_text()", "p.open('rb')", "tarfile.open(p)", "open(p)") if list(writing(ast.parse(way)))]
