"""What Paddock takes from outside at most is said in one table; JSON and GGUF are read no deeper and no longer than that."""

from __future__ import annotations

import re
import struct
import time
from pathlib import Path

import pytest

from control.models.gguf import local_shape
from control.state.fleet import read
from inventory import bounds
from inventory.bounds import TooMuch, from_json
from inventory.errors import InventoryError, PaddockError
from inventory.model_lock import read_lock
from services.admin import llama_server as of_admin
from services.admin import server as admin

ROOT = Path(__file__).parents[3]


def test_the_page_of_limits_has_the_same_table() -> None:
    page = (ROOT / "docs/limits.md").read_text()
    assert "\n".join(bounds.table()) in page


def test_the_admin_endpoint_has_the_limits_of_the_table() -> None:
    """It imports nothing of Paddock."""
    request = (admin.BODY_BYTES, admin.REQUEST_S, admin.CALLS)
    assert request == (bounds.ADMIN_REQUEST.size, bounds.ADMIN_REQUEST.seconds, bounds.ADMIN_REQUEST.items)
    assert (bounds.ADMIN_ANSWER.size, bounds.ADMIN_ANSWER.seconds) == (of_admin.ANSWER_BYTES, of_admin.ANSWER_S)


@pytest.mark.parametrize("opens", ["[", '{"a":', '[{"a":'])
def test_json_that_is_nested_too_deeply_is_no_json(opens: str) -> None:
    for depth in (bounds.JSON_DEPTH + 1, 900, 100_000):
        closes = "".join("]" if each == "[" else "}" for each in reversed(opens) if each in "[{")
        with pytest.raises(ValueError):
            from_json(opens * depth + "1" + closes * depth)
    assert from_json("[" * 150 + "]" * 150)


PRODUCT = ("cli", "control", "deploys", "facts", "inventory", "resources", "roles", "verification")


@pytest.mark.parametrize(
    ("call", "alone_in"),
    [
        (r"json\.loads\(", "inventory/bounds.py"),
        (r"\.splitlines\(\)", "resources/base.py"),
        (r"requests\.(get|post|request|Session)\(", "control/fetching/session.py"),
        (r"tarfile\.open\((?!fileobj=\w+, mode=\"w)", "control/fetching/archives.py"),
    ],
)
def test_what_has_no_bound_is_called_in_one_place(call: str, alone_in: str) -> None:
    """json.loads ends in a RecursionError, splitlines() makes lines of U+2028, requests waits for ever, tarfile unpacks without end."""
    files = [path for folder in PRODUCT for path in (ROOT / folder).rglob("*.py")]
    assert {str(path.relative_to(ROOT)) for path in files if re.search(call, path.read_text())} <= {alone_in}


def gguf(*keys: bytes, tensors: int = 0, count: int | None = None) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, len(keys) if count is None else count) + b"".join(keys)


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


@pytest.mark.parametrize(
    "data",
    [
        gguf(count=1 << 40),
        gguf(tensors=1 << 40),
        gguf(text("a") + struct.pack("<IIQ", 9, 8, 1 << 60)),
        gguf(text("a") + struct.pack("<IIQ", 9, 4, 1 << 60)),
        gguf(text("a") + struct.pack("<IQ", 8, 1 << 62)),
        gguf(struct.pack("<Q", 1 << 50)),
    ],
    ids=["keys", "tensors", "texts", "numbers", "a text", "a name"],
)
def test_a_header_that_says_it_has_no_end_is_refused_at_once(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    with path.open("wb") as file:
        file.write(data)
        file.truncate(1 << 40)
    began = time.monotonic()
    with pytest.raises(PaddockError):
        local_shape(path)
    assert time.monotonic() - began < 60


def test_a_file_of_the_state_or_a_lock_that_has_no_end_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "ca.json", tmp_path / "home.models.lock"):
        with path.open("wb") as file:
            file.truncate(1 << 40)
    with pytest.raises(TooMuch, match="is larger than 64 MiB"):
        read(tmp_path / "ca.json")
    with pytest.raises(InventoryError, match="is larger than 64 MiB"):
        read_lock(tmp_path / "home.yml")
