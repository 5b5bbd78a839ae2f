"""The wheel holds the whole product, and what it installs is never written to. `installed` is its content, unpacked."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.wheel import built, digests, product

Python = Callable[..., subprocess.CompletedProcess[str]]
Paddock = Python


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("installed")
    zipfile.ZipFile(built(tmp_path_factory.mktemp("wheel"))).extractall(directory)
    return directory


@pytest.fixture
def paddock(python: Python) -> Paddock:
    return lambda *arguments, **environment: python("-m", "cli", *arguments, **environment)


@pytest.fixture
def python(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, installed: Path) -> Python:
    """Runs in tmp_path. Nothing of what is installed may change meanwhile."""

    home = tmp_path_factory.mktemp("home")

    def call(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PADDOCK_")}
        env = {**kept, "HOME": str(home), "PYTHONPATH": str(installed), "COLUMNS": "120", **environment}
        before = digests(installed)
        done = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, env=env, input="hush\n", capture_output=True, text=True, timeout=60
        )
        assert digests(installed) == before
        return done

    return call


def test_every_file_of_the_product_is_in_the_wheel_and_nothing_else(installed: Path) -> None:
    packed = {name for name in digests(installed) if ".dist-info/" not in name}
    assert sorted(product() - packed) == [], "not in the wheel: see [tool.setuptools] in pyproject.toml"
    assert sorted(packed - product()) == []


def test_verbs_that_keep_nothing_read_the_installed_demo(paddock: Paddock, tmp_path: Path) -> None:
    assert "fleet demo in home.example: 1 host" in paddock("check").stdout
    done = paddock("render")
    assert (done.returncode, done.stderr) == (0, "") and "service:llama-server.service" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_the_demo_is_copied_to_the_working_directory_and_its_state_lies_beside_the_copy(
    paddock: Paddock, tmp_path: Path, installed: Path
) -> None:
    done = paddock("secrets", "set", "hf-token")
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("demo.yml: no inventory was named, so the demo was copied to this directory\n")
    assert (tmp_path / "demo.yml").read_text() == (installed / "inventory/demo.yml").read_text()
    assert (tmp_path / ".paddock/demo/secrets/hf-token.age").is_file()


def test_a_copy_that_was_changed_is_used_as_it_is(paddock: Paddock, tmp_path: Path, installed: Path) -> None:
    changed = (installed / "inventory/demo.yml").read_text().replace("fleet: demo ", "fleet: mine ")
    (tmp_path / "demo.yml").write_text(changed)
    assert "fleet mine" in paddock("check").stdout
    assert paddock("secrets", "set", "hf-token").returncode == 0
    assert (tmp_path / "demo.yml").read_text() == changed and (tmp_path / ".paddock/mine").is_dir()


def test_the_tab_key_copies_nothing(paddock: Paddock, tmp_path: Path) -> None:
    said = tmp_path / "said"
    asked = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_STDOUT_FILENAME": str(said), "_ARGCOMPLETE_IFS": "\n"}
    for line in ("paddock certs revoke lap", "paddock secrets show h", "paddock up --limit a"):
        paddock(**asked, COMP_LINE=line, COMP_POINT=str(len(line)), _ARGCOMPLETE_COMP_WORDBREAKS=" ")
    assert list(tmp_path.iterdir()) == [said] and "ai" in said.read_text()


@pytest.mark.parametrize("arguments", [("secrets", "set", "hf-token"), ("certs", "list")])
def test_state_beside_an_installed_file_is_2_in_one_line(
    paddock: Paddock, tmp_path: Path, installed: Path, arguments: tuple[str, ...]
) -> None:
    demo = str(installed / "inventory" / "demo.yml")
    done = paddock("-i", demo, *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(f"{installed}/inventory/.paddock/demo: Paddock is installed there") and done.stderr.count("\n") == 1
    moved = paddock("-i", demo, *arguments, PADDOCK_STATE=str(tmp_path / "state"))
    assert moved.returncode in (0, 3), moved.stderr


def test_an_installed_inventory_is_not_edited(python: Python, installed: Path) -> None:
    """`models ctx`, `models pull --lock` and the like write to the inventory, or beside it."""
    code = "import sys, pathlib; from control.state.fleet import write_atomically as w; w(pathlib.Path(sys.argv[1]), 'x')"
    for name in ("demo.yml", "demo.models.lock"):
        done = python("-c", code, str(installed / "inventory" / name))
        assert "UsageError" in done.stderr and "Paddock is installed there" in done.stderr
