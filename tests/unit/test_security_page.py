"""docs/security.md claims nothing that no test shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text()
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ") and "|---" not in line and not line.endswith("| test |")]


def test_the_page_has_claims_of_each_kind_of_person() -> None:
    parts = PAGE.split("\n## ")[1:]
    assert len(parts) == 8 and len(ROWS) > 30
    assert all(re.search(r"^\| .+\| `tests/", part, re.MULTILINE) for part in parts)


@pytest.mark.parametrize("row", ROWS)
def test_each_claim_names_a_test_that_there_is(row: str) -> None:
    found = re.fullmatch(r"\| .+ \| `(tests/[\w/]+\.py)::(test_\w+)` \|", row)
    assert found, row
    assert f"\ndef {found[2]}(" in (ROOT / found[1]).read_text()
