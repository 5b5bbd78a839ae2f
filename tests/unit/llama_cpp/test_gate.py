"""What the gate is given to try: all that is rendered for llama-server, and nothing that would disturb what serves."""

import io
import subprocess
import tarfile
from dataclasses import replace

import pytest

from control.models.tiny_model import ANSWER as SAID
from resources import File, Release, Resource, Service, on_trial
from roles.llama_cpp.gate import ANSWER, HOME, OF_THE_UNIT, SOCKET, Instance, instances, trial
from tests.unit.roles.small_fleet import Small

CURRENT = "/opt/paddock/llama.cpp/current"
UNIT = "llama-server.service"
PRESETS = "/etc/paddock/llama-server/presets.ini"

ELSEWHERE = {
    *("Type", "ExecStart", "ExecStartPre", "ExecStartPost", "ExecReload", "ExecStop", "WorkingDirectory"),
    *("StateDirectory", "StateDirectoryMode"),
    *("RuntimeDirectory", "RuntimeDirectoryMode", "PrivateNetwork", "RestartSteps", "RestartMaxDelaySec"),
    *("ReadWritePaths", "MemoryMax", "KillMode", "TimeoutStopSec", "Restart", "RestartSec", "OOMPolicy", "RemoveIPC"),
}
"""What a unit says of its life, of what it writes to and of its network: the gate has its own, and nobody sends a trial anything."""

RELEASE = Release(
    "/opt/paddock/llama.cpp/releases/1.0-0123456789ab",
    CURRENT,
    "1.0",
    "0123456789ab",
    "sdist",
    options=(),
    targets=(),
    packages=(),
    environment=(("GGML_VK_VISIBLE_DEVICES", "0"),),
    devices=("Vulkan0", "Vulkan1"),
    cpu_features=("avx", "avx2"),
)


@pytest.fixture
def small() -> Small:
    return Small()


def release(plan: dict[str, Resource]) -> Release:
    found = plan[f"release:{CURRENT}"]
    assert isinstance(found, Release)
    return found


def instance(small: Small, host: str = "ai") -> Instance:
    plan = small.plan(host)
    (found,) = instances(plan.values(), release(plan))
    return found


def service(command: str, *more: File, name: str = "small.service") -> tuple[Resource, ...]:
    """An instance's service, the way that `expand` gives it: with the release among what only its start reads."""
    unit = File(
        f"/etc/systemd/system/{name}", f"[Unit]\nDescription=small\n[Service]\nUser=small\nExecStart={command}\n[Install]\nUser=no\n"
    )
    return (RELEASE, unit, *more, Service(name, restarts=(unit, *more, RELEASE)))


def packed(release: Release, resources: tuple[Resource, ...]) -> dict[str, str]:
    with tarfile.open(fileobj=io.BytesIO(trial(release, resources, b"GGUF"))) as tar:
        assert {each.mode for each in tar} == {0o644}
        return {each.name: tar.extractfile(each).read().decode() for each in tar}  # type: ignore[union-attr]


def test_a_command_line_is_tried_as_it_stands_but_for_where_it_listens_and_reads(small: Small) -> None:
    (rendered,) = [
        line for line in small.text("ai", f"/etc/systemd/system/{UNIT}").replace("\\\n", " ").splitlines() if line.startswith("ExecStart=")
    ]
    command = rendered.split()[1:]
    tried = list(instance(small).arguments)
    assert tried.pop() == "--no-models-autoload"
    assert {before: after for before, after in zip(command, tried, strict=True) if before != after} == {
        "/run/llama-server/llama-server/http.sock": SOCKET,
        PRESETS: f"{HOME}/services/{UNIT}/files/0",
    }


def test_a_server_that_says_nothing_of_where_it_listens_takes_no_port() -> None:
    (found,) = instances(service(f"{CURRENT}/bin/llama-server -m /srv/small.gguf"), RELEASE)
    assert found.arguments == ("-m", "/srv/small.gguf", "--host", SOCKET)


def test_nothing_is_loaded_when_the_router_starts_and_every_key_is_tried(small: Small) -> None:
    small.models["demo"]["preset"] = {"load-on-startup": True, "ctx-size": 4096}
    small.roles["ai"]["llama_server"]["preset"] = {"load-on-startup": True}
    rendered, (tried,) = small.text("ai", PRESETS), instance(small).files.values()
    assert rendered.count("load-on-startup = true") == 2
    assert tried.decode() == rendered.replace("load-on-startup = true", "load-on-startup = false")


def test_a_trial_writes_no_log_of_the_service_and_needs_no_directory_that_lands_with_it(small: Small) -> None:
    small.models["demo"]["preset"] = {"log-file": "/srv/logs/demo", "slot-save-path": "/srv/slots"}
    (tried,) = instance(small).files.values()
    assert b"log-file = /dev/null\nslot-save-path = /tmp\n" in tried and b"/srv/logs" not in tried


