"""What `history show --diff` has to say of two plans of a host."""

from __future__ import annotations

from dataclasses import replace

import pytest

from control.lifecycle.differences import Difference, differences, new
from control.lifecycle.recorded_plans import PlanData, as_data
from control.lifecycle.records import RecordedChange
from resources import File, Package, Release, Resource, Service

PRESETS = File("/etc/paddock/presets.ini", "[qwen]\nctx-size = 4096\ntemp = 0.7\n")
KEY = File("/etc/x/key", "sk-never", mode=0o600, secret=True)
RELEASE = Release(
    "/opt/paddock/llama.cpp/releases/0.3.36-1",
    "/opt/paddock/llama.cpp/current",
    "0.3.36",
    "1",
    "sdist",
    (("GGML_CUDA", "ON"), ("GGML_NATIVE", "OFF")),
    ("llama-server",),
    (),
    reasons=(("GGML_CUDA", "a card"),),
)


def plan(*resources: Resource) -> PlanData:
    return as_data({"x": resources})


def only(before: PlanData, after: PlanData) -> Difference:
    (found,) = differences(before, after)
    return found


def test_a_files_text_is_a_unified_diff() -> None:
    found = only(plan(PRESETS), plan(replace(PRESETS, content=str(PRESETS.content).replace("0.7", "0.8"))))
    assert (found.sign, found.resource) == ("~", "file:/etc/paddock/presets.ini")
    assert found.texts == {"content": ("@@ -2,2 +2,2 @@", " ctx-size = 4096", "-temp = 0.7", "+temp = 0.8")}


def test_a_mode_is_told_in_one_line() -> None:
    assert only(plan(PRESETS), plan(replace(PRESETS, mode=0o600))) == Difference("~", PRESETS.id, {"mode": ("644", "600")})


def test_a_new_file_comes_with_its_text_and_one_that_left_with_its_name() -> None:
    assert only(plan(), plan(PRESETS)).texts["content"][1:] == ("+[qwen]", "+ctx-size = 4096", "+temp = 0.7")
    assert only(plan(PRESETS), plan()) == Difference("-", PRESETS.id)


def test_a_new_secret_says_that_it_is_one() -> None:
    found = only(plan(), plan(KEY))
    assert found.sign == "+" and found.texts == {"content": ("@@ -0,0 +1 @@", "+(secret)")}


def test_a_changed_secret_is_in_no_plan_and_told_by_the_change() -> None:
    change = RecordedChange("mend", KEY.id, "~", "x")
    before, after = plan(KEY), plan(replace(KEY, content="sk-another"))
    assert differences(before, after) == ()
    assert differences(before, after, [change]) == (Difference("~", KEY.id, note="(secret)"),)


def test_what_somebody_had_changed_on_the_host_is_told_though_the_plans_are_alike() -> None:
    changes = [RecordedChange("mend", PRESETS.id), RecordedChange("restart", "service:x.service")]
    same = plan(PRESETS, Service("x.service"))
    assert differences(same, same, changes) == (
        Difference("~", PRESETS.id, note="was not on the host as declared"),
        Difference("~", "service:x.service", note="restarts"),
    )


def test_a_release_shows_its_options_and_not_why_they_were_chosen() -> None:
    after = replace(
        RELEASE,
        path="/opt/paddock/llama.cpp/releases/0.3.37-2",
        version="0.3.37",
        options=(("GGML_CUDA", "OFF"), ("GGML_NATIVE", "OFF")),
        reasons=(("GGML_CUDA", "no card"),),
    )
    found = only(plan(RELEASE), plan(after))
    assert found.attributes["version"] == ("0.3.36", "0.3.37")
    assert found.texts == {"options": ("@@ -1,2 +1,2 @@", "-GGML_CUDA ON", "+GGML_CUDA OFF", " GGML_NATIVE OFF")}


def test_packages_come_and_go_by_name() -> None:
    found = differences(plan(Package("curl"), Package("jq")), plan(Package("curl"), Package("caddy")))
    assert [(each.sign, each.resource) for each in found] == [("+", "package:caddy"), ("-", "package:jq")]


def test_bytes_that_are_no_text_are_told_by_their_number() -> None:
    found = only(plan(File("/x", b"\xff\x00")), plan(File("/x", b"\xff\x00\x01")))
    assert found.texts["content"][-2:] == ("-(2 bytes)", "+(3 bytes)")


def test_plans_that_are_alike_have_no_differences() -> None:
    assert differences(plan(PRESETS, KEY, RELEASE), plan(PRESETS, KEY, RELEASE)) == ()


def test_a_first_plan_is_told_by_names() -> None:
    assert [each.resource for each in new(plan(PRESETS, KEY))] == [PRESETS.id, KEY.id]


@pytest.mark.parametrize(
    "value", [None, 3, True, [], {}, {"base64": 3}, {"base64": "%"}, {"resource": []}, {"x": {"y": [None]}}, [[1, [2]]]]
)
def test_values_that_no_version_has_written_are_shown_all_the_same(value: object) -> None:
    odd: PlanData = {"x": [{"id": "odd:thing", "kind": "odd", "content": value, "more": value}]}
    assert [each.resource for each in differences(plan(), odd)] == ["odd:thing"]
    differences(odd, plan(PRESETS))
    differences({"x": [{"id": "odd:thing"}]}, odd)
