"""Every kind of resource has all its parts; one that lacks any is found, and the part named. The kind that shows it is a sysctl."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
from kind_parts import FOLDER, example, lacking, unlisted

import resources
from resources import Resource
from tests.faults.catalogue import faults_of

SAMPLE = Path(__file__).parents[2] / "extension" / "resources"

Add = Callable[[str, str], None]


def test_no_kind_lacks_a_part() -> None:
    assert lacking() == []


def test_no_kind_is_left_out() -> None:
    assert unlisted(FOLDER) == []


@pytest.mark.parametrize("kind", resources.kinds(), ids=lambda kind: kind.kind)
def test_every_kind_has_a_fault_that_its_checks_are_to_catch(kind: type[Resource]) -> None:
    one = example(kind)
    assert {fault.attribute for fault in faults_of(one)} & one.desired.keys()


@pytest.fixture
def add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Add]:
    """Makes a kind of two texts, those of sysctl.py and sysctl.sh, as if they lay in resources/ and MODULES named them."""

    def adding(python: str, shell: str) -> None:
        (tmp_path / "sysctl.py").write_text(python)
        if shell:
            (tmp_path / "sysctl.sh").write_text(shell)
        spec = spec_from_file_location("resources.sysctl", tmp_path / "sysctl.py")
        assert spec and spec.loader
        module = module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        monkeypatch.setattr(resources, "MODULES", [*resources.MODULES, "sysctl"])
        forget()

    yield adding
    forget()


def forget() -> None:
    for cached in (resources.kinds, resources.kind_of, resources.scripts):
        cached.cache_clear()


def sample() -> tuple[str, str]:
    return (SAMPLE / "sysctl.py").read_text(), (SAMPLE / "sysctl.sh").read_text()


def test_the_sample_lacks_nothing(add: Add) -> None:
    add(*sample())
    assert lacking() == []
    assert resources.kinds()[-1].kind == "sysctl"


@pytest.mark.parametrize("part", ["kind", "id", "desired", "asks", "found", "land", "leave", "reverts", "second_look"])
def test_a_kind_without_a_part_in_python_is_found(part: str, add: Add) -> None:
    python, shell = sample()
    add(without(part, python), shell)
    assert lacking() == [f"sysctl: {part}"]


@pytest.mark.parametrize("function", ["probe_sysctl", "put_sysctl", "gone_sysctl"])
def test_a_kind_without_a_function_in_shell_is_found(function: str, add: Add) -> None:
    python, shell = sample()
    add(python, re.sub(rf"^{function}\(\) \{{.*?^\}}$", "", shell, flags=re.MULTILINE | re.DOTALL))
    assert lacking() == [f"sysctl: {function}"]


def test_a_kind_without_its_second_file_is_found(add: Add) -> None:
    add(sample()[0], "")
    assert lacking() == ["sysctl: sysctl.sh"]


def test_a_kind_whose_name_is_not_in_the_list_is_found() -> None:
    assert unlisted(SAMPLE) == ["sysctl"]


@pytest.mark.parametrize(
    ("text", "instead", "parts"),
    [
        ('return f"sysctl:{self.key}"', "return self.key", ["id"]),
        ('return {"value": self.value}', "return {}", ["desired"]),
        ('return {} if value is None else {"value": value}', 'return {"value": value or "0"}', ["found"]),
        ("return found.get", 'return "there" or found.get', ["state"]),
        ('yield "value", f"sysctl', 'yield from ()  # f"sysctl', ["second_look"]),
        ('steps.add("gone_sysctl", name)', "pass", ["leave"]),
        ('steps.add("gone_sysctl", name)', 'if origin == "put":\n            steps.add("gone_sysctl", name)', ["leave"]),
        ('steps.add("put_sysctl"', 'steps.add("put_sysctls"', ["land", "put_sysctls"]),
        ('kind: ClassVar[str] = "sysctl"', 'kind: ClassVar[str] = "file"', ["gone_file", "kind", "land", "leave", "put_file"]),
        ("    key: str\n", "    noted = False\n    key: str\n", ["noted"]),
        ("    value: str\n", "    value: str\n    more: dict[str, str]\n", ["fields"]),
        ("$(sysctls)", "vm.swappiness", ["probe_sysctl"]),
        ("$(sysctls)", "$(parameters)", ["asks", "probe_sysctl"]),
        ("section sysctl", "section parameter", ["found", "probe_sysctl"]),
        ("sysctl_path() {", "into_place() {", ["into_place"]),
        ("sysctl_path() {", "sysctls() {", ["sysctls"]),
    ],
)
def test_a_part_that_does_not_fit_the_others_is_found(text: str, instead: str, parts: list[str], add: Add) -> None:
    files = sample()
    assert any(text in each for each in files)
    add(*(each.replace(text, instead) for each in files))
    assert [each for each in lacking() if each.startswith("sysctl: ")] == [f"sysctl: {part}" for part in parts]


def without(name: str, python: str) -> str:
    """A module's text without what its class calls so."""

    class Without(ast.NodeTransformer):
        def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST | None:
            return None if node.name == name else node

        def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
            return None if isinstance(node.target, ast.Name) and node.target.id == name else node

    shorter = ast.unparse(Without().visit(ast.parse(python)))
    assert shorter != ast.unparse(ast.parse(python))
    return shorter
