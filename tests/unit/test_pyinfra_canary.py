"""What Paddock relies on in pyinfra, which is internal or barely documented there: a new pyinfra that breaks it is noticed here first.

Each run is a process of its own: to import pyinfra_cli makes gevent's functions take the place of the standard library's.
"""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

PRELUDE = """
import json, sys
from pathlib import Path

import pyinfra_cli
import pyinfra
from pyinfra.api import Config, Inventory, State
from pyinfra.api.connect import connect_all
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.operations import run_ops
from pyinfra.api.state import BaseStateCallback, StateStage
from pyinfra.context import ctx_config, ctx_host, ctx_inventory, ctx_state
from pyinfra_cli.util import load_deploy_file

def connected(names):
    pyinfra.is_cli = True
    config = Config()
    state = State(Inventory(([(name, {"fake_delay": 0, "fake_delay_jitter": 0}) for name in names], {})), config, check_for_changes=False)
    state.cwd = "."
    for context, value in ((ctx_config, config), (ctx_state, state), (ctx_inventory, state.inventory)):
        context.set(value)
    config.lock_current_state()
    state.set_stage(StateStage.Connect)
    connect_all(state)
    state.set_stage(StateStage.Prepare)
    return state
"""

DEPLOY = """
class Events(BaseStateCallback):
    def __init__(self):
        self.seen = []
    def operation_host_start(self, state, host, op_hash):
        self.seen.append(["start", host.name, " ".join(state.get_op_meta(op_hash).names)])
    def operation_host_success(self, state, host, op_hash, retry_count=0):
        self.seen.append(["success", host.name, " ".join(state.get_op_meta(op_hash).names)])
    def operation_host_error(self, state, host, op_hash, retry_count=0, max_retries=0):
        self.seen.append(["error", host.name, " ".join(state.get_op_meta(op_hash).names)])

state, events = connected(sys.argv[1].split(",")), Events()
state.add_callback_handler(events)
load_deploy_file(state, "deploy.py")
state.set_stage(StateStage.Execute)
try:
    run_ops(state)
except PyinfraError:
    pass
ends = {}
for host in state.inventory:
    for op_hash, data in state.ops[host].items():
        meta = data.operation_meta
        if meta.is_complete() and not meta.did_succeed():
            ends[host.name] = [" ".join(state.get_op_meta(op_hash).names), list(meta.stderr_lines)]
commands = {host.name: getattr(host.connector, "executed_commands", []) for host in state.inventory}
print(json.dumps({"events": events.seen, "failed": sorted(host.name for host in state.failed_hosts), "ends": ends, "commands": commands}))
"""

# `a` carries the first role, with three steps, `b` the second and the third, with one step each.
TWO_HOSTS = """
from pyinfra import host
from pyinfra.operations import server

for role in host.loop(("one", "two", "three")):
    HEAD
    if host.name == "@fake/a" and role == "one":
        server.shell(name=role, commands=["true 1"])
        server.shell(name=role, commands=["true 2"])
        server.shell(name=role, commands=["true 3"])
    if host.name == "@fake/b" and role != "one":
        server.shell(name=role, commands=["true"])
"""
HEAD = 'server.shell(name=f"head of {role}", commands=["true"])'


