"""What changes in the inventory changes on the hosts, and nothing else; what leaves it leaves them, and what was there comes back."""

from __future__ import annotations

import re

import pytest
from conftest import BY_HAND, CADDYFILE, Inventory, Story
from snapshot import differing
from watch import SCANNED, scan

from tests.share import turn

pytestmark = turn(1, of=3)

PRESETS = "/etc/paddock/llama-server/presets.ini"
SITES = "/etc/caddy/paddock/sites.caddy"
CURRENT = "/opt/paddock/llama.cpp/current"
MANIFEST = "/var/lib/paddock/manifest"
HISTORY = "/var/lib/paddock/history/"
STAMP = "/etc/systemd/system/llama-server.service.d/50-paddock.conf"


def test_of_one_preset_value_the_plan_shows_the_line_and_up_changes_that_file_and_restarts_that_service(story: Story) -> None:
    inventory = story.begin()
    before = {host: story.snapshot(host) for host in ("ai", "door")}
    inventory["models"]["demo"]["preset"]["ctx-size"] = 4096
    story.write(inventory)

    plan = story.plan()
    print(plan, flush=True)
    assert plan.splitlines() == [
        "ai: 2 to change",
        f"  ~ file:{PRESETS}  content",
        "      @@ -7,2 +7,2 @@",
        "       model = /var/lib/paddock/models/demo.gguf",
        "      -ctx-size = 2048",
        "      +ctx-size = 4096",
        "  ~ service:llama-server.service  (restarts)",
        "door: as declared",
    ]
    story.fleet.up()

    after = {host: story.snapshot(host) for host in ("ai", "door")}
    print(differing(before["ai"].marks, after["ai"].marks), differing(before["ai"].running, after["ai"].running), sep="\n", flush=True)
    files, marks = (set(differing(getattr(before["ai"], what), getattr(after["ai"], what))) for what in ("files", "marks"))
    assert {each for each in files if not each.startswith(HISTORY)} == {PRESETS, STAMP}, "STAMP says what the running service has read"
    assert files > {PRESETS, STAMP}, "the host notes what it was"
    assert {each for each in marks if not each.startswith(HISTORY)} == {PRESETS, STAMP}, "a file was written anew although it is the same"
    assert set(differing(before["ai"].running, after["ai"].running)) == {"llama-server.service"}
    assert before["ai"].unit_files == after["ai"].unit_files
    assert before["door"] == after["door"]


@pytest.mark.parametrize(
    ("by_hand", "what", "reading"),
    [
        (f"echo '# by hand' >>{PRESETS}", f"file:{PRESETS}", "systemctl restart llama-server.service"),
        (f"echo '# by hand' >>{SITES}", f"file:{SITES}", "systemctl reload caddy.service"),
        ("echo '# by hand' >/etc/caddy/paddock/foreign.caddy", "directory:/etc/caddy/paddock", "systemctl reload caddy.service"),
        (
            f"cp -aT $(readlink -f {CURRENT}) /srv/other && ln -sfn /srv/other {CURRENT}",
            f"release:{CURRENT}",
            "systemctl restart llama-server.service",
        ),
    ],
    ids=["presets", "sites", "another site", "release"],
)
def test_what_was_changed_by_hand_is_mended_and_a_service_that_has_read_it_is_restarted(
    story: Story, by_hand: str, what: str, reading: str
) -> None:
    story.begin()
    was, unit = story.snapshot("ai"), reading.rpartition(" ")[2]

    story.inside("ai", by_hand)
    assert story.plan().splitlines()[0] == "ai: 1 to change", "the service has read nothing of it"
    story.begin()
    assert story.snapshot("ai").running == was.running

    story.inside("ai", f"{by_hand}; {reading}")
    now = story.snapshot("ai")
    plan = story.plan()
    print(plan, flush=True)
    assert plan.startswith(f"ai: 2 to change\n  ~ {what}  ")
    assert f"  ~ service:{unit}  (restarts" in plan
    story.begin()
    after = story.snapshot("ai")
    assert {path for path in differing(was.files, after.files) if not path.startswith("/var/lib/paddock/backup")} == set()
    assert set(differing(now.running, after.running)) == {unit}
    assert "ai: as declared" in story.plan()
    story.inside("ai", "rm -rf /srv/other /var/lib/paddock/backup/etc/caddy")


def test_a_renamed_model_is_there_under_its_new_name_alone(story: Story) -> None:
    inventory = story.begin()
    inventory["models"] = {"parrot": inventory["models"]["demo"]}
    serve(inventory, "parrot")
    story.write(inventory)
    story.fleet.up()
    assert story.inside("ai", "ls /var/lib/paddock/models").split() == ["parrot.gguf", "parrot.gguf.sha256"]
    assert listed(story) == {"parrot"}
    assert '"chat.completion"' in story.ask("ai.home.example", "parrot", at="ai", certificate=story.laptop).stdout
    assert "not found" in story.ask("ai.home.example", "demo", at="ai", certificate=story.laptop).stdout


