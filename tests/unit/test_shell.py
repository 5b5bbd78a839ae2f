"""Shell, as it stands in the repository and as it is rendered: shellcheck finds nothing in any of it, and it reads as the rest does.

Where something is right although shellcheck says otherwise, that stands there, with the reason:
`# shellcheck disable=SC2086 # a word each`.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from control.deployment.render import tree
from control.pki.certificates import make_ca, new_key, sign
from control.pki.client_archive import client_archive
from control.servers.stacks import CHANGE, LOGS
from control.servers.units import LOOK
from facts.condition import CONDITION_SH
from inventory.knowledge import Certificate, Knowledge
from inventory.load import load
from lab.container import BOOT
from lab.lab_host import ADMIT
from resources import Release
from roles.llama_cpp.recipe import script
from roles.role import SHELL, TEMPLATES, render
from tests.unit.control.test_client_archive import texts
from tests.unit.roles import everything

ROOT = TEMPLATES.parent


SHEBANG = re.compile(r"#!(/bin/sh|/usr/bin/env bash)\n")
HERE_DOCUMENT = re.compile(r"<<'(\w+)'\n(.*?\n)\1\n", re.DOTALL)
FUNCTION = re.compile(r"^( *)([a-z_]+)\(\) \{.*", re.MULTILINE)

WIDEST = 120


def in_repository() -> Iterator[tuple[str, str]]:
    """Every script and every file of functions, by its path, templates as they are written among them."""
    for top in sorted(ROOT.iterdir()):
        if top.name in ("build", "node_modules", "tests") or (top.name.startswith(".") and top.name != ".ci") or not top.is_dir():
            continue
        for path in sorted(top.rglob("*")):
            name = str(path.relative_to(ROOT))
            if "__pycache__" in name or not path.is_file():
                continue
            if path.suffix not in (".sh", ".j2", "") or (path.suffix == "" and top.name not in ("scripts", ".ci")):
                continue
            text = path.read_text(encoding="utf-8")
            if name.endswith((".sh", ".sh.j2")) or SHEBANG.match(text):
                yield name, text


def embedded() -> Iterator[tuple[str, str]]:
    """Whole scripts that stand in Python."""
    shared = (render("manager.sh"), render("shared/drm.sh"), render("shared/nvidia.sh"))
    yield "control/servers/units.py", "\n".join((*shared, LOOK, "nvidia_cards", "look server server.service -"))
    stacks = "\n".join((SHELL / name).read_text() for name in ("base.sh", "stack.sh"))
    yield "control/servers/stacks.py", "\n".join((stacks, CHANGE, LOGS, "stack_change web /etc 9 stop", "stack_logs web /etc '' 9 no"))
    yield "facts/condition.py", CONDITION_SH
    yield "lab/lab_host.py", ADMIT
    yield "lab/container.py", BOOT


def rendered() -> Iterator[tuple[str, str]]:
    """What lands on hosts, of the example inventories and of a fleet with everything; what builds a release; what a client takes along."""
    for path in sorted((ROOT / "inventory").glob("*.yml")):
        fleet = load(path)
        for name, data in tree(fleet, Knowledge()).items():
            yield f"{path.stem}/{name}", data.decode()
    fleet = everything.fleet()
    known = everything.context(fleet)
    for file in everything.files(fleet, known):
        yield f"everything{file.path}", file.data.decode()
    for name, release in known.releases.items():
        if isinstance(release, Release):
            for each in (replace(release, jobs=0), replace(release, triplet="aarch64-linux-gnu", jobs=2)):
                yield f"{name} builds with {each.jobs} jobs", script(each, work="/var/lib/paddock/build/0")
    now = datetime.now(UTC)
    ca_key, key = new_key(), new_key()
    ca = make_ca(ca_key, "home", "home.example", ("192.0.2.0/24",), now)
    identity = Certificate(sign(ca, ca_key, "client", key, "laptop", (), (), now, now + timedelta(days=90)), key)
    archive = client_archive("laptop", identity, fleet, replace(known, ca=ca), "ai.home.example")
    yield from ((f"archive/{name}", text) for name, text in texts(archive).items())


def scripts() -> Mapping[str, str]:
    """All of these by name, each text once, and the scripts that they write on their own."""
    found = {text: name for name, text in rendered() if SHEBANG.match(text)}
    found |= {text: name for name, text in in_repository() if not name.endswith(".j2")}
    found |= {text: name for name, text in embedded()}
    for text, name in list(found.items()):
        found |= {document[2]: f"{name}, {document[1]}" for document in HERE_DOCUMENT.finditer(text) if SHEBANG.match(document[2])}
    return {name: text for text, name in found.items()}


def findings(texts: Mapping[str, str], directory: Path) -> list[str]:
    """What shellcheck says, a line each. What has no line that says which shell it is for is for sh."""
    program = shutil.which("shellcheck", path=str(Path(sys.executable).parent)) or shutil.which("shellcheck")
    assert program, "there is no shellcheck: scripts/setup dev installs it"
    names = {}
    for number, (name, text) in enumerate(texts.items()):
        path = directory / f"{number}.sh"
        path.write_text(text if SHEBANG.match(text) else f"# shellcheck shell=sh\n{text}")
        names[str(path)] = name
    done = subprocess.run([program, "--format=gcc", "--norc", *names], capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr
    found = []
    for line in done.stdout.splitlines():
        path, _, rest = line.partition(":")
        found.append(f"{names[path]}:{rest}")
    return found


def test_shellcheck_finds_nothing(tmp_path: Path) -> None:
    assert findings(scripts(), tmp_path) == []


def test_shellcheck_finds_what_is_wrong(tmp_path: Path) -> None:
    """What the test above relies on, for a script, a file of functions and a script that another writes."""
    wrong = {"script": "#!/bin/sh\nset -eu\necho $1\n", "functions": "f() {\n  rm -rf $1\n}\n"}
    assert [each.partition(":")[0] for each in findings(wrong, tmp_path)] == ["script", "functions"]


def test_every_shell_template_has_been_rendered() -> None:
    """A branch that nobody renders is one that nobody checks; of a template that nothing here renders, that is all of it."""
    asked = set()
    seen = "\n".join(scripts().values())
    for name, text in in_repository():
        if name.endswith(".j2"):
            functions = FUNCTION.findall(text)
            asked |= {(name, function) for _, function in functions if f"{function}() {{" not in seen}
    assert asked == set()


@pytest.mark.parametrize(("name", "text"), [pytest.param(*each, id=each[0]) for each in in_repository()])
def test_a_script_reads_as_the_others_do(name: str, text: str) -> None:
    """120 columns, a usage comment above each function, and `set -eu` in whatever runs by itself."""
    bare = re.sub(r"\{[{%#].*?[%#}]\}", "", text)  # as wide as it lands, but for the values
    wide = [number for number, line in enumerate(bare.splitlines(), 1) if len(line) > WIDEST]
    lines = text.splitlines()
    bald = [line for number, line in enumerate(lines) if FUNCTION.match(line) and not lines[number - 1].lstrip().startswith("#")]
    assert (wide, bald) == ([], [])
    assert not SHEBANG.match(text) or re.search(r"^set -eu(o pipefail)?$", text, re.MULTILINE)
