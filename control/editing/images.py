"""The digests of images written into the inventory, where it names them by a tag alone."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from control.editing.candidate import Candidate, candidate, read_text
from control.editing.text import Edit, edited, value_at
from inventory.errors import InventoryError, PaddockError
from inventory.load import loaded

UNPINNED = re.compile(r'"(?P<reference>[a-z0-9][A-Za-z0-9._/:-]*)" is no image with its digest')
"""What roles say of such an image (roles/image.py)."""


def with_digests(path: Path, digest_of: Callable[[str], str]) -> tuple[Candidate | None, tuple[str, ...]]:
    """The inventory with a digest at each image that had none, and what these images are now; None where each has one.

    `digest_of` is asked once for each image. Raises InventoryError where anything else is wrong with the inventory, PaddockError where an
    image cannot be pinned.
    """
    try:
        loaded(path)
        return None, ()
    except InventoryError as error:
        problems = error.found
        others = [each.told(path) for each in problems if not UNPINNED.search(each.words)]
        if others or not problems:
            raise InventoryError(others or error.problems) from None
    text, pinned, edits = read_text(path), dict[str, str](), dict[tuple[str, ...], Edit]()
    for problem in problems:
        match = UNPINNED.search(problem.words)
        assert match
        reference = match["reference"]
        if reference not in pinned:
            pinned[reference] = f"{reference}@{digest_of(reference)}"
        keys = problem.place.path
        if value_at(text, keys) != reference:
            raise PaddockError(f"{problem.told(path)}: write {pinned[reference]} there by hand")
        edits[keys] = Edit(keys, pinned[reference])
    return candidate(path, edited(text, edits.values())), tuple(pinned.values())
