"""The parts that a kind of resource is made of, and which of them a kind lacks: each would otherwise be missed in silence."""

from __future__ import annotations

import ast
import inspect
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import resources
from resources import Resource
from resources.base import Origin
from resources.codec import read, written
from resources.probe import ProbeAnswer
from resources.steps import Steps
from verification.asserting import LOOKS

FOLDER = Path(resources.__file__).parent
DEPLOYS = FOLDER.parent / "deploys"

LANDING = ("before_landing", "land_all", "land")
LEAVING = ("before_leaving", "leave", "after_leaving")
SHARED = ("base.sh", "guard.sh", "history.sh", "kept.sh", "lease.sh", "manager.sh", "taken_back.sh")


@dataclass(frozen=True)
class Module:
    """One of MODULES: its two files."""

    name: str

    @cached_property
    def path(self) -> Path:
        return Path(str(import_module(f"resources.{self.name}").__file__))

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.path.read_text())

    @cached_property
    def functions(self) -> Mapping[str, str]:
        return functions(self.path.with_suffix(".sh"))

    @cached_property
    def classes(self) -> tuple[type[Resource], ...]:
        """Those that are kinds, or are to be."""
        found = import_module(f"resources.{self.name}")
        mine = (each for each in vars(found).values() if isinstance(each, type) and each.__module__ == found.__name__)
        return tuple(each for each in mine if issubclass(each, Resource))

    def method_nodes(self, kind: type[Resource], *names: str) -> Iterator[ast.FunctionDef]:
        for node in self.tree.body:
            if isinstance(node, ast.ClassDef) and node.name == kind.__name__:
                yield from (each for each in node.body if isinstance(each, ast.FunctionDef) and each.name in names)


def lacking() -> list[str]:
    """`sysctl: gone_sysctl`: module and part, of all that MODULES names. Functions that steps call from deploys/ are parts too."""
    modules = [Module(name) for name in resources.MODULES]
    found = [f"{each.name}: {each.name}.sh" for each in modules if not each.path.with_suffix(".sh").exists()]
    if found:
        return found
    for module in modules:
        found += [f"{module.name}: {part}" for kind in module.classes for part in _of_kind(kind, module, modules)]
    return sorted({*found, *_between(modules)})


def unlisted(folder: Path) -> list[str]:
    """The modules of a folder that have a kind, and that MODULES does not name."""
    return [path.stem for path in sorted(folder.glob("*.py")) if path.stem not in resources.MODULES and _has_a_kind(path)]


def example(kind: type[Resource]) -> Resource:
    """One of a kind, with what its fields have to have."""
    needed = [each for each in fields(kind) if each.default is MISSING and each.default_factory is MISSING]
    return kind(**{each.name: "/etc/an.example" if each.name == "path" else _value(str(each.type)) for each in needed})


def functions(file: Path) -> Mapping[str, str]:
    """The functions of a shell script, by name."""
    return dict(re.findall(r"^(\w+)\(\) \{\n(.*?)^\}$", file.read_text(), re.MULTILINE | re.DOTALL))


def _of_kind(kind: type[Resource], module: Module, modules: list[Module]) -> Iterator[str]:
    lacks = list(_written_parts(kind, module))
    yield from lacks
    if not lacks:
        yield from _working_parts(kind, modules)


def _written_parts(kind: type[Resource], module: Module) -> Iterator[str]:
    """The parts that are not there."""
    yield from (name for name in ("id", "desired", "asks", "found") if not _own(kind, name))
    if kind.kind not in LOOKS and not _own(kind, "second_look"):
        yield "second_look"
    if not kind.kind or not kind.kind.isalpha():
        yield "kind"
    elif kind.phase != "never":
        for part, verb, methods in (("land", "put", LANDING), ("leave", "gone", LEAVING)):
            function = f"{verb}_{kind.kind}"
            if function not in module.functions:
                yield function
            if function not in _steps(*module.method_nodes(kind, *methods)):
                yield part
        if not kind.reverts and any(_keeps(module.functions.get(f"{verb}_{kind.kind}", "")) for verb in ("put", "gone")):
            yield "reverts"


def _working_parts(kind: type[Resource], modules: list[Module]) -> Iterator[str]:
    """The parts that do nothing."""
    one = example(kind)
    if not one.id.startswith(f"{kind.kind}:") or not one.id.isprintable():
        yield "id"
    if not one.desired:
        yield "desired"
    elif not one.state({}) or not one.state(one.desired) or one.state({}) == one.state(one.desired):
        yield "state"
    if _asked(modules, one) == _asked(modules):
        yield "asks"
    if one.found(ProbeAnswer([], [one])):
        yield "found"
    if one.noted != (kind.phase != "never"):
        yield "noted"
    if kind.phase != "never" and not _leaves(one, "put"):
        yield "leave"
    if kind.reverts and not _leaves(one, "kept"):
        yield "leave"
    if kind.kind not in LOOKS and not list(one.second_look()):
        yield "second_look"
    if not _is_carried(one):
        yield "fields"


