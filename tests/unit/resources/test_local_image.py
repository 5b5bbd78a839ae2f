"""Images that a host builds: what is found of one, when it is built, and when it leaves."""

from __future__ import annotations

from dataclasses import replace

from resources import Image, LocalImage, Releases
from resources.drift import Change
from resources.probe import ProbeAnswer
from resources.steps import Steps

ONE = LocalImage("paddock/llama.cpp", "0.3.36-1f0c8a2b3c4d-5eed5eed", "/etc/paddock/llama-server/Dockerfile", "/opt/release", "5eed" * 4)
OLD = "0.3.35-77aa01c2d3e4-00c0ffee"


def found(*lines: tuple[str, ...], image: LocalImage = ONE) -> dict[str, str]:
    answer = ProbeAnswer(["mark", "mark localimage", *("\t".join(line) for line in lines), "mark end"], [image])
    return dict(image.found(answer))


def test_an_image_is_there_by_its_tag_and_what_it_is_made_of() -> None:
    assert found((ONE.name, ONE.tag, ONE.inputs, "kept")) == ONE.desired
    assert found((ONE.name, ONE.tag, "0", "kept"))["made of"] == "0"


def test_one_of_another_tag_is_another_and_is_spare_once_its_release_is_gone() -> None:
    assert found((ONE.name, OLD, "0", "kept")) == {"spare": ""}
    assert found((ONE.name, ONE.tag, ONE.inputs, "kept"), (ONE.name, OLD, "0", "gone")) == {"made of": ONE.inputs, "spare": OLD}


def test_nothing_is_found_where_there_is_no_engine_or_somebody_elses_image() -> None:
    assert found() == {} and found(("somebody/else", ONE.tag, ONE.inputs, "kept")) == {}
    assert found(("cut",), ("a", "b", "c", "d", "e")) == {}


def ended(*changes: Change) -> list[str]:
    steps = Steps()
    for kind in (LocalImage, Image):
        kind.at_end(steps, changes)
    return steps.calls


def test_images_are_looked_through_when_releases_or_images_change() -> None:
    assert ended(Change("mend", "~", "llama_cpp", "releases:/opt", Releases("/opt", 3))) == ["localimages_spare"]
    assert ended(Change("put", "+", "llama_server", ONE.id, ONE)) == ["localimages_spare"]
    assert ended() == []


def test_what_no_plan_names_leaves_when_nothing_runs_of_it_any_more_its_base_last() -> None:
    base = "debian:13@sha256:" + "0" * 64
    gone, steps = [Change("remove", "-", "", f"image:{base}"), Change("remove", "-", "", ONE.id)], Steps()
    for kind in (LocalImage, Image):
        kind.before_forgetting(steps, gone)
    assert steps.calls == [f"localimage_unused {ONE.name}", f"gone_image {base}"] and ended(*gone) == []


def test_another_base_is_another_tag() -> None:
    assert replace(ONE, tag=OLD).reference != ONE.reference and replace(ONE, tag=OLD).id == ONE.id
