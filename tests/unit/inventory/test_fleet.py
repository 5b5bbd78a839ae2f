"""What is asked about a whole fleet: answered once, and anew for a copy that is of something else."""

from pathlib import Path

import pytest

from inventory import load as loading
from inventory.fleet import Fleet
from inventory.load import load, loaded, require_lock
from inventory.model_sources import KINDS, Tiny

INVENTORIES = Path(loading.__file__).parent
RIG = """
fleet: home
domain: home.example
models: {demo: {source: tiny}}
clients: {anna: , bob: }
hosts:
  rig:
    address: 192.0.2.10
    roles:
      llama_cpp:
      models:
      llama_server: {listen: "0.0.0.0:8080", models: [demo]}
  door:
    address: 192.0.2.11
    roles: {caddy: {sites: {ai.home.example: {upstream: rig, clients: [anna]}, all.home.example: {upstream: rig}}}}
"""


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    path = tmp_path / "home.yml"
    path.write_text(RIG)
    return load(path)


def test_a_site_is_entered_by_the_clients_that_it_names_or_by_all(fleet: Fleet) -> None:
    assert {each.name: each.admits for each in fleet.entrances()} == {"ai.home.example": ("anna",), "all.home.example": ("anna", "bob")}
    assert [each.name for each in fleet.entrances("bob")] == ["all.home.example"]
    assert fleet.entrances("nobody") == ()


def test_a_host_is_called_by_the_proxies_before_it(fleet: Fleet) -> None:
    assert (fleet.callers("rig"), fleet.callers("door")) == (("door",), ())


@pytest.mark.parametrize("deep", [False, True])
def test_a_copy_answers_for_what_it_is_itself(fleet: Fleet, deep: bool) -> None:
    assert fleet.callers("rig") and fleet.entrances("anna") and fleet.servers("rig") and fleet.hosts_with("caddy")
    door = fleet.hosts["door"]
    assert door.carried
    bare = door.model_copy(update={"roles": door.roles.model_copy(update={"caddy": None})}, deep=deep)
    copied = fleet.model_copy(update={"hosts": {"rig": fleet.hosts["rig"], "door": bare}}, deep=deep)
    assert not bare.carried
    assert (copied.callers("rig"), copied.entrances("anna"), copied.hosts_with("caddy")) == ((), (), ())
    assert fleet.callers("rig") == ("door",)


def test_what_was_asked_is_no_part_of_a_fleet(fleet: Fleet) -> None:
    before = fleet.model_dump(mode="json")
    fleet.callers("rig"), fleet.servers("rig"), fleet.hosts_with("caddy")
    assert fleet.model_dump(mode="json") == before
    again = Fleet.model_validate(before)
    assert again == fleet and again.callers("rig") == ("door",)


def test_an_inventory_is_composed_once_for_all_that_is_said_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from control.llama_cpp.options import checked

    composed = []
    monkeypatch.setattr(loading, "compose", lambda text, compose=loading.compose: composed.append(text) or compose(text))
    this = loaded(INVENTORIES / "ai-server.yml")
    require_lock(this)
    checked(this.positions, this.fleet)
    assert len(composed) == 1


def test_every_kind_of_source_has_somebody_who_asks_it() -> None:
    from control.models.origins import BY_WORD, ORIGINS

    assert set(ORIGINS) == {Tiny, *KINDS}
    assert len(BY_WORD) == len(ORIGINS)
