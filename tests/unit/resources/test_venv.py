"""An environment is made on a host, and the probe looks at it: both with the real shell functions, and the machine's own Python."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import signal
import subprocess
import tarfile
import zipfile
from base64 import urlsafe_b64encode
from dataclasses import replace
from pathlib import Path

import pytest

from resources import Service, Venv, Wheel, scripts
from resources.codec import read, written
from resources.probe import Actual, ProbeAnswer
from resources.steps import Steps
from verification.asserting import INSTALLED

pytestmark = pytest.mark.skipif(
    subprocess.run(["/usr/bin/python3", "-I", "-c", "import ensurepip, venv"], capture_output=True).returncode != 0,
    reason="the machine's own Python has no python3-venv",
)


def wheel(directory: Path, version: str = "1.0") -> Wheel:
    """A package with one module and one program, which print its version."""
    name, info = f"greeter-{version}-py3-none-any.whl", f"greeter-{version}.dist-info"
    files = {
        "greeter.py": f"def main() -> None:\n    print('{version}')\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: greeter\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[console_scripts]\ngreet = greeter:main\n",
    }
    digests = {path: urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=") for path, text in files.items()}
    record = "".join(f"{path},sha256={digests[path]},{len(text)}\n" for path, text in files.items())
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as packed:
        for path, text in {**files, f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}.items():
            packed.writestr(path, text)
    found = Wheel(name, hashlib.sha256(made.getvalue()).hexdigest(), len(made.getvalue()))
    (directory / found.sha256).mkdir(exist_ok=True)
    (directory / found.sha256 / name).write_bytes(made.getvalue())
    return found


class Host:
    """What an environment asks while it lands."""

    def __init__(self, venv: Venv, wheels: Path) -> None:
        self.payload = {venv.id: wheels}


@pytest.fixture
def venv(tmp_path: Path) -> Venv:
    return Venv(f"{tmp_path}/opt/greeter", (wheel(tmp_path),))


def script(venv: Venv, place: Path) -> str:
    """What lands it."""
    steps, stage = Steps(), place / f"stage.{venv.digest}"
    venv.land(steps, Host(venv, place))  # type: ignore[arg-type]
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir()
    with tarfile.open(fileobj=io.BytesIO(steps.archive(scripts().encode()))) as tar:
        tar.extractall(stage, filter="data")
    return f"set -eu; umask 077; stage={stage}; . {stage}/host.sh; . {stage}/steps"


def landed(venv: Venv, place: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["sh", "-c", script(venv, place)], capture_output=True, text=True)


def probed(venv: Venv, *, deep: bool = False, host: str = "") -> dict[str, str]:
    head = f"LC_ALL=C; tab=$(printf '\\t'); mark='#m'; IFS='\n'; set -f; echo \"$mark\"; deep() {{ {str(deep).lower()}; }}"
    run = f"{head}; venvs() {{ echo {venv.path}; }}; {scripts()}\n{host}\nprobe_venv\nsection end"
    said = subprocess.run(["sh", "-c", run], capture_output=True, text=True, check=True).stdout.splitlines()
    return dict(venv.found(ProbeAnswer(said, [venv])))


def says(venv: Venv) -> str:
    return subprocess.run([f"{venv.current}/bin/greet"], capture_output=True, text=True, check=True).stdout.strip()


def looked_at(venv: Venv) -> list[str]:
    """As verification looks at it."""
    asked = subprocess.run([f"{venv.current}/bin/python", "-I", "-B", "-c", INSTALLED], capture_output=True, text=True, check=True)
    return asked.stdout.splitlines()


def module(venv: Venv) -> Path:
    return next(Path(venv.current).glob("lib/*/site-packages/greeter.py"))


def test_an_environment_lands_with_its_wheels_and_nothing_else_and_is_seen_as_declared(venv: Venv, tmp_path: Path) -> None:
    assert probed(venv) == {}
    done = landed(venv, tmp_path)
    assert done.returncode == 0, done.stderr
    assert probed(venv) == probed(venv, deep=True) == venv.desired
    assert says(venv) == "1.0"
    assert looked_at(venv) == ["package greeter==1.0"]
    files = [path for path in Path(venv.current).resolve().rglob("*") if not path.is_symlink()]
    assert {oct(path.stat().st_mode & 0o777) for path in files if path.is_file()} <= {"0o644", "0o755"}
    assert {oct(path.stat().st_mode & 0o777) for path in files if path.is_dir()} == {"0o755"}


def test_newer_wheels_take_over_and_one_environment_before_is_kept(venv: Venv, tmp_path: Path) -> None:
    landed(venv, tmp_path)
    first = Path(venv.current).resolve()
    for version in ("1.1", "1.2"):
        venv = replace(venv, wheels=(wheel(tmp_path, version),))
        assert probed(venv)["wheels"] != venv.digest
        landed(venv, tmp_path)
        assert says(venv) == version and probed(venv) == venv.desired
    assert not first.exists()
    assert len(list(Path(venv.path).iterdir())) == 3


FAULTS = (
    ("echo >>$module", "greeter.py was changed", "greeter.py is not as its package has it"),
    ("rm $module", "greeter.py is missing", "greeter.py is missing"),
    ("touch ${module%/*}/sitecustomize.py", "sitecustomize.py was added", "sitecustomize.py is of no package"),
    ("chmod o+w $module", "greeter.py has another owner, mode or target", "greeter.py can be written by others than root"),
    ("ln -sfn /bin/true $current/bin/pip", "bin/pip was added", ""),
    ("echo x=1 >$module; touch $current/.paddock-venv", "a file is not as it was installed", "greeter.py is not as its package has it"),
)


def test_what_somebody_changes_is_named_by_the_probe_and_by_verification_and_made_anew_beside_it(venv: Venv, tmp_path: Path) -> None:
    landed(venv, tmp_path)
    before, whole = Path(venv.current).resolve(), tmp_path / "whole"
    shutil.copytree(before, whole, symlinks=True)
    names = {"module": str(module(venv)), "current": venv.current}
    for fault, said, verified in FAULTS:
        shutil.rmtree(before)
        shutil.copytree(whole, before, symlinks=True)
        assert probed(venv) == venv.desired, "as it was, though all files are newer"
        subprocess.run(["sh", "-c", fault], env={**os.environ, **names}, check=True)
        assert probed(venv, deep=True)["files"].endswith(said)
        assert not verified or any(line.endswith(verified) for line in looked_at(venv)), fault
    assert landed(venv, tmp_path).returncode == 0
    assert probed(venv) == venv.desired and says(venv) == "1.0"
    assert Path(venv.current).resolve() != before


def test_an_environment_of_the_python_before_an_upgrade_differs(venv: Venv) -> None:
    stamp = Path(venv.path, "made", ".paddock-venv")
    stamp.parent.mkdir(parents=True)
    Path(venv.current).symlink_to("made")
    stamp.write_text(f"{venv.digest}\n3.9\n")
    found = probed(venv, host="venv_python() { there=3.99; }")
    assert found["python"] == "3.9, and the host has 3.99"
    assert "python" in Actual(resources={venv.id: found}).differing(venv)
    assert probed(venv, host="venv_python() { there=; return 1; }")["python"] == "3.9, and the host has none"


def test_a_wheel_that_is_not_the_one_meant_is_not_installed(venv: Venv, tmp_path: Path) -> None:
    landed(venv, tmp_path)
    (meant,) = venv.wheels
    (tmp_path / meant.sha256).rename(tmp_path / ("0" * 64))
    done = landed(replace(venv, wheels=(meant._replace(sha256="0" * 64),)), tmp_path)
    assert done.returncode == 1
    assert "could not be made, so the one before stays" in done.stderr.splitlines()[-1]
    assert says(venv) == "1.0" and probed(venv) == venv.desired
    assert len(list(Path(venv.path).iterdir())) == 2, "what was begun is taken away"


def test_a_run_that_is_killed_leaves_the_old_one_working_and_the_next_makes_the_new(venv: Venv, tmp_path: Path) -> None:
    landed(venv, tmp_path)
    newer = replace(venv, wheels=(wheel(tmp_path, "2.0"),))
    for point in ('  rm -rf "$stage/wheels"\n', '  mv -fT "$path/current.paddock"'):
        run, host = script(newer, tmp_path), tmp_path / f"stage.{newer.digest}" / "host.sh"
        whole = host.read_text()
        assert whole.count(point) == 1
        host.write_text(whole.replace(point, f"  kill -KILL $$\n{point}"))
        assert subprocess.run(["sh", "-c", run]).returncode == -signal.SIGKILL
        assert says(venv) == "1.0" and probed(venv) == venv.desired
    assert landed(newer, tmp_path).returncode == 0
    assert says(newer) == "2.0" and probed(newer) == newer.desired


def test_it_leaves_without_a_trace(venv: Venv) -> None:
    Path(venv.path, "made").mkdir(parents=True)
    steps = Steps()
    Venv.leave(steps, venv.path, "put")
    subprocess.run(["sh", "-c", f"set -eu; {scripts()}\n{steps.calls[0]}"], check=True)
    assert not Path(venv.path).parent.exists()
    assert probed(venv) == {}


def test_a_service_that_runs_from_it_restarts_once_its_files_are_made_anew(venv: Venv) -> None:
    service = Service("greeter.service", restarts=(venv,))
    well = dict.fromkeys(service.desired, "") | dict(service.desired)
    drifted = {**venv.desired, "files": "greeter.py was changed"}
    actual = Actual(resources={venv.id: drifted, service.id: well})
    assert service.action(actual, frozenset({venv.id})) == "restart"


def test_a_plan_with_it_is_read_back_as_it_was(venv: Venv) -> None:
    (again,) = read(written({"gateway": (venv,)}), str)["gateway"]
    assert again == venv and isinstance(again, Venv)
    assert again.wheels[0].name == "greeter-1.0-py3-none-any.whl" and again.packages == ("greeter==1.0",)
