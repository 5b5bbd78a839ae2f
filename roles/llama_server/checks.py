"""What llama-server does, asked on its own host: it lists and serves the models that are declared, as a user who can do nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from testinfra.host import Host as TestinfraHost

from inventory.schema import Fleet, Host, ModelEntry
from roles.llama_server.plan import UNIT
from roles.llama_server.settings import LlamaServerSettings
from roles.role import port_of

LOAD_TIMEOUT_S = 600
"""A model of many GiB is read from a disk first."""


def check_health(host: TestinfraHost, fleet: Fleet, this: Host) -> None:
    assert ask(host, fleet, this, "/health") == {"status": "ok"}


def check_lists_exactly_the_declared_models(host: TestinfraHost, fleet: Fleet, this: Host) -> None:
    assert set(_listed(host, fleet, this)) == set(fleet.served_models(this.name))


def check_every_model_answers_with_its_own_context(host: TestinfraHost, settings: LlamaServerSettings, fleet: Fleet, this: Host) -> None:
    for name, entry in fleet.served_models(this.name).items():
        if not settings.autoload and _listed(host, fleet, this)[name]["value"] != "loaded":
            continue  # nobody has asked for it to be loaded
        answer = ask(host, fleet, this, *question(name, settings, entry))
        assert "error" not in answer, f"{name}: {answer['error']}"
        status = _listed(host, fleet, this)[name]
        assert status["value"] in ("loaded", "sleeping"), f"{name} has answered, and is now {status['value']}"
        if size := context_size(settings, entry):
            assert _argument(status["args"], "--ctx-size") == size, f"{name}: its worker was started with {' '.join(status['args'])}"


def check_runs_as_its_own_user(host: TestinfraHost) -> None:
    pid = host.check_output("systemctl show --property=MainPID --value %s", UNIT)
    assert host.check_output("stat --format=%%U /proc/%s", pid) == "llama-server"


def check_workers_listen_on_loopback_alone(host: TestinfraHost, settings: LlamaServerSettings) -> None:
    sockets = [line.split() for line in host.check_output("ss -Hltnp").splitlines() if '"llama-server"' in line]
    workers = [each[3] for each in sockets if not each[3].endswith(f":{port_of(settings.listen)}")]
    outside = [address for address in workers if not address.startswith(("127.", "[::1]"))]
    assert not outside, f"reachable from elsewhere, past the router: {', '.join(outside)}"


def question(model: str, settings: LlamaServerSettings, entry: ModelEntry) -> tuple[str, Mapping[str, Any]]:
    """The path to post to and the body: a few tokens, or an embedding where the model is for that."""
    preset = {**settings.preset, **entry.preset}
    if preset.get("embeddings") or preset.get("embedding"):
        return "/v1/embeddings", {"model": model, "input": "hello"}
    return "/v1/chat/completions", {"model": model, "max_tokens": 4, "messages": [{"role": "user", "content": "hello"}]}


def context_size(settings: LlamaServerSettings, entry: ModelEntry) -> str:
    """The context that the inventory asks for, `c` being the same option; empty where it leaves that to the model."""
    asked = [preset[option] for preset in (entry.preset, settings.preset) for option in ("ctx-size", "c") if option in preset]
    return str(asked[0]) if asked else ""


def ask(host: TestinfraHost, fleet: Fleet, this: Host, path: str, body: Mapping[str, Any] | None = None) -> Any:
    """What the server answers, parsed: an error of its own too."""
    url = f"http://{fleet.upstream(this.name, this.name)}{path}"
    command = f"curl --silent --show-error --max-time {LOAD_TIMEOUT_S} "
    if body is None:
        return json.loads(host.check_output(f"{command} %s", url))
    return json.loads(host.check_output(f"{command} --header 'Content-Type: application/json' --data %s %s", json.dumps(body), url))


def _listed(host: TestinfraHost, fleet: Fleet, this: Host) -> dict[str, Any]:
    return {each["id"]: each["status"] for each in ask(host, fleet, this, "/models")["data"]}


def _argument(arguments: list[str], option: str) -> str:
    return arguments[arguments.index(option) + 1] if option in arguments else ""
