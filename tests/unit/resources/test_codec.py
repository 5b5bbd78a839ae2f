"""A plan can be written and read back, and no secret is in what was written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from inventory.knowledge import Knowledge
from inventory.load import load
from resources import Directory, File, Link, ResourceError, Service
from resources.codec import contents, read, seals, written
from resources.disk import Sealed
from roles.host_plan import HostPlan, host_plan

EXAMPLES = sorted((Path(__file__).parents[3] / "inventory").glob("*.yml"))

SECRET = "sk-never-to-be-seen-0123456789-abcdefgh"


def plans(path: Path) -> list[HostPlan]:
    """The plans of an example inventory, as far as they can be made without a host."""
    fleet = load(path)
    known = Knowledge(secrets=_EverySecret())
    return [host_plan(host, fleet, known) for host in fleet.hosts.values()]


class _EverySecret(dict[str, str]):
    def get(self, name: str, default: object = None) -> str:  # type: ignore[override]
        return SECRET


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_plan_of_every_example_comes_back_as_it_was(path: Path) -> None:
    for plan in plans(path):
        text = json.dumps(written(plan))
        assert read(json.loads(text), contents(plan).__getitem__) == plan
        assert SECRET not in text


def test_a_secret_is_a_reference_and_what_is_known_of_it_is_its_digest() -> None:
    key = File("/etc/x/key", SECRET, mode=0o600, secret=True)
    plan: HostPlan = {"x": (key, Service("x.service", restarts=(key,)))}
    data = written(plan)
    assert SECRET not in json.dumps(data) and key.sha256 not in json.dumps(data)
    sealed = read(data, lambda name: Sealed(seals(plan)[name]))
    assert [each.id for each in sealed["x"]] == [each.id for each in plan["x"]]
    assert [each.desired for each in sealed["x"]] == [each.desired for each in plan["x"]]
    with pytest.raises(ResourceError, match="file:/etc/x/key: nobody here knows its content"):
        _ = sealed["x"][0].data  # type: ignore[attr-defined]


def test_what_a_service_reads_is_written_once() -> None:
    unit = File("/etc/systemd/system/x.service", "x" * 10_000)
    plan: HostPlan = {"x": (unit, Service("x.service", restarts=(unit,)))}
    assert json.dumps(written(plan)).count("x" * 10_000) == 1
    other = replace(unit, content="another")
    assert read(written({"x": (Service("x.service", restarts=(other,)),)}), str) == {"x": (Service("x.service", restarts=(other,)),)}


def test_bytes_and_links_come_back() -> None:
    plan: HostPlan = {"x": (File("/etc/x", b"\x00\xff"), Link("/etc/y", "/etc/x"), Directory("/etc/z", mode=0o700, exclusive=True))}
    assert read(json.loads(json.dumps(written(plan))), str) == plan


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"id": "sysctl:x", "kind": "sysctl"}, "no kind of resource is called sysctl"),
        ({"id": "link:/x", "kind": "link", "path": "/y", "target": "/z"}, "link:/x turns out to be link:/y"),
        ({"id": "link:/x", "kind": "link"}, "missing"),
        ({"id": "link:/x"}, "kind"),
        ("nonsense", "indices"),
    ],
)
def test_what_is_no_plan_is_refused_in_one_line(entry: object, words: str) -> None:
    with pytest.raises(ResourceError, match=words) as caught:
        read({"x": [entry]}, str)
    assert "\n" not in str(caught.value)
