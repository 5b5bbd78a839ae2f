"""Each fault that a resource of the demo's plan can have is caught, by the verification and by the probe; a clean host has none."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from shlex import quote

import pytest
import yaml

from control.deployment.plans import Plans
from control.deployment.verification import handed
from control.state.fleet import FleetState
from facts.state import State, probe_script
from inventory.fleet import Fleet
from inventory.load import load
from lab.hosts import in_lab
from resources import Resource, Service
from resources.drift import Drift, drift
from roles.caddy.checks import check_nobody_else_gets_through_the_handshake
from tests.faults.catalogue import ASIDE, UNSEEN, Fault, faults_of
from tests.lab_fleet import ROOT, LabFleet, lab_fleet
from tests.share import each_kind
from verification.asserting import assert_as_declared
from verification.subject import VerifiedHost, of

NAME = "verify"
HOST = "ai"
DEMO = (ROOT / "inventory" / "demo.yml").read_text().replace("fleet: demo ", f"fleet: {NAME} ")

MANY = 60
PACKAGES = ["bc", "dos2unix", "hello", "ncal", "pv", "rename", "sl", "time", "tree", "unzip", "zip", "zstd"]
"""With them the demo's host has so many resources."""


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabFleet]:
    with lab_fleet(NAME, tmp_path_factory.mktemp(NAME), DEMO, ready=True) as fleet:
        print("deploying the demo", flush=True)
        fleet.up("--no-verify")
        yield fleet


@pytest.fixture(scope="module")
def subject(demo: LabFleet) -> VerifiedHost:
    fleet, _ = in_lab(load(demo.inventory))
    found = seen(fleet, FleetState.of(demo.inventory, fleet.name))
    return found


@pytest.fixture(scope="module")
def resources(subject: VerifiedHost) -> tuple[Resource, ...]:
    return tuple(each for part in subject.plan.values() for each in part)


def test_every_attribute_of_every_resource_has_a_fault(resources: tuple[Resource, ...]) -> None:
    without = [
        f"{each.id}: {name}" for each in resources for name in each.desired if name not in {fault.attribute for fault in faults_of(each)}
    ]
    assert not without


def test_every_fault_is_caught_by_the_verification_and_seen_by_the_probe(subject: VerifiedHost, resources: tuple[Resource, ...]) -> None:
    """In a soak all of them, else each kind of fault of each kind of resource, and one at least of each role's."""
    every = [(role, fault) for role, part in subject.plan.items() for each in part for fault in faults_of(each)]
    chosen = each_kind("faults", every, lambda each: [each[0]], lambda each: [(type(each[1].resource), each[1].name)])
    faults = [fault for _, fault in chosen]
    print(f"{len(faults)} of {len(every)} faults of {len(resources)} resources", flush=True)
    assert not probed(subject)
    missed = []
    for number, fault in enumerate(faults, 1):
        began = time.monotonic()
        on(subject, fault.cause)
        try:
            said, seen = verified(subject, fault.resource), probed(subject)
        finally:
            on(subject, f"{fault.undo}; rm -rf {ASIDE}/it")
        wrong = [*_wrongly_said(fault, said), *_wrongly_seen(fault, seen), *(f"{each} is not undone" for each in _ids(probed(subject)))]
        print(
            f"{number:4} {time.monotonic() - began:4.1f} s  {fault}  ->  {said[:100]}" + "".join(f"\n     WRONG: {each}" for each in wrong),
            flush=True,
        )
        missed += [f"{fault}: {each}" for each in wrong]
    assert not missed, "\n".join(missed)