def test_a_trial_reads_what_the_service_may_read_of_a_home(small: Small) -> None:
    small.models["demo"]["preset"] = {"grammar-file": "/home/me/json.gbnf"}
    assert 'BindReadOnlyPaths="-/home/me/json.gbnf"' in instance(small).properties


def test_a_model_with_a_longer_key_of_that_name_keeps_it(small: Small) -> None:
    small.models["demo"]["preset"] = {"load-on-startup-not": True}
    assert b"load-on-startup-not = true" in instance(small).files["files/0"]


def test_the_trial_runs_in_the_sandbox_of_the_service(small: Small) -> None:
    unit = small.text("ai", f"/etc/systemd/system/{UNIT}").partition("[Service]\n")[2].partition("[Install]")[0].replace("\\\n", " ")
    lines = [line for line in unit.splitlines() if line and not line.startswith("#")]
    assert list(instance(small).properties) == [line for line in lines if line.partition("=")[0] in OF_THE_UNIT]
    assert {line.partition("=")[0] for line in lines} - OF_THE_UNIT <= ELSEWHERE, "say of each whether a trial is to have it"


def test_a_fixed_model_is_tried_with_what_lands_beside_its_unit() -> None:
    template = File("/etc/small/chat.jinja", "{{ messages }}")
    options = f"--chat-template-file {template.path} --alias 100%% --log-file /var/log/x"
    command = f'{CURRENT}/bin/llama-server -m "/srv/a b.gguf" \\\n  {options}'
    (found,) = instances(service(command, template), RELEASE)
    copy = f"{HOME}/services/small.service/files/0"
    line = ("-m", "/srv/a b.gguf", "--chat-template-file", copy, "--alias", "100%", "--log-file", "/dev/null", "--host", SOCKET)
    assert found == Instance("small.service", line, ("User=small",), {"files/0": template.data})


def test_a_secret_is_no_part_of_a_trial() -> None:
    key = File("/etc/small/key", "sk-secret", mode=0o600, secret=True)
    found = packed(RELEASE, service(f"{CURRENT}/bin/llama-server -m /srv/small.gguf --api-key-file {key.path}", key))
    assert "sk-secret" not in str(found)


def test_what_runs_another_program_or_another_release_is_left_alone() -> None:
    other = replace(RELEASE, current="/opt/other/current")
    assert instances(service("/usr/bin/other"), RELEASE) == ()
    assert instances(service(f"{CURRENT}/bin/llama-server"), other) == ()


def test_a_trial_holds_what_the_script_reads() -> None:
    assert packed(RELEASE, service(f"{CURRENT}/bin/llama-server -m /srv/small.gguf")) == {
        "features": "avx\navx2\n",
        "devices": "Vulkan0\nVulkan1\n",
        "environment": "GGML_VK_VISIBLE_DEVICES=0\n",
        "answer": f"{ANSWER}\n",
        "schema": "{}\n",
        "properties": "User=small\n",
        "services/small.service/unit": "small.service\n",
        "services/small.service/arguments": f"-m\n/srv/small.gguf\n--host\n{SOCKET}\n",
        "services/small.service/properties": "User=small\n",
        "tiny.gguf": "GGUF",
    }


def test_a_router_is_told_from_a_fixed_model_by_its_presets(small: Small) -> None:
    plan = small.plan("ai")
    found = packed(release(plan), tuple(plan.values()))
    assert found[f"services/{UNIT}/presets"] == f"{PRESETS}\n"
    assert f"\n{HOME}/services/{UNIT}/files/0\n" in found[f"services/{UNIT}/arguments"]
    assert found[f"services/{UNIT}/files/0"].startswith("# Written by Paddock")


def test_a_host_on_which_nothing_serves_tries_the_release_all_the_same() -> None:
    found = packed(RELEASE, (RELEASE,))
    assert found["properties"] == "" and found["devices"] == "Vulkan0\nVulkan1\n"
    assert not [name for name in found if name.startswith("services")]


def test_the_answer_is_what_the_tiny_model_says() -> None:
    assert ANSWER in "".join(SAID).replace("▁", " ")


def test_the_script_is_one_that_dash_reads() -> None:
    subprocess.run(["dash", "-n"], input=on_trial("gate.sh"), check=True)


def test_script_and_trial_agree_on_the_directories() -> None:
    script = on_trial("gate.sh").decode()
    assert f"trial={HOME.rpartition('/')[2]} " in script and f"server={SOCKET.split('/')[2]}\n" in script


@pytest.mark.parametrize("end", ["\u2028", "\u2029", "\x85", "\v", "\f", "\x1c", "\x1d", "\x1e", "\r"])
def test_a_unit_is_read_back_line_by_line_as_systemd_does(end: str) -> None:
    """What str.splitlines() takes for the end of a line made a trial run as root, with a library of somebody's choice."""
    hostile = f"x{end}User=root{end}Environment=LD_PRELOAD=/x{end}[Service]{end}User=root"
    (found,) = instances(service(f'{CURRENT}/bin/llama-server --grammar "{hostile}"'), RELEASE)
    assert found.properties == ("User=small",)
    assert found.arguments[:2] == ("--grammar", hostile)
