"""What is to change on a host, by what its manifest says."""

from __future__ import annotations

import pytest

from resources import File, Line, ResourceError, expand
from resources.drift import drift
from resources.probe import Actual


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


def test_what_another_version_put_there_stays_and_is_shown() -> None:
    found = drift({}, Actual(manifest={"gadget:x": "put", "file:/etc/x": "put"}))
    assert found.unknown == ("gadget:x",)
    assert found.manifest == {"gadget:x": "put"}
    assert found.gone == ["file:/etc/x"]


def test_a_line_that_would_be_two_in_the_manifest_is_refused() -> None:
    with pytest.raises(ResourceError, match="control character"):
        tuple(expand([("x", Line("/etc/x", "a\nput file:/etc/shadow"))]))
