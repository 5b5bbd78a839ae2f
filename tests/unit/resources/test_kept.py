"""What a service reads is put back as it was: files, directories, and links, also those that lead to what is not kept."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

KEPT = Path(__file__).parents[3] / "resources" / "kept.sh"

STUBS = """set -eu
acted=
service_manager() { case $2 in is-active) return 0 ;; restart) echo restarted ;; esac; }
systemctl() { :; }
at() { :; }
service_past() { return 1; }
"""


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """An environment that `current` leads to, a configuration, and a directory."""
    for name in ("old", "new"):
        (tmp_path / "venv" / name).mkdir(parents=True)
    (tmp_path / "venv" / "current").symlink_to("old")
    (tmp_path / "configuration").write_text("old")
    (tmp_path / "whole").mkdir()
    (tmp_path / "whole" / "a").write_text("old")
    return tmp_path


def run(there: Path, script: str) -> str:
    source = KEPT.read_text().replace("/var/lib/paddock/kept", f"{there}/kept")
    done = subprocess.run(["dash", "-c", f"{source}\n{STUBS}{script}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_it_read_is_in_its_place_again(there: Path) -> None:
    paths = f"{there}/venv/current {there}/configuration {there}/whole {there}/later"
    run(there, f"service_keep x.service {paths}")
    (there / "venv" / "current").unlink()
    (there / "venv" / "current").symlink_to("new")
    for name in ("configuration", "later", "whole/a", "whole/b"):
        (there / name).write_text("new")
    assert run(there, "service_back x.service") == ""
    assert (there / "venv" / "current").readlink() == Path("old")
    assert (there / "configuration").read_text() == "old" and not (there / "later").exists()
    assert [path.name for path in (there / "whole").iterdir()] == ["a"] and (there / "whole" / "a").read_text() == "old"
    assert sorted(path.name for path in there.iterdir()) == ["configuration", "venv", "whole"]


def test_one_that_was_restarted_with_what_landed_is_restarted_with_what_was_there(there: Path) -> None:
    run(there, f"service_keep x.service {there}/venv/current")
    assert run(there, "acted=restart; service_back x.service") == "restarted\n"


def keeps_more(there: Path) -> None:
    """Keeps the configuration, and how what its `validate` makes is taken back."""
    (there / "copies").mkdir(exist_ok=True)
    (there / "copies" / "earlier").touch()
    (there / "listed").write_text("earlier\nmade\n")
    note, before = f"ls {there}/copies", f"grep -q new {there}/configuration"
    after = f'grep -q old {there}/configuration; grep -vxFf "$1/noted" {there}/listed >>{there}/undone'
    run(there, f"service_keep x.service {there}/configuration; service_keep_undo x.service '{note}' '{before}' '{after}'")
    (there / "configuration").write_text("new")


def test_more_than_files_is_taken_back_in_its_order_and_knows_what_was_there_before(there: Path) -> None:
    keeps_more(there)
    run(there, "service_keep_undo x.service 'echo later' false false")
    assert (there / "kept" / "x.service" / "noted").read_text() == "earlier\n", "as it was before the first run"
    run(there, "acted=restart; service_back x.service")
    assert (there / "configuration").read_text() == "old" and (there / "undone").read_text() == "made\n"
    assert not (there / "kept").exists()


def test_what_was_taken_back_once_is_not_taken_back_again_by_a_run_that_goes_on(there: Path) -> None:
    keeps_more(there)
    kept = there / "kept" / "x.service"
    run(there, f"undo_once {kept} before; echo old >{there}/configuration; undo_once {kept} after; service_back x.service")
    assert (kept.parent.exists(), (there / "undone").read_text()) == (False, "made\n")


def test_where_it_cannot_be_taken_back_what_is_kept_stays(there: Path) -> None:
    keeps_more(there)
    (there / "kept" / "x.service" / "after").write_text("exit 1\n")
    assert run(there, "service_back x.service || echo failed") == "failed\n"
    assert (there / "kept" / "x.service" / "files").exists()