def test_a_model_that_left_the_inventory_is_gone_and_the_other_one_is_served_on(story: Story) -> None:
    def two_models(inventory: Inventory) -> None:
        inventory["models"]["second"] = {"source": "tiny"}
        serve(inventory, "demo", "second")

    inventory = story.begin(two_models)
    assert listed(story) == {"demo", "second"}
    serve(inventory, "demo")
    del inventory["models"]["second"]
    story.write(inventory)
    assert "  - model:/var/lib/paddock/models/second.gguf\n" in story.plan()
    story.fleet.up()
    assert listed(story) == {"demo"}
    assert story.inside("ai", "ls /var/lib/paddock/models").split() == ["demo.gguf", "demo.gguf.sha256"]
    assert "second" not in story.inside("ai", f"cat {PRESETS}")


def test_a_site_that_left_the_inventory_is_gone_with_its_key_and_the_other_one_answers_on(story: Story) -> None:
    def two_sites(inventory: Inventory) -> None:
        inventory["hosts"]["ai"]["roles"]["caddy"]["sites"]["second.home.example"] = {"upstream": "ai"}

    inventory = story.begin(two_sites)
    assert '"chat.completion"' in story.ask("second.home.example", "demo", at="ai", certificate=story.laptop).stdout
    before = story.snapshot("ai")
    del inventory["hosts"]["ai"]["roles"]["caddy"]["sites"]["second.home.example"]
    story.write(inventory)
    story.fleet.up()
    after = story.snapshot("ai")
    gone = {path for path in before.files if path not in after.files}
    assert gone == {f"/etc/caddy/paddock/second.home.example.{kind}" for kind in ("pem", "key")}
    assert set(differing(before.running, after.running)) == {"caddy.service"}
    refused = story.ask("second.home.example", "demo", at="ai", certificate=story.laptop)
    assert refused.returncode == 35 and refused.stdout == "", "the handshake for a name that nobody serves"
    assert '"chat.completion"' in story.ask("ai.home.example", "demo", at="ai", certificate=story.laptop).stdout


def test_a_role_that_left_the_inventory_is_gone_with_files_services_ports_packages_and_users(story: Story) -> None:
    inventory = story.begin()
    before = story.snapshot("ai")
    del inventory["hosts"]["ai"]["roles"]["caddy"]
    story.write(inventory)
    story.fleet.up()
    assert_no_caddy(story, "ai")
    after = story.snapshot("ai")
    assert set(differing(before.running, after.running)) == {"caddy.service", "paddock-model-list.service"}, "another service was touched"
    assert scan(story.address("ai"), SCANNED) == set()
    assert listed(story) == {"demo"}


def test_a_role_that_moves_to_another_host_is_gone_from_the_first_and_what_stood_on_the_second_is_back_once_it_leaves(story: Story) -> None:
    story.begin()
    at_first = story.snapshot("door")

    def moved(inventory: Inventory) -> None:
        roles = inventory["hosts"]["ai"]["roles"]
        inventory["hosts"]["door"]["roles"]["caddy"] = {**roles.pop("caddy"), "shared": True}
        roles["llama_server"]["listen"] = "0.0.0.0:8080"

    story.begin(moved)
    assert '"chat.completion"' in story.ask("ai.home.example", "demo", at="door", certificate=story.laptop).stdout
    assert_somebody_elses_site_answers(story)
    assert_no_caddy(story, "ai")
    assert scan(story.address("ai"), SCANNED) == {8080}
    assert scan(story.address("door"), SCANNED) == {80, 443, 8081}
    assert story.inside("door", "cat /etc/caddy/Caddyfile") == CADDYFILE + "\nimport /etc/caddy/paddock/*.caddy"
    assert "RestartUSec=1s" in story.inside("door", "systemctl show caddy -p RestartUSec")

    story.begin()
    back = story.snapshot("door")
    # The manifest says when certificates last changed, and they did. The others are the copies that useradd and userdel keep.
    different = {
        path for path in differing(at_first.files, back.files) if not re.fullmatch(r"/etc/(passwd|g?shadow|group|subuid|subgid)-", path)
    }
    assert different <= {MANIFEST}, "not as it was, byte for byte, with owner and mode"
    assert not differing(at_first.users, back.users)
    assert {path for path, *_ in BY_HAND["door"]} <= set(back.files)
    assert "RestartUSec=7s" in story.inside("door", "systemctl show caddy -p RestartUSec"), "the service does not run with what came back"
    assert_somebody_elses_site_answers(story)
    assert scan(story.address("door"), SCANNED) == {8081}
    assert back.listening == at_first.listening
    assert '"chat.completion"' in story.ask("ai.home.example", "demo", at="ai", certificate=story.laptop).stdout


def serve(inventory: Inventory, *models: str) -> None:
    inventory["hosts"]["ai"]["roles"]["llama_server"]["models"] = list(models)


def listed(story: Story) -> set[str]:
    """The models that the llama-server on `ai` offers."""
    return set(re.findall(r'"id":"([^"]+)"', story.inside("ai", "curl -sS http://127.0.0.1:8080/models")))


def assert_no_caddy(story: Story, host: str) -> None:
    now = story.snapshot(host)
    assert not [path for path in now.files if "caddy" in path]
    assert not [name for name in (*now.unit_files, *now.units, *now.users, *now.groups) if "caddy" in name]
    assert not [package for package in now.packages if package == "caddy"]
    assert not [each for each in now.listening if each.rpartition(":")[2] in ("80", "443", "2019")]
    assert story.inside(host, "pgrep caddy || true") == ""


def assert_somebody_elses_site_answers(story: Story) -> None:
    assert story.inside("door", "curl -sS http://127.0.0.1:8081/") == "somebody else's"
