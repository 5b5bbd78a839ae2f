"""The wheel, installed where nothing else of Paddock is: the demo from an empty directory to a host that answers, and back.

The directory's name is such that whoever forgets to quote it is found out.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from lab import hosts as lab_hosts
from tests.share import turn
from tests.wheel import ROOT, built, digests

pytestmark = turn(1, of=5)

NAME = "wheel"


def test_the_installed_command_deploys_the_demo_and_writes_only_to_the_working_directory(tmp_path: Path) -> None:
    environment, work = tmp_path / "environment", tmp_path / "a b%h'$(touch made)`id`"
    work.mkdir()
    clean = {
        name: value
        for name, value in os.environ.items()
        if name not in ("VIRTUAL_ENV", "PYTHONPATH") and not name.startswith(("PADDOCK_", "PYTEST_"))
    }

    def run(*command: str | Path, code: int = 0) -> str:
        done = subprocess.run(
            list(map(str, command)), cwd=work, env=clean, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=1500
        )
        assert done.returncode == code, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def paddock(*arguments: str, code: int = 0) -> str:
        print("wheel: paddock", *arguments, flush=True)
        return run(environment / "bin" / "paddock", *arguments, code=code)

    wheel = built(tmp_path)
    run(sys.executable, "-m", "venv", environment)
    pip = (environment / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "-qq", "--no-input")
    run(*pip, "install", "--require-hashes", "--requirement", ROOT / "requirements.lock")
    run(*pip, "install", "--no-deps", "--no-index", wheel)
    run(*pip, "check")
    packages = Path(run(environment / "bin" / "python", "-c", "import cli; print(cli.__path__[0])").strip()).parent
    assert packages.is_relative_to(environment)
    before = digests(packages)

    assert "fleet demo in home.example" in paddock("check")
    paddock("render", "--to", "rendered")
    assert [path.name for path in work.iterdir()] == ["rendered"]
    assert "the demo was copied to this directory" in paddock("certs", "list")
    demo = work / "demo.yml"
    demo.write_text(demo.read_text().replace("fleet: demo ", f"fleet: {NAME} "))  # somebody's own demo may be up
    try:
        paddock("lab", "up")
        assert "llama-server.service" in paddock("plan", "--lab", code=3)
        paddock("up", "--lab", "--yes")
        paddock("plan", "--lab")
        checks = re.findall(r"\d+ checks passed", paddock("verify", "--lab"))
        clean |= {"PYTEST_ADDOPTS": "-k user", "PYTHONOPTIMIZE": "1"}
        assert checks == re.findall(r"\d+ checks passed", paddock("verify", "--lab")) != [], "no variable leaves checks out"
        paddock("teardown", "--lab", "--yes")
        paddock("lab", "down")
        assert lab_hosts.list(NAME) == ()
    finally:
        lab_hosts.down(NAME)

    after = digests(packages)
    assert {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)} == set()
    assert {path.name for path in work.iterdir()} == {"rendered", "demo.yml", ".paddock"}
    assert {path.name for path in (work / ".paddock").iterdir()} == {f"{NAME}-lab"}
