"""List, load, unload, tune and fetch the models that the fleet's llama-servers serve.

examples:
  paddock models list
  paddock models load qwen-35b               waits until it is there
  paddock models use qwen-35b                this one and no other
  paddock models ctx qwen-35b 65536          in the inventory, and on its hosts
  paddock models preset qwen-35b temp=0.7 top-k=
  paddock models fit                         what they need of memory and cards, and what is left
  paddock models pull --lock                 writes what the inventory's sources are into the lock beside it
  paddock models pull                        to the hosts, ahead of `paddock up`
  paddock models prune                       takes away what the inventory does not name
"""

from __future__ import annotations

import argparse

from cli import models_files, models_fit, models_serving

PARTS = (models_serving, models_fit, models_files)


def arguments(command: argparse.ArgumentParser) -> None:
    actions = command.add_subparsers(dest="action", metavar="ACTION", required=True)
    for part in PARTS:
        part.add(actions)
    actions.metavar = "|".join(actions.choices)


def run(options: argparse.Namespace) -> int:
    return int(options.act(options))