def test_a_host_without_faults_passes(demo: LabFleet) -> None:
    began = time.monotonic()
    done = demo.paddock("verify", "--lab")
    print(f"{done.stdout.strip()}, {time.monotonic() - began:.1f} s", flush=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{HOST}: " in done.stdout and "FAILED" not in done.stdout


def test_the_command_names_what_is_wrong_and_ends_with_1(demo: LabFleet, subject: VerifiedHost, resources: tuple[Resource, ...]) -> None:
    every = {str(fault): fault for each in resources for fault in faults_of(each)}
    samples = [
        every["file:/etc/caddy/paddock/ai.home.example.key: open to all"],
        every["model:/var/lib/paddock/models/demo.gguf: another owner"],
        every["service:llama-server.service: not started at boot"],
    ]
    for fault in samples:
        on(subject, fault.cause)
    try:
        done = demo.paddock("verify", "--lab")
    finally:
        for fault in samples:
            on(subject, fault.undo)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "3 FAILED" in done.stdout
    for fault in samples:
        assert f"{HOST}: {fault.resource.id}\n" in done.stderr and fault.says in done.stderr, done.stderr


def test_a_caddy_that_does_not_run_refuses_nobody(subject: VerifiedHost, resources: tuple[Resource, ...]) -> None:
    """Nobody gets through where nobody listens, but that proves nothing: the check has to say that it could not ask."""
    caddy = next(each for each in resources if isinstance(each, Service) and each.name == "caddy.service")
    stopped = next(fault for fault in faults_of(caddy) if fault.name == "stopped")
    on(subject, stopped.cause)
    try:
        with pytest.raises(ConnectionRefusedError):
            subject.call(check_nobody_else_gets_through_the_handshake, "caddy")
    finally:
        on(subject, stopped.undo)
    subject.call(check_nobody_else_gets_through_the_handshake, "caddy")


def seen(fleet: Fleet, state: FleetState) -> VerifiedHost:
    """The host as `paddock verify --deep` is handed it."""
    this = fleet.hosts[HOST]
    return of(handed(this, Plans(fleet, state).of(this), fleet, state, deep=True))


def on(subject: VerifiedHost, script: str) -> str:
    """What a shell script prints on the host, where its every command succeeds."""
    done = subject.host.run(f"sh -ec {quote(script)}")
    assert done.rc == 0, f"{script}\n{done.stdout}{done.stderr}"
    return str(done.stdout)


def verified(subject: VerifiedHost, resource: Resource) -> str:
    """What the verification has to say against a resource; nothing where it is as declared."""
    try:
        assert_as_declared(subject, resource)
    except AssertionError as error:
        return str(error).partition("\n")[0]
    return ""


def probed(subject: VerifiedHost) -> Drift:
    """How the host differs from its plan, as `paddock plan` has it."""
    asked = tuple(each for part in subject.plan.values() for each in part)
    fact = State()
    fact.command(asked)
    done = subject.host.run(f"sh -s <<'EOF-OF-PROBE'\n{probe_script(asked)}\nEOF-OF-PROBE")
    assert done.rc == 0, done.stderr
    return drift(subject.plan, fact.process(done.stdout.splitlines()))


def _ids(seen: Drift) -> Mapping[str, list[str]]:
    found = {change.id: list(change.attributes) for change in seen.changes}
    return found if found or not seen else {"the manifest": []}


def _wrongly_said(fault: Fault, said: str) -> Iterator[str]:
    if not said.startswith(fault.says):
        yield f"the verification says {said or 'nothing'!r} in place of {fault.says!r}"


def _wrongly_seen(fault: Fault, seen: Drift) -> Iterator[str]:
    attributes = _ids(seen).get(fault.resource.id, [])
    if fault.attribute != UNSEEN and fault.attribute not in attributes:
        yield f"the probe does not see that {fault.attribute} differs, but only {attributes}"
    if fault.attribute == UNSEEN and attributes:
        yield f"the probe sees that {attributes} differ: the catalogue should say so"


def test_a_host_with_many_resources_is_verified(demo: LabFleet) -> None:
    """How many seconds that takes is printed."""
    declared = yaml.safe_load(DEMO)
    declared["hosts"][HOST]["roles"]["base"] = {"packages": PACKAGES}
    demo.write(yaml.safe_dump(declared))
    demo.up("--no-verify")
    fleet, _ = in_lab(load(demo.inventory))
    subject = seen(fleet, FleetState.of(demo.inventory, fleet.name))
    resources = [each for part in subject.plan.values() for each in part]
    assert len(resources) >= MANY
    began = time.monotonic()
    done = demo.paddock("verify", "--lab")
    print(f"{len(resources)} resources: {done.stdout.strip()}, {time.monotonic() - began:.1f} s", flush=True)
    assert done.returncode == 0 and "FAILED" not in done.stdout, done.stdout + done.stderr
