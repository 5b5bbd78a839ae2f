"""Certificates that near their end: the very script that lands on hosts, run on certificates that are made here."""

from __future__ import annotations

import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import ValidationError

from facts.condition import CONDITION_SH
from resources import File, Resource, Service, expand
from roles.expiry import DIRECTORY, ExpirySettings, Pem, expiry_watch

KEY = ec.generate_private_key(ec.SECP256R1())


def pem(left: timedelta, of: timedelta) -> bytes:
    """A certificate with so much left of its life."""
    ends = datetime.now(UTC) + left
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "laptop")])
    builder = x509.CertificateBuilder(name, name, KEY.public_key(), x509.random_serial_number(), ends - of, ends)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def days(left: float, of: float) -> bytes:
    return pem(timedelta(days=left), timedelta(days=of))


def planned(*pems: Pem, **settings: Any) -> dict[str, Resource]:
    watch = expiry_watch("caddy", "door", pems, ExpirySettings.model_validate(settings))
    return {each.id: each for _, each in expand(("caddy", each) for each in watch)}


def text(resources: dict[str, Resource], path: str) -> str:
    file = resources[f"file:{path}"]
    assert isinstance(file, File)
    return file.data.decode()


def looked(tmp_path: Path, *pems: Pem, round: bool = False, **settings: Any) -> tuple[int, list[str]]:
    """The exit status of a look, or of a round of the timer, and what it says."""
    script = tmp_path / "expiry.sh"
    script.write_text(text(planned(*pems, **settings), f"{DIRECTORY}/caddy.sh"))
    (tmp_path / "run").mkdir(exist_ok=True)
    environment = {**os.environ, "RUNTIME_DIRECTORY": str(tmp_path / "run")}
    arguments = ["sh", str(script), *([] if round else ["--look"])]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True)
    return done.returncode, (done.stdout + done.stderr).splitlines()


@pytest.mark.parametrize(
    ("left", "life", "is_a_fault"),
    [
        (90, 90, False),
        (30, 90, False),  # a third: `up` renews it, and nobody has to hear of it
        (19, 90, False),
        (17, 90, True),
        (37, 180, False),
        (35, 180, True),
        (0.3, 1, False),
        (0.1, 1, True),
        (-1, 90, True),
    ],
)
def test_a_leaf_is_a_fault_when_a_fifth_of_its_life_is_left(left: float, life: float, is_a_fault: bool, tmp_path: Path) -> None:
    file = tmp_path / "ai.pem"
    file.write_bytes(days(left, life))
    rc, said = looked(tmp_path, Pem(str(file)))
    assert (rc, len(said)) == ((1, 1) if is_a_fault else (0, 0))


