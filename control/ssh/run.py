"""One run of pyinfra over hosts of a fleet, in this process: connect, ask, carry out a deploy file."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import control.ssh.cooperative  # isort: skip - first of all
import gevent
import paramiko
import pyinfra
from paramiko import SSHException
from pyinfra import connectors
from pyinfra.api import Config, FactBase, Inventory
from pyinfra.api import Host as Target
from pyinfra.api import State as PyinfraState
from pyinfra.api.connect import connect_all, disconnect_all
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.operations import run_ops
from pyinfra.api.state import BaseStateCallback, StateStage
from pyinfra.connectors.ssh import SSHConnector
from pyinfra.connectors.util import CommandOutput
from pyinfra.context import ctx_config, ctx_host, ctx_inventory, ctx_state

from control.ssh.connector import LINKS, WAY, Connector, Unreachable
from control.ssh.failures import LOST, at_work, last_words, unreachable
from control.ssh.links import Links
from control.ssh.privilege import SudoAsks, ask_once, hand_over, never_ask, password_for, take_back
from control.ssh.ways import Way
from inventory.errors import PaddockError
from inventory.fleet import Host

ROOT = Path(__file__).parents[2]

Tell = Callable[[str, str], None]
"""Called with a host's name and a line about it."""

T = TypeVar("T")

assert control.ssh.cooperative
gevent.get_hub().NOT_ERROR += (KeyboardInterrupt,)  # gevent would print it, and the command says it in a sentence
connectors.util.getpass = never_ask  # type: ignore[assignment]  # pyinfra would ask in the middle of a run, once a host


@dataclass
class Run:
    """`failures` is host → why, in words; a failed host takes no further part. `seconds` is host → time in operations."""

    hosts: Mapping[str, Host]
    links: Links
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    tell: Tell = lambda host, line: None
    failures: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        pyinfra.is_cli = True  # operations are told apart by line number, as under the pyinfra command
        for noisy in ("pyinfra", "paramiko"):  # what they have to say is told in `failures`
            logging.getLogger(noisy).setLevel(logging.CRITICAL)
        config, inventory = Config(), Inventory(([(name, {}) for name in self.hosts], {}))
        for target in inventory:
            target.connector_cls = Connector
        self.pyinfra = PyinfraState(inventory, config, check_for_changes=False)
        self.pyinfra.cwd = str(ROOT)
        self._events = _Events(self)
        self.pyinfra.add_callback_handler(self._events)
        self._takes_over()
        config.lock_current_state()

    def _takes_over(self) -> None:
        """Operations and facts are pyinfra's current run's, which is the one that was made last: another may have been, for a question."""
        for context, value in ((ctx_config, self.pyinfra.config), (ctx_state, self.pyinfra), (ctx_inventory, self.pyinfra.inventory)):
            context.set(value)

    def connect(self) -> None:
        """Connects to the hosts that have not failed already."""
        for target in self.pyinfra.inventory:
            try:
                way = self.way(target.name)
                target.host_data.update({LINKS: self.links, WAY: way, "_sudo": way.becomes_root})
            except PaddockError as error:  # of ~/.ssh/config
                self.failures.setdefault(target.name, str(error))
        self.pyinfra.limit_hosts = [target for target in self.pyinfra.inventory if target.name not in self.failures]
        self.pyinfra.set_stage(StateStage.Connect)
        with suppress(PyinfraError):  # no host is left: `failures` says why of each
            connect_all(self.pyinfra)
        for target in self._alive():
            link = transport(target)
            assert link
            if self.way(target.name).becomes_root and (password := password_for(target.name, self.secrets)):
                try:
                    hand_over(target, link, password)
                except (PaddockError, SSHException, OSError, EOFError) as error:
                    self.failures[target.name] = str(error) or LOST
        self.pyinfra.set_stage(StateStage.Prepare)

    def way(self, host: str) -> Way:
        return self.links.ways.to(host)

    def disconnect(self) -> None:
        for target in self.pyinfra.inventory:
            take_back(target)
        with suppress(Exception):
            disconnect_all(self.pyinfra)
        self.links.close()

    def said(self, scripts: Mapping[str, str], *, failed: bool = False) -> dict[str, list[str]]:
        """What a shell script prints on each host, as root, of those where it succeeds. That of another is no failure of the host's.

        With `failed` hosts that have failed are asked too, where they are still connected.
        """

        def ask(target: Target) -> list[str] | None:
            with suppress(PyinfraError):
                return fact(target, Said(), "sh -s", scripts[target.name])
            return None

        return {name: lines for name, lines in self.of_each(scripts, ask, failed=failed).items() if lines is not None}

    def told(self, names: Iterable[str], script: str) -> None:
        """Has hosts run a shell script, as root, also those that have failed, where they are still connected. Nothing comes of it here."""

        def ask(target: Target) -> None:
            with suppress(PyinfraError, PaddockError, SSHException, OSError, EOFError):
                fact(target, Said(), "sh -s", script)

        self.of_each(names, ask, failed=True)

    def carry_out(self, deploy: Path, work: Mapping[str, object], doing: Callable[[str, str], str] = lambda host, name: name) -> None:
        """Runs a deploy file on the named hosts, each with its `work` as host data. Hosts that failed before are left out.

        `doing` names what an operation was at, for the message of a failure. A KeyboardInterrupt says what was at work:
        `one: caddy: services`.
        """
        for target in self.pyinfra.inventory:
            if target.name in self.failures:
                self.pyinfra.failed_hosts.add(target)  # so that what needs this host is not started either
            if target.name in self.failures or target.name not in work:
                self.pyinfra.active_hosts.discard(target)
            else:
                target.host_data["work"] = work[target.name]
        from pyinfra_cli.util import load_deploy_file  # not where nothing is to change

        self._takes_over()
        load_deploy_file(self.pyinfra, str(deploy))
        self.pyinfra.set_stage(StateStage.Execute)
        try:
            with suppress(PyinfraError):  # no host is left: `failures` says why of each
                run_ops(self.pyinfra)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(self._events.unfinished(self.pyinfra)) from None
        for target in self.pyinfra.failed_hosts:
            self.failures.setdefault(target.name, self._why(target, doing))

    def _alive(self) -> list[Target]:
        return [target for target in self.pyinfra.inventory.get_active_hosts() if target.name not in self.failures]

    def of_each(self, names: Iterable[str], question: Callable[[Target], T], *, failed: bool = False) -> dict[str, T]:
        """What a question comes to on each of the named hosts, asked side by side; `failures` says why of those where it fails."""
        answers: dict[str, T] = {}

        def ask(target: Target) -> None:
            try:
                with ctx_host.use(target), ctx_config.use(self.pyinfra.config.copy()):
                    answers[target.name] = question(target)
            except (PyinfraError, PaddockError, SSHException, OSError, EOFError) as error:
                self.failures.setdefault(target.name, str(error) or LOST)

        wanted, targets = set(names), filter(connected, self.pyinfra.inventory) if failed else self._alive()
        gevent.joinall([gevent.spawn(ask, target) for target in targets if target.name in wanted], raise_error=True)
        return answers

    def _why(self, target: Target, doing: Callable[[str, str], str]) -> str:
        for op_hash, data in self.pyinfra.ops[target].items():
            meta = data.operation_meta
            if meta.is_complete() and not meta.did_succeed():
                name = doing(target.name, " ".join(self.pyinfra.get_op_meta(op_hash).names))
                return last_words(meta.stderr_lines, name) if connected(target) else f"{at_work(meta.stderr_lines, name)}: {LOST}"
        return LOST


