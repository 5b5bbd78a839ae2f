"""Who may import whom: the table that keeps pure what is pure, and the layers in their order."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("inventory", "roles", "facts", "deploys", "control", "services", "cli", "lab")

SETTINGS = ("pydantic", "jinja2", "roles.resources", "roles.role", "roles.preset", "roles.expiry")

# Module → what it may import beyond the standard library: distributions by name, own modules by pattern. {role} is the role's own package.
RULES: dict[str, tuple[str, ...]] = {
    "roles/resources.py": (),
    "roles/role.py": ("pydantic", "pydantic_core", "jinja2", "roles.resources"),
    "roles/preset.py": ("pydantic",),
    "roles/__init__.py": ("roles.role",),
    "roles/host_plan.py": ("inventory.context", "inventory.errors", "inventory.schema", "roles", "roles.resources"),
    "roles/*/settings.py": SETTINGS,
    "roles/*/checks.py": ("testinfra", "roles.{role}.*", "roles.role", "roles.preset", "roles.resources", "inventory.*"),
    "roles/expiry.py": ("pydantic", "roles.resources", "roles.role", "roles.watchdog.settings"),
    "roles/firewall/plan.py": ("roles", "roles.firewall.*", "roles.role", "roles.resources", "inventory.*"),
    "roles/*/*.py": ("roles.{role}.*", "roles.expiry", "roles.role", "roles.preset", "roles.resources", "inventory.*"),
    "inventory/context.py": ("inventory.errors", "inventory.hardware", "inventory.model_shape", "inventory.options", "roles.resources"),
    "inventory/hosts.py": ("inventory.*", "control.state"),  # the door of the pyinfra command
    "inventory/*.py": ("pydantic", "pydantic_core", "yaml", "inventory.*", "roles", "roles.role", "roles.preset", "roles.*.settings"),
    "facts/*.py": ("pyinfra.api", "facts.*", "roles.resources", "inventory.hardware"),
    "control/*.py": (
        *("pyinfra", "pyinfra_cli", "gevent", "paramiko", "cryptography", "pyrage"),
        *("pydantic", "requests", "pypi_simple", "gguf", "numpy", "elftools", "ruamel"),
        *("control", "control.*", "facts.*", "roles", "roles.*", "inventory.*"),
    ),
    "deploys/*.py": (
        *("pyinfra", "gevent", "deploys.*", "facts.*", "roles", "roles.*", "inventory.*"),
        *("control.context", "control.state", "control.work"),
    ),
    "services/*.py": (),
    "lab/*.py": ("cryptography", "lab", "lab.*", "inventory.*", "roles.role", "roles.resources", "roles.*.settings"),
    "cli/*.py": (
        "argcomplete",
        "segno",
        "cli",
        "cli.*",
        "lab",
        "lab.*",
        "deploys.*",
        "control",
        "control.*",
        "facts.*",
        "roles",
        "roles.*",
        "inventory.*",
    ),
}

# A plan is a function of what it is given: it asks no clock, no network, no file but its templates.
IMPURE = ("datetime", "http", "os", "pathlib", "random", "requests", "secrets", "socket", "subprocess", "tempfile", "time", "urllib")


def violations(module: str, source: str) -> list[str]:
    """`roles/caddy/plan.py: may not import pyinfra`, for each import that the rules do not name."""
    rule = next((rule for rule in RULES if fnmatchcase(module, rule) and rule.count("/") == module.count("/")), None)
    if rule is None:
        return [f"{module}: no rule says what it may import"]
    role = module.split("/")[1]
    allowed = tuple(each.format(role=role) for each in RULES[rule])
    plan = rule in ("roles/*/*.py", "roles/firewall/plan.py", "roles/expiry.py")
    return [
        f"{module}: may not import {name}"
        for name in dict.fromkeys(imported(source))
        if not _is_allowed(name, allowed) or (plan and name.split(".")[0] in IMPURE)
    ]


def imported(source: str) -> Iterator[str]:
    """The modules that a source text imports, wherever in it: `from roles import resources` is roles.resources."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = "." * node.level + (node.module or "")
            for alias in node.names:
                yield f"{package}.{alias.name}" if _is_module(f"{package}.{alias.name}") else package


def _is_allowed(name: str, allowed: tuple[str, ...]) -> bool:
    top = name.split(".")[0]
    if top in sys.stdlib_module_names:
        return True
    if top in FOLDERS or top == "tests":
        return any(fnmatchcase(name, each) for each in allowed)
    return any(name == each or name.startswith(f"{each}.") for each in allowed)


def _is_module(name: str) -> bool:
    path = ROOT / name.replace(".", "/")
    return path.with_suffix(".py").is_file() or path.is_dir()


MODULES = sorted(str(path.relative_to(ROOT)) for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("module", MODULES)
def test_imports_only_what_the_table_allows(module: str) -> None:
    assert violations(module, (ROOT / module).read_text()) == []


def test_every_rule_holds_for_some_module() -> None:
    assert [rule for rule in RULES if not any(fnmatchcase(module, rule) for module in MODULES)] == []


@pytest.mark.parametrize(
    ("module", "source", "refused"),
    [
        ("roles/caddy/plan.py", "from pyinfra import host", "pyinfra"),
        ("roles/caddy/plan.py", "def plan():\n    import time", "time"),
        ("roles/caddy/plan.py", "from roles.models.settings import ModelsSettings", "roles.models.settings"),
        ("roles/caddy/plan.py", "from roles import models", "roles.models"),
        ("roles/caddy/plan.py", "from control.state import FleetState", "control.state"),
        ("roles/caddy/settings.py", "from inventory.schema import Fleet", "inventory.schema"),
        ("roles/resources.py", "import pydantic", "pydantic"),
        ("inventory/schema.py", "from roles.caddy.plan import plan", "roles.caddy.plan"),
        ("inventory/schema.py", "from control.state import FleetState", "control.state"),
        ("facts/state.py", "from inventory.schema import Fleet", "inventory.schema"),
        ("facts/state.py", "import pyinfra_cli", "pyinfra_cli"),
        ("control/run.py", "from deploys.converge import prepare", "deploys.converge"),
        ("control/run.py", "from lab import hosts", "lab.hosts"),
        ("deploys/site.py", "from control.deployment import Deployment", "control.deployment"),
        ("deploys/site.py", "from cli.up import run", "cli.up"),
        ("lab/hosts.py", "from control import state", "control.state"),
        ("cli/up.py", "from tests.lab_fleet import LabFleet", "tests.lab_fleet"),
        ("cli/up.py", "import yaml", "yaml"),
        ("cli/up.py", "from .opening import opened", ".opening"),
    ],
)
def test_a_breach_is_found(module: str, source: str, refused: str) -> None:
    assert violations(module, source) == [f"{module}: may not import {refused}"]


def test_a_module_that_no_rule_covers_is_found() -> None:
    assert violations("roles/caddy/deep/down.py", "") == ["roles/caddy/deep/down.py: no rule says what it may import"]
