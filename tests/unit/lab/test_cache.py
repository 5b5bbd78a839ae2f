"""What the lab keeps between runs, when several hosts are made at once on a machine that has made none before."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lab import cache


def test_hosts_made_at_once_share_one_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for attempt in range(20):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / str(attempt)))
        with ThreadPoolExecutor(8) as pool:
            keys = {future.result() for future in [pool.submit(cache.ssh_public_key) for _ in range(8)]}
        assert len(keys) == 1
        assert [path.name for path in cache.directory().iterdir()] == ["ssh_key"]
        assert cache.ssh_key().stat().st_mode & 0o777 == 0o600
