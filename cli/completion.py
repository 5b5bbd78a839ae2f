"""Print the tab completion for a shell.

examples:
  eval "$(paddock completion bash)"       also zsh, fish
"""

from __future__ import annotations

import argparse


def arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("shell", choices=("bash", "zsh", "fish"))


def run(options: argparse.Namespace) -> int:
    from argcomplete.shell_integration import shellcode

    print(shellcode(["paddock"], shell=options.shell))
    return 0
