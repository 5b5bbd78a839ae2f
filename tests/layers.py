"""A pytest plugin for runs of whole layers: no layer is left out in silence.

A directory that was asked for and holds no test is an error. With PADDOCK_SKIPS=fail a test that is skipped has failed: for
machines that are known to have all that the tests need. Modules whose turn it is not (tests/share.py) are named, and those that took long.
PADDOCK_TIMES names a file that each run adds a line to, with tabs: the layer, its tests that passed, failed and were skipped, and the
seconds that it took. A file `failed` beside it gets a line for each test that failed: which, and why.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from tests.share import has_its_turn

_began = time.monotonic()
_seconds = Counter[str]()
"""Of each module so far, its fixtures included."""

LONG_S = 10.0
"""Modules that take less are not named."""

WORDS = 500
"""Characters of why a test failed; the whole stands above."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    waiting = [item for item in items if any(not has_its_turn(*mark.args) for mark in item.iter_markers("turn"))]
    if waiting:
        modules = sorted({str(item.path.relative_to(config.rootpath)) for item in waiting})
        print(f"not today, as PADDOCK_SEED has it (`make soak` runs them): {', '.join(modules)}", flush=True)
        config.hook.pytest_deselected(items=waiting)
        items[:] = [item for item in items if item not in waiting]


def pytest_collection_finish(session: pytest.Session) -> None:
    found = [item.path for item in session.items]
    for asked in session.config.args:
        path = (session.config.invocation_params.dir / asked.partition("::")[0]).resolve()
        if not any(each.is_relative_to(path) for each in found):
            raise pytest.UsageError(f"{asked}: holds no test")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, pytest.TestReport]:
    report: pytest.TestReport = yield
    if os.environ.get("PADDOCK_SKIPS") == "fail" and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, where nothing may be: {report.longrepr}"
    return report


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _seconds[report.nodeid.partition("::")[0]] += report.duration


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for module, seconds in _seconds.most_common():
        if seconds >= LONG_S:
            terminalreporter.write_line(f"{seconds:6.0f} s  {module}")
    if times := os.environ.get("PADDOCK_TIMES"):
        passed, failed, errors, skipped = (len(terminalreporter.stats.get(each, ())) for each in ("passed", "failed", "error", "skipped"))
        fields = (" ".join(config.args), passed, failed + errors, skipped, f"{time.monotonic() - _began:.1f}")
        with Path(times).open("a") as file:
            file.write("\t".join(map(str, fields)) + "\n")
        with Path(times).with_name("failed").open("a") as file:
            file.writelines(
                f"{each.nodeid}: {_why(each)}\n" for kind in ("failed", "error") for each in terminalreporter.stats.get(kind, ())
            )


def _why(report: pytest.TestReport) -> str:
    """The end of what it failed with, in one line."""
    lines = [line.removeprefix("E").strip() for line in report.longreprtext.splitlines() if line.startswith("E ")]
    return " | ".join(lines)[:WORDS] or report.longreprtext.strip().rpartition("\n")[2][:WORDS]
