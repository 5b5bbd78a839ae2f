"""What every verb has in common: help, exit codes, and which inventory is meant."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cli import VERBS, main, module_name, parser

ROOT = Path(__file__).parents[3]

Paddock = Callable[..., subprocess.CompletedProcess[str]]

INVENTORY = """\
fleet: mine
domain: home.example
hosts:
  pea:
    address: 192.0.2.7
    roles:
      base:
"""


@pytest.fixture
def paddock(tmp_path: Path) -> Paddock:
    """`paddock("check", "-i", "home.yml")`, called in tmp_path; nobody is at the terminal."""

    def call(*arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PADDOCK_")}
        env = {**kept, "HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "COLUMNS": "120", **environment}
        command = [sys.executable, "-m", "cli", *arguments]
        return subprocess.run(command, cwd=tmp_path, env=env, input=stdin, capture_output=True, text=True, timeout=60)

    return call


def help_of(verb: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as left:
        main([verb, "--help"] if verb else ["--help"])
    assert left.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_every_verb_has_examples_that_call_it(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, found, examples = help_of(verb, capsys).partition("examples:\n")
    assert found and f"paddock {verb}" in examples


def actions_of(verb: str) -> list[str]:
    return list(_subparsers(_subparsers(parser((verb,)))[verb]))


def _subparsers(of: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    return next((dict(each.choices) for each in of._actions if isinstance(each, argparse._SubParsersAction)), {})


@pytest.mark.parametrize(("verb", "action"), [(verb, action) for verb in VERBS for action in actions_of(verb)])
def test_the_help_of_every_action_has_examples_that_call_it(verb: str, action: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([verb, action, "--help"])
    _, found, examples = capsys.readouterr().out.partition("examples:\n")
    assert found and f"paddock {verb} {action}" in examples


def test_the_help_names_every_verb_and_every_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of("", capsys)
    assert [verb for verb in VERBS if f"\n    {verb} " not in text] == []
    assert "0 done, 1 failed, 2 the inventory or the command line is wrong, 3 something would change" in text


def test_no_verb_was_forgotten() -> None:
    assert _with("\ndef run(options", "*.py") | _with("\nACTIONS = ", "*/__init__.py") == {module_name(verb) for verb in VERBS}


@pytest.mark.parametrize("verb", [verb for verb in VERBS if actions_of(verb)])
def test_no_action_was_forgotten(verb: str) -> None:
    assert _with("\ndef run(options", f"{verb}/[!_]*.py") - {verb} == {module_name(action) for action in actions_of(verb)}


def _with(text: str, pattern: str) -> set[str]:
    found = (path for path in (ROOT / "cli").glob(pattern) if text in path.read_text())
    return {path.parent.name if path.stem == "__init__" else path.stem for path in found}


def test_help_loads_nothing_that_only_work_needs() -> None:
    heavy = ("pyinfra", "gevent", "paramiko", "cryptography", "numpy", "requests", "pytest")
    code = "import sys\nfrom cli import main\ntry:\n    main(['--help'])\nfinally:\n    print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not set(heavy) & set(done.stdout.splitlines()[-1].split())


def test_an_action_is_loaded_alone() -> None:
    code = "import sys\nfrom cli import main\ntry:\n    main(['certs', 'list', '--help'])\nfinally:\n    print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "cli.certs.list" in loaded and not {"cli.certs.renew", "cli.models", "control.deployment.deployment"} & loaded


@pytest.mark.parametrize("arguments", [(), ("destroy",), ("check", "--fast"), ("plan", "--lim", "ai"), ("secrets",)])
def test_a_wrong_command_line_is_2(paddock: Paddock, arguments: tuple[str, ...]) -> None:
    done = paddock(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: paddock") and "Traceback" not in done.stderr


def test_an_unknown_verb_is_answered_with_those_that_there_are(paddock: Paddock) -> None:
    said = paddock("destroy").stderr
    assert "'destroy'" in said and all(verb in said for verb in VERBS)


def test_the_demo_is_well(paddock: Paddock) -> None:
    done = paddock("check")
    assert (done.returncode, done.stderr) == (0, "")
    assert "fleet demo in home.example: 1 host" in done.stdout


def test_which_inventory_is_meant(paddock: Paddock, tmp_path: Path) -> None:
    """`-i` before or after the verb, else PADDOCK_INVENTORY, else inventory.yml, else the demo."""
    for name in ("one", "two", "inventory"):
        (tmp_path / f"{name}.yml").write_text(INVENTORY.replace("mine", name))
    assert "fleet one" in paddock("-i", "one.yml", "check", PADDOCK_INVENTORY="two.yml").stdout
    assert "fleet one" in paddock("check", "-i", "one.yml", PADDOCK_INVENTORY="two.yml").stdout
    assert "fleet two" in paddock("check", PADDOCK_INVENTORY="two.yml").stdout
    assert "fleet inventory" in paddock("check").stdout


def test_a_wrong_inventory_is_2_and_told_with_its_place(paddock: Paddock, tmp_path: Path) -> None:
    (tmp_path / "home.yml").write_text(INVENTORY.replace("base:", "bass:"))
    done = paddock("-i", "home.yml", "plan")
    assert done.returncode == 2
    assert done.stderr.startswith("home.yml:7:7: hosts.pea.roles.bass: ") and "Traceback" not in done.stderr


def test_an_inventory_that_is_not_there_is_2_in_one_line(paddock: Paddock) -> None:
    done = paddock("-i", "nowhere.yml", "check")
    assert done.returncode == 2
    assert done.stderr.startswith("nowhere.yml") and done.stderr.count("\n") == 1


def test_a_limit_that_nothing_matches_is_2_and_told_with_what_there_is(paddock: Paddock) -> None:
    done = paddock("render", "--limit", "ia")
    assert done.returncode == 2
    assert "--limit ia" in done.stderr and "ai, base, caddy" in done.stderr


@pytest.mark.parametrize("verb", ["plan", "status"])
def test_a_host_that_cannot_be_reached_is_1_in_one_line(paddock: Paddock, tmp_path: Path, verb: str) -> None:
    (tmp_path / "home.yml").write_text(INVENTORY.replace("address: 192.0.2.7", "address: 127.0.0.1\n    port: 1"))
    done = paddock("-i", "home.yml", verb)
    assert done.returncode == 1
    assert done.stderr.startswith("pea: root@127.0.0.1:1 cannot be reached: ") and done.stderr.count("\n") == 1


def test_whoever_stops_reading_gets_no_traceback(tmp_path: Path) -> None:
    reads, writes = os.pipe()
    os.close(reads)
    command = [sys.executable, "-m", "cli", "schema"]
    done = subprocess.run(command, cwd=ROOT, stdout=writes, stderr=subprocess.PIPE, text=True)
    os.close(writes)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize("program", ["module", "script"])
@pytest.mark.parametrize("module", ["argparse", "inventory.errors", "cli.views.terminal", "pydantic", "inventory.load", "cli.arguments"])
def test_an_interrupt_before_the_command_is_loaded_ends_it_without_a_word(module: str, program: str, tmp_path: Path) -> None:
    """Python says of each module when it is loaded."""
    script = tmp_path / "paddock"
    script.write_text("from cli import command\ncommand()\n")
    command = [sys.executable, "-X", "importtime", *(["-m", "cli"] if program == "module" else [str(script)]), "check"]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stderr
    said = []
    for line in process.stderr:
        said.append(line)
        if line.split("|")[-1].strip() == module:
            process.send_signal(signal.SIGINT)
            break
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert output == ""
    assert all(line.startswith("import time:") for line in (*said, *errors.splitlines()))


def test_an_interrupt_that_is_ignored_stays_ignored() -> None:
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); import cli; cli.loading.begins(); signal.raise_signal(signal.SIGINT)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_whoever_only_imports_the_command_hears_of_an_interrupt() -> None:
    code = "import signal, cli; assert signal.getsignal(signal.SIGINT) is signal.default_int_handler"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_what_would_land_is_written_without_a_host(paddock: Paddock, tmp_path: Path) -> None:
    assert paddock("render", "--to", "out").returncode == 0
    assert "service:llama-server.service" in (tmp_path / "out/ai/resources.txt").read_text()
    assert "[demo]" in (tmp_path / "out/ai/etc/paddock/llama-server/presets.ini").read_text()


def test_a_secret_is_set_from_standard_input_listed_and_shown_and_its_file_says_nothing(paddock: Paddock, tmp_path: Path) -> None:
    (tmp_path / "home.yml").write_text(INVENTORY)
    assert paddock("-i", "home.yml", "secrets", "set", "hf-token", stdin="hush\n").returncode == 0
    assert paddock("-i", "home.yml", "secrets", "list").stdout == "hf-token\n"
    assert paddock("-i", "home.yml", "secrets", "show", "hf-token").stdout == "hush\n"
    assert b"hush" not in (tmp_path / ".paddock/mine/secrets/hf-token.age").read_bytes()


def test_a_secret_that_there_is_not_is_1_in_one_line(paddock: Paddock, tmp_path: Path) -> None:
    (tmp_path / "home.yml").write_text(INVENTORY)
    done = paddock("-i", "home.yml", "secrets", "show", "nothing")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and "nothing" in done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_the_shell(paddock: Paddock, shell: str) -> None:
    done = paddock("completion", shell)
    assert done.returncode == 0
    assert "complete" in done.stdout and "paddock" in done.stdout


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("paddock ver", {"verify"}),
        ("paddock up --limit a", {"ai"}),
        ("paddock up --limit ca", {"caddy"}),
        ("paddock lab l", {"list"}),
    ],
)
def test_the_tab_key_offers_verbs_and_names_out_of_the_inventory(paddock: Paddock, tmp_path: Path, line: str, offered: set[str]) -> None:
    asked = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_STDOUT_FILENAME": str(tmp_path / "said"), "_ARGCOMPLETE_IFS": "\n"}
    paddock(**asked, COMP_LINE=line, COMP_POINT=str(len(line)), _ARGCOMPLETE_COMP_WORDBREAKS=" ")
    assert {word.strip() for word in (tmp_path / "said").read_text().split("\n")} == offered
