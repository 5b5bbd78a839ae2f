"""What a person does with a fleet that runs: models come and go, a context changes, servers stop and start, logs are read, models talk."""

from __future__ import annotations

import difflib
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab_fleet import ROOT, LabFleet, lab_fleet

INVENTORY = """\
# A fleet to talk with.
fleet: talk
domain: home.example
networks: [192.0.2.0/24]
settle: 0
upgrade: {floor: 0%}

defaults:
  roles:
    base:
    llama_cpp:
      source:
        sdist: llama-cpp-python==0.3.36
      ui: false

hosts:
  ai:                           # becomes root with sudo
    address: 192.0.2.10
    user: admin
    roles:
      models:
      llama_server:
        models: [vectors, demo, other]
        models_max: 2           # in memory at a time

  pi:
    address: 192.0.2.11
    roles:
      models:
      llama_server:
        api_key: true
        instances:
          chat:
            model: other
            listen: 127.0.0.1:8081
            count: 2
          long: {model: endless, listen: 192.0.2.11:8090, preset: {ctx-size: 65536, parallel: 2}}   # its own

models:
  demo:                         # the one that answers
    source: tiny
    preset:                     # any long option
      ctx-size: 2048            # tokens
  other:
    preset: {ctx-size: 1024}    # in a flow
  endless:
    preset: {ignore-eos: true}
  vectors:
    preset: {embeddings: true, ctx-size: 1024}
"""

ANSWER = "Hello from a tiny model: this host answers."


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabFleet]:
    with lab_fleet("talk", tmp_path_factory.mktemp("talk"), INVENTORY, ready=True) as fleet:
        fleet.up("--no-verify")
        yield fleet


@pytest.fixture
def fleet(deployed: LabFleet) -> LabFleet:
    """Its servers run, and its inventory is as above."""
    if deployed.inventory.read_text() != INVENTORY:
        deployed.write(INVENTORY)
    deployed.up("--no-verify")
    return deployed


def says(fleet: LabFleet, *arguments: str, code: int = 0) -> str:
    """What a verb prints, on both streams, in the lab."""
    done = fleet.paddock(*arguments, "--lab")
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def served(fleet: LabFleet) -> dict[str, dict[str, Any]]:
    """`ai/llama-server demo` → what `models list` says of it."""
    listed = json.loads(fleet.paddock("models", "list", "--json", "--lab").stdout)
    return {f"{each['host']}/{each['server']} {each['model']}": each for each in listed}


def test_the_list_has_every_model_of_every_server_with_status_context_and_memory(fleet: LabFleet) -> None:
    says(fleet, "models", "use", "demo", "--server", "ai")
    found = served(fleet)
    assert {name: (each["status"], each["context"]) for name, each in found.items()} == {
        "ai/llama-server vectors": ("unloaded", 1024),
        "ai/llama-server demo": ("loaded", 2048),
        "ai/llama-server other": ("unloaded", 1024),
        "pi/chat-1 other": ("loaded", 1024),
        "pi/chat-2 other": ("loaded", 1024),
        "pi/long endless": ("loaded", 32768),
    }
    assert [name for name, each in found.items() if not each["memory_mib"]] == ["ai/llama-server vectors", "ai/llama-server other"]
    table = says(fleet, "models", "list").splitlines()
    assert table[0].split() == ["host", "server", "model", "status", "context", "memory"]
    assert len(table) == 7


def test_load_waits_until_the_model_is_there_and_unload_until_it_is_gone(fleet: LabFleet) -> None:
    says(fleet, "models", "use", "demo")
    assert "ai/llama-server: other is loaded, with a context of 1024 tokens" in says(fleet, "models", "load", "other", "--server", "ai")
    assert [served(fleet)[f"ai/llama-server {name}"]["status"] for name in ("demo", "other")] == ["loaded", "loaded"]
    says(fleet, "models", "unload", "demo")
    assert served(fleet)["ai/llama-server demo"]["status"] == "unloaded"
    assert "demo was not loaded" in says(fleet, "models", "unload", "demo")


def test_use_leaves_exactly_one(fleet: LabFleet) -> None:
    says(fleet, "models", "load", "demo")
    said = says(fleet, "models", "use", "other", "--limit", "ai")
    assert "ai/llama-server: demo is unloaded" in said
    assert [served(fleet)[f"ai/llama-server {name}"]["status"] for name in ("demo", "other")] == ["unloaded", "loaded"]


