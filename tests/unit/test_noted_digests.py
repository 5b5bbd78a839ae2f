"""Whose word `paddock verify` takes for what a model is, where it does not read the whole of it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
import testinfra

from inventory.fleet import Fleet, Host
from resources import ModelFile
from verification.asserting import assert_as_declared
from verification.outside import Outside
from verification.subject import VerifiedHost

DECLARED, NOBODY = "a" * 64, 65534


def test_a_digest_that_root_has_not_noted_is_not_believed(tmp_path: Path) -> None:
    model, note = tmp_path / "demo.gguf", tmp_path / "demo.gguf.sha256"
    model.write_bytes(b"GGUF, but another")
    now = model.stat()
    note.write_text(f"{DECLARED} {now.st_size} {int(now.st_mtime)} {now.st_ino}\n")
    this = Host(name="pea", address="192.0.2.7")
    fleet = Fleet(name="home", domain="home.example", hosts={"pea": this})
    subject = VerifiedHost(this, fleet, {}, testinfra.get_host("local://"), Outside(), deep=False)
    resource = ModelFile(str(model), DECLARED, now.st_size, origin="host")
    if os.geteuid() == 0:
        assert_as_declared(subject, resource)
        os.chown(note, NOBODY, NOBODY)
    with pytest.raises(AssertionError, match=f"sha256 is {hashlib.sha256(model.read_bytes()).hexdigest()}, not {DECLARED}"):
        assert_as_declared(subject, resource)
