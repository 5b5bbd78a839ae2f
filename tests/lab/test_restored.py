"""A state that comes back from git has no archives of releases: hosts serve on, and give back what another lacks."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from snapshot import inside

from tests.lab_fleet import LabFleet, lab_fleet
from tests.share import turn

pytestmark = turn(4, of=5)

INVENTORY = """
fleet: restored
domain: home.example
networks: [192.0.2.0/24]
defaults:
  roles:
    base: {{time: elsewhere}}
    llama_cpp: {{ui: false, builder: {builder}}}
    models:
    llama_server: {{models: [demo]}}
hosts: {{one: {{address: 192.0.2.10}}, two: {{address: 192.0.2.11}}}}
models: {{demo: {{preset: {{ctx-size: 1024}}}}}}
"""

CURRENT = "/opt/paddock/llama.cpp/current"


@pytest.fixture(scope="module")
def restored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabFleet]:
    """Two hosts that serve."""
    with lab_fleet("restored", tmp_path_factory.mktemp("restored"), INVENTORY.format(builder="false"), ready=True) as fleet:
        fleet.up()
        yield fleet


def come_back_from_git(fleet: LabFleet) -> None:
    """The state, as git has it."""
    archives = list(fleet.state.glob("artifacts/*.tar.gz"))
    assert archives
    for each in archives:
        each.unlink()


def compiled(fleet: LabFleet) -> list[str]:
    """What was built on the hosts, by the units of their journals."""
    said = (inside(fleet.host(name).container, "journalctl -q -o cat -u 'paddock-build-*' || true") for name in ("one", "two"))
    return [line for each in said for line in each.splitlines()]


def runs(fleet: LabFleet) -> list[dict[str, Any]]:
    """Those that the history has, the newest first."""
    found: list[dict[str, Any]] = json.loads(fleet.paddock("history", "--lab", "--json").stdout)
    return found


def test_the_first_run_is_in_the_history_with_its_plans_and_one_that_changes_nothing_is_not(restored: LabFleet) -> None:
    first = runs(restored)[-1]
    assert (first["number"], first["verb"], first["outcome"]) == (1, "up", "done")
    assert {name: host["verified"] for name, host in first["hosts"].items()} == {"one": "yes", "two": "yes"}
    assert all(host["before"] == "" and host["after"].startswith("0.3.36-") for host in first["hosts"].values())
    shown = restored.paddock("history", "show", "1", "--diff", "--lab", "--limit", "one").stdout
    assert "\n  + file:/etc/paddock/llama-server/presets.ini\n" in shown, shown
    before = runs(restored)
    assert "0 changed" in restored.up().stdout
    assert runs(restored) == before


def test_hosts_serve_on_give_back_what_another_lacks_and_nothing_is_compiled(restored: LabFleet) -> None:
    before = compiled(restored)
    come_back_from_git(restored)
    for builder in ("false", "null"):
        restored.write(INVENTORY.format(builder=builder))
        if builder == "null":
            restored.up()  # what may compile is noted
        planned = restored.paddock("plan", "--lab")
        assert planned.returncode == 0, planned.stdout + planned.stderr
        assert re.findall(r"^(one|two): as declared$", planned.stdout, re.MULTILINE) == ["one", "two"]
        assert "0 changed" in restored.up().stdout
    assert not list(restored.state.glob("artifacts/*.tar.gz"))

    one = restored.host("one").container
    inside(one, f"touch -d @1 /rot; printf x >>$(readlink {CURRENT})/MANIFEST; touch -r /rot $(readlink {CURRENT})/MANIFEST")
    planned = restored.paddock("plan", "--lab", "--deep")
    assert ", from a host that has it, else built by one" in planned.stdout, planned.stdout
    done = restored.up("--deep")
    assert "two  llama.cpp 0.3.36: pack" in done.stdout, done.stdout
    assert list(restored.state.glob("artifacts/*.tar.gz"))
    assert "0 changed" in restored.up("--deep").stdout
    assert compiled(restored) == before


def test_a_release_that_no_host_of_the_run_has_says_what_to_do(restored: LabFleet) -> None:
    come_back_from_git(restored)
    restored.write(INVENTORY.format(builder="false"))
    inside(restored.host("one").container, f"rm -r $(readlink {CURRENT})")
    failed = restored.paddock("up", "--lab", "--yes", "--limit", "one")
    assert failed.returncode == 1
    assert "no host of this run has the release: name one that has it in `--limit` too" in failed.stderr, failed.stderr
    restored.up()