@pytest.mark.parametrize(("left", "is_a_fault"), [(3650, False), (100, False), (80, True)])
def test_a_ca_is_a_fault_90_days_before_its_end(left: float, is_a_fault: bool, tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_bytes(days(left, 3650))
    assert looked(tmp_path, Pem(str(file), ca=True))[0] == is_a_fault


def test_while_one_ca_takes_over_from_another_the_one_that_lasts_longest_counts(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    for bundle in ([3, 3650], [3650, 3]):
        file.write_bytes(b"".join(days(left, 3650) for left in bundle))
        assert looked(tmp_path, Pem(str(file), ca=True)) == (0, [])
    file.write_bytes(days(3, 3650) + days(5.5, 3650))
    assert "in 5 days" in looked(tmp_path, Pem(str(file), ca=True))[1][0]


def test_of_a_chain_the_leaf_counts(tmp_path: Path) -> None:
    file = tmp_path / "ai.pem"
    file.write_bytes(days(3, 90) + days(3650, 3650))
    assert looked(tmp_path, Pem(str(file)))[0] == 1
    file.write_bytes(days(80, 90) + days(3, 3650))
    assert looked(tmp_path, Pem(str(file)))[0] == 0


def test_the_days_may_be_said(tmp_path: Path) -> None:
    file = tmp_path / "ai.pem"
    file.write_bytes(days(29, 90))
    assert looked(tmp_path, Pem(str(file)))[0] == 0
    assert looked(tmp_path, Pem(str(file)), days=30)[0] == 1


def test_each_that_is_a_fault_is_a_line_that_says_which_how_long_and_what_to_do(tmp_path: Path) -> None:
    soon, over, well, ca, none, no = (tmp_path / f"{name}.pem" for name in ("soon", "over", "well", "ca", "none", "no"))
    soon.write_bytes(days(12.5, 90))
    over.write_bytes(days(-2, 90))
    well.write_bytes(days(60, 90))
    ca.write_bytes(days(10.5, 3650))
    no.write_text("what is this?")
    rc, said = looked(tmp_path, *(Pem(str(each), ca=each == ca) for each in (soon, over, well, ca, none, no)))
    day = {each: f"{x509.load_pem_x509_certificate(each.read_bytes()).not_valid_after_utc:%F}" for each in (soon, over, ca)}
    assert (rc, said) == (
        1,
        [
            f"{soon} ends in 12 days, on {day[soon]}: `paddock up` renews it",
            f"{over} ended on {day[over]}: `paddock up` renews it",
            f"the fleet's CA in {ca} ends in 10 days, on {day[ca]}: `paddock certs roll-over begin` makes the next",
            f"{none} is not there: `paddock up` puts it there",
            f"{no} holds no certificate that can be read: `paddock up` puts it there anew",
        ],
    )


def test_a_round_says_the_same_to_the_journal_as_errors_and_forgets_what_is_well_again(tmp_path: Path) -> None:
    file = tmp_path / "ai.pem"
    file.write_bytes(days(3.5, 90))
    for _ in range(2):
        rc, said = looked(tmp_path, Pem(str(file)), round=True)
        assert (rc, len(said)) == (1, 1)
        assert said[0].startswith(f"<3>{file} ends in 3 days")
    assert len(list((tmp_path / "run").iterdir())) == 1
    file.write_bytes(days(80, 90))
    assert looked(tmp_path, Pem(str(file)), round=True) == (0, [])
    assert list((tmp_path / "run").iterdir()) == []


def test_a_look_notes_nothing(tmp_path: Path) -> None:
    assert looked(tmp_path, Pem(str(tmp_path / "none.pem")))[0] == 1
    assert list((tmp_path / "run").iterdir()) == []


def test_status_looks_where_the_scripts_lie() -> None:
    assert f"{DIRECTORY}/*.sh;" in CONDITION_SH


def test_the_timer_runs_the_unit_that_runs_the_script() -> None:
    resources = planned(Pem("/etc/caddy/paddock/ca.pem", ca=True))
    assert isinstance(resources["service:paddock-expiry-caddy.timer"], Service)
    assert "OnCalendar=hourly" in text(resources, "/etc/systemd/system/paddock-expiry-caddy.timer").splitlines()
    unit = text(resources, "/etc/systemd/system/paddock-expiry-caddy.service").splitlines()
    assert {f"ExecStart=/bin/sh {DIRECTORY}/caddy.sh", "RuntimeDirectory=paddock/expiry/caddy", "RuntimeDirectoryPreserve=yes"} < set(unit)


@pytest.mark.parametrize(
    ("notify", "line"),
    [
        ('logger -- "$PADDOCK_FAULT"', 'logger -- "$PADDOCK_FAULT"\n'),
        (["/usr/bin/logger", "it's over"], "/usr/bin/logger 'it'\"'\"'s over'\n"),
    ],
)
def test_whom_to_tell_is_a_line_for_the_shell_or_a_program(notify: Any, line: str) -> None:
    resources = planned(Pem("/etc/ca.pem"), notify=notify, notify_as="mail")
    file = resources[f"file:{DIRECTORY}/caddy.notify"]
    assert isinstance(file, File)
    assert (file.data.decode(), file.mode) == (line, 0o600)
    script = text(resources, f"{DIRECTORY}/caddy.sh")
    assert "-p User=mail" in script and f"<{DIRECTORY}/caddy.notify" in script


def test_without_anybody_to_tell_nothing_is_run() -> None:
    resources = planned(Pem("/etc/ca.pem"))
    assert f"file:{DIRECTORY}/caddy.notify" not in resources
    assert "systemd-run" not in text(resources, f"{DIRECTORY}/caddy.sh")


def test_two_roles_of_a_host_each_have_their_own() -> None:
    watches = {name: expiry_watch(name, "door", (Pem("/etc/ca.pem"),), ExpirySettings()) for name in ("caddy", "client")}
    found = [(role, each.id) for role, each in expand((role, each) for role, watch in watches.items() for each in watch)]
    assert len(found) == len(set(found)) and (("client", "service:paddock-expiry-client.timer") in found)


@pytest.mark.parametrize("settings", [{"days": 0}, {"notify": []}, {"notify": "one\ntwo"}, {"notify_as": "A B"}, {"dys": 3}])
def test_settings_that_mean_nothing_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ExpirySettings.model_validate(settings)
