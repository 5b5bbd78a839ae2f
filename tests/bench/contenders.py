"""Who runs against whom, on the same four lab hosts. Each run ends when all is looked at, and fails where there was anything to change."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from facts.state import probe_script
from lab.container import LabHost
from resources import Port, Resource
from tests.lab_fleet import LabFleet

HERE = Path(__file__).parent
NAME = "bench"
HOSTS = ("one", "two", "three", "four")
ANSIBLE = "ansible-core==2.19.*"

# Ansible needs a Python on its hosts.
BASE = {"time": "elsewhere", "packages": ["python3", "python3-apt"]}

BEHIND = {
    "behind": {
        "address": "192.0.2.1",
        "roles": {
            "base": {},
            "llama_cpp": {"ui": False},
            "models": {},
            "llama_server": {"listen": "0.0.0.0:8080", "models": ["demo"], "encrypted": False},
        },
    }
}
"""The machine that all four pass requests on to; nobody asks it anything here. Without a tunnel to it there is less to write by hand."""

Addresses = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Contender:
    """`aim` is how many times as long as Paddock it is to take; 0 where nothing is aimed at."""

    name: str
    run: Callable[[], object]
    aim: float = 0.0
    rarely: bool = False
    """Whether it takes so long that it runs in fewer rounds."""


def bare() -> str:
    """The inventory of four hosts of which there is nothing to say."""
    hosts = {name: {"address": f"192.0.2.{number}"} for number, name in enumerate(HOSTS, 1)}
    return json.dumps({"fleet": NAME, "domain": "home.example", "hosts": hosts})


def described(addresses: Addresses) -> str:
    """The inventory of four reverse proxies at these addresses. playbook.yml and operations.py have the same by hand. (JSON is YAML.)"""
    hosts = {}
    for name in HOSTS:
        sites = {f"{name}.home.example": {"upstream": "behind"}}
        hosts[name] = {**addresses[name], "roles": {"base": BASE, "caddy": {"sites": sites}}}
    whole = {
        "fleet": NAME,
        "domain": "home.example",
        "hosts": {**hosts, **BEHIND},
        "models": {"demo": {}},
        "clients": {"laptop": {"admin": True}, "phone": {"admin": True}},
    }
    return json.dumps(whole)


def addresses_of(hosts: Mapping[str, LabHost]) -> Addresses:
    return {name: {"address": each.address, "ssh_key": str(each.ssh_key), "host_key": each.host_key} for name, each in hosts.items()}


def contenders(lab: LabFleet, hosts: Mapping[str, LabHost], plans: Mapping[str, Sequence[Resource]], tree: Path) -> Iterator[Contender]:
    """Paddock comes first. `tree` has the files of the plans, as HOST/PATH."""
    known = lab.directory / ".paddock" / NAME / "known_hosts"
    yield Contender("paddock up", partial(_run, lab.command("up", "--yes", "--limit", ",".join(HOSTS)), r"\b0 changed", env=lab.env))
    yield Contender(f"Ansible ({ANSIBLE})", _ansible(lab.directory, hosts, known, tree), aim=25, rarely=True)
    yield Contender("plain pyinfra", _pyinfra(lab.directory, hosts, known, tree), aim=5)
    yield Contender(
        "bare SSH, the same reads", partial(_bare_ssh, hosts, known, {name: probe_script(plan) for name, plan in plans.items()})
    )
    yield Contender("python -c 'import pyinfra_cli'", partial(_run, [sys.executable, "-c", "import pyinfra_cli"]))


def left_out(host: str, plan: Sequence[Resource]) -> Iterator[str]:
    """What of the plan the playbook or the operations, written by hand, do not name. Ports are left out on purpose."""
    for text in ((HERE / name).read_text() for name in ("playbook.yml", "operations.py")):
        for each in plan:
            last = each.id.rpartition("/")[2].rpartition(":")[2].removeprefix(f"{host}.")
            if not isinstance(each, Port) and last not in text:
                yield each.id


def _run(command: Sequence[str], nothing: str = "", times: int = len(HOSTS), *, env: Mapping[str, str] | None = None) -> str:
    """What it prints, in which `nothing`, a regular expression, is found so many times where there was nothing to change."""
    done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    told = done.stdout + done.stderr
    assert done.returncode == 0 and (not nothing or len(re.findall(nothing, told)) == times), f"{' '.join(command)}: {told[-2000:]}"
    return told


def _ansible(scratch: Path, hosts: Mapping[str, LabHost], known: Path, tree: Path) -> Callable[[], object]:
    """With pipelining, without facts, one process a host; it shares connections between its runs, as it does unless told otherwise."""
    venv = Path.home() / ".cache" / "paddock" / "bench" / "ansible"
    if not (venv / "bin" / "ansible-playbook").exists():
        print("fetching Ansible", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        subprocess.run([str(venv / "bin" / "pip"), "install", "--quiet", ANSIBLE], check=True)
    ssh = f"-o UserKnownHostsFile={known} -o StrictHostKeyChecking=yes -o IdentitiesOnly=yes"
    lines = [
        f"{name} ansible_host={each.address} ansible_user={each.user} ansible_ssh_private_key_file={each.ssh_key}"
        for name, each in hosts.items()
    ]
    everywhere = ["[all:vars]", "ansible_python_interpreter=/usr/bin/python3", f"ansible_ssh_extra_args='{ssh}'", f"tree={tree}"]
    inventory = scratch / "ansible.ini"
    inventory.write_text("\n".join([*lines, *everywhere, ""]))
    environment = {
        **os.environ,
        "ANSIBLE_PIPELINING": "1",
        "ANSIBLE_FORKS": str(len(HOSTS)),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_LOCALHOST_WARNING": "0",
    }
    command = [str(venv / "bin" / "ansible-playbook"), "-i", str(inventory), str(HERE / "playbook.yml")]
    return partial(_run, command, r"changed=0\b", env=environment)


def _pyinfra(scratch: Path, hosts: Mapping[str, LabHost], known: Path, tree: Path) -> Callable[[], object]:
    data = [
        (
            name,
            {
                "ssh_hostname": each.address,
                "ssh_user": each.user,
                "ssh_key": str(each.ssh_key),
                "ssh_known_hosts_file": str(known),
                "ssh_strict_host_key_checking": "yes",
                "tree": str(tree),
            },
        )
        for name, each in hosts.items()
    ]
    inventory = scratch / "plain.py"
    inventory.write_text(f"fleet = {data!r}\n")
    return partial(
        _run, [sys.executable, "-m", "pyinfra", "-y", str(inventory), str(HERE / "operations.py")], r"Grand total +\d+ +- +- ", 1
    )


def _bare_ssh(hosts: Mapping[str, LabHost], known: Path, scripts: Mapping[str, str]) -> None:
    """Side by side, a new connection each."""
    options = (
        "-F",
        "none",
        "-o",
        f"UserKnownHostsFile={known}",
        "-o",
        "StrictHostKeyChecking=yes",
        "-o",
        "IdentitiesOnly=yes",
        "-o",
        "BatchMode=yes",
    )
    at_work = []
    for name, each in hosts.items():
        command = ["ssh", *options, "-i", str(each.ssh_key), f"{each.user}@{each.address}", "sh -s"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdin
        process.stdin.write(scripts[name])
        process.stdin.close()
        process.stdin = None
        at_work.append(process)
    for process in at_work:
        read, _ = process.communicate()
        assert process.returncode == 0 and " service\n" in read
