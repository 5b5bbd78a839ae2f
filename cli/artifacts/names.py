"""Shared by the actions of `artifacts`: the argument --lab, and names for tab completion."""

from __future__ import annotations

import argparse

from cli.arguments import opened
from control.llama_cpp.artifacts import Artifacts


def lab_argument(command: argparse.ArgumentParser) -> None:
    command.add_argument("--lab", action="store_true", help="use the state of the inventory's lab")


def artifact_names(prefix: str, parsed_args: argparse.Namespace, **_: object) -> list[str]:
    return [each.name for each in Artifacts(opened(parsed_args, only_read=True).state).all() if each.name.startswith(prefix)]
