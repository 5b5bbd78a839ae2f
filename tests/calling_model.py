"""A tiny model that thinks, speaks and calls two tools, whatever it is asked: `weather` with a city and days, `clock` with nothing.

Without tools in the request its calls are words, without thinking in the template its thoughts are.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from control.models import tiny_model
from lab.hosts import ssh_command
from tests.lab_fleet import LabFleet

THINKS = ("<think>\n", "Let", "▁me", ".\n", "</think>", "\n\n")
SAYS = ("Voilà", '▁"a"', "<", "b", ">")
ASKS_WEATHER = (
    "\n<tool_call>",
    "\n{",
    '"name"',
    ': "',
    'weather"',
    ', "arg',
    'uments": ',
    '{"ci',
    'ty": ',
    '"Par',
    'is"',
    ', "days":',
    " 2",
    "}}",
)
ASKS_CLOCK = ("\n</tool_call>", '\n<tool_call>\n{"name":', ' "clock", "arguments": {', "}", "}\n", "</tool_call>")
ANSWER = (*THINKS, *SAYS, *ASKS_WEATHER, *ASKS_CLOCK)
"""In pieces that cut words, names and numbers, as real tokens do."""

CHAT_TEMPLATE = """\
{%- if tools %}<|im_start|>system
Call a tool as JSON within <tool_call></tool_call>:
{%- for tool in tools %}
{{ tool | tojson }}
{%- endfor %}<|im_end|>
{% endif %}
{%- for message in messages %}<|im_start|>{{ message.role }}
{% if message.reasoning_content %}<think>
{{ message.reasoning_content }}
</think>

{% endif %}{{ message.content or '' }}
{%- for call in message.tool_calls or [] %}
<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>
{%- endfor %}<|im_end|>
{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% if enable_thinking is defined and enable_thinking is false %}<think>

</think>

{% endif %}{% endif %}"""
"""As Qwen 3's, as far as llama-server reads thinking and calls out of it."""


def write(path: Path) -> Path:
    return tiny_model.write(path, ANSWER, CHAT_TEMPLATE)


def put(fleet: LabFleet, host: str) -> None:
    """As the file of the model `calling`, whatever its source: a lab has the tiny model in the place of every other. Its servers start
    anew."""
    file = write(fleet.directory / "calling.gguf").read_bytes()
    subprocess.run([*ssh_command(fleet.host(host)), "cat >/var/lib/paddock/models/calling.gguf"], input=file, check=True)
    fleet.on(host, "grep -l models/calling.gguf /etc/systemd/system/llama-server-*.service | xargs -n 1 basename | xargs systemctl restart")
