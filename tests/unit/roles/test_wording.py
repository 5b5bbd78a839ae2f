"""What somebody may have meant."""

from __future__ import annotations

import difflib
import random

from roles.wording import did_you_mean


def test_it_is_what_difflib_finds_among_all_names() -> None:
    dice = random.Random(7)
    for _ in range(500):
        known = ["".join(dice.choices("abc-1", k=dice.randrange(1, 9))) for _ in range(dice.randrange(30))]
        word = "".join(dice.choices("abc-1", k=dice.randrange(9)))
        closest = difflib.get_close_matches(word, known, n=1, cutoff=0.55)
        assert did_you_mean(word, known) == (f' (did you mean "{closest[0]}"?)' if closest else "")
