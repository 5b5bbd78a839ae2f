"""What the watchdog looks after, and how; what it does then is seen on real servers in tests/serving/test_watchdog.py."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from inventory.errors import PaddockError
from inventory.fleet import Fleet
from inventory.hardware import Hardware, PciDevice, VulkanDevice
from inventory.knowledge import Knowledge
from resources import File, Release, Resource, Service
from roles.server import KEY_FILE
from roles.watchdog.plan import NOTIFY, PROMPT, SCRIPT, TIMER, UNIT, WATCHED, plan
from roles.watchdog.settings import WatchdogSettings

RADEON = PciDevice("0000:c5:00.0", "1002", "1586", "Strix Halo")
RADV = VulkanDevice("AMD Radeon Graphics (RADV GFX1151)", "radv", "integrated", "1.4.305")
LLVMPIPE = VulkanDevice("llvmpipe", "llvmpipe", "cpu", "1.4.305")
MACHINE = Hardware("x86_64", "", frozenset(), 2, 16384, "debian 13")
KEY = "sk-of-pea"
SOCKETS = "unix:/run/paddock"


def planned(server: dict[str, Any], *, backend: str = "cpu", hardware: Hardware = MACHINE, **watchdog: Any) -> dict[str, Resource]:
    roles = {"llama_cpp": {}, "models": {}, "llama_server": server} if server else {}
    document = {
        "name": "home",
        "domain": "home.example",
        "hosts": {"pea": {"name": "pea", "address": "192.0.2.7", "roles": {**roles, "watchdog": watchdog}}},
        "models": {"chat": {}, "embed": {"preset": {"embeddings": True}}, "rank": {"preset": {"reranking": True}}},
    }
    fleet = Fleet.model_validate(document)
    release = Release("/opt/r/1", "/opt/r/current", "1", "f", "sdist", (), (), (), backend=backend)
    knowledge = Knowledge(hardware={"pea": hardware}, releases={"pea": release}, secrets={"api-key.pea": KEY})
    return {each.id: each for each in plan(fleet.hosts["pea"], WatchdogSettings.model_validate(watchdog), fleet, knowledge)}


def text(resources: dict[str, Resource], path: str) -> str:
    file = resources[f"file:{path}"]
    assert isinstance(file, File)
    return file.data.decode()


def watched(server: dict[str, Any], **known: Any) -> list[str]:
    return [line for line in text(planned(server, **known), WATCHED).splitlines() if not line.startswith("#")]


def instance(**more: Any) -> dict[str, Any]:
    return {"instances": {"chat": {"model": "chat", "listen": "127.0.0.1:8081", **more}}}


def test_each_instance_and_each_model_of_a_router_is_looked_after_for_itself() -> None:
    server = {"listen": "192.0.2.7:8080", "models": ["chat", "embed"], **instance(count=2)}
    assert [" ".join(line.split()[:9]) for line in watched(server)] == [
        f"llama-server llama-server.service - {SOCKETS}/llama-server.sock - none no none -",
        f"llama-server llama-server.service - {SOCKETS}/llama-server.sock chat chat no none -",
        f"llama-server llama-server.service - {SOCKETS}/llama-server.sock embed embedding no none -",
        f"chat-1 llama-server-chat-1.service - {SOCKETS}/llama-server-chat-1.sock - chat no none -",
        f"chat-2 llama-server-chat-2.service - {SOCKETS}/llama-server-chat-2.sock - chat no none -",
    ]


@pytest.mark.parametrize(
    ("listen", "reached"), [("0.0.0.0:8081", "127.0.0.1:8081"), ("[::]:8081", "[::1]:8081"), ("[::1]:8081", "[::1]:8081")]
)
def test_an_accounts_own_that_listens_everywhere_is_asked_on_this_host(listen: str, reached: str) -> None:
    assert watched({**instance(listen=listen), "user": "halo"})[0].split()[3] == f"http://{reached}"


@pytest.mark.parametrize(("model", "purpose"), [("chat", "chat"), ("embed", "embedding"), ("rank", "rerank")])
def test_each_model_is_asked_what_it_is_for(model: str, purpose: str) -> None:
    assert watched(instance(model=model))[0].split()[5] == purpose


def test_one_that_may_fall_asleep_is_never_asked_where_looking_would_wake_it() -> None:
    def columns(**preset: Any) -> list[str]:
        return watched(instance(preset=preset))[0].split()[5:7]

    assert columns() == ["chat", "no"]
    assert columns(**{"sleep-idle-seconds": 300}) == ["chat", "yes"]
    assert columns(**{"sleep-idle-seconds": -1}) == ["chat", "no"]
    for off in (False, "off"):
        assert columns(**{"sleep-idle-seconds": 300, "metrics": off}) == ["none", "yes"]


def test_the_key_is_read_from_its_file_and_stands_nowhere_else() -> None:
    resources = planned({**instance(), "api_key": True})
    assert text(resources, WATCHED).split()[-3] == KEY_FILE
    assert KEY not in "".join(each.data.decode() for each in resources.values() if isinstance(each, File))


HALO = replace(MACHINE, gpus=(RADEON,), vulkan=(RADV,))


@pytest.mark.parametrize(
    ("backend", "hardware", "preset", "who"),
    [
        ("cuda", MACHINE, {}, "nvidia"),
        ("cuda", MACHINE, {"n-gpu-layers": 0}, "none"),
        ("cuda", MACHINE, {"device": "none"}, "none"),
        ("vulkan", HALO, {"n-gpu-layers": 99}, "drm"),
        ("vulkan", replace(HALO, vulkan=(LLVMPIPE,)), {}, "none"),
        ("vulkan", replace(HALO, gpus=(PciDevice("0000:01:00.0", "10de", "2204"),)), {}, "none"),
        ("cpu", HALO, {}, "none"),
    ],
)
def test_the_offload_is_looked_at_where_somebody_can_tell_of_it(backend: str, hardware: Hardware, preset: dict[str, Any], who: str) -> None:
    assert watched(instance(preset=preset), backend=backend, hardware=hardware)[0].split()[7] == who


def of_speed(server: dict[str, Any], **watchdog: Any) -> list[list[str]]:
    """The way in which each is served, and how long its prompts are."""
    return [line.split()[9:] for line in watched(server, **watchdog)]


def test_the_speed_is_looked_at_of_what_generates_and_stays_awake() -> None:
    router = {"listen": "192.0.2.7:8080", "models": ["chat", "embed", "rank"]}
    (itself, (way, characters), embeds, ranks) = of_speed(router)
    assert itself == embeds == ranks == ["-", "0"]
    assert (len(way), characters) == (16, "2400")
    assert of_speed(instance(preset={"sleep-idle-seconds": 300})) == [["-", "0"]]


def test_a_prompt_is_no_longer_than_a_slot_has_room_for() -> None:
    assert [each[1] for each in of_speed(instance(preset={"ctx-size": 1024, "parallel": 2}))] == ["256"]


def test_a_model_that_is_served_otherwise_is_held_to_no_speed_of_before() -> None:
    served: list[dict[str, Any]] = [{}, {"preset": {"n-gpu-layers": 0}}, {"preset": {"n-gpu-layers": 1}}, {"gpus": [0]}]
    ways = {of_speed(instance(**each))[0][0] for each in served}
    assert len(ways) == len(served)
    assert of_speed(instance()) == of_speed(instance(listen="127.0.0.1:8089"))


def test_where_nobody_looks_at_speeds_there_is_no_prompt() -> None:
    assert of_speed(instance(), speed_every_s=0) == [["-", "0"]]
    assert f"file:{PROMPT}" not in planned(instance(), speed_every_s=0)
    assert len(text(planned(instance()), PROMPT)) == 2400


def test_a_host_without_a_server_needs_none() -> None:
    with pytest.raises(PaddockError) as caught:
        planned({})
    assert str(caught.value) == ("hosts.pea.roles.watchdog: there is no llama-server here to watch: remove the role from this host")


def test_the_timer_runs_the_unit_and_the_times_are_the_inventorys() -> None:
    resources = planned(instance(), every_s=120, answer_s=7)
    assert isinstance(resources[f"service:{TIMER}"], Service)
    assert "OnUnitInactiveSec=120" in text(resources, f"/etc/systemd/system/{TIMER}").splitlines()
    assert f"ExecStart=/bin/sh {SCRIPT}" in text(resources, f"/etc/systemd/system/{UNIT}").splitlines()
    assert "answer_s=7 " in text(resources, SCRIPT)


def test_where_it_notes_what_it_has_seen_is_made_at_each_boot_and_outlives_a_round() -> None:
    unit = text(planned(instance()), f"/etc/systemd/system/{UNIT}").splitlines()
    assert {"RuntimeDirectory=paddock/watchdog", "RuntimeDirectoryPreserve=yes"} < set(unit)


@pytest.mark.parametrize(
    ("notify", "line"),
    [
        ('logger -- "$PADDOCK_FAULT"', 'logger -- "$PADDOCK_FAULT"\n'),
        (["/usr/bin/logger", "it's lost"], "/usr/bin/logger 'it'\"'\"'s lost'\n"),
    ],
)
def test_whom_to_tell_is_a_line_for_the_shell_or_a_program(notify: Any, line: str) -> None:
    resources = planned(instance(), notify=notify, notify_as="mail")
    file = resources[f"file:{NOTIFY}"]
    assert isinstance(file, File)
    assert (file.data.decode(), file.mode) == (line, 0o600)
    assert "-p User=mail" in text(resources, SCRIPT) and f"<{NOTIFY}" in text(resources, SCRIPT)


def test_without_anybody_to_tell_nothing_is_run() -> None:
    resources = planned(instance())
    assert f"file:{NOTIFY}" not in resources and "watchdog-notify" not in text(resources, SCRIPT)


@pytest.mark.parametrize("notify", ["two\nlines", [], ""])
def test_what_cannot_be_run_is_refused(notify: Any) -> None:
    with pytest.raises(ValidationError):
        WatchdogSettings.model_validate({"notify": notify})


# How much of a card's memory a process holds is read from /proc/PID/fdinfo: here it is files, in the form of amdgpu (Linux 6.12) and of
# i915. Two descriptors of one client count once.
AMDGPU = """pos:\t0
drm-driver:\tamdgpu
drm-client-id:\t{client}
drm-pdev:\t0000:c5:00.0
drm-memory-vram:\t524288 KiB
drm-memory-gtt: \t{gtt} KiB
drm-memory-cpu: \t9999 KiB
drm-resident-vram:\t524288 KiB
drm-resident-gtt:\t{gtt} KiB
drm-engine-gfx:\t2000000000 ns
"""
I915 = """drm-driver:\ti915
drm-pdev:\t0000:00:02.0
drm-client-id:\t7
drm-total-system0:\t90 MiB
drm-resident-system0:\t64 MiB
drm-engine-render:\t500000000 ns
"""


def called(function: str, tmp_path: Path, *files: str) -> str:
    """What a function of the script prints of a process with these descriptors."""
    (tmp_path / "7" / "fdinfo").mkdir(parents=True)
    for number, content in enumerate(files):
        (tmp_path / "7" / "fdinfo" / str(number)).write_text(content)
    (tmp_path / "7" / "stat").write_text("7 (llama (x) server) S 1 7 7 0 -1 4194560 500 0 30 0 1000 200 0 0 20 0 9 0 100\n")
    functions = text(planned(instance()), SCRIPT).rpartition("\ncase ")[0]
    functions = functions.replace('"/proc/$pid', f'"{tmp_path}/$pid').replace(WATCHED, f"{tmp_path}/servers")
    script = f"{functions}\npids() {{ echo 7; }}\n{function}\n"
    return subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, check=True).stdout.strip()


def test_the_memory_of_all_cards_is_added_up_each_client_once(tmp_path: Path) -> None:
    one = AMDGPU.format(client=3, gtt=4194304)
    assert called("drm_kib 7", tmp_path, "pos:\t0\n", one, one, AMDGPU.format(client=4, gtt=1024), I915) == str(
        524288 + 4194304 + 524288 + 1024 + 64 * 1024
    )


def test_one_that_computes_on_the_processor_holds_none(tmp_path: Path) -> None:
    assert called("drm_kib 7", tmp_path, "pos:\t0\n") == "0"


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        ("7, 5000\n7, 400\n9, 100\n", "5529600 0"),
        ("9, 100\n", "0 0"),
        ("7, [N/A]\n", "0 1"),
        ("4000000, 100\n", "1"),  # a process that is not here: the list is that of another machine
        ("unknown\n", "1"),
    ],
)
def test_what_nvidia_smi_lists_is_believed_where_it_is_of_these_processes(listed: str, said: str, tmp_path: Path) -> None:
    (tmp_path / ".nvidia").write_text(listed)
    (tmp_path / "9").mkdir()
    assert called(f"run={tmp_path}; rc=0; nvidia_kib || rc=$?; echo $rc", tmp_path).split() == said.split()


def test_nobody_is_judged_by_what_was_listed_in_the_round_before(tmp_path: Path) -> None:
    (tmp_path / ".nvidia").write_text("7, 5000\n")
    (tmp_path / "servers").write_text(text(planned(instance(count=2)), WATCHED))
    judged = 'devices() { sleep 0.1; }; judge() { [ ! -e "$run/.nvidia" ] || echo stale; echo "$name"; }'
    assert sorted(called(f"run={tmp_path}; deploying() {{ false; }}; {judged}; round", tmp_path).split()) == ["chat-1", "chat-2"]


def test_work_is_ticks_and_pages_from_a_disk_and_milliseconds_of_cards(tmp_path: Path) -> None:
    assert called("work_done", tmp_path, AMDGPU.format(client=3, gtt=1), I915) == "1230 2500"


def test_the_status_of_a_model_is_its_own_among_others(tmp_path: Path) -> None:
    models = [("a.b", "loaded"), ("aXb", "sleeping"), ("b", "unloaded")]
    body = ",".join(
        f'{{"id":"{name}","aliases":[],"status":{{"value":"{value}","args":["--x","{{}}"],"preset":"[{name}]"}},"object":"model"}}'
        for name, value in models
    )
    asked = "; ".join(f"model={name}; echo $(status_of_model)" for name, _ in models)
    assert called(f"body='{{\"data\":[{body}]}}'; {asked}", tmp_path).split() == [value for _, value in models]


def test_a_restart_may_take_as_long_as_the_answers_of_the_server_have_to_end() -> None:
    resources = planned({**instance(), "drain_s": 3600})
    assert "timeout -k 5 3735 /bin/sh" in text(resources, SCRIPT)
    assert "TimeoutStartSec=4435\n" in text(resources, f"/etc/systemd/system/{UNIT}")


def test_how_long_ago_something_was_is_counted_from_the_start_of_the_machine(tmp_path: Path) -> None:
    """A clock that is set moves it not, what never was is long ago, and so is what was noted by a clock."""
    set_two_days_on = "date() { expr $(command date +%s) + 172800; }"
    asked = "remember silent $(now); ago silent; ago restarted; remember asked 1796000000; ago asked"
    said = called(f"run={tmp_path}; key=x; {set_two_days_on}; {asked}", tmp_path).split()
    assert int(said[0]) < 60 and all(int(each) >= 999999 for each in said[1:])