def test_an_instance_is_not_unloaded_and_what_to_do_is_said(fleet: LabFleet) -> None:
    said = says(fleet, "models", "unload", "endless", code=1)
    assert said == "pi/long: an instance has its model for good: `paddock stop pi/long` frees its memory\n"


def test_a_model_that_failed_is_listed_with_the_reason_that_its_worker_gave(fleet: LabFleet) -> None:
    says(fleet, "models", "unload", "demo")
    file = "/var/lib/paddock/models/demo.gguf"
    fleet.on("ai", f"sudo cp -a {file} /root/kept; sudo truncate --size=3000 {file}")
    try:
        assert "failed to read" in says(fleet, "models", "load", "demo", code=1)
        assert (listed := served(fleet)["ai/llama-server demo"])["status"] == "failed"
        assert "failed to read" in listed["why"]
    finally:
        fleet.on("ai", f"sudo cp -a /root/kept {file}")
    says(fleet, "models", "load", "demo")


def test_ctx_changes_one_line_of_the_inventory_and_the_model_comes_back_with_it(fleet: LabFleet) -> None:
    said = says(fleet, "models", "ctx", "demo", "4096", "--yes")
    changed = [line for line in difflib.ndiff(INVENTORY.splitlines(), fleet.inventory.read_text().splitlines()) if line[:1] in "+-"]
    assert changed == ["-       ctx-size: 2048            # tokens", "+       ctx-size: 4096            # tokens"]
    assert all(line[2:] in said for line in changed)
    assert "ai/llama-server: demo is loaded, with a context of 4096 tokens" in said
    assert served(fleet)["ai/llama-server demo"]["context"] == 4096
    assert "0 changed" in fleet.up("--no-verify").stdout


def test_the_context_of_an_instance_that_says_it_itself_is_changed_there_and_each_slot_has_its_part(fleet: LabFleet) -> None:
    assert "pi/long: endless is loaded, with a context of 16384 tokens" in says(fleet, "models", "ctx", "endless", "32768", "--yes")
    assert "preset: {ctx-size: 32768, parallel: 2}}   # its own\n" in fleet.inventory.read_text()
    assert served(fleet)["pi/long endless"]["context"] == 16384


def test_a_context_beyond_the_training_is_told_and_each_slot_gets_what_the_model_was_trained_for(fleet: LabFleet) -> None:
    for verb in ("load", "unload"):
        says(fleet, "models", verb, "demo")
        said = says(fleet, "models", "ctx", "demo", "33000", "--yes")
        told = "ctx-size gives demo 33024 tokens, which its 4 slots share: each slot gets the 32768 that it was trained for\n"
        assert f"models.demo.preset: {told}" in said
        assert "ai/llama-server: demo is loaded, with a context of 32768 tokens" in said
    said = says(fleet, "models", "ctx", "endless", "66048", "--yes")
    assert "hosts.pi.roles.llama_server.instances.long.preset: ctx-size gives endless 33024 tokens a slot" in said
    assert "pi/long: endless is loaded, with a context of 32768 tokens" in said


def test_what_llama_server_would_not_start_is_refused_before_anything_is_written(fleet: LabFleet) -> None:
    said = says(fleet, "models", "preset", "demo", "parallel=0", "--yes", code=2)
    assert 'models.demo.preset.parallel: "parallel" cannot be 0 or more than 256, this is 0' in said
    assert fleet.inventory.read_text() == INVENTORY


def test_where_nobody_can_be_asked_the_difference_is_shown_and_nothing_is_written(fleet: LabFleet) -> None:
    said = says(fleet, "models", "ctx", "demo", "4096", code=2)
    assert "+      ctx-size: 4096            # tokens" in said and "--yes" in said
    assert fleet.inventory.read_text() == INVENTORY


def test_options_are_set_and_taken_away_and_shown_with_where_they_stand(fleet: LabFleet) -> None:
    says(fleet, "models", "preset", "other", "temp=0.5", "ctx-size=", "--server", "ai", "--yes")
    assert "    preset: {temp: 0.5}    # in a flow\n" in fleet.inventory.read_text()
    shown = says(fleet, "models", "preset", "other", "--server", "ai").split()
    assert shown[shown.index("temp") :] == ["temp", "0.5", "models.other.preset"]
    says(fleet, "models", "preset", "other", "temperature=0.7", "--server", "ai", "--yes")
    assert "    preset: {temp: 0.7}    # in a flow\n" in fleet.inventory.read_text()


