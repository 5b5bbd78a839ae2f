"""The table that ends `make test`: the layers, the longest first, and a last line as pytest's own."""

from __future__ import annotations

from pathlib import Path

from tests.streams import table, times


def test_each_layer_has_a_line_and_the_last_one_sums_up(tmp_path: Path) -> None:
    noted = tmp_path / "times"
    noted.write_text("tests/unit tests/golden\t500\t0\t2\t20.4\ntests/lab\t9\t1\t0\t61.9\n")
    assert table(times(noted), 75.0).splitlines() == [
        "where the time went:",
        "tests/lab                  1:01  1 failed, 9 passed",
        "tests/unit tests/golden    0:20  500 passed, 2 skipped",
        "one after another 1:22",
        "==== 1 failed, 509 passed, 2 skipped in 75.00s (1:15) ====",
    ]


def test_where_nothing_was_noted_no_test_is_said_to_have_passed(tmp_path: Path) -> None:
    assert table(times(tmp_path / "none"), 1.0).splitlines()[-1] == "==== no tests ran in 1.00s (0:01) ===="


def test_what_failed_stands_beneath_the_layers_with_its_reason() -> None:
    failed = "tests/lab/test_up.py::test_it_answers: AssertionError: no answer"
    assert table([], 1.0, [failed]).splitlines()[-2] == f"FAILED {failed}"
