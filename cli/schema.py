"""Print the JSON Schema of an inventory, for editors.

examples:
  paddock schema > inventory.schema.json
  # first line of the inventory: # yaml-language-server: $schema=inventory.schema.json
"""

from __future__ import annotations

import argparse
import json

from inventory.json_schema import document_schema


def arguments(command: argparse.ArgumentParser) -> None:
    pass


def run(options: argparse.Namespace) -> int:
    print(json.dumps(document_schema(), indent=2))
    return 0
