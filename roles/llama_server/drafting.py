"""What kind of speculative decoding a draft is for. A newer llama-server loads a draft, and uses it only if it is told how.

Files named here are llama.cpp's.
"""

from __future__ import annotations

from collections.abc import Mapping

from inventory.fleet import Fleet
from inventory.knowledge import Knowledge
from inventory.model_shape import ModelShape
from roles.preset import Preset
from roles.server import Server

OPTION = "spec-type"

SIMPLE = "draft-simple"
"""A model of its own that drafts, smaller than the one it drafts for."""

KINDS: Mapping[str, str] = {"eagle3": "draft-eagle3", "dflash": ""}
"""By the architecture of drafts that are no model of their own; empty where llama-server sees it itself (common/speculative.cpp:
common_speculative_types_from_gguf)."""


def kind_of(draft: ModelShape) -> str:
    """The value of `spec-type`; empty where llama-server finds it."""
    return "" if draft.nextn_predict_layers else KINDS.get(draft.architecture, SIMPLE)


def drafting(server: Server, model: str, fleet: Fleet, knowledge: Knowledge) -> Preset:
    """The option that has a server use the model's draft; nothing where the model has none, the inventory says it, the version uses any
    draft that it is given, or nobody has read the draft's header: see `unclear`."""
    draft = knowledge.shapes.get(f"{model}+draft")
    if not draft or not _is_asked(server, model, fleet, knowledge) or not (kind := kind_of(draft)):
        return {}
    return {OPTION: kind}


def unclear(server: Server, model: str, fleet: Fleet, knowledge: Knowledge) -> bool:
    """Whether a draft is not used unless somebody says what it is."""
    return f"{model}+draft" not in knowledge.shapes and _is_asked(server, model, fleet, knowledge)


def _is_asked(server: Server, model: str, fleet: Fleet, knowledge: Knowledge) -> bool:
    options = knowledge.options.get(server.host)
    option = options.find(OPTION) if options else None
    said = option and any(options.find(key) == option for key in fleet.preset(server, model)) if options else False
    return bool(fleet.models[model].draft and option and SIMPLE in option.values and not said)
