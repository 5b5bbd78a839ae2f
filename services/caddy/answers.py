"""What clients may see of llama-server's answers, field by field: what is not named here is left out (tools/server of llama.cpp)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Shape = Any
"""What is kept of a value: PLAIN, ANYTHING, a list of one shape, or a shape for each field of an object."""

PLAIN, ANYTHING = "plain", "anything"
"""A text, a number, true, false, null or a list of these; and whatever there is."""

META = dict.fromkeys(("vocab_type", "n_vocab", "n_ctx", "n_ctx_train", "n_embd", "n_params", "size", "ftype"), PLAIN)

MODEL: Shape = {
    **dict.fromkeys(("id", "object", "created", "owned_by", "aliases", "tags", "source", "can_remove"), PLAIN),
    "status": dict.fromkeys(("value", "failed", "exit_code"), PLAIN),
    "architecture": dict.fromkeys(("input_modalities", "output_modalities"), PLAIN),
    "meta": META,
}

DETAILS = dict.fromkeys(("parent_model", "format", "family", "families", "parameter_size", "quantization_level"), PLAIN)

MODELS: Shape = {
    "object": PLAIN,
    "data": [MODEL],
    "models": [
        {
            **dict.fromkeys(("name", "model", "modified_at", "size", "digest", "type", "description", "tags", "capabilities"), PLAIN),
            "parameters": PLAIN,
            "details": DETAILS,
        }
    ],
}

PROPS: Shape = {
    **dict.fromkeys(("role", "max_instances", "models_autoload", "total_slots", "model_alias", "model_ftype", "build_info"), PLAIN),
    **dict.fromkeys(("endpoint_slots", "endpoint_props", "endpoint_metrics", "ui", "webui", "is_sleeping", "cors_proxy_enabled"), PLAIN),
    **dict.fromkeys(("media_marker", "chat_template", "chat_template_tool_use", "bos_token", "eos_token"), PLAIN),
    **dict.fromkeys(("ui_settings", "webui_settings", "chat_template_caps"), ANYTHING),  # written for the web page
    "default_generation_settings": {"n_ctx": PLAIN, "params": ANYTHING},
    "modalities": dict.fromkeys(("vision", "audio", "video"), PLAIN),
}

EVENT: Shape = {
    "model": PLAIN,
    "event": PLAIN,
    "data": {"status": PLAIN, "exit_code": PLAIN, "progress": dict.fromkeys(("stages", "current", "value"), PLAIN), "info": MODEL},
}

ERROR: Shape = {"error": dict.fromkeys(("message", "type", "code", "param"), PLAIN)}

EMBEDDING = frozenset(("--embedding", "--embeddings"))
RANKING = frozenset(("--rerank", "--reranking"))
SOURCES = frozenset(("--model", "--model-url", "--hf-repo"))


def models(answer: Any) -> Any:
    """The models that can be loaded, each with the context of one conversation where it is known: `meta.n_ctx`, in tokens."""
    entries = answer.get("data") if isinstance(answer, dict) else None
    if isinstance(entries, list):
        answer = {**answer, "data": [_described(each) for each in entries if isinstance(each, dict) and _has_source(each)]}
    return kept(answer, MODELS)


def together(lists: Sequence[Any]) -> Any:
    """The models of several servers, each once: as the first says that has it in memory, or else the first that has it."""
    answers = [each for each in lists if isinstance(each, dict)]
    whole: dict[str, Any] = {name: value for each in reversed(answers) for name, value in each.items()}
    for key, name in (("data", "id"), ("models", "name")):
        entries = [entry for each in answers if isinstance(each.get(key), list) for entry in each[key] if isinstance(entry, dict)]
        first: dict[str, Any] = {}
        for entry in (*filter(_is_loaded, entries), *entries):
            first.setdefault(str(entry.get(name)), entry)
        if entries:
            whole[key] = list({str(entry.get(name)): first[str(entry.get(name))] for entry in entries}.values())
    return whole


def _is_loaded(entry: Mapping[str, Any]) -> bool:
    """A server of one model has it in memory, and says no more of it."""
    return bool(_object(entry.get("status")).get("value", "loaded") == "loaded")


def props(answer: Any) -> Any:
    """The path is replaced as llama-server's router itself does it, since its page looks for one."""
    found = kept(answer, PROPS)
    return {**found, "model_path": "none"} if isinstance(answer, dict) and "model_path" in answer else found


def event(answer: Any) -> Any:
    return kept(answer, EVENT)


def error(answer: Any) -> Any:
    return kept(answer, ERROR)


def kept(value: Any, shape: Shape) -> Any:
    """What of a value has its shape. What has another one altogether becomes null."""
    if shape == ANYTHING:
        return value
    if shape == PLAIN:
        if isinstance(value, list):
            return [each for each in value if not isinstance(each, (dict, list))]
        return None if isinstance(value, dict) else value
    if isinstance(shape, list):
        return [kept(each, shape[0]) for each in value] if isinstance(value, list) else None
    if not isinstance(value, dict):
        return None
    return {name: kept(value[name], inner) for name, inner in shape.items() if name in value}


def _described(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """With what only its command line says: the context of one conversation, and whether it is for embeddings or for ranking."""
    arguments, meta, architecture = _arguments(entry), _object(entry.get("meta")), _object(entry.get("architecture"))
    if context := _context(arguments):
        meta = {"n_ctx": context, **meta}
    if made := "embeddings" if EMBEDDING & set(arguments) else "scores" if RANKING & set(arguments) else "":
        architecture = {**architecture, "output_modalities": [made]}
    return {**entry, **({"meta": meta} if meta else {}), **({"architecture": architecture} if architecture else {})}


def _has_source(entry: Mapping[str, Any]) -> bool:
    """A section of the presets that names no model is listed too, and nothing can be loaded for it."""
    arguments = _arguments(entry)
    return not arguments or bool(SOURCES & set(arguments))


def _arguments(entry: Mapping[str, Any]) -> list[str]:
    arguments = _object(entry.get("status")).get("args")
    return [str(each) for each in arguments] if isinstance(arguments, list) else []


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _context(arguments: list[str]) -> int:
    """Slots share the context evenly, unless their cache is one. 0 where the command line does not say."""
    slots = 1 if "--kv-unified" in arguments else max(_number(arguments, "--parallel"), 1)
    return _number(arguments, "--ctx-size") // slots


def _number(arguments: list[str], option: str) -> int:
    if option not in arguments[:-1]:
        return 0
    value = arguments[arguments.index(option) + 1]
    return int(value) if value.isdecimal() and len(value) < 12 else 0
