"""What the pi coding agent reads: its models, and the extension ai-server.

Both are of one file. `models.json` names the models that the site's servers serve as the inventory says; the extension, which lies
beside it, asks the servers what they have by now, and offers that under the same name: what the file says, where they are out of reach.
"""

from __future__ import annotations

import json
from typing import Any

from inventory.fleet import Fleet
from inventory.knowledge import TO_BE_ISSUED, Knowledge
from resources import Directory, File
from roles.client.bridge import base_url, entrance
from roles.client.part import Person, SeatPart
from roles.client.settings import bridge_key_name
from roles.preset import Preset, is_on, purpose
from roles.role import render
from roles.server import Server

MODELS = ".pi/agent/models.json"
EXTENSION = ".pi/agent/extensions/ai-server"
SOURCES = ("index.ts", "commands.ts", "config.ts", "debug.ts", "provider.ts", "relay.ts", "server.ts", "transport.ts")

UNKNOWN_CONTEXT = LONGEST_ANSWER = 32_768
"""What provider.ts takes too: of a model whose context nobody knows before it is loaded; and the most tokens of one answer."""

COMPATIBILITY = {"supportsDeveloperRole": False, "supportsStore": False, "maxTokensField": "max_tokens"}
"""What of OpenAI's API chat templates and llama-server do not have."""


def pi(person: Person, fleet: Fleet, knowledge: Knowledge) -> SeatPart:
    directory, group = f"{person.directory}/pi", person.account
    extension = f"{directory}/ai-server"
    models = File(f"{directory}/models.json", _models_json(person, fleet, knowledge), group=group, mode=0o640, secret=True)
    sources = (File(f"{extension}/{name}", render(f"client/pi/ai-server/{name}"), group=group, mode=0o640) for name in SOURCES)
    directories = (Directory(path, group=group, mode=0o750, exclusive=True) for path in (directory, extension))
    return SeatPart((*directories, models, *sources), {MODELS: models.path, EXTENSION: extension})


def _models_json(person: Person, fleet: Fleet, knowledge: Knowledge) -> str:
    provider = {
        "baseUrl": f"{base_url(person)}/v1",
        "api": "openai-completions",
        "apiKey": knowledge.secrets.get(bridge_key_name(person.host, person.account), TO_BE_ISSUED).strip(),
        "compat": COMPATIBILITY,
        "models": _models(fleet.behind(entrance(person).site.upstream), fleet, knowledge),
    }
    return json.dumps({"providers": {person.fleet: provider}}, indent=2) + "\n"


def _models(servers: tuple[Server, ...], fleet: Fleet, knowledge: Knowledge) -> list[dict[str, Any]]:
    """Those that chat. Where several servers have one, the least of them counts: nobody knows who will answer."""
    presets: dict[str, list[Preset]] = {}
    for server in servers:
        for model in server.models:
            presets.setdefault(model, []).append(fleet.preset(server, model))
    return [_model(name, found, knowledge) for name, found in presets.items() if all(purpose(each) == "chat" for each in found)]


def _model(name: str, presets: list[Preset], knowledge: Knowledge) -> dict[str, Any]:
    shape = knowledge.shapes.get(name)
    trained = shape.context_length if shape else 0
    window = min(_window(preset) or trained or UNKNOWN_CONTEXT for preset in presets)
    window = min(window, trained or window)
    return {
        "id": name,
        "input": ["text", "image"] if all("mmproj" in preset for preset in presets) else ["text"],
        "contextWindow": window,
        "maxTokens": min(LONGEST_ANSWER, window // 2),
    }


def _window(preset: Preset) -> int:
    """The tokens of one conversation, 0 where the model's own are taken: slots share a context evenly, unless their cache is one, and have
    no more of it than `kv-unified-per-slot` says (llama.cpp's tools/server/server-context.cpp: n_ctx_slot)."""
    size, slots, most = (_number(preset, *names) for names in (("ctx-size", "c"), ("parallel", "np"), ("kv-unified-per-slot",)))
    together = slots <= 1 or any(is_on(preset.get(name)) for name in ("kv-unified", "kvu"))
    share = size if together else size // slots
    return min(share, most) if share and most else share or most


def _number(preset: Preset, *names: str) -> int:
    """The last of an option's names that is said counts, as llama.cpp reads them."""
    found = [str(value) for option, value in preset.items() if option in names]
    return int(found[-1]) if found and found[-1].isdecimal() else 0
