"""What the lab keeps between runs, when several hosts are made at once on a machine that has made none before."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from inventory.errors import PaddockError
from lab import cache


def test_hosts_made_at_once_share_one_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for attempt in range(20):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / str(attempt)))
        with ThreadPoolExecutor(8) as pool:
            keys = {future.result() for future in [pool.submit(cache.ssh_public_key) for _ in range(8)]}
        assert len(keys) == 1
        assert [path.name for path in cache.directory().iterdir()] == ["ssh_key"]
        assert cache.ssh_key().stat().st_mode & 0o777 == 0o600


def test_a_directory_that_other_accounts_write_to_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.directory("vm") == tmp_path / "paddock" / "lab" / "vm"
    cache.directory("ccache").chmod(0o777)  # the accounts that compile on hosts have any number
    assert cache.directory("ccache")
    cache.directory().chmod(0o777)
    with pytest.raises(PaddockError, match="other accounts can write there \\(mode 0777\\)"):
        cache.directory("vm")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_so_is_one_of_another_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    os.chown(cache.directory(), 65534, 65534)
    with pytest.raises(PaddockError, match="other accounts can write there"):
        cache.directory()
