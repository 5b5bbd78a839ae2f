"""LiteLLM in a container: the same configuration, keys and servers, mounted, in place of an environment and a unit."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping

from inventory.fleet import Host
from inventory.knowledge import Knowledge
from resources import ENGINE, File, Port, Resource
from roles.compose import Contained, directory_of, published_at, stack
from roles.litellm.settings import MODULES, LitellmSettings
from roles.role import port_of

NAME = "litellm"
DIRECTORY = directory_of(NAME)
ACCESS = f"{DIRECTORY}/access.json"
SECRETS = f"{DIRECTORY}/secrets.env"

INSIDE = "/paddock"
"""Where the container has its files."""

SOCKETS = "/run/paddock"
"""Where servers and tunnels have theirs."""

VARIABLES = "/run/secrets/litellm"

ENTRY = ("/bin/sh", "-c", f'set -ae; . {VARIABLES}; set +a; exec "$@"', "sh")
"""LiteLLM takes secrets from variables alone. So given, `docker inspect` does not show them."""

PORT = 4000
STARTS_S, ENDS_S = 180, 90

WELL = f"import urllib.request; urllib.request.urlopen('http://127.0.0.1:{PORT}/health/liveliness', timeout=5)"
"""The image has no curl."""

ENVIRONMENT: Mapping[str, str] = {
    # It asks nobody for prices, and does not read a .env of where it starts.
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_MODE": "PRODUCTION",
    "DISABLE_ADMIN_UI": "True",
    "PADDOCK_LITELLM_ACCESS": f"{INSIDE}/access.json",
    "PYTHONPATH": INSIDE,
    "PYTHONDONTWRITEBYTECODE": "1",
    "HOME": "/tmp",
}


def resources(
    host: Host, settings: LitellmSettings, configuration: str, access: str, secrets: Mapping[str, str], traces_at: str, knowledge: Knowledge
) -> Iterator[Resource]:
    """The stack; `configuration` and `access` are the texts of config.yaml and of what `custom_auth` reads, `secrets` variables,
    `traces_at` the URL of Langfuse, where it sends traces."""
    if not settings.image:  # `check` says so
        return
    modules = {name: File(f"{DIRECTORY}/{name}", text) for name, text in knowledge.program(MODULES).items()}
    variables = "".join(f"{name}={shlex.quote(value)}\n" for name, value in secrets.items())
    port = Port(port_of(settings.listen), published_at(settings.listen), ENGINE)
    wanted = Contained(
        image=settings.image,
        entrypoint=ENTRY,
        command=(
            "litellm",
            *("--config", f"{INSIDE}/config.yaml", "--host", "0.0.0.0", "--port", str(PORT)),
            *("--num_workers", "1", "--telemetry", "False"),
        ),
        environment={**ENVIRONMENT, **({"LANGFUSE_HOST": traces_at} if traces_at else {})},
        reads={
            f"{INSIDE}/config.yaml": File(f"{DIRECTORY}/config.yaml", configuration),
            f"{INSIDE}/access.json": File(ACCESS, access, mode=0o600, secret=True),
            VARIABLES: File(SECRETS, variables, mode=0o600, secret=True),
            **{f"{INSIDE}/{MODULES.rpartition('/')[2]}/{name}": file for name, file in modules.items()},
        },
        sockets={SOCKETS: SOCKETS},
        temporary=("/tmp",),
        publishes=((port, PORT),),
        # The sockets are root's, and of a group whose number differs by host. This root has no other right of root's.
        user="0:0",
        memory=(settings.memory_max or "").lower(),
        health=("python3", "-c", WELL),
        start_s=STARTS_S,
        stop_s=ENDS_S,
    )
    *others, last = stack(NAME, {NAME: wanted}, ready_timeout_s=2 * STARTS_S, brought=host.brings_images)
    yield from others
    yield from wanted.files
    yield last
