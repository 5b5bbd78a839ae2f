"""What is done in a home, by the very script that does it: links appear, whatever lies there is kept, and all of it is taken back."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.unit.roles.seat_home import ASIDE, LINKS, MODELS, OURS, Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_links_appear_and_go_and_so_do_the_directories_that_were_made_for_them(home: Home) -> None:
    home.seat("on")
    assert home.links() == LINKS
    home.seat("off")
    assert home.found() == {}


def test_a_second_run_changes_nothing(home: Home) -> None:
    home.write(MODELS, "mine")
    home.seat("on")
    before = home.found()
    assert home.seat("on") == ""
    assert home.found() == before


def test_what_was_there_is_set_aside_and_put_back(home: Home) -> None:
    home.write(MODELS, "mine")
    home.write(".pi/agent/certs/own.pem", "mine")
    (home.path / ".pi/agent/old").symlink_to("/nowhere")
    home.declare({each: f"{OURS}/{Path(each).name}" for each in (MODELS, ".pi/agent/certs", ".pi/agent/old")})
    before = home.found()
    assert home.seat("on").count("was there already: set aside") == 3
    assert home.links()[".pi/agent/certs"] == f"{OURS}/certs"
    home.seat("off")
    assert home.found() == before


def test_directories_that_were_there_stay(home: Home) -> None:
    (home.path / ".pi/agent").mkdir(parents=True)
    (home.path / ".local/state").mkdir(parents=True)
    before = home.found()
    home.seat("on")
    home.seat("off")
    assert home.found() == before


def test_a_directory_that_something_was_put_into_meanwhile_stays(home: Home) -> None:
    home.seat("on")
    home.write(".pi/agent/settings.json", "pi's own")
    home.seat("off")
    assert home.found() == {".pi": "/", ".pi/agent": "/", ".pi/agent/settings.json": "pi's own"}


def test_what_somebody_has_put_in_the_place_of_a_link_stays_and_is_told(home: Home) -> None:
    home.write(MODELS, "first")
    home.seat("on")
    (home.path / MODELS).unlink()
    home.write(MODELS, "second")
    assert "is no link of Paddock's any more, so it stays" in home.seat("off")
    found = home.found()
    assert found[MODELS] == "second"
    assert found[f"{ASIDE}/{MODELS}"] == "first"


def test_what_was_put_there_twice_is_kept_twice(home: Home) -> None:
    home.write(MODELS, "first")
    home.seat("on")
    (home.path / MODELS).unlink()
    home.write(MODELS, "second")
    home.seat("on")
    assert home.links() == LINKS
    home.seat("off")
    found = home.found()
    assert found[MODELS] == "second"
    assert found[f"{ASIDE}/{MODELS}.~1~"] == "first"


def test_a_link_that_somebody_has_removed_is_made_again_and_what_was_there_first_comes_back(home: Home) -> None:
    home.write(MODELS, "mine")
    home.seat("on")
    (home.path / MODELS).unlink()
    home.seat("on")
    assert home.links() == LINKS
    (home.path / MODELS).unlink()
    home.seat("off")
    assert home.found() == {".pi": "/", ".pi/agent": "/", MODELS: "mine"}


def test_a_link_that_is_declared_no_more_goes_and_another_target_takes_the_place_of_the_first(home: Home) -> None:
    home.write(MODELS, "mine")
    home.seat("on")
    home.declare({".pi/agent/certs/client.pem": f"{OURS}/certs/other.pem"})
    home.seat("on")
    assert home.links() == {".pi/agent/certs/client.pem": f"{OURS}/certs/other.pem"}
    assert home.found()[MODELS] == "mine"


def test_a_file_in_the_place_of_a_directory_is_told_and_left(home: Home) -> None:
    home.write(".pi", "a file")
    done = subprocess.run(["sh", str(home.script), "on"], capture_output=True, text=True)
    assert done.returncode != 0
    assert done.stderr.splitlines()[-1] == f"{home.path}/.pi is there and is no directory"
    home.seat("off")
    assert home.found() == {".pi": "a file"}


def test_a_home_that_is_not_there_is_told_with_what_to_say(home: Home) -> None:
    home.path.rmdir()
    done = subprocess.run(["sh", str(home.script), "on"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, f"there is no directory {home.path}: say under home where ann has its home\n")


def test_a_link_in_the_place_of_a_directory_is_followed_and_nothing_else_there_is_touched(home: Home, tmp_path: Path) -> None:
    elsewhere = tmp_path / "dotfiles"
    elsewhere.mkdir()
    (elsewhere / "other").write_text("mine")
    (home.path / ".pi").symlink_to(elsewhere)
    home.seat("on")
    assert (elsewhere / "agent/models.json").is_symlink()
    home.seat("off")
    assert [each.name for each in elsewhere.iterdir()] == ["other"]
    assert home.links() == {".pi": str(elsewhere)}
