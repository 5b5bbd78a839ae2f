"""What is rendered is what lands, and those who are to read it accept it: systemd, Caddy and llama-server themselves."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from conftest import DEMO, Story

from control.deployment.render import read
from control.pki.authority import Authority
from control.state.fleet import FleetState
from control.state.secrets import Vault
from inventory.load import load
from roles.caddy.plan import VALIDATE
from tests.golden.test_demo_tree import GOLDEN, MINI_PC
from tests.lab_fleet import LabFleet

SERVER = "/opt/paddock/llama.cpp/current/bin/llama-server"
MOST_EXPOSED = 2.0

PROGRAM = "/etc/paddock/model-list/"
SETTLED = re.compile(r"\b[0-9a-f]{16}([0-9a-f]{48})?\b|<to be issued>")


def test_the_command_renders_the_demo_as_it_was_reviewed(tmp_path: Path) -> None:
    """The golden tree stands for a machine that was looked at, and for certificates: the one is made known, the others are issued."""
    inventory = Path(shutil.copy(DEMO, tmp_path / "inventory.yml"))
    fleet, demo = load(inventory), LabFleet("demo", tmp_path)
    state = FleetState.of(inventory, fleet.name)
    state.save_hardware("ai", MINI_PC)
    Authority(state, Vault(state)).issue(fleet, datetime.now(UTC))
    done = demo.paddock("render", "--to", str(tmp_path / "tree"))
    assert done.returncode == 0, done.stderr
    rendered, reviewed = read(tmp_path / "tree"), read(GOLDEN)
    print(done.stdout, flush=True)
    assert _settled(rendered) == _settled(reviewed)


def _settled(tree: Mapping[str, bytes]) -> dict[str, str]:
    """Without what differs from one issue to the next: certificates, and the digests of what holds them and of the tiny model; and without
    the programs of services, in whose place the reviewed tree has one file."""
    files = {path: content.decode() for path, content in tree.items() if PROGRAM not in path}
    texts = {path: "".join(line for line in text.splitlines(keepends=True) if PROGRAM not in line) for path, text in files.items()}
    return {path: "a certificate" if path.endswith(".pem") else SETTLED.sub("<digest>", text) for path, text in texts.items()}


def test_what_the_command_renders_is_what_landed(story: Story, tmp_path: Path) -> None:
    story.begin()
    done = story.fleet.paddock("render", "--lab", "--to", str(tmp_path / "tree"))
    assert done.returncode == 0, done.stderr
    compared = []
    for path, content in read(tmp_path / "tree").items():
        host, _, rest = path.partition("/")
        if rest != "resources.txt":
            landed = story.inside(host, f"cat /{rest}")
            assert landed == content.decode().strip() if content != b"<secret>\n" else "PRIVATE KEY" in landed, path
            compared.append(path)
    print(*compared, sep="\n", flush=True)
    assert len(compared) >= 9


def test_systemd_finds_nothing_to_say_about_the_units(story: Story) -> None:
    story.begin()
    units = "llama-server.service caddy.service paddock-expiry-caddy.service paddock-expiry-caddy.timer"
    said = story.inside("ai", f"systemd-analyze verify --recursive-errors=no {units} 2>&1; echo exit $?")
    assert said == "exit 0"


def test_systemd_finds_something_to_say_about_a_unit_that_is_wrong(story: Story) -> None:
    """What the test above relies on."""
    story.begin()
    said = story.inside(
        "ai",
        "cp /etc/systemd/system/llama-server.service /tmp/wrong.service; echo Sandbox=all >>/tmp/wrong.service; "
        "systemd-analyze verify --recursive-errors=no /tmp/wrong.service 2>&1; rm /tmp/wrong.service",
    )
    assert "Sandbox" in said


def test_llama_server_is_sandboxed(story: Story) -> None:
    story.begin()
    said = story.inside("ai", "systemd-analyze security --no-pager llama-server.service | tail -n 1")
    print(said, flush=True)
    exposure = re.search(r"exposure level for llama-server.service: ([0-9.]+)", said)
    assert exposure and float(exposure[1]) <= MOST_EXPOSED


def test_caddy_accepts_its_configuration_and_refuses_a_broken_one(story: Story) -> None:
    story.begin()
    assert "Valid configuration" in story.inside("ai", f"{VALIDATE} 2>&1")
    broken = "cp -a /etc/caddy/paddock/sites.caddy /tmp/sites; echo nonsense { >>/etc/caddy/paddock/sites.caddy"
    mended = "cp -a /tmp/sites /etc/caddy/paddock/sites.caddy; rm /tmp/sites"
    assert story.inside("ai", f"{broken}; {VALIDATE} >/dev/null 2>&1; echo exit $?; {mended}") == "exit 1"


def test_llama_server_accepts_its_presets(story: Story) -> None:
    story.begin()
    said = story.inside("ai", serve("/etc/paddock/llama-server/presets.ini") + "curl -sS http://127.0.0.1:8099/models; kill $!")
    assert re.findall(r'"id":"([^"]+)"', said) == ["demo"]
    assert '"--ctx-size","2048"' in said, "the preset was not read"


def test_llama_server_refuses_presets_with_an_option_that_it_does_not_know(story: Story) -> None:
    """A value that makes no sense it takes: the model's own worker refuses that, once somebody asks for the model."""
    story.begin()
    broken = "sed 's/^ctx-size/ctx-sizes/' /etc/paddock/llama-server/presets.ini >/tmp/broken.ini; "
    said = story.inside(
        "ai",
        broken
        + serve("/tmp/broken.ini")
        + "curl -sS http://127.0.0.1:8099/models 2>&1; kill $! 2>/dev/null; cat /tmp/said; rm /tmp/said /tmp/broken.ini",
    )
    print(said[-600:], flush=True)
    assert '"id":"demo"' not in said
    assert "option 'ctx-sizes' not recognized" in said


def serve(presets: str) -> str:
    """Starts the released binary with a preset file, on a port that nothing else uses, and waits until it listens or has ended."""
    return (
        f"{SERVER} --host 127.0.0.1 --port 8099 --models-preset {presets} --offline >/tmp/said 2>&1 & "
        "until ss -Hltn | grep -q :8099 || ! kill -0 $! 2>/dev/null; do sleep 0.1; done; "
    )