def test_what_is_stopped_stays_so_until_it_is_started_and_the_others_go_on(fleet: LabFleet) -> None:
    assert "pi/chat-1: stopped" in says(fleet, "stop", "pi/chat-1")
    assert served(fleet)["pi/chat-1 other"]["status"] == "inactive"
    assert served(fleet)["pi/chat-2 other"]["status"] == "loaded"
    said = says(fleet, "chat", "--server", "pi/chat-1", "Hello!", code=1)
    assert said.startswith("pi: nothing answers on 127.0.0.1:8081") and "`paddock start pi/chat-1`" in said and said.count("\n") == 1
    says(fleet, "start", "pi/chat-1")
    assert served(fleet)["pi/chat-1 other"]["status"] == "loaded"


def test_restart_of_a_group_restarts_its_instances_and_no_other(fleet: LabFleet) -> None:
    before = since(fleet)
    said = says(fleet, "restart", "pi/chat")
    assert [line for line in said.splitlines() if line.endswith("restarted")] == ["pi/chat-1: restarted", "pi/chat-2: restarted"]
    assert {unit for unit in before if since(fleet)[unit] != before[unit]} == {"chat-1", "chat-2"}


def since(fleet: LabFleet) -> dict[str, str]:
    script = "systemctl show --property=InvocationID --value llama-server-{}.service"
    return {name: fleet.on("pi", script.format(name)).strip() for name in ("chat-1", "chat-2", "long")}


def test_all_are_stopped_only_by_who_says_so(fleet: LabFleet) -> None:
    assert "`paddock stop --yes` does it to all 4" in says(fleet, "stop", code=2)
    assert {each["status"] for each in served(fleet).values()} <= {"loaded", "unloaded"}


def test_a_start_that_fails_is_told_with_what_the_server_said(fleet: LabFleet) -> None:
    file = "/var/lib/paddock/models/endless.gguf"
    fleet.on("pi", f"cp -a {file} /root/kept; truncate --size=3000 {file}")
    try:
        said = says(fleet, "restart", "pi/long", code=1)
        assert said.count("\n") == 1 and "`paddock logs pi/long`" in said
    finally:
        fleet.on("pi", f"cp -a /root/kept {file}; systemctl reset-failed llama-server-long")
    says(fleet, "restart", "pi/long")  # systemd may have started it again meanwhile


def test_logs_of_several_hosts_are_merged_in_the_order_of_time(fleet: LabFleet) -> None:
    says(fleet, "restart", "--yes")
    lines = says(fleet, "logs", "--since", "2 minutes ago").splitlines()
    times = [line[:19] for line in lines]
    assert times == sorted(times)
    assert {line.split()[2] for line in lines} == {"ai/llama-server", "pi/chat-1", "pi/chat-2", "pi/long"}
    assert "Failed to parse timestamp" in says(fleet, "logs", "--since", "blurb", code=1)
    assert says(fleet, "logs", "--since", "tomorrow") == ""


def test_logs_follow_until_ctrl_c_and_leave_nothing_behind_on_the_hosts(fleet: LabFleet) -> None:
    following = fleet.start("logs", "--follow", "--lines", "1", "--lab")
    assert following.stdout
    too_long = threading.Timer(120, following.kill)
    too_long.start()
    assert following.stdout.readline()
    says(fleet, "chat", "--server", "pi/chat-2", "Hello!")
    assert any("pi/chat-2" in line and "print_timing" in line for line in following.stdout)
    following.send_signal(signal.SIGINT)
    assert following.wait(20) == 0
    too_long.cancel()
    assert "Traceback" not in following.stdout.read()
    time.sleep(1)
    assert [fleet.on(host, "pgrep -a journalctl || true") for host in ("ai", "pi")] == ["", ""]


HANG_UP = """
import sys
from argparse import Namespace
from pathlib import Path
from control.ssh.reach import Reach
import gevent
from cli.arguments import opened

this = opened(Namespace(inventory=Path(sys.argv[1]), lab=True, limit=["pi"]))
reach = Reach(this.fleet, this.state, this.hosts)
with reach.connected():
    for line in reach.lines("pi", "sh -c 'echo whole; printf begun; sleep 600'", "this"):
        print(line)
        gevent.spawn_later(2, reach.hang_up)
"""


