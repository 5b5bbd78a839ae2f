"""LocalAI's container: its card, the back end that it fetches at its first start, and its models."""

from __future__ import annotations

from collections.abc import Iterator

from inventory.errors import PaddockError
from inventory.fleet import Fleet, Host
from inventory.hardware import Hardware
from inventory.knowledge import Knowledge
from resources import ENGINE, File, Port, Resource
from roles.compose import Contained, directory_of, published_at, stack, volume
from roles.localai.settings import NAME, LocalaiSettings, key_name
from roles.role import TEMPLATES, port_of, render
from roles.server import Card

SHORTEST_KEY = 16
FIRST_START_S = 2 * 3600
"""Its back end has 7 GB."""

UNPACKS = ("CHOWN", "DAC_OVERRIDE", "FOWNER")
"""What it takes to unpack the layers of a back end."""

UNKNOWN = "<to be read>"


def plan(host: Host, settings: LocalaiSettings, fleet: Fleet, knowledge: Knowledge) -> Iterator[Resource]:
    directory = directory_of(NAME)
    key = knowledge.key(key_name(host.name), SHORTEST_KEY)
    entry = File(f"{directory}/entry.sh", (TEMPLATES / NAME / "entry.sh").read_text(), mode=0o755)
    models = {
        f"/models/{name}.yaml": File(f"{directory}/{name}.yaml", render("localai/model.yaml.j2", each, name=name))
        for name, each in settings.models.items()
    }
    port = Port(port_of(settings.listen), published_at(settings.listen), ENGINE, reachable_from=fleet.callers_of_images(host.name))
    wanted = Contained(
        image=settings.image,
        entrypoint=("/paddock/entry.sh",),
        environment={
            "PADDOCK_BACKEND": settings.backend,
            "LOCALAI_BACKENDS_PATH": "/backends",
            "LOCALAI_MODELS_PATH": "/models",
            "LOCALAI_DISABLE_WEBUI": "true",
            "HF_HOME": "/models/huggingface",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        },
        reads={
            "/paddock/entry.sh": entry,
            "/run/secrets/key": File(f"{directory}/key", f"{key}\n", mode=0o600, secret=True),
            **models,
        },
        keeps={"/backends": volume(NAME, "backends"), "/models": volume(NAME, "models")},
        publishes=((port, 8080),),
        memory=settings.memory,
        health=("curl", "--silent", "--fail", "http://127.0.0.1:8080/readyz"),
        start_s=FIRST_START_S,
        capabilities=UNPACKS,
        cards=(f"nvidia.com/gpu={_card(settings.card, host, fleet, knowledge.hardware.get(host.name))}",),
        read_only=False,  # back ends write beside themselves, and in places that nobody has listed
    )
    *others, last = stack(NAME, {NAME: wanted}, ready_timeout_s=FIRST_START_S, brought=host.brings_images)
    yield from others
    yield from wanted.files
    yield last


def _card(card: Card, host: Host, fleet: Fleet, hardware: Hardware | None) -> str:
    """Its UUID, by which NVIDIA's container toolkit names it whatever the order of enumeration. Raises PaddockError where there is none."""
    if isinstance(card, str) and card.startswith("GPU-"):
        return card
    if hardware is None:
        return UNKNOWN
    first = next((found for each in host.carried.values() if (found := each.first_card()) is not None), 0)
    there = sorted(hardware.nvidia_cards, key=lambda each: each.address)
    for number, each in enumerate(there, first):
        if card in (number, each.address):
            return each.uuid
    have = ", ".join(f"{number} ({each.name})" for number, each in enumerate(there, first)) or "none of NVIDIA's"
    raise PaddockError(f"hosts.{host.name}.roles.localai.card: there is no card {card}, the host has {have}")
