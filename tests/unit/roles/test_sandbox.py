"""What options ask of the sandbox of a unit: each is granted to the letter, or refused with what to do."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_fleet import Small

from inventory.hardware import Hardware, PciDevice, VulkanDevice
from inventory.knowledge import Knowledge
from inventory.options import SHIPPED, Option, bare, read
from resources import Directory, Resource, Service
from roles.host_plan import host_plan
from roles.llama_cpp.releases import releases
from roles.llama_server.plan import WAIT_SCRIPT, WAIT_UNIT
from roles.preset import REFUSED
from roles.role import TEMPLATES
from roles.sandbox import LISTED, LOCKED, LOGGED, PRIORITY, READ, RPC, SCALED, WRITTEN, Grants, grants, refusal, unopened
from roles.server import Server

UNIT = "/etc/systemd/system/llama-server.service"
USERS = "/etc/systemd/user/llama-server.service"
NAMED = (READ, LISTED, SCALED, WRITTEN, LOGGED)

TAKES_A_PATH = {"FNAME", "FILE", "PATH", "DIR", "JINJA_TEMPLATE_FILE", "FNAME:SCALE,..."}
"""What the help of llama-server calls a file or a directory."""

SYSTEM = Server("ai", "llama-server", "llama-server.service", "127.0.0.1:8080", ("demo",), "router", {})
ANNS = replace(SYSTEM, scope="user", user="ann")

RADEON, BMC = PciDevice("0000:c5:00.0", "1002", "1586"), PciDevice("0000:02:00.0", "1a03", "2000")
STRIX = Hardware(
    "x86_64",
    "Ryzen",
    frozenset({"avx2"}),
    16,
    131072,
    "debian 13",
    gpus=(BMC, RADEON),
    vulkan=(VulkanDevice("Radeon", "radv", "integrated", "1.4.305"),),
)


def unit(small: Small, host: str = "ai", path: str = UNIT) -> list[str]:
    return small.text(host, path).splitlines()


def asked(small: Small, **preset: Any) -> list[str]:
    small.models["demo"]["preset"] = {name.replace("_", "-"): value for name, value in preset.items()}
    return unit(small)


def on_vulkan(small: Small, hardware: Hardware = STRIX, **server: Any) -> dict[str, Resource]:
    """The plan of `one`, which computes on its graphics."""
    small.roles["one"]["llama_cpp"] = {"accelerator": "vulkan"}
    small.roles["one"]["llama_server"] = {"models": ["demo"], **server}
    fleet = small.fleet
    known: Knowledge = replace(small.context, hardware={"one": hardware}, releases=releases(fleet, {"one": hardware}, {}))
    return {each.id: each for part in host_plan(fleet.hosts["one"], fleet, known).values() for each in part}


def written(plan: dict[str, Resource], path: str) -> str:
    return plan[f"file:{path}"].data.decode()  # type: ignore[attr-defined,no-any-return]


def options_that_name_a_path() -> list[Option]:
    return [each for each in read(SHIPPED.read_text()).all if each.hint in TAKES_A_PATH and each.part in ("model", "server")]


@pytest.mark.parametrize("option", options_that_name_a_path(), ids=lambda option: option.name)
def test_of_every_option_that_names_a_path_it_is_known_what_becomes_of_it(option: Option) -> None:
    spellings = set(map(bare, option.names))
    assert any(spellings <= kind for kind in (*NAMED, REFUSED.keys()))


def test_an_option_is_known_by_all_of_its_spellings() -> None:
    found = read(SHIPPED.read_text())
    for spelling in (*READ, *LISTED, *SCALED, *WRITTEN, *LOGGED, *PRIORITY, RPC):
        assert found.find(spelling), spelling
    for kind in (*NAMED, PRIORITY, LOCKED):
        known = [option for each in kind if (option := found.find(each))]
        assert {bare(name) for option in known for name in option.names} <= kind


def test_where_nothing_asks_for_more_the_sandbox_is_as_tight_as_ever(small: Small) -> None:
    lines = unit(small)
    for each in ("CapabilityBoundingSet=", "PrivateUsers=yes", "ProtectHome=yes", "RestrictRealtime=yes", "ProtectSystem=strict"):
        assert each in lines
    granted = ("AmbientCapabilities", "ReadWritePaths", "BindReadOnlyPaths", "LimitNICE", "LimitRTPRIO")
    assert not [line for line in lines if line.startswith(granted)]


def test_a_port_below_1024_needs_no_capability_for_systemd_has_it(small: Small) -> None:
    small.secrets = {}
    small.roles["ai"]["llama_server"]["listen"] = "0.0.0.0:80"
    small.roles["ai"]["admin"] = {"listen": "127.0.0.1:79"}
    for path in (UNIT, "/etc/systemd/system/paddock-admin.service"):
        lines = unit(small, path=path)
        assert [line for line in lines if "Capabilit" in line] == ["CapabilityBoundingSet="] and "PrivateUsers=yes" in lines


def test_the_admin_endpoint_reads_the_header_of_a_model_in_a_home(small: Small) -> None:
    small.secrets = {}
    small.roles["ai"]["admin"] = {}
    assert "ProtectHome=yes" in unit(small, path="/etc/systemd/system/paddock-admin.service")
    small.models["demo"] = {"source": {"path": "/home/me/demo.gguf", "sha256": "0" * 64}}
    lines = unit(small, path="/etc/systemd/system/paddock-admin.service")
    assert "ProtectHome=tmpfs" in lines and 'BindReadOnlyPaths="-/home/me/demo.gguf"' in lines


@pytest.mark.parametrize(("prio", "nice", "fifo"), [(1, -5, 40), ("2", -10, 80), (3, -20, 90)])
def test_a_priority_is_granted_up_to_what_llama_cpp_sets(small: Small, prio: int | str, nice: int, fifo: int) -> None:
    lines = asked(small, prio=prio)
    assert f"LimitNICE={nice}" in lines and f"LimitRTPRIO={fifo}" in lines and "RestrictRealtime=yes" not in lines


def test_a_priority_that_is_none_or_lower_needs_no_right(small: Small) -> None:
    for prio in (0, -1):
        assert "RestrictRealtime=yes" in asked(small, prio=prio)


def test_a_directory_that_is_written_to_is_made_and_is_the_servers(small: Small) -> None:
    lines = asked(small, slot_save_path="/srv/llama slots/")
    assert 'ReadWritePaths="/srv/llama slots"' in lines
    made = small.plan("ai")["directory:/srv/llama slots"]
    assert made == Directory("/srv/llama slots", owner="llama-server", group="llama-server", mode=0o750)


def test_below_its_home_systemd_makes_a_directory_and_no_more_is_granted(small: Small) -> None:
    lines = asked(small, slot_save_path="/var/lib/llama-server/slots", log_file="/var/lib/llama-server/log")
    assert not [line for line in lines if line.startswith("ReadWritePaths")]
    assert "StateDirectory=llama-server llama-server/slots" in lines
    assert "directory:/var/lib/llama-server/slots" not in small.plan("ai")


def test_a_file_in_a_home_or_a_temporary_directory_is_shown_to_be_read(small: Small) -> None:
    lines = asked(small, lora="/home/me/a.gguf,/tmp/b.gguf", chat_template_file="/srv/chat.jinja")
    assert [line for line in lines if line.startswith("BindReadOnlyPaths")] == [
        'BindReadOnlyPaths="-/home/me/a.gguf"',
        'BindReadOnlyPaths="-/tmp/b.gguf"',
    ]
    assert "ProtectHome=tmpfs" in lines


def test_homes_stay_empty_for_what_lies_elsewhere(small: Small) -> None:
    assert "ProtectHome=yes" in asked(small, mmproj="/tmp/eyes.gguf")


def test_a_server_on_loopback_reaches_its_rpc_servers_and_nobody_else(small: Small) -> None:
    small.models["demo"]["preset"] = {"rpc": "192.0.2.7:50052,192.0.2.8:50052"}
    assert "IPAddressAllow=localhost 192.0.2.7 192.0.2.8" in unit(small, "one")


def test_a_unit_waits_for_the_disks_that_it_reads(small: Small) -> None:
    lines = asked(small, media_path="/mnt/eyes/", slot_save_path="/mnt/slots/demo")
    assert "RequiresMountsFor=/opt/paddock/llama.cpp /var/lib/paddock/models /mnt/eyes /mnt/slots/demo" in lines


def test_a_unit_waits_for_its_render_node_and_for_no_card_that_has_none(small: Small) -> None:
    plan = on_vulkan(small)
    node = "/dev/dri/by-path/pci-0000:c5:00.0-render"
    assert f"ExecStart=/bin/sh {WAIT_SCRIPT} {node}\n" in written(plan, f"/etc/systemd/system/{WAIT_UNIT}")
    assert f"Wants={WAIT_UNIT}\nAfter={WAIT_UNIT}\n" in written(plan, UNIT)
    assert "uptime" in written(plan, WAIT_SCRIPT)


def test_where_only_the_processor_computes_nothing_is_waited_for(small: Small) -> None:
    assert f"file:/etc/systemd/system/{WAIT_UNIT}" not in small.plan("ai") and f"file:{WAIT_SCRIPT}" not in small.plan("ai")


def test_an_accounts_own_unit_waits_by_itself_and_makes_its_directories(small: Small) -> None:
    small.models["demo"]["preset"] = {"slot-save-path": "/home/ann/my slots"}
    plan = on_vulkan(small, user="ann")
    lines = written(plan, USERS).splitlines()
    waits = "/dev/dri/by-path/pci-0000:c5:00.0-render /opt/paddock/llama.cpp/current/bin/llama-server /var/lib/paddock/models/demo.gguf"
    assert f"ExecStartPre=/bin/sh {WAIT_SCRIPT} {waits}" in lines
    assert 'ExecStartPre=/bin/mkdir -p -m 700 "/home/ann/my slots"' in lines
    assert "directory:/home/ann/my slots" not in plan and f"file:/etc/systemd/system/{WAIT_UNIT}" not in plan


def test_a_directory_outside_of_homes_is_made_for_the_account(small: Small) -> None:
    small.models["demo"]["preset"] = {"slot-save-path": "/srv/slots"}
    plan = on_vulkan(small, user="ann")
    assert plan["directory:/srv/slots"] == Directory("/srv/slots", owner="ann", mode=0o700)
    assert isinstance(plan["service:ann/llama-server.service"], Service)


def test_what_presets_ask_for_is_taken_together() -> None:
    presets = [{"prio": 1, "lora": '"/a,b.gguf",/c.gguf'}, {"prio-batch": 3, "lora-scaled": "/d.gguf:0.5"}, {"rpc": "192.0.2.7:1,gpu:2"}]
    assert grants(presets) == Grants(("/a,b.gguf", "/c.gguf", "/d.gguf"), (), 3, ("192.0.2.7",))


@pytest.mark.parametrize(
    ("option", "value", "server", "words"),
    [
        ("mmproj", "eyes.gguf", SYSTEM, 'needs an absolute path: where llama-server would look for "eyes.gguf" depends on its unit'),
        ("lora", "/srv/a.gguf,b.gguf", SYSTEM, "needs an absolute path"),
        ("md", "/srv/../home/me/a.gguf", SYSTEM, "write /home/me/a.gguf"),
        ("slot-save-path", "/srv/a\\b", SYSTEM, "has a path with a quote, a backslash or a colon in it, which a unit cannot contain"),
        ("media-path", "/home", SYSTEM, "is all of /home, which the unit of llama-server hides"),
        ("slot-save-path", "/home/me/slots", SYSTEM, "hides /home: name a directory such as /var/lib/llama-server/slots"),
        ("slot-save-path", "/tmp/slots", SYSTEM, "hides /tmp: "),
        ("slot-save-path", "/usr/local/slots", SYSTEM, "/usr/local/slots is the system's, or shared: "),
        ("slot-save-path", "/etc/paddock/x/slots", SYSTEM, "is the system's, or shared: "),
        ("log-file", "/var/log/llama.log", SYSTEM, "/var/log is the system's, or shared: "),
        (
            "log-prompts-dir",
            "/root/prompts",
            ANNS,
            "the account ann cannot write to /root/prompts: name a directory such as /home/ann/slots",
        ),
        ("slot-save-path", "/var/lib/llama-server/slots", ANNS, "the account ann cannot write to /var/lib/llama-server/slots"),
        ("prio", 2, ANNS, '"prio: 2" raises the priority of threads, which a service of the account ann may not'),
        ("load-mode", "mmap+mlock", ANNS, '"load-mode: mmap+mlock" locks the model in memory, which a service of the account ann may not'),
        ("rpc", "gpu2.home.example:50052", SYSTEM, "write the IP address of gpu2.home.example"),
    ],
)
def test_what_no_unit_can_grant_is_refused(option: str, value: object, server: Server, words: str) -> None:
    assert words in refusal(option, value, server)


@pytest.mark.parametrize(
    ("option", "value", "server"),
    [
        ("mmproj", "/home/me/eyes.gguf", SYSTEM),
        ("chat-template", "{{ messages }}", SYSTEM),
        ("slot-save-path", "/var/lib/llama-server/slots/", SYSTEM),
        ("log-file", "/var/lib/llama-server/log", SYSTEM),
        ("slot-save-path", "/srv/slots", SYSTEM),
        ("slot-save-path", "/home/ann/slots", ANNS),
        ("load-mode", "mlock", SYSTEM),
        ("load-mode", "mmap", ANNS),
        ("prio", -1, ANNS),
        ("numa", "distribute", ANNS),
        ("rpc", "gpu2.home.example:50052", replace(SYSTEM, egress=True)),
    ],
)
def test_what_a_unit_can_grant_is_not_refused(option: str, value: object, server: Server) -> None:
    assert refusal(option, value, server) == ""


def test_long_after_the_boot_nothing_is_waited_for_and_what_is_missing_is_named(tmp_path: Path) -> None:
    """A machine that runs these tests has been up for longer."""
    there, gone = tmp_path / "there", tmp_path / "gone"
    there.touch()
    done = subprocess.run(["sh", TEMPLATES / "llama_server/wait-for.sh", there, gone], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout) == (0, f"<4>{gone} is not there; llama-server starts without it\n")


def test_what_opens_more_than_models_is_named_by_the_inventory() -> None:
    """Of the options of the shipped version, and of those that a later one may have."""
    options = read(SHIPPED.read_text())
    judged = {each: unopened([bare(name) for name in (*each.names, *each.negated)], each.hint, SYSTEM) for each in options.all}
    refused = {bare(each.names[-1]) for each, words in judged.items() if words and each.part not in ("source", "router", "ends")}
    assert refused == {"path", "media-path", "slot-save-path", "log-prompts-dir", "log-file", "video-ffmpeg-dir", "rpc"}
    opened = replace(SYSTEM, opens=frozenset(refused))
    assert not any(unopened([name], "", opened) for name in refused)
    for unknown, hint in (("webui-shell-proxy", ""), ("listen-extra", "ADDRESS"), ("save-prompts", "FNAME"), ("remote-experts", "URL")):
        words = unopened([unknown], hint, SYSTEM)
        assert (
            words
            == "may open files or connections: Paddock does not know this option: leave it out, or name it in `opens` of llama_server on ai"
        )
    assert unopened(["new-sampler"], "N", SYSTEM) == ""
