"""The secrets that Paddock makes: how random they are, how they are kept, and which containers get some as variables."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest
import yaml

from control.state.api_keys import issue, made_by_paddock
from control.state.fleet import FleetState
from control.state.secrets import Vault
from resources import File
from roles.compose import DIRECTORY
from roles.host_plan import host_plan
from tests.unit.roles import everything

DOCS = Path(__file__).parents[3] / "docs" / "stacks.md"


@pytest.fixture
def vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Vault:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return Vault(FleetState.of(tmp_path / "home.yml", "home"))


def test_each_has_more_than_128_random_bits_and_lies_sealed(vault: Vault, tmp_path: Path) -> None:
    fleet = everything.fleet()
    issue(fleet, vault)
    wanted = made_by_paddock(fleet)
    assert len(wanted) >= 12 and set(wanted) <= set(vault.names())
    made = {name: vault.get(name) for name in wanted}
    assert len(set(made.values())) == len(made), "two have one value"
    for name, value in made.items():
        assert len(base64.urlsafe_b64decode(value.removeprefix("sk-") + "=")) * 8 >= 128, name
    kept = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert len(kept) > len(made)
    assert [path for path, data in kept.items() for value in made.values() if value.encode() in data] == []


def test_only_the_containers_that_the_documentation_names_get_secrets_as_variables() -> None:
    fleet = everything.fleet()
    plans = {name: host_plan(host, fleet, everything.context(fleet)) for name, host in fleet.hosts.items()}
    files = [each for plan in plans.values() for part in plan.values() for each in part if isinstance(each, File)]
    composed = [each for each in files if re.fullmatch(f"{DIRECTORY}/[^/]+/compose.yml", each.path)]
    secret = {each.path for each in files if each.secret}
    by_variable = set()
    for each in composed:
        project = yaml.safe_load(each.data)
        for name, container in project["services"].items():
            if given := container.get("env_file", []):
                assert set(given) <= secret, given
                by_variable.add(f"{project['name'].removeprefix('paddock-')}/{name}")
    assert len(composed) >= 3
    named = re.search(r"these containers alone get secrets as variables:\n\n((?:\|.*\n)+)", DOCS.read_text())
    assert named
    assert by_variable == set(re.findall(r"`([a-z]+/[a-z]+)`", named[1]))
