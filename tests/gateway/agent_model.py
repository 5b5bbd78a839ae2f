"""A tiny model that calls one tool, and when it has the tool's result says "I read it.": what a coding agent needs of a model.

It is to run with the end as the second choice at every word (`logit-bias: 2+10`), so that an answer ends where the grammar of a call
does not let it go on; and with a long context (`override-kv: 'llama.context_length=int:262144'`), for it reads the long prompts of
agents byte by byte.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from control.models import tiny_model
from tests.calling_model import CHAT_TEMPLATE

SAYS = ("▁I", "▁read", "▁it.")
CALLED = ">"
"""The last word of a call: of one character, for only such words are found again in a prompt. A prompt that ends with it goes on with
SAYS."""

_RESULT_IS_LAST = "{% if messages[-1].role == 'tool' %}" + CALLED + "{% endif %}"


def write(path: Path, tool: str, arguments: Mapping[str, str]) -> Path:
    call = f'{{"name": "{tool}", "arguments": {json.dumps(arguments)}}}'
    pieces = [call[begin : begin + 8].replace(" ", "▁") for begin in range(0, len(call), 8)]
    return tiny_model.write(path, ("<tool_call>\n", *pieces, "\n</tool_call", CALLED, *SAYS), CHAT_TEMPLATE + _RESULT_IS_LAST)