def _between(modules: list[Module]) -> Iterator[str]:
    """What one file names and no other has; and what two have."""
    shared = {name: function for file in SHARED for name, function in functions(FOLDER / file).items()}
    defined = Counter([*shared, *(name for module in modules for name in module.functions)])
    reading = {
        *_sections_read(ast.parse((FOLDER / "probe.py").read_text())),
        *(each for one in modules for each in _sections_read(one.tree)),
    }
    printing = {each for functions in (shared, *(one.functions for one in modules)) for each in _sections_printed(functions)}
    given = {name for module in modules for name in _lists_given(module)}
    used = {name for module in modules for name in _lists_used(module)}
    kinds = Counter(kind.kind for module in modules for kind in module.classes)
    for module in modules:
        parts = {f"probe_{module.name}"} - module.functions.keys()
        parts |= {f"probe_{module.name}" for each in _sections_read(module.tree) if each not in printing}
        parts |= {f"probe_{module.name}" for each in _lists_given(module) if each not in used}
        parts |= {"found" for each in _sections_printed(module.functions) if each not in reading}
        parts |= {"asks" for each in _lists_used(module) if each not in given}
        parts |= {"kind" for kind in module.classes if kinds[kind.kind] > 1}
        parts |= {name for name in module.functions if defined[name] > 1 or name in given}
        parts |= {name for name in _steps(module.tree) if name not in defined and name != "systemctl"}
        yield from (f"{module.name}: {part}" for part in parts)
    for path in sorted(DEPLOYS.glob("*.py")):
        named = _steps(ast.parse(path.read_text()))
        yield from (f"deploys/{path.stem}: {name}" for name in named if name not in defined and name != "systemctl")


def _own(kind: type[Resource], name: str) -> bool:
    return inspect.getattr_static(kind, name) is not inspect.getattr_static(Resource, name)


def _keeps(function: str) -> bool:
    """Whether a shell function keeps or puts back what was there before."""
    return re.search(r"\b(backup|restore)\b", function) is not None


def _is_carried(one: Resource) -> bool:
    """Whether a plan with it can be written and read back."""
    try:
        return read(written({"role": (one,)}), str) == {"role": (one,)}
    except TypeError:
        return False


def _value(annotation: str) -> Any:
    values = {"tuple[str, ...]": ("an.example",), "str": "an.example", "int": 1, "bool": False, "tuple": (), "dict": {}}
    return values.get(annotation, values[re.split(r"\W", annotation, maxsplit=1)[0]])


def _leaves(one: Resource, origin: Origin) -> bool:
    """Whether steps are made for it once no plan names it, and name it."""
    steps, name = Steps(), one.id.partition(":")[2]
    type(one).leave(steps, name, origin)
    type(one).after_leaving(steps, {one.id: origin})
    return any(name.partition(": ")[0] in call for call in steps.calls)


def _asked(modules: list[Module], *asked: Resource) -> list[tuple[str, list[str]]]:
    return [
        (name, list(values)) for one in modules for kind in one.classes if _own(kind, "asks") for name, values in kind.asks(asked).items()
    ]


def _lists_given(module: Module) -> set[str]:
    return {name for name, _ in _asked([module])}


def _lists_used(module: Module) -> set[str]:
    """A list is a function without arguments: `for path in $(models)`."""
    probes = (text for name, text in module.functions.items() if name.startswith("probe_"))
    return {name for text in probes for name in re.findall(r"\$\((\w+)\)", text)}


def _sections_printed(functions: Mapping[str, str]) -> set[str]:
    return {section for text in functions.values() for section in re.findall(r"^ *section (\w+)$", text, re.MULTILINE)}


def _sections_read(*nodes: ast.AST) -> set[str]:
    return {text for name in ("lines", "pairs", "table") for text in _said("answer", name, *nodes)}


def _steps(*nodes: ast.AST) -> set[str]:
    """The shell functions that steps call: `steps.add("put_file", …)`."""
    return _said("steps", "add", *nodes)


def _said(variable: str, method: str, *nodes: ast.AST) -> set[str]:
    """The first argument of each call of a method, where it is a text."""
    found = set()
    for node in (each for root in nodes for each in ast.walk(root)):
        match node:
            case ast.Call(ast.Attribute(ast.Name(id=name), attr), [ast.Constant(value=str(text)), *_]) if (name, attr) == (
                variable,
                method,
            ):
                found.add(text)
    return found


def _has_a_kind(path: Path) -> bool:
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.AnnAssign(target=ast.Name(id="kind"), value=ast.Constant(value=str(kind))) if kind:
                return True
    return False