def test_a_line_that_ctrl_c_cuts_off_is_no_line(fleet: LabFleet) -> None:
    command = [sys.executable, "-c", HANG_UP, str(fleet.inventory)]
    done = subprocess.run(command, cwd=ROOT, env=fleet.env, capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("whole\n", "")


def test_without_a_wish_a_model_that_talks_is_asked_even_while_one_that_embeds_is_in_memory(fleet: LabFleet) -> None:
    says(fleet, "models", "use", "vectors")
    assert fleet.paddock("chat", "--lab", "--host", "ai", "Hello!").stdout.strip() == ANSWER


def test_one_question_is_one_answer_by_argument_or_by_a_pipe(fleet: LabFleet) -> None:
    assert fleet.paddock("chat", "--lab", "--host", "ai", "--model", "demo", "Hello!").stdout.strip() == ANSWER
    piped = subprocess.run(
        fleet.command("chat", "--lab", "--server", "pi/chat-1"),
        cwd=ROOT,
        env=fleet.env,
        input="Hello!\n",
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (piped.returncode, piped.stdout.strip(), piped.stderr) == (0, ANSWER, "")


def test_what_llama_server_refuses_is_told_in_its_own_words(fleet: LabFleet) -> None:
    said = says(fleet, "chat", "--server", "pi/chat-1", "word " * 3000, code=1)
    assert re.fullmatch(r"pi/chat-1: .*context size.* \(HTTP 400\)\n", said)


class Terminal:
    """`paddock chat` as a person sees it."""

    def __init__(self, fleet: LabFleet, *arguments: str) -> None:
        self.pid, self.handle = pty.fork()
        if not self.pid:
            os.chdir(ROOT)
            command = fleet.command("chat", "--lab", *arguments)
            os.execve(command[0], command, {**fleet.env, "TERM": "xterm"})
        self.seen = ""

    def type(self, text: str) -> None:
        os.write(self.handle, text.encode())

    def until(self, words: str, timeout_s: float = 60) -> str:
        """What was shown until the words came, these included."""
        end = time.monotonic() + timeout_s
        while words not in self.seen:
            assert time.monotonic() < end, f"no {words!r} in {self.seen[-500:]!r}"
            if select.select([self.handle], [], [], 1)[0]:
                self.seen += os.read(self.handle, 65536).decode(errors="replace")
        before, _, self.seen = self.seen.partition(words)
        return before + words

    def leave(self) -> int:
        self.type("\x04")
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def test_in_a_conversation_ctrl_c_stops_the_answer_and_not_the_chat(fleet: LabFleet) -> None:
    terminal = Terminal(fleet, "--server", "pi/long")
    terminal.until("> ")
    terminal.type("Hello!\n")
    terminal.until("Hello from")
    terminal.type("\x03")
    terminal.until("stopped")
    terminal.until("> ")
    terminal.type("/new\n")
    terminal.until("> ")
    terminal.type("Again!\n")
    terminal.until("Hello from")
    terminal.type("\x03")
    terminal.until("stopped")
    terminal.until("> ")
    assert terminal.leave() == 0


def test_in_a_conversation_the_model_is_told_what_was_said_before_and_how_fast_it_was_is_shown(fleet: LabFleet) -> None:
    terminal = Terminal(fleet, "--host", "ai", "--model", "demo")
    terminal.until("> ")
    pace = re.compile(r"\((\d+) tokens, [0-9.]+ tokens/s; (\d+) read, (\d+) remembered\)")
    lengths = []
    for _ in range(2):
        terminal.type("Hello!\n")
        found = pace.search(terminal.until("remembered)"))
        assert found
        lengths.append(int(found[2]) + int(found[3]))
        terminal.until("> ")
    assert lengths[1] > lengths[0]
    assert terminal.leave() == 0


def test_the_api_key_is_in_no_argument_list_and_without_it_nobody_is_answered(fleet: LabFleet) -> None:
    key = fleet.on("pi", "sed s/LLAMA_API_KEY=// /etc/paddock/llama-server/*.env").split()[0]
    assert len(key) > 20
    assert "401" in fleet.on("pi", "curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:8081/v1/models")
    terminal = Terminal(fleet, "--server", "pi/long")
    terminal.until("> ")
    terminal.type("Hello!\n")
    terminal.until("Hello from")
    assert key not in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert key not in fleet.on("pi", "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n'")
    terminal.type("\x03")
    terminal.until("stopped")
    terminal.until("> ")
    assert terminal.leave() == 0
