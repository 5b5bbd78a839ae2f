"""Of a host's work, what is of its models alone; and who gives what to whom."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cli.views.changes import lines
from control.deployment.model_files import freed, left, pruned, pulled, stays
from control.deployment.payload import asks_for
from control.deployment.peers import _offer, gifts
from control.deployment.work import Work
from deploys.uploads import uploads
from inventory.fleet import Fleet, Host
from resources import Directory, File, ModelFile, Resource
from resources.drift import drift
from resources.model import PIECE
from resources.probe import Actual

MODELS = "/srv/models"
SHA, OTHER = "a" * 64, "b" * 64
FILE = File("/etc/paddock/llama-server/presets.ini", "[big]")
BIG = ModelFile(f"{MODELS}/big.gguf", SHA, 7, "url https://models.home.example/big.gguf")
FIRST = ModelFile(f"{MODELS}/parts/parts-00001-of-00002.gguf", OTHER, 8, "hf org/repo main x-00001-of-00002.gguf")
PLAN: dict[str, tuple[Resource, ...]] = {
    "models": (Directory(MODELS), BIG, Directory(f"{MODELS}/parts"), FIRST),
    "llama_server": (Directory("/etc/paddock/llama-server"), FILE),
}


NOTHING = Actual()


def work(actual: Actual = NOTHING, plan: dict[str, tuple[Resource, ...]] = PLAN) -> Work:
    return Work(plan, actual, drift(plan, actual))


def has(*models: ModelFile, **others: Any) -> Actual:
    return Actual({each.id: dict(each.desired) for each in models}, **others)


def changes(of: Work) -> list[str]:
    return [f"{each.sign} {each.id}" for each in of.drift.changes]


def test_a_pull_lays_the_files_and_their_directories_and_nothing_else() -> None:
    only = pulled(work(), {FIRST.path})
    assert changes(only) == [f"+ directory:{MODELS}", f"+ directory:{MODELS}/parts", f"+ {FIRST.id}"]
    assert list(only.drift.manifest) == [f"directory:{MODELS}", f"directory:{MODELS}/parts", FIRST.id]


def test_a_pull_forgets_nothing_that_the_manifest_names() -> None:
    noted = {"file:/etc/somewhere": "put", BIG.id: "data"}
    only = pulled(work(has(BIG, manifest=noted)), {BIG.path, FIRST.path})
    assert {**only.drift.manifest, **noted} == only.drift.manifest == only.drift.claims
    assert f"+ {BIG.id}" not in changes(only)


def test_a_prune_takes_what_no_plan_names_and_what_went_wrong_but_no_download_at_work() -> None:
    manifest = {BIG.id: "data", FIRST.id: "data", f"directory:{MODELS}": "put", f"directory:{MODELS}/parts": "put", FILE.id: "put"}
    data = {FIRST.path: 8, f"{BIG.path}.part": 3, f"{BIG.path}.wrong": 7, f"{FIRST.path}.part": 1}
    plan = {"models": (Directory(MODELS), BIG), "llama_server": (FILE,)}
    found = work(Actual(manifest=manifest, data=data), plan)
    assert left(found) == {FIRST.path: 8, f"{BIG.path}.wrong": 7, f"{FIRST.path}.part": 1}
    only = pruned(found)
    assert left(only) == left(found)
    assert changes(only) == [f"- {FIRST.id}", f"- model:{BIG.path}.wrong", f"- model:{FIRST.path}.part", f"- directory:{MODELS}/parts"]
    assert dict(only.drift.manifest) == {BIG.id: "data", f"directory:{MODELS}": "put", FILE.id: "put"}


def test_where_nothing_is_left_over_there_is_nothing_to_prune() -> None:
    assert not pruned(work(has(BIG, manifest={BIG.id: "data"}, data={BIG.path: 7}))).drift.changes


def test_what_has_another_name_that_stays_frees_nothing() -> None:
    manifest = {BIG.id: "data", FIRST.id: "data", "model:/srv/models/more.gguf": "data"}
    data = {BIG.path: 7, FIRST.path: 7, "/srv/models/more.gguf": 5}
    names = {BIG.path: ("1:1", 2), FIRST.path: ("1:1", 2), "/srv/models/more.gguf": ("1:2", 1)}
    found = work(Actual(manifest=manifest, data=data, names=names), {"models": (BIG,)})
    assert (freed(found), [path for path in left(found) if stays(found, path)]) == (5, [FIRST.path])
    found = work(Actual(manifest=manifest, data=data, names=names), {})
    assert (freed(found), [path for path in left(found) if stays(found, path)]) == (12, [])


RENAMED = replace(BIG, path=f"{MODELS}/huge.gguf")
HELD = Actual({BIG.id: dict(BIG.desired)}, manifest={BIG.id: "data"}, held={BIG.path: SHA})


def test_a_model_that_got_another_name_keeps_its_old_file_until_a_prune() -> None:
    found = work(HELD, {"models": (RENAMED,)})
    assert changes(found) == [f"+ {RENAMED.id}"]
    assert found.drift.left == (BIG.id,)
    assert dict(found.drift.manifest) == {BIG.id: "data", RENAMED.id: "data"}


def test_what_lies_under_another_name_is_neither_sent_nor_asked_for_nor_given_by_others() -> None:
    local = {"models": (replace(RENAMED, origin="local big.gguf"),)}
    assert work(HELD, local).lacking == work(HELD, {"models": (RENAMED,)}).lacking == []
    assert asks_for(work(HELD, {"models": (RENAMED,)}), {}) == {}
    assert gifts({"one": work(has(BIG)), "two": work(HELD, {"models": (RENAMED,)})}, fleet(one=True, two=True)) == {}


def test_a_plan_says_under_which_name_a_file_is_there() -> None:
    assert next(lines(work(HELD, {"models": (RENAMED,)}))) == f"  + {RENAMED.id}  (is there: {BIG.path})"


def test_a_large_file_of_two_names_is_sent_once(tmp_path: Path) -> None:
    local = tmp_path / "big.gguf"
    with local.open("wb") as file:
        file.truncate(PIECE + 1)
    plan = {"models": (replace(BIG, origin="local big.gguf"), replace(RENAMED, origin="local big.gguf"))}
    found = replace(work(plan=plan), payload={BIG.id: local, RENAMED.id: local})
    assert [(model.id, sent) for model, sent in uploads("models", found)] == [(BIG.id, local), (RENAMED.id, None)]


def fleet(**peers: bool) -> Fleet:
    hosts = {
        name: {"name": name, "address": f"192.0.2.{at}", "roles": {"models": {"peers": gives}}}
        for at, (name, gives) in enumerate(peers.items(), 1)
    }
    return Fleet.model_validate({"name": "home", "domain": "home.example", "hosts": hosts})


def test_a_host_gives_what_it_has_and_another_lacks() -> None:
    works = {"one": work(has(BIG, FIRST)), "two": work(has(FIRST))}
    assert gifts(works, fleet(one=True, two=True)) == {"one": {SHA: BIG.path}}


def test_a_host_that_is_not_said_to_be_a_peer_gives_nothing() -> None:
    assert gifts({"one": work(has(BIG)), "two": work()}, fleet(one=False, two=True)) == {}


def test_a_file_that_is_not_as_declared_is_not_given() -> None:
    altered = Actual({BIG.id: {**BIG.desired, "sha256": OTHER}})
    assert gifts({"one": work(altered), "two": work()}, fleet(one=True, two=True)) == {}


def test_what_a_host_gets_from_this_machine_it_does_not_ask_others_for() -> None:
    plan = {"models": (replace(BIG, origin="local big.gguf"),)}
    assert gifts({"one": work(has(BIG), plan), "two": work(plan=plan)}, fleet(one=True, two=True)) == {}


@pytest.mark.parametrize("address", ["fe80::1%a;id", "fe80::1%$(id)", "fe80::1%a b", "fe80::1%'x", "fe80::1%*", "192.0.2.1", "2001:db8::1"])
def test_an_address_is_one_word_to_the_shell_that_offers_models(address: str) -> None:
    """As root, whatever stands behind the percent sign. The schema lets none of it through: what is asked here is the second door."""
    host = Host.model_construct(name="ai", address=address)
    first = _offer(host, 20_000, "token", {"5eed": "/srv/a b'c.gguf"}).partition("\n")[0]
    shown = subprocess.run(["sh", "-c", f'{first}; printf %s "$listen"'], capture_output=True, text=True, check=True).stdout
    assert shown == (f"[{address}]:20000" if ":" in address else f"{address}:20000")