class Said(FactBase[list[str]]):
    """The lines that a script prints."""

    @staticmethod
    def default() -> list[str]:
        return []

    def process(self, output: list[str]) -> list[str]:
        return output


def transport(target: Target) -> paramiko.Transport | None:
    """The SSH connection to a host, where there is one."""
    connector = target.connector
    assert isinstance(connector, SSHConnector)
    return connector.client.get_transport() if connector.client else None


def connected(target: Target) -> bool:
    link = transport(target)
    return bool(link and link.is_active())


def ask_as_root(target: Target, command: str, script: str | None) -> tuple[bool, CommandOutput]:
    """Whether a command that reads this script succeeds, run as root, and what it says. Raises PaddockError where sudo does not let it."""

    def ask() -> tuple[bool, CommandOutput]:
        return target.run_shell_command(
            command, _stdin=script, _sudo=target.data.get("_sudo"), _sudo_password=target.data.get("_sudo_password")
        )

    try:
        return ask()
    except SudoAsks:
        link = transport(target)
        assert link
        hand_over(target, link, ask_once())
        return ask()


def fact(target: Target, fact: FactBase[T], command: str, script: str | None) -> T:
    """As `host.get_fact`, but a failure is raised with what the host said."""
    ok, output = ask_as_root(target, command, script)
    if not ok:
        raise PyinfraError(last_words(output.stderr_lines, "cannot be read") if connected(target) else LOST)
    try:
        return fact.process(output.stdout_lines)
    except (ValueError, LookupError) as error:
        raise PyinfraError(f"its answer makes no sense: {error}") from None


class _Events(BaseStateCallback):
    """What pyinfra does, told as it happens. (pyinfra declares these as static methods, and calls them on an instance.)"""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.began: dict[tuple[str, str], float] = {}

    def host_connect_error(self, state: PyinfraState, host: Target, error: Exception) -> None:  # type: ignore[override]
        assert isinstance(error, Unreachable)
        self.run.failures.setdefault(host.name, unreachable(self.run.way(host.name), error.why, self.run.links.state.known_hosts))

    def operation_host_start(self, state: PyinfraState, host: Target, op_hash: str) -> None:  # type: ignore[override]
        self.began[host.name, op_hash] = time.monotonic()

    def operation_host_success(self, state: PyinfraState, host: Target, op_hash: str, retry_count: int = 0) -> None:  # type: ignore[override]
        self._ended(state, host, op_hash, "")

    def operation_host_error(self, state: PyinfraState, host: Target, op_hash: str, retry_count: int = 0, max_retries: int = 0) -> None:  # type: ignore[override]
        self._ended(state, host, op_hash, "FAILED")

    def unfinished(self, state: PyinfraState) -> str:
        """What has begun and not ended, on each host."""
        return ", ".join(f"{host}: {' '.join(state.get_op_meta(op_hash).names)}" for host, op_hash in self.began)

    def _ended(self, state: PyinfraState, host: Target, op_hash: str, how: str) -> None:
        seconds = time.monotonic() - self.began.pop((host.name, op_hash))
        self.run.seconds[host.name] = self.run.seconds.get(host.name, 0.0) + seconds
        name = " ".join(state.get_op_meta(op_hash).names)
        if how or ":" in name or " " in name or seconds > 0.05:  # a stage's head does nothing, and is not worth a line
            self.run.tell(host.name, f"{name:40} {seconds:6.1f} s  {how}".rstrip())
