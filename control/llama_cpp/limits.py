"""What llama.cpp refuses elsewhere than where it reads its options, numbers and combinations, found by the words in which it says so.

A version whose source has no such words has no such limit. What follows for a preset is in inventory/limits.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from control.llama_cpp.definitions import Definitions
from inventory.limits import (
    BATCH_BELOW_SLOTS,
    CUTS_OFF,
    LENGTH_OR_RATES,
    MAIN_GPU,
    NO_BATCH,
    PLAIN_TEMPLATE,
    QUANTIZED_SPLIT,
    QUANTIZED_V,
    STARTUP,
    STARTUP_WITHOUT_LIMIT,
    TENSOR_SPLIT,
    UNLOADED_TOO_SOON,
    WAITS_FOR_EVER,
)

CONTEXT, SEQUENCES, TEMPLATES, DEVICES = "src/llama-context.cpp", "src/llama-cparams.h", "src/llama-chat.cpp", "src/llama.cpp"
MODEL, SPECULATIVE, SAMPLING = "common/common.cpp", "common/speculative.cpp", "common/sampling.cpp"
SERVING, ROUTER = "tools/server/server.cpp", "tools/server/server-models.cpp"
LIMITING = (CONTEXT, SEQUENCES, TEMPLATES, DEVICES, MODEL, SPECULATIVE, SAMPLING, SERVING, ROUTER)


def refused_elsewhere(files: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """The numbers that an option takes, and llama-server then ends with, by the option's name."""
    found: dict[str, tuple[str, ...]] = {}
    slots = re.search(r"#define\s+LLAMA_MAX_SEQ\s+([0-9]+)", files.get(SEQUENCES, ""))
    if slots and "n_seq_max must be <= " in files.get(CONTEXT, ""):
        found["parallel"] = (f"> {slots[1]}",)
    if re.search(r"\bcparams\.n_ctx\s*=\s*params\.n_ctx;", files.get(MODEL, "")):
        found["ctx-size"] = ("< 0",)  # a uint32_t there: -1 is four thousand million tokens
    if "unknown mirostat version" in files.get(SAMPLING, ""):
        found["mirostat"] = ("< 0", "> 2")  # GGML_ASSERT, at the first request
    return found


def rules_of(definitions: Definitions) -> dict[str, tuple[str, ...]]:
    """Which of the rules in inventory/limits.py hold in this version, each with the values that it is about."""
    context, speculative = definitions.files.get(CONTEXT, ""), definitions.files.get(SPECULATIVE, "")
    found: dict[str, tuple[str, ...]] = {}
    if re.search(r"\bV cache (quantization )?requires flash_attn", context):
        found[QUANTIZED_V] = definitions.quantized
    if "SPLIT_MODE_TENSOR requires flash_attn" in context:
        found[TENSOR_SPLIT] = ()
    if "SPLIT_MODE_TENSOR and KV cache quantization not implemented" in context:
        found[QUANTIZED_SPLIT] = definitions.quantized
    if "n_batch and n_ubatch cannot both be zero" in context:
        found[NO_BATCH] = ()
    automatic = re.search(r"using n_parallel = ([0-9]+)", definitions.files.get(SERVING, ""))
    outputs = "std::min<int64_t>(n_batch, total)" in speculative and "GGML_ASSERT(n_outputs_max <= cparams.n_outputs_max);" in context
    if automatic and outputs:
        found[BATCH_BELOW_SLOTS] = (automatic[1],)
    if "acceptance length and rates are mutually exclusive" in speculative:
        found[LENGTH_OR_RATES] = ()
    if "invalid value for main_gpu" in definitions.files.get(DEVICES, ""):
        found[MAIN_GPU] = ()
    router = definitions.files.get(ROUTER, "")
    return found | _startup(router) | _making_room(router) | _templates(definitions.files.get(TEMPLATES, ""))


def _startup(router: str) -> dict[str, tuple[str, ...]]:
    """`if ((int)models_to_load.size() > base_params.models_max) { throw …`: then 0, which means no limit elsewhere, is none here."""
    limit = re.search(r"\bif \(([^{};]*\bmodels_to_load\.size\(\) > [\w.]*\bmodels_max)\) \{\s*throw\b", router)
    if not limit:
        return {}
    plain = re.fullmatch(r"(\(int\) ?)?models_to_load\.size\(\) > [\w.]*\bmodels_max", limit[1])
    guarded = re.match(r"[\w.]*\bmodels_max (> 0|!= 0) && (\(int\) ?)?models_to_load\.size\(\)", limit[1])
    return {STARTUP: (), STARTUP_WITHOUT_LIMIT: ()} if plain else {STARTUP: ()} if guarded else {}


def _making_room(router: str) -> dict[str, tuple[str, ...]]:
    """What goes wrong where one model is unloaded to load another. Each verdict rests on code that has the fault, so that a version which
    is written in another way has none:

    - CUTS_OFF: `unload_lru` takes the least recently used of all that run, and does not ask whether one is answering. It was so from the
      first router on, until pull request 26572 gave requests a queue.
    - WAITS_FOR_EVER: there is the queue, `server_lru_sched`, and without its `tick` each request looks for a model to unload by itself.
      Two may find the same one, and then the second waits for room that nobody makes.
    - UNLOADED_TOO_SOON: `ensure_model_ready` uses the queue without a look at `stopping_models`, so that it takes a model which is being
      unloaded for one that is ready. Pull request 29217 brought that look, and with it a place in the queue for every request that loads
      a model, which keeps the model until it answers.
    """
    queue = re.search(r"^struct server_lru_sched \{\n(.*?)^\};", router, re.DOTALL | re.MULTILINE)
    if not queue:
        oldest = _body("unload_lru", router)
        by_age = re.search(r"\.is_(?:running|active)\(\)\) \{\s*count_active\+\+;\s*if \([\w.]+\.last_used < lru_last_used\) \{", oldest)
        return {CUTS_OFF: ()} if by_age else {}
    ready = _body("ensure_model_ready", router)
    if not re.search(r"\bvoid tick\(", queue[1]):
        return {WAITS_FOR_EVER: ()} if "sched->pick_victim(" in ready else {}
    return {UNLOADED_TOO_SOON: ()} if "sched->join(" in ready and "stopping_models" not in ready else {}


def _body(method: str, router: str) -> str:
    found = re.search(rf"^\w[^\n]* server_models::{method}\([^\n]*\{{\n(.*?)^\}}", router, re.DOTALL | re.MULTILINE)
    return found[1] if found else ""


def _templates(text: str) -> dict[str, tuple[str, ...]]:
    """The names of the templates that are built in, and as `*word*` what a text may be taken for one by."""
    table = re.search(r"\bLLM_CHAT_TEMPLATES = \{(.*?)\n\};", text, re.DOTALL)
    detecting = re.search(r"\bllm_chat_detect_template\([^;{}]*\{\n(.*?)\n\}", text, re.DOTALL)
    if not table or not detecting:
        return {}
    names = re.findall(r'\{\s*"([^"]+)"', table[1])
    marks = [word for word in re.findall(r'"((?:\\.|[^"\\])*)"', detecting[1]) if re.fullmatch(r"[\w.-]+", word)]
    return {PLAIN_TEMPLATE: (*names, *(f"*{mark}*" for mark in marks))}
