"""A service whose unit somebody else has changed, whose process got variables from elsewhere, or that keeps dying is not as declared."""

import pytest

from facts.state import State
from resources import File, Service
from resources.probe import Actual

UNIT = File("/etc/systemd/system/x.service", "[Service]\nExecStart=/bin/true\n")
SERVICE = Service("x.service", restarts=(UNIT,))
CLOCK = 1_800_000_000


def seen(service: Service = SERVICE, environ: tuple[str, ...] = (), **shown: str) -> Actual:
    """What the probe says of a service that is well, but for what is given."""
    time = "Fri 2027-01-15 08:00:00.000000 UTC"  # CLOCK
    properties = {
        "Id": service.name,
        "ActiveState": "active",
        "UnitFileState": "enabled",
        "NeedDaemonReload": "no",
        "InvocationID": "i1",
        "MainPID": "7",
        "ActiveEnterTimestamp": time,
        "StateChangeTimestamp": time,
        "FragmentPath": UNIT.path,
        "DropInPaths": service.stamp.path,
        "NRestarts": "0",
        "Environment": "",
        **shown,
    }
    fact = State()
    fact.asked = (UNIT, service.stamp, service)
    return fact.process(
        [
            "#m",
            "#m clock",
            str(CLOCK + 5),
            "#m stat",
            *(f"{each.path}\tf\troot\troot\t644\t7\t1.0\t" for each in (UNIT, service.stamp)),
            "#m sha256",
            *(f"{each.sha256}  {each.path}" for each in (UNIT, service.stamp)),
            "#m service",
            *(f"{name}={value}" for name, value in properties.items()),
            "#m environ",
            *(f"/proc/7/environ\t{name}" for name in environ),
            "#m stamp",
            f"{service.note}.started\ti1:{service.started}",
            f"{service.note}.loaded\ti1:{service.loaded}",
            "#m end",
        ]
    )


def differing(service: Service = SERVICE, environ: tuple[str, ...] = (), **shown: str) -> dict[str, str]:
    return {name: found for name, (found, _) in seen(service, environ, **shown).differing(service).items()}


def test_one_that_is_well_is_as_declared() -> None:
    assert differing() == {}


@pytest.mark.parametrize(
    "path",
    [
        "/etc/systemd/system/x.service.d/zz-mine.conf",
        "/etc/systemd/system/service.d/all.conf",
        "/etc/systemd/system.control/x.service.d/50-MemoryMax.conf",
        "/run/systemd/system/x.service.d/runtime.conf",
    ],
)
def test_a_drop_in_that_nobody_declares_is_named(path: str) -> None:
    assert differing(DropInPaths=f"{SERVICE.stamp.path} {path}") == {"units": f"declared and {path}"}


def test_a_unit_in_place_of_the_declared_one_is_named() -> None:
    there = "/run/systemd/transient/x.service"
    assert differing(FragmentPath=there) == {"units": f"declared and {there}"}


def test_what_the_distributions_packages_bring_is_theirs() -> None:
    assert differing(FragmentPath="/usr/lib/systemd/system/x.service", DropInPaths="/usr/lib/systemd/system/service.d/10-x.conf") == {}


def test_one_that_the_inventory_accepts_stays() -> None:
    mine = "/etc/systemd/system/x.service.d/zz-mine.conf"
    service = Service("x.service", restarts=(UNIT,), accepted=(mine,))
    assert differing(service, DropInPaths=f"{service.stamp.path} {mine}") == {}
    assert "units" in differing(service, DropInPaths=f"{service.stamp.path} {mine}.conf")


def test_a_service_of_which_nothing_is_declared_may_have_any() -> None:
    assert "units" not in differing(Service("x.service"), DropInPaths="/etc/systemd/system/x.service.d/mine.conf")


@pytest.mark.parametrize("name", ["LLAMA_ARG_N_PREDICT", "GGML_CUDA_DISABLE_GRAPHS", "CUDA_VISIBLE_DEVICES", "LD_PRELOAD"])
def test_a_variable_that_the_unit_does_not_set_is_named(name: str) -> None:
    assert differing(environ=(name,)) == {"environment": f"declared and {name}"}
    assert differing(environ=(name,), Environment=f'A=b "{name}=5 6"') == {}
    assert differing(environ=(name,), Environment=f"X{name}=5") == {"environment": f"declared and {name}"}


def test_one_that_systemd_had_to_start_again_a_moment_ago_is_unstable() -> None:
    assert differing(NRestarts="3") == {"restarts": "3, the last 5 s ago"}
    assert differing(NRestarts="3", ActiveEnterTimestamp="Fri 2027-01-15 07:49:00.000000 UTC") == {}, "it has run for 11 minutes since"


def test_a_run_leaves_it_alone_and_says_what_a_person_can_do() -> None:
    found = seen(DropInPaths="/etc/systemd/system/x.service.d/mine.conf", NRestarts="1")
    assert SERVICE.action(found, frozenset([SERVICE.id])) == "mend"
    advice = SERVICE.advice(found.differing(SERVICE))
    assert "accepted_units" in advice
    assert "journalctl -u x.service" in advice
