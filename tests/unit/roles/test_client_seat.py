"""What is done in a home, by the very script that does it: links appear, whatever lies there is kept, and all of it is taken back."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from inventory.context import Certificate
from roles.client.home import script_of
from roles.client.part import Person
from roles.client.settings import Seat

OURS = "/etc/paddock/clients/ann"
LINKS = {".pi/agent/certs/client.pem": f"{OURS}/certs/client.pem", ".pi/agent/models.json": f"{OURS}/models.json"}
MODELS = ".pi/agent/models.json"
ASIDE = ".local/state/paddock/client/aside"

KILLED = """
set -T
trap 'printf . >>"$COUNT"; read -r dots <"$COUNT" || :; [ ${#dots} -lt "$AT" ] || kill -9 -- -$$' DEBUG
. "$SCRIPT"
"""
"""Ends the script, with all that it has started, before its command number AT."""


class Home:
    def __init__(self, directory: Path) -> None:
        self.path = directory / "ann"
        self.path.mkdir()
        self.script = directory / "seat.sh"
        self.declare(LINKS)

    def declare(self, links: dict[str, str]) -> None:
        seat = Seat(client="laptop")
        person = Person("desk", "ann", seat, str(self.path), Certificate("", ""), "", (), "home")
        self.script.write_bytes(script_of(person, "seat", links=links).data)

    def seat(self, verb: str) -> str:
        """What it says, on standard error. It must succeed."""
        done = subprocess.run(["sh", str(self.script), verb], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert not done.stdout
        return done.stderr

    def killed(self, verb: str, at: int, count: Path) -> bool:
        """Whether the script was still at work when it was to be killed."""
        count.write_text("")
        environment = {**os.environ, "AT": str(at), "COUNT": str(count), "SCRIPT": str(self.script)}
        done = subprocess.run(["bash", "-c", KILLED, "seat", verb], env=environment, start_new_session=True, capture_output=True)
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        return done.returncode != 0

    def write(self, path: str, text: str) -> None:
        file = self.path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def found(self) -> dict[str, str]:
        """All that lies in the home: a directory, a link's target, or a file's text."""
        return {
            str(each.relative_to(self.path)): f"-> {each.readlink()}" if each.is_symlink() else "/" if each.is_dir() else each.read_text()
            for each in self.path.rglob("*")
        }

    def links(self) -> dict[str, str]:
        return {path: found.removeprefix("-> ") for path, found in self.found().items() if found.startswith("-> ")}


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


@pytest.mark.parametrize("verb", ["on", "off"])
def test_killed_before_one_of_its_commands_it_comes_to_the_same_end(verb: str, tmp_path: Path) -> None:
    at, alive = 1, True
    while alive:
        directory = tmp_path / f"{verb}-{at}"
        directory.mkdir()
        home = Home(directory)
        home.write(MODELS, "mine")
        before = home.found()
        if verb == "off":
            home.seat("on")
        alive = home.killed(verb, at, directory / "count")
        if at % 2:  # sometimes the next thing is what was to happen, sometimes the contrary
            home.seat("on")
            assert home.links() == LINKS, f"before command {at}"
        home.seat("off")
        left = home.found()
        # The one thing that nobody can have noted yet: the directory of the notes.
        assert {path: what for path, what in left.items() if not path.startswith(".local")} == before, f"before command {at}"
        assert all(what == "/" for path, what in left.items() if path.startswith(".local")), f"before command {at}: {left}"
        at += 4
    assert at > 40
