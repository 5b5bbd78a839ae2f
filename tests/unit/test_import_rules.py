"""Who may import whom: the table that keeps pure what is pure, and the layers in their order."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("resources", "inventory", "roles", "facts", "deploys", "control", "verification", "services", "cli", "lab")

OF_ROLES = (
    "roles.role",
    "roles.metrics",
    "roles.preset",
    "roles.server",
    "roles.speed",
    "roles.sandbox",
    "roles.secret_value",
    "roles.source",
    "roles.upstream",
    "roles.wording",
    "roles.package_file",
    "roles.users",
)
"""What roles share: the hooks, and the words in which they speak of themselves."""

LOWEST = ("inventory.*", "resources", "resources.*", "roles", *OF_ROLES)
"""What every room of control/ may know: the fleet, the vocabulary, and the hooks of roles."""

FIRST_FLOOR = ("control.state", "control.state.*", "control.fetching.*")

GATEWAY = (
    "aiohttp",
    "uvloop",
    "orjson",
    "msgspec",
    "sqlalchemy",
    "alembic",
    "asyncpg",
    "prometheus_client",
    "multidict",
    "yarl",
    "aiohappyeyeballs",
)
"""What the gateway runs on: services/gateway/pyproject.toml."""

# Room → what it may import beyond the standard library: distributions by name, own modules by pattern. {role} is the role's own package,
# {service} the service's own.
RULES: dict[str, tuple[str, ...]] = {
    "resources/*.py": ("resources", "resources.*"),
    "roles/__init__.py": ("roles.role",),
    "roles/compose.py": ("yaml", "resources", "resources.stack", "roles.role"),
    "roles/dockerfile.py": ("resources", "roles.role"),
    "roles/image.py": ("resources.stack", "roles.role"),
    "roles/tracing.py": ("resources",),
    "roles/quoting.py": ("jinja2",),
    "roles/role.py": (
        "pydantic",
        "pydantic_core",
        "jinja2",
        "resources",
        "resources.*",
        "roles.metrics",
        "roles.quoting",
        "roles.references",
        "roles.server",
        "roles.source",
        "roles.tracing",
        "roles.upstream",
        "roles.package_file",
        "roles.rehearsal",
    ),
    "roles/metrics.py": ("roles.role",),
    "roles/preset.py": ("pydantic", "pydantic_core"),
    "roles/server.py": ("pydantic", "roles.role", "roles.preset", "roles.upstream"),
    "roles/speed.py": ("resources", "roles.preset", "roles.server"),
    "roles/upstream.py": ("pydantic", "roles.role", "roles.server"),
    "roles/secret_value.py": ("roles.role",),
    "roles/sandbox.py": ("roles.preset", "roles.role", "roles.server", "roles.wording"),
    "roles/source.py": ("pydantic", "roles.role"),
    "roles/wording.py": (),
    "roles/users.py": ("pydantic", "roles.role"),
    "roles/front.py": ("roles.ends", "roles.references", "roles.role", "roles.upstream", "roles.users", "roles.wording"),
    "roles/offer.py": (
        *("inventory.errors", "inventory.fleet", "inventory.knowledge", "resources"),
        *("roles.front", "roles.preset", "roles.server", "roles.upstream", "roles.users", "roles.wording"),
    ),
    "roles/package_file.py": ("pydantic", "roles.role"),
    "roles/rehearsal.py": ("roles.role",),
    "roles/outside.py": (),
    "roles/references.py": ("roles.role", "roles.server", "roles.source", "roles.upstream", "roles.wording"),
    "roles/ends.py": ("roles.references", "roles.role", "roles.server", "roles.upstream", "roles.wording"),
    "roles/host_plan.py": (
        "inventory.knowledge",
        "inventory.errors",
        "inventory.fleet",
        "roles",
        "roles.quoting",
        "roles.references",
        "roles.role",
        "resources",
        "resources.*",
    ),
    "roles/*/settings.py": (
        *("pydantic", "resources", "roles.references", "roles.rehearsal", "roles.expiry", "roles.ends", "roles.front"),
        *("roles.image", "roles.tracing"),
        *OF_ROLES,
    ),
    "roles/prometheus/rules/*.py": ("roles.metrics", "roles.prometheus.rules", "roles.prometheus.rules.*", "roles.prometheus.settings"),
    "roles/*/checks.py": ("testinfra", "yaml", "roles.{role}.*", "roles.outside", *OF_ROLES, "resources", "inventory.*"),
    "roles/expiry.py": ("pydantic", "resources", "roles.role", "roles.rehearsal", "roles.watchdog.settings"),
    "roles/devices.py": ("roles.sandbox", "inventory.hardware"),
    "roles/tunnel.py": ("roles.role", "roles.expiry", "roles.server", "resources", "inventory.knowledge", "inventory.errors"),
    "roles/*/*.py": (
        *("roles.{role}.*", "roles.expiry", "roles.devices", "roles.dockerfile", "roles.tunnel", "yaml"),
        *("roles.references", "roles.tracing", "roles.compose", "roles.front", "roles.offer"),
        *(*OF_ROLES, "resources", "inventory.*"),
    ),
    "inventory/*.py": (
        *("pydantic", "pydantic_core", "yaml", "inventory.*", "resources", "roles", "roles.references", "roles.tracing"),
        *OF_ROLES,
    ),
    "facts/*.py": ("pyinfra.api", "facts.*", "resources", "resources.*", "inventory.bounds", "inventory.hardware", "inventory.neighbours"),
    "control/state/*.py": (*LOWEST, *FIRST_FLOOR, "pydantic", "pyrage"),
    "control/fetching/*.py": (*LOWEST, *FIRST_FLOOR, "requests", "urllib3", "pypi_simple", "packaging", "flit_core"),
    "control/llama_cpp/*.py": (*LOWEST, *FIRST_FLOOR, "control.llama_cpp.*", "pydantic", "requests", "elftools", "cryptography"),
    "control/models/*.py": (*LOWEST, *FIRST_FLOOR, "control.models.*", "requests", "gguf", "numpy"),
    "control/pki/*.py": (*LOWEST, *FIRST_FLOOR, "control.pki", "control.pki.*", "pydantic", "cryptography"),
    "control/ssh/*.py": (*LOWEST, *FIRST_FLOOR, "control.ssh", "control.ssh.*", "pyinfra", "pyinfra_cli", "gevent", "paramiko"),
    "control/servers/*.py": (*LOWEST, *FIRST_FLOOR, "control.servers.*", "control.ssh.*", "control.models.*", "pydantic", "paramiko"),
    "control/editing/*.py": (*LOWEST, *FIRST_FLOOR, "control.editing.*", "control.llama_cpp.*", "ruamel"),
    "control/deployment/*.py": (
        *(*LOWEST, *FIRST_FLOOR, "control.deployment.*", "control.ssh", "control.ssh.*", "control.models.*", "control.llama_cpp.*"),
        *("control.pki", "control.pki.*", "roles.host_plan", "roles.references", "facts.*", "pyinfra", "pydantic"),
    ),
    "control/lifecycle/*.py": (
        *(*LOWEST, *FIRST_FLOOR, "control.lifecycle", "control.lifecycle.*", "control.deployment", "control.deployment.*"),
        *("control.ssh", "control.ssh.*", "pydantic", "paramiko"),
    ),
    "control/*.py": (),
    "deploys/*.py": (
        "pyinfra",
        "gevent",
        "deploys.*",
        "facts.*",
        "resources",
        "resources.*",
        "inventory.errors",
        "control.deployment.work",
    ),
    "verification/*.py": (
        *("testinfra", "pytest", "cryptography", "verification", "verification.*", "resources", "resources.*", "inventory.*"),
        *("roles", "roles.role", "roles.outside"),
    ),
    "services/*/*.py": (".",),  # its own package, which has another name on a host
    "services/gateway/paddock_gateway/*.py": ("paddock_gateway", "paddock_gateway.*", *GATEWAY),
    "services/gateway/paddock_gateway/*/*.py": ("paddock_gateway", "paddock_gateway.*", *GATEWAY),
    "services/gateway/paddock_gateway/*/*/*.py": ("paddock_gateway", "paddock_gateway.*", *GATEWAY),
    "services/gateway/paddock_gateway/*/*/*/*.py": ("paddock_gateway", "paddock_gateway.*", *GATEWAY),
    "services/litellm/paddock_litellm/*.py": ("paddock_litellm", "paddock_litellm.*", "litellm", "litellm.*", "fastapi", "httpx"),
    "services/*.py": (),
    "lab/*.py": ("cryptography", "lab", "lab.*", "inventory.*", "resources", "roles", "roles.role", "roles.rehearsal"),
    "cli/*.py": ("argcomplete", "segno", "cli", "cli.*", "lab", "lab.*", "control.*", "facts.*", *LOWEST),
    "cli/views/*.py": ("cli.views.*", *LOWEST),
    "cli/*/*.py": ("argcomplete", "segno", "cli", "cli.*", "lab", "lab.*", "control.*", "facts.*", *LOWEST),
}

FOR_TYPES = {"cli/views/*.py": ("control.*", "facts.*")}
"""Room → what it may import under `if TYPE_CHECKING` alone."""

EXCEPTIONS: dict[tuple[str, str], str] = {
    ("control/llama_cpp/*.py", "roles.llama_cpp.*"): "this room serves that role: it fetches, keeps and hands on what the role builds",
    ("control/pki/client_archive.py", "roles.client.archive"): "it seals and packs what that role lands, for a machine without Paddock",
    ("control/deployment/fit.py", "roles.llama_server.*"): "what models take of a host's memory is arithmetic of the role",
    ("control/lifecycle/*.py", "roles.llama_cpp.measuring"): "what is measured of two releases is started as that role starts them",
    ("control/servers/contexts.py", "roles.llama_server.*"): "what a context is, out of a model's options, is arithmetic of the role",
}
"""Who outside roles/ imports a role by name all the same: (room, modules of the role) → why. Eight at most."""

# A plan is a function of what it is given: it asks no clock, no network, no file but its templates.
IMPURE = ("datetime", "http", "os", "pathlib", "random", "requests", "secrets", "socket", "subprocess", "tempfile", "time", "urllib")


def violations(module: str, source: str) -> list[str]:
    """`roles/caddy/plan.py: may not import pyinfra`, for each import that the rules do not name."""
    rule = next((rule for rule in RULES if fnmatchcase(module, rule) and rule.count("/") == module.count("/")), None)
    if rule is None:
        return [f"{module}: no rule says what it may import"]
    named = module.split("/")[1]
    allowed = tuple(each.format(role=named, service=named) for each in RULES[rule])
    allowed += tuple(modules for (room, modules) in EXCEPTIONS if fnmatchcase(module, room))
    at_run_time = set(imported(source))
    for_types = (*allowed, *FOR_TYPES.get(rule, ()))
    plan = rule in ("roles/*/*.py", "roles/expiry.py")
    return [
        f"{module}: may not import {name}"
        for name in dict.fromkeys(imported(source, types=True))
        if not _is_allowed(name, allowed if name in at_run_time else for_types) or (plan and name.split(".")[0] in IMPURE)
    ]


@cache
def imported(source: str, *, lazily: bool = True, types: bool = False) -> tuple[str, ...]:
    """The modules that a source text imports, wherever in it: `from roles import resources` is roles.resources.

    Without `lazily` not those that its functions import; only with `types` those under `if TYPE_CHECKING`.
    """
    found: list[str] = []
    for node in _statements(ast.parse(source).body, lazily=lazily, types=types):
        if isinstance(node, ast.Import):
            found += (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = "." * node.level + (node.module or "")
            found += (f"{package}.{alias.name}" if _is_module(f"{package}.{alias.name}") else package for alias in node.names)
    return tuple(found)


def _statements(body: Iterable[ast.AST], *, lazily: bool, types: bool) -> Iterator[ast.AST]:
    """In the order in which they stand, and those within them."""
    for node in body:
        if isinstance(node, ast.stmt | ast.excepthandler | ast.match_case):
            yield node
            is_for_types = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            is_lazy = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            if (types or not is_for_types) and (lazily or not is_lazy):
                yield from _statements(ast.iter_child_nodes(node), lazily=lazily, types=types)


def _is_allowed(name: str, allowed: tuple[str, ...]) -> bool:
    if name.startswith("."):
        return "." in allowed and not name.startswith("..")
    top = name.split(".")[0]
    if top in sys.stdlib_module_names:
        return True
    if top in FOLDERS or top in ("tests", "paddock_gateway"):
        return any(fnmatchcase(name, each) for each in allowed)
    return any(name == each or name.startswith(f"{each}.") for each in allowed)


@cache
def _is_module(name: str) -> bool:
    path = ROOT / name.replace(".", "/")
    return path.with_suffix(".py").is_file() or path.is_dir()


MODULES = sorted(str(path.relative_to(ROOT)) for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
NAMES = {module.removesuffix(".py").replace("/", ".").removesuffix(".__init__"): module for module in MODULES}


@pytest.mark.parametrize("module", MODULES)
def test_imports_only_what_the_table_allows(module: str) -> None:
    assert violations(module, (ROOT / module).read_text()) == []


def test_the_exceptions_are_few_and_each_has_a_reason() -> None:
    assert len(EXCEPTIONS) <= 8
    assert [exception for exception, reason in EXCEPTIONS.items() if len(reason.split()) < 4] == []


@pytest.mark.parametrize(("room", "modules"), EXCEPTIONS)
def test_every_exception_is_needed(room: str, modules: str) -> None:
    names = (name for module in MODULES if fnmatchcase(module, room) for name in imported((ROOT / module).read_text(), types=True))
    assert any(fnmatchcase(name, modules) for name in names)


def test_every_rule_holds_for_some_module() -> None:
    assert [rule for rule in RULES if not any(fnmatchcase(module, rule) for module in MODULES)] == []


@pytest.mark.parametrize(
    ("module", "source", "refused"),
    [
        ("roles/caddy/plan.py", "from pyinfra import host", "pyinfra"),
        ("roles/caddy/plan.py", "def plan():\n    import time", "time"),
        ("roles/caddy/plan.py", "from roles.models.settings import ModelsSettings", "roles.models.settings"),
        ("roles/caddy/plan.py", "from roles import models", "roles.models"),
        ("roles/caddy/plan.py", "from control.state.fleet import FleetState", "control.state.fleet"),
        ("roles/caddy/settings.py", "from inventory.schema import Fleet", "inventory.schema"),
        ("resources/disk.py", "import pydantic", "pydantic"),
        ("resources/disk.py", "from inventory.schema import Fleet", "inventory.schema"),
        ("inventory/schema.py", "from roles.caddy.plan import plan", "roles.caddy.plan"),
        ("inventory/schema.py", "from control.state.fleet import FleetState", "control.state.fleet"),
        ("facts/state.py", "from inventory.schema import Fleet", "inventory.schema"),
        ("facts/state.py", "import pyinfra_cli", "pyinfra_cli"),
        ("control/ssh/run.py", "from deploys.converge import prepare", "deploys.converge"),
        ("control/ssh/run.py", "from control.deployment.work import Work", "control.deployment.work"),
        ("control/pki/leaves.py", "from control.models.gguf import is_gguf", "control.models.gguf"),
        ("control/models/local.py", "import pyinfra", "pyinfra"),
        ("control/ssh/run.py", "from lab import hosts", "lab.hosts"),
        ("deploys/site.py", "from control.deployment.deployment import Deployment", "control.deployment.deployment"),
        ("deploys/site.py", "from cli.up import run", "cli.up"),
        ("lab/hosts.py", "from control import state", "control.state"),
        ("verification/outside.py", "from control.pki.authority import Authority", "control.pki.authority"),
        ("cli/up.py", "from tests.lab_fleet import LabFleet", "tests.lab_fleet"),
        ("cli/up.py", "import yaml", "yaml"),
        ("cli/up.py", "from .opening import opened", ".opening"),
        ("services/admin/server.py", "from inventory.schema import Fleet", "inventory.schema"),
        ("services/admin/server.py", "from services.admin.actions import Admin", "services.admin.actions"),
        ("services/admin/server.py", "from ..gateway import keys", "..gateway"),
        ("cli/up.py", "from .arguments import opened", ".arguments"),
        ("cli/certs/issue.py", "import yaml", "yaml"),
        ("cli/views/models.py", "from control.servers import served", "control.servers.served"),
        ("cli/views/models.py", "from cli.arguments import opened", "cli.arguments"),
    ],
)
def test_a_breach_is_found(module: str, source: str, refused: str) -> None:
    assert violations(module, source) == [f"{module}: may not import {refused}"]


def test_a_module_that_no_rule_covers_is_found() -> None:
    assert violations("roles/caddy/deep/down.py", "") == ["roles/caddy/deep/down.py: no rule says what it may import"]


def graph(*, lazily: bool) -> dict[str, set[str]]:
    """Module → the modules that it imports as it is loaded; `lazily` also those that its functions import."""
    return {
        name: {each for each in imported((ROOT / module).read_text(), lazily=lazily) if each in NAMES and each != name}
        for name, module in NAMES.items()
    }


def test_no_module_is_loaded_in_a_circle() -> None:
    tuple(TopologicalSorter(graph(lazily=False)).static_order())  # raises CycleError


def test_the_rooms_of_control_have_doors_one_way() -> None:
    rooms: dict[str, set[str]] = {}
    for name, others in graph(lazily=True).items():
        if name.startswith("control.") and name.count(".") > 1:
            room = name.split(".")[1]
            inside = {each.split(".")[1] for each in others if each.startswith("control.") and each.count(".") > 1}
            rooms.setdefault(room, set()).update(inside - {room})
    tuple(TopologicalSorter(rooms).static_order())  # raises CycleError
    assert rooms["state"] <= {"fetching"} and rooms["fetching"] <= {"state"}
