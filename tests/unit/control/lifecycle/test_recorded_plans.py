"""Plans as the history keeps them: small, whole, and without a secret."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from control.lifecycle import recorded_plans as module
from control.lifecycle.recorded_plans import as_data, packed, plan_digest, unpacked
from inventory.bounds import Bound
from inventory.errors import PaddockError
from resources import File, Service
from resources.codec import contents, read
from roles.host_plan import HostPlan
from tests.unit.resources.test_codec import EXAMPLES, SECRET, plans

KEY = File("/etc/x/key", SECRET, mode=0o600, secret=True)
UNIT = File("/etc/systemd/system/x.service", "[Service]\nExecStart=/bin/true\n")


def of_service(secret: str = SECRET) -> HostPlan:
    key = File("/etc/x/key", secret, mode=0o600, secret=True)
    service = Service("x.service", restarts=(key, UNIT))
    return {"x": (key, UNIT, service.stamp, service)}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_plans_of_every_example_come_back(path: Path) -> None:
    made = {str(number): plan for number, plan in enumerate(plans(path))}
    data = {name: as_data(plan) for name, plan in made.items()}
    back = unpacked(packed(data))
    assert back == data
    for name, plan in made.items():
        stamps = {each.stamp.id: each.stamp.content for part in plan.values() for each in part if isinstance(each, Service)}
        for each in (each for part in back[name].values() for each in part if each["id"] in stamps):
            each["content"] = stamps[each["id"]]
        assert read(back[name], contents(plan).__getitem__) == plan


def test_no_secret_and_no_digest_of_one_is_kept() -> None:
    one, other = as_data(of_service()), as_data(of_service("another"))
    assert SECRET not in json.dumps(one)
    assert one == other and plan_digest(one) == plan_digest(other)


def test_a_plan_with_another_file_has_another_digest() -> None:
    assert plan_digest(as_data({"x": (UNIT,)})) != plan_digest(as_data({"x": (File(UNIT.path, "[Service]\n"),)}))


def test_what_many_hosts_have_is_kept_once() -> None:
    text = "".join(f"{number * 7919 % 10007} " for number in range(5000))
    plan = as_data({"x": (File("/etc/x", text),)})
    one, hundred = packed({"0": plan}), packed({str(number): plan for number in range(100)})
    assert len(hundred) < len(one) + 2000
    assert unpacked(hundred)["99"] == plan


def test_the_same_plans_give_the_same_bytes() -> None:
    assert packed({"ai": as_data(of_service())}) == packed({"ai": as_data(of_service())})


def test_plans_that_would_not_be_read_are_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOCAL_FILE", Bound("a file", 1024))
    with pytest.raises(PaddockError, match="the plans of 1 hosts are larger than 1 KiB together"):
        packed({"ai": as_data({"x": (File("/etc/x", "x" * 2000),)})})


def test_what_unpacks_to_more_than_is_read_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = packed({"ai": as_data({"x": (File("/etc/x", "x" * 2000),)})})
    monkeypatch.setattr(module, "LOCAL_FILE", Bound("a file", 1024))
    with pytest.raises(ValueError, match="cut off, or too large"):
        unpacked(data)


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        {"resources": [], "plans": []},
        {"resources": {}, "plans": {"ai": {"x": [0]}}},
        {"resources": [{"id": 1}], "plans": {}},
        {"resources": ["x"], "plans": {}},
        {"resources": [{"id": "x"}], "plans": {"ai": {"x": [1]}}},
        {"resources": [{"id": "x"}], "plans": {"ai": {"x": ["0"]}}},
        {"resources": [{"id": "x"}], "plans": {"ai": [0]}},
    ],
)
def test_what_holds_no_plans_is_refused(value: object) -> None:
    with pytest.raises(ValueError):
        unpacked(gzip.compress(json.dumps(value).encode()))
