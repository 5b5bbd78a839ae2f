"""A place that many hosts share is told of once, and words are found for it once: an error costs what a good file costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli import main
from inventory import placing, references, words
from inventory.errors import InventoryError
from inventory.load import load
from roles import wording

MANY = 1024

SHARED = """fleet: home
domain: home.example
groups:
  pis:
    hosts: ["pi[1:{many}]"]
    roles:
      llama_cpp: {llama_cpp}
      models:
      llama_server: {llama_server}
{more}hosts:
  pi[1:{many}]: {{address: "pi[1:{many}].home.example"{host}}}
models: {{m: }}
"""


def inventory(
    tmp_path: Path, many: int = MANY, *, llama_cpp: str = "", llama_server: str = "{models: [m]}", host: str = "", more: str = ""
) -> Path:
    path = tmp_path / "home.yml"
    path.write_text(SHARED.format(many=many, llama_cpp=llama_cpp, llama_server=llama_server, host=host, more=more))
    return path


def told(path: Path) -> list[str]:
    with pytest.raises(InventoryError) as caught:
        load(path)
    return [problem.removeprefix(f"{path}:") for problem in caught.value.problems]


def counted(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> Counter[str]:
    """How often a function is called."""
    calls: Counter[str] = Counter()
    real: Callable[..., object] = getattr(module, name)

    def call(*arguments: object, **named: object) -> object:
        calls[name] += 1
        return real(*arguments, **named)

    monkeypatch.setattr(module, name, call)
    return calls


KEYS = ", ".join(f"k{number}x: 1" for number in range(40))


@pytest.mark.parametrize(
    ("said", "many", "first"),
    [
        ({"llama_cpp": "{jobs: many}"}, 1, '7:25: groups.pis.roles.llama_cpp.jobs: should be a whole number, this is "many"'),
        ({"llama_cpp": f"{{{KEYS}}}"}, 40, '7:19: groups.pis.roles.llama_cpp.k0x: unknown key "k0x" (known here: source, '),
        ({"host": f", {KEYS}"}, 40, f'11:52: hosts.pi[1:{MANY}].k0x: unknown key "k0x" (known here: user, '),
        ({"llama_cpp": "{builder: pj17}"}, 1, '7:28: groups.pis.roles.llama_cpp.builder: no host is called "pj17" (did you mean "pi17"?)'),
        (
            {"llama_server": '{models: [m], instances: {x: {model: m, listen: "127.0.0.1:8080"}}}'},
            1,
            "9:69: groups.pis.roles.llama_server.instances.x.listen: two of llama_server on pi1 would listen on 127.0.0.1:8080: ",
        ),
        ({"more": '      firewall: {allow: {"22": [192.0.2.7]}}\n'}, 1, "10:26: groups.pis.roles.firewall.allow.22: 22 is SSH's port"),
        ({"host": ", ssh_key: nowhere"}, 1, f"11:61: hosts.pi[1:{MANY}].ssh_key: there is no file "),
    ],
    ids=["a type", "forty keys of a group", "forty keys of a range", "a name", "a port", "a plan", "a file"],
)
def test_what_a_thousand_hosts_share_is_told_once(
    said: dict[str, str], many: int, first: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = inventory(tmp_path, **said)  # type: ignore[arg-type]
    assert main(["-i", str(path), "check"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == many
    assert lines[0].removeprefix(f"{path}:").startswith(first)


def test_words_are_found_once_however_many_hosts_share_the_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, compared = counted(monkeypatch, words, "_problem"), counted(monkeypatch, wording, "_closest")
    assert len(told(inventory(tmp_path, llama_cpp=f"{{{KEYS}}}"))) == 40
    assert made["_problem"] == compared["_closest"] == 80, "of the group, and of the first of its hosts"


def test_a_role_that_is_malformed_in_a_group_is_looked_at_once_and_not_with_each_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = counted(monkeypatch, words, "_path")
    told(inventory(tmp_path, many=2, llama_cpp=f"{{{KEYS}}}"))
    few = read["_path"]
    told(inventory(tmp_path, llama_cpp=f"{{{KEYS}}}"))
    assert read["_path"] == 2 * few, "as often again, and not for each of a thousand hosts"


def test_places_that_hosts_do_not_share_are_told_each(tmp_path: Path) -> None:
    path = tmp_path / "home.yml"
    path.write_text(
        "fleet: home\ndomain: home.example\nhosts:\n"
        "  a: {address: 192.0.2.1, roles: {llama_cpp: {jobs: x}}}\n  b: {address: 192.0.2.2, roles: {llama_cpp: {jobs: x}}}\n"
    )
    assert told(path) == [
        f'{line}:53: hosts.{host}.roles.llama_cpp.jobs: should be a whole number, this is "x"' for line, host in ((4, "a"), (5, "b"))
    ]


FORTY = ", ".join(f"n{number}x" for number in range(40))


def test_names_that_a_thousand_hosts_share_are_placed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    followed = counted(monkeypatch, references, "followed")
    assert len(told(inventory(tmp_path, llama_server=f"{{models: [{FORTY}]}}"))) == 40
    assert followed["followed"] == 40


def test_a_role_that_two_hosts_have_by_an_alias_is_told_at_each(tmp_path: Path) -> None:
    path = tmp_path / "home.yml"
    path.write_text(
        "fleet: home\ndomain: home.example\nhosts:\n"
        "  a: {address: 192.0.2.1, roles: {llama_server: &it {}}}\n  b: {address: 192.0.2.2, roles: {llama_server: *it}}\n"
    )
    assert {line.partition(":")[0] for line in told(path)} == {"4", "5"}


def test_a_name_that_plans_find_unknown_is_compared_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compared = counted(monkeypatch, wording.difflib, "SequenceMatcher")
    addresses = ", ".join(f"{name}: [192.0.2.7]" for name in FORTY.split(", "))
    assert main(["-i", str(inventory(tmp_path, many=16, more=f"      firewall: {{addresses: {{{addresses}}}}}\n")), "check"]) == 2
    assert compared["SequenceMatcher"] == 40, "and not for each of sixteen hosts"


def test_what_is_no_preset_is_not_looked_for_in_the_presets_of_all_hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = counted(monkeypatch, placing, "mapping_at")
    path = inventory(tmp_path, many=16, more='      firewall: {allow: {"22": [192.0.2.7], "9999": [192.0.2.7]}}\n')
    assert main(["-i", str(path), "check"]) == 2
    assert looked["mapping_at"] == 0
