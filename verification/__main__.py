"""Checks one host: reads what it is handed from standard input (see verification/subject.py) and runs pytest over this package."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from verification import subject

OPTIONS = ("--disable-plugin-autoload", "-p", "no:cacheprovider", "-q", "--no-header", "--tb=short", "-rN", "-c", "/dev/null")
"""Plugins that happen to be installed change nothing here, and cost none of its time."""


def main() -> int:
    """pytest's exit code, or 4 where ssh does not get to the host, where every check would fail alike, or where a check was left out."""
    if not __debug__:
        print("Python runs without assertions (-O), and checks are assertions", file=sys.stderr)
        return 4
    given = subject.of(json.load(sys.stdin))
    try:
        given.host.backend.run_ssh("true")
    except RuntimeError as error:  # its argument is what testinfra has as the result
        said = getattr(error.args[0], "stderr", "") or str(error)
        print(f"ssh {given.this.address}: {' '.join(said.split())}", file=sys.stderr)
        return 4
    package = Path(__file__).parent
    checks = subject.Parametrized(given)
    code = int(pytest.main([*OPTIONS, "--rootdir", str(package.parent), str(package)], plugins=[checks]))
    if code == 0 and checks.done != checks.given:
        print(f"{checks.done} of {checks.given} checks were carried out", file=sys.stderr)
        return 4
    return code


if __name__ == "__main__":
    sys.exit(main())
