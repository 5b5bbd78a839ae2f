"""Delete the models on the hosts that the inventory does not name.

examples:
  paddock models prune
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from cli.arguments import limit_argument, opened, steal_lock_argument, yes_argument
from cli.asking import confirmed
from cli.models.pull import carried_out
from cli.views.models import in_words

if TYPE_CHECKING:
    from collections.abc import Mapping

    from control.deployment.work import Work


def arguments(command: argparse.ArgumentParser) -> None:
    yes_argument(command)
    limit_argument(command)
    steal_lock_argument(command)


def run(options: argparse.Namespace) -> int:
    from control.deployment.model_files import freed, left, pruned, stays

    def agree(works: Mapping[str, Work]) -> bool:
        for name, work in works.items():
            print(f"{name}: {in_words(freed(work))}")
            for path, size in left(work).items():
                print(f"  - {path}  {in_words(size)}{', which stay under another name' if stays(work, path) else ''}")
        return confirmed("Take them away?", options.yes, "`paddock models prune --yes` takes away what is listed here")

    nothing = "nothing is there that the inventory does not name"
    steals = options.steal_lock
    return carried_out(opened(options), "models prune", lambda name, work: pruned(work), agree, nothing, steals=steals)
