"""A copy of the product with what stands in tests/extension: a kind of resource and two roles, and nothing else but their names."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.wheel import ROOT, product

EXTENSION = ROOT / "tests" / "extension"

COUNTING = """

def _counting(counted):
    def called(*arguments, **named):
        with open({log!r}, "a") as log:
            log.write(f"{{counted.__name__}} {{getattr(arguments[0], 'name', '')}}\\n")
        return counted(*arguments, **named)

    return called


{function} = _counting({function})
"""


@dataclass(frozen=True)
class Extended:
    """`added` are the files that no clone has, `changed` those that have one word more: both from the root of the copy."""

    root: Path
    added: tuple[str, ...]
    changed: tuple[str, ...]

    @property
    def _log(self) -> Path:
        return self.root.with_name(f"{self.root.name}.calls")

    def count(self, module: str, function: str) -> None:
        """From now on every call of a module's function is noted, in whichever process of a command it is made."""
        with (self.root / module).open("a") as file:
            file.write(COUNTING.format(log=str(self._log), function=function))

    def counted(self) -> Counter[str]:
        """The calls since the last look, by the function and the name of what it was called for: `{"host_plan ai": 1}`."""
        calls = self._log.read_text().splitlines() if self._log.exists() else []
        self._log.unlink(missing_ok=True)
        return Counter(map(str.strip, calls))


def extended(root: Path) -> Extended:
    for name in product():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, root / name)
    added = tuple(str(path.relative_to(EXTENSION)) for path in sorted(EXTENSION.rglob("*")) if _is_source(path))
    assert not [name for name in added if (root / name).exists()]
    shutil.copytree(EXTENSION, root, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    add_name(root / "resources" / "__init__.py", "MODULES", "sysctl", before="service")
    add_name(root / "roles" / "__init__.py", "ROLES", "tuning", before="gpu")
    add_name(root / "roles" / "__init__.py", "ROLES", "relay", before="client")
    return Extended(root, added, ("resources/__init__.py", "roles/__init__.py"))


def _is_source(path: Path) -> bool:
    return path.is_file() and "__pycache__" not in path.parts


def add_name(file: Path, names: str, word: str, before: str) -> None:
    """Adds a word to a module's list of names."""
    text, times = re.subn(rf'^({names} = [^)\]]*?)(\s*)"{before}"', rf'\1\2"{word}",\2"{before}"', file.read_text(), flags=re.MULTILINE)
    assert times == 1, f"{file}: {names} does not name {before}"
    file.write_text(text)
