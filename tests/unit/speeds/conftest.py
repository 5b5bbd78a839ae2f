"""A llama-server stand-in at a Unix socket, as fast as a test wants it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.lab_fleet import ROOT

Paced = Callable[..., Path]
"""Starts one, with what differs in tests/paced_server.py's PACE, and gives its socket."""


@pytest.fixture
def paced() -> Iterator[Paced]:
    with ExitStack() as stack:

        def start(**pace: Any) -> Path:
            home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            shutil.copy(ROOT / "tests/paced_server.py", home / "server.py")
            (home / "pace.json").write_text(json.dumps({"prompts": 60_000, "generation": 6_000, **pace}))
            socket = home / "http.sock"
            process = stack.enter_context(subprocess.Popen([sys.executable, str(home / "server.py"), "--host", str(socket)]))
            stack.callback(process.kill)
            while not socket.exists():
                assert process.poll() is None
                time.sleep(0.01)
            return socket

        yield start
