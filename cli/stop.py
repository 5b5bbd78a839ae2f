"""Stop llama-servers and stacks until the next `up`, `start` or boot.

examples:
  paddock stop ai/chat-1
  paddock stop prod/web            a stack
  paddock stop --limit ai --yes

The inventory still declares them as running: `paddock status` shows the difference, and `paddock up` starts them again.
"""

from __future__ import annotations

import argparse

from cli import units

arguments = units.arguments


def run(options: argparse.Namespace) -> int:
    return units.change("stop", "stopped; `paddock up` starts it again", options)