def run(scratch: Path, script: str, *arguments: str) -> Any:
    """What a script prints as its last line, parsed."""
    done = subprocess.run([sys.executable, "-c", PRELUDE + script, *arguments], cwd=scratch, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def deployed(scratch: Path, text: str, hosts: str) -> Any:
    (scratch / "deploy.py").write_text(text)
    return run(scratch, DEPLOY, hosts)


def carried_out(result: Any) -> list[str]:
    return [name for event, _, name in result["events"] if event == "success" and not name.startswith("head of")]


def test_this_is_the_release_that_paddock_was_written_for() -> None:
    assert version("pyinfra").startswith("3.10.")


def test_operations_that_hosts_do_not_share_run_by_depth_in_their_chain_not_by_line(tmp_path: Path) -> None:
    order = carried_out(deployed(tmp_path, TWO_HOSTS.replace("HEAD", "pass"), "@fake/a,@fake/b"))
    assert order == ["one", "two", "one", "three", "one"], "roles wait for each other now: their shared heads are needed no longer"


def test_an_operation_that_all_hosts_share_makes_a_role_wait_for_the_one_before(tmp_path: Path) -> None:
    order = carried_out(deployed(tmp_path, TWO_HOSTS.replace("HEAD", HEAD), "@fake/a,@fake/b"))
    assert order == ["one", "one", "one", "two", "three"]


def test_an_operation_is_fed_through_standard_input(tmp_path: Path) -> None:
    long = 200_000  # an argument ends at 128 KiB
    text = f"""
from pyinfra.api import StringCommand, operation

@operation()
def feed():
    yield StringCommand("wc", "-c", ">", "count", _stdin="x" * {long})

feed(name="feed")
"""
    assert deployed(tmp_path, text, "@local")["failed"] == []
    assert int((tmp_path / "count").read_text()) in (long, long + 1), "pyinfra ends what it feeds with a line break"


def test_a_fact_command_is_fed_through_standard_input(tmp_path: Path) -> None:
    ask = """
state = connected(["@local"])
[host] = state.inventory
with ctx_host.use(host):
    ok, output = host.run_shell_command("sh -s", _stdin="echo fed")
print(json.dumps([ok, output.stdout_lines]))
"""
    assert run(tmp_path, ask) == [True, ["fed"]]


def test_what_a_failed_operation_said_is_kept_and_the_other_host_goes_on(tmp_path: Path) -> None:
    text = """
from pyinfra import host
from pyinfra.operations import server

server.shell(name="first", commands=["echo why it failed >&2; exit 3" if host.name == "@local" else "true"])
server.shell(name="second", commands=["true"])
"""
    result = deployed(tmp_path, text, "@local,@fake/other")
    assert result["failed"] == ["@local"]
    assert result["ends"] == {"@local": ["first", ["why it failed"]]}
    assert ["error", "@local", "first"] in result["events"]
    assert ["success", "@fake/other", "second"] in result["events"]
    assert ["success", "@local", "second"] not in result["events"]


def test_an_operation_sees_at_its_turn_which_hosts_have_failed(tmp_path: Path) -> None:
    text = """
from pyinfra import host
from pyinfra.api import StringCommand, operation
from pyinfra.operations import server

@operation()
def waits():
    failed = [each.name for each in host.state.failed_hosts]
    yield StringCommand("echo", "needs", *failed, ">&2;", "exit", "1" if failed else "0")

server.shell(name="first", commands=["false" if host.name == "@local" else "true"])
waits(name="waits")
"""
    result = deployed(tmp_path, text, "@local,@fake/other")
    assert result["commands"]["@fake/other"][-1] == "echo needs @local >&2; exit 1"


def test_the_callbacks_that_paddock_hears_are_called_so(tmp_path: Path) -> None:
    names = ["host_connect_error", "operation_host_start", "operation_host_success", "operation_host_error"]
    assert run(tmp_path, f"print(json.dumps([hasattr(BaseStateCallback, name) for name in {names}]))") == [True] * len(names)


def test_a_host_whose_key_is_not_pinned_is_refused(tmp_path: Path) -> None:
    ask = """
import paramiko
from pyinfra.connectors.sshuserclient.client import SSHClient, get_missing_host_key_policy

policy = get_missing_host_key_policy("yes")
try:
    policy.missing_host_key(SSHClient(), "192.0.2.10", paramiko.RSAKey.generate(2048))
    print(json.dumps("let in"))
except paramiko.SSHException as error:
    print(json.dumps(str(error)))
"""
    assert "No host key for 192.0.2.10" in run(tmp_path, ask)


def test_the_program_that_answers_sudo_is_not_made_anew_where_one_is_named(tmp_path: Path) -> None:
    ask = """
from pyinfra.connectors.util import make_unix_command_for_host

state = connected(["@local"])
[host] = state.inventory
host.connector_data[f"sudo_askpass_path__{host.get_temp_dir_config()}"] = "/run/answers"
with ctx_host.use(host):
    command = make_unix_command_for_host(state, host, "true", _sudo=True, _sudo_password="elsewhere")
print(json.dumps(command.get_raw_value()))
"""
    assert "SUDO_ASKPASS=/run/answers" in run(tmp_path, ask)
