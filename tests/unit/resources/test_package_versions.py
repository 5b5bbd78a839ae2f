"""Another version of a package: its gate, and the file that is kept so that it can be put back. dpkg and apt are a file with a version."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

PACKAGES = Path(__file__).parents[3] / "resources" / "package.sh"

PROGRAMS = {
    "dpkg-query": 'case $3 in *Status*) echo "installed $(cat "$THERE/installed")" ;; *) cat "$THERE/installed" ;; esac',
    "dpkg-deb": 'case $1 in -x) mkdir -p "$3/usr/bin"; cp "$2" "$3/usr/bin/caddy" ;; *) cat "$2" ;; esac',
    "apt-get": """for each; do :; done
case $1 in
  install) [ ! -e "$THERE/refuses" ] || exit 1; cat "$each" >"$THERE/installed" ;;
  download) grep -qxF "${each#*=}" "$THERE/archive" || { echo "E: Version '${each#*=}' was not found"; exit 100; }
    echo "${each#*=}" >caddy_1_amd64.deb ;;
esac""",
    "chgrp": ":",
}

STUBS = 'set -eu; umask 077; at() { :; }; fail() { echo "$1" >&2; exit 1; }\n'


@pytest.fixture
def there(tmp_path: Path) -> Path:
    for name in ("bin", "stage", "paddock"):
        (tmp_path / name).mkdir()
    for name, text in PROGRAMS.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\nset -eu\n{text}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "installed").write_text("1\n")
    (tmp_path / "archive").write_text("1\n")
    (tmp_path / "stage" / "new").write_text("2\n")
    return tmp_path


def run(there: Path, script: str) -> subprocess.CompletedProcess[str]:
    source = PACKAGES.read_text().replace("/var/lib/paddock", f"{there}/paddock")
    environment = {**os.environ, "PATH": f"{there}/bin:{os.environ['PATH']}", "THERE": str(there)}
    command = ["dash", "-c", f"{source}\n{STUBS}stage={there}/stage\n{script}"]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_a_gate_reads_the_new_program_and_what_is_to_land_and_leaves_nothing(there: Path) -> None:
    (there / "stage" / "sites").write_text("sites\n")
    gate = f'cat "$1/usr/bin/caddy" "$2/etc/caddy/sites" >{there}/seen'
    done = run(there, f"package_try caddy new '' '{gate}' sites root /etc/caddy/sites")
    assert done.returncode == 0, done.stderr
    assert (there / "seen").read_text() == "2\nsites\n" and (there / "installed").read_text() == "1\n"
    assert list((there / "paddock").iterdir()) == [] and (there / "stage" / "new").exists(), "it is installed from there next"


def test_what_a_gate_refuses_is_told_and_nothing_is_installed(there: Path) -> None:
    done = run(there, "package_try caddy new '' 'echo unknown directive; exit 1'")
    assert done.returncode == 1 and done.stderr.endswith("its gate refuses it, so nothing was changed: unknown directive\n")
    assert (there / "installed").read_text() == "1\n" and list((there / "paddock").iterdir()) == []


def test_a_version_of_the_distribution_is_fetched_for_its_gate(there: Path) -> None:
    assert run(there, f"package_try caddy '' 1 'cat \"$1/usr/bin/caddy\" >{there}/seen'").returncode == 0
    assert (there / "seen").read_text() == "1\n"
    done = run(there, "package_try caddy '' 3 true")
    assert done.returncode == 1 and "the version 3 cannot be had: E: Version '3' was not found" in done.stderr


def test_a_file_that_was_installed_stays_and_can_be_put_back_where_no_archive_has_it(there: Path) -> None:
    assert run(there, "put_package caddy new ''").returncode == 0
    assert (there / "installed").read_text() == (there / "paddock/packages/caddy.deb").read_text() == "2\n"
    kept = run(there, f"package_keep caddy {there}/kept")
    assert kept.returncode == 0, kept.stderr
    assert (there / "kept" / "caddy.deb").read_text() == "2\n"
    (there / "paddock/packages/caddy.deb").unlink()
    lost = run(there, f"package_keep caddy {there}/again")
    assert lost.returncode == 1
    assert lost.stderr == "the package caddy 2 could not be put back, since apt does not have it any more: E: Version '2' was not found\n"


def test_a_file_that_cannot_be_installed_leaves_the_one_before(there: Path) -> None:
    run(there, "put_package caddy new ''")
    (there / "stage" / "newer").write_text("3\n")
    (there / "refuses").touch()
    assert run(there, "put_package caddy newer ''").returncode == 1
    assert [path.read_text() for path in (there / "paddock/packages").iterdir()] == ["2\n"]
