"""The recipe for a role in CONTRIBUTING.md works as it is written: its files, in a copy of the product, are a role."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.extended import add_name
from tests.wheel import ROOT, product

INVENTORY = """
fleet: home
domain: home.example
hosts:
  ai:
    address: 192.0.2.10
    roles:
      process_exporter: {listen: "127.0.0.1:9101"}
"""

FILE = re.compile(r"^`([\w./]+)`[^\n]*\n(?:\S[^\n]*\n)*\n((?:(?: {4}[^\n]*)?\n)+)", re.MULTILINE)
"""A paragraph that begins with a file's path, and the indented block behind it."""


def recipe() -> Mapping[str, str]:
    """The files of the recipe by their paths."""
    section = (ROOT / "CONTRIBUTING.md").read_text().partition("\n## Adding a role\n")[2].partition("\n## ")[0]
    return {found[1]: re.sub(r"^ {4}", "", found[2], flags=re.MULTILINE).strip("\n") + "\n" for found in FILE.finditer(section)}


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the product with the recipe's role in it."""
    root = tmp_path_factory.mktemp("recipe") / "clone"
    for name in (*product(), "pyproject.toml"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, root / name)
    for name, text in recipe().items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "roles" / "process_exporter" / "__init__.py").touch()
    add_name(root / "roles" / "__init__.py", "ROLES", "process_exporter", before="client")
    (root.parent / "home.yml").write_text(INVENTORY)
    return root


def python(clone: Path, *arguments: str) -> str:
    environment = {"PATH": os.environ["PATH"], "HOME": str(clone.parent), "PYTHONPATH": str(clone)}
    done = subprocess.run([sys.executable, "-P", *arguments], cwd=clone.parent, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_recipe_has_all_files_of_a_role() -> None:
    role = "roles/process_exporter"
    assert set(recipe()) == {f"{role}/settings.py", f"{role}/plan.py", f"{role}/checks.py", "templates/process_exporter/defaults.j2"}


def test_a_host_carries_the_role_of_the_recipe(clone: Path) -> None:
    python(clone, "-m", "cli", "-i", "home.yml", "render", "--to", "rendered")
    rendered = clone.parent / "rendered" / "ai"
    written = (rendered / "etc" / "default" / "prometheus-process-exporter").read_text()
    assert written == '# Written by Paddock.\nARGS="--web.listen-address=127.0.0.1:9101"\n'
    assert "service:prometheus-process-exporter.service" in (rendered / "resources.txt").read_text()
    assert "Metrics of groups of processes, for Prometheus." in python(clone, "-m", "cli", "schema")


def test_the_names_in_the_recipe_exist(clone: Path) -> None:
    """Also those in annotations, which are not looked up when a module is loaded."""
    program = (
        "from typing import get_type_hints\n"
        "from roles.process_exporter import checks, plan, settings\n"
        "get_type_hints(plan.plan), get_type_hints(settings.ProcessExporterSettings.endpoints)\n"
        "print(*[name for name in dir(checks) if name.startswith('check_') and get_type_hints(getattr(checks, name))])\n"
    )
    assert python(clone, "-c", program) == "check_serves_metrics_of_processes\n"


def test_ruff_finds_nothing_in_the_recipe(clone: Path) -> None:
    ruff = Path(sys.executable).with_name("ruff")
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run([ruff, *command, "--no-cache", "roles/process_exporter"], cwd=clone, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
