"""Start llama-servers and stacks, and wait until they answer.

examples:
  paddock start ai                 all servers and stacks of a host
  paddock start ai/chat-1          one server of an instance
  paddock start prod/web           a stack
  paddock start --yes              all servers and stacks of the fleet
"""

from __future__ import annotations

import argparse

from cli import units

arguments = units.arguments


def run(options: argparse.Namespace) -> int:
    return units.change("start", "started", options)
