"""Restart llama-servers and stacks, and wait until they answer.

examples:
  paddock restart ai               all servers and stacks of a host
  paddock restart ai/chat          all servers of an instance, one after another
  paddock restart web/page         a container of a stack; how often it was restarted is counted anew
"""

from __future__ import annotations

import argparse

from cli import units

arguments = units.arguments


def run(options: argparse.Namespace) -> int:
    return units.change("restart", "restarted", options)
