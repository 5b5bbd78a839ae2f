"""What is to change on a host, by what its manifest says."""

from __future__ import annotations

from facts.drift import drift
from facts.state import Actual
from roles.resources import File


def test_what_left_the_plan_is_taken_away() -> None:
    found = drift({}, Actual(manifest={"file:/etc/a": "put", "file:/etc/b": "kept", "package:c": "kept", "model:/d": "data"}))
    assert [change.id for change in found.changes] == ["file:/etc/b", "file:/etc/a"]
    assert found.left == ("model:/d",)
    assert found.manifest == {"model:/d": "data"}


def test_what_another_version_noted_is_left_alone_and_stays_noted() -> None:
    manifest = {"file:/etc/a": "put", "timer:b.timer": "put"}
    found = drift({"base": [File("/etc/a", "")]}, Actual(manifest=manifest))
    assert [change.id for change in found.changes] == ["file:/etc/a"]
    assert found.recorded and found.manifest == manifest


def test_where_the_manifest_was_lost_what_is_to_the_letter_paddocks_is_no_file_from_before() -> None:
    ours, theirs = File("/etc/a", "ours"), File("/etc/b", "ours")
    found = {ours.id: ours.desired, theirs.id: {**theirs.desired, "sha256": "another"}}
    assert drift({"base": [ours, theirs]}, Actual(resources=found)).manifest == {ours.id: "put", theirs.id: "kept"}
