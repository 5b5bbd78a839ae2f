"""Restart llama-servers and wait until they answer.

examples:
  paddock restart ai               all servers of a host
  paddock restart ai/chat          all servers of an instance, one after another
"""

from __future__ import annotations

import argparse

from cli import units

arguments = units.arguments


def run(options: argparse.Namespace) -> int:
    return units.change("restart", "restarted", options)
