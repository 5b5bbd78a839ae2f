"""A role's containers as a Compose project: what is in it, what makes a container another one, and who may be made of it."""

from __future__ import annotations

import yaml

from resources import UNOPENED, File, Image, Port, Stack, of_kind
from roles.compose import Contained, directory_of, published_at, stack, volume

IMAGE = "docker.io/library/caddy:2@sha256:" + "a" * 64
PAGE = File(f"{directory_of('web')}/page.html", "a page\n")


def declared(one: Contained) -> str:
    (made,) = of_kind(stack("web", {"page": one}), Stack)
    return made.containers[0].declared


def written(one: Contained) -> dict[str, object]:
    (compose,) = (each for each in of_kind(stack("web", {"page": one}), File) if each.path.endswith("compose.yml"))
    said: dict[str, object] = yaml.safe_load(compose.data)["services"]["page"]
    return said


def test_what_is_not_asked_for_is_not_given() -> None:
    said = written(Contained(image=IMAGE))
    assert (said["read_only"], said["cap_drop"], said["security_opt"]) == (True, ["ALL"], ["no-new-privileges:true"])
    assert not {"ports", "volumes", "environment", "devices", "cap_add", "user"} & said.keys()


def test_a_dollar_sign_is_no_variable() -> None:
    said = written(Contained(image=IMAGE, environment={"PRICE": "$5 ${HOME}"}, command=("sh", "-c", "echo $$")))
    assert said["environment"] == {"PRICE": "$$5 $${HOME}"}
    assert said["command"] == ["sh", "-c", "echo $$$$"]


def test_text_that_yaml_would_read_as_something_else_stays_text() -> None:
    assert written(Contained(image=IMAGE, environment={"A": "no", "B": "0x1F", "C": "1e3", "D": "a: b\nc"}))["environment"] == {
        "A": "no",
        "B": "0x1F",
        "C": "1e3",
        "D": "a: b\nc",
    }


def test_a_port_is_published_on_the_addresses_meant() -> None:
    port = Port(8071, ("127.0.0.1", "::1"), "docker.service")
    published = written(Contained(image=IMAGE, publishes=((port, 80),)))["ports"]
    assert isinstance(published, list)
    assert [(each["host_ip"], each["published"], each["target"]) for each in published] == [("127.0.0.1", "8071", 80), ("::1", "8071", 80)]


def test_what_listens_for_both_families_is_published_for_both() -> None:
    assert [published_at(each) for each in ("[::]:80", "0.0.0.0:80", "[::1]:80")] == [("0.0.0.0", "::"), ("0.0.0.0",), ("::1",)]


def test_a_program_ends_when_it_is_told_to() -> None:
    assert written(Contained(image=IMAGE))["init"] is True


def test_a_container_is_another_one_where_it_or_what_it_reads_is() -> None:
    first = Contained(image=IMAGE, reads={"/page.html": PAGE})
    others = [
        Contained(image=IMAGE.replace("a" * 64, "b" * 64), reads={"/page.html": PAGE}),
        Contained(image=IMAGE, reads={"/page.html": File(PAGE.path, "another page\n")}),
        Contained(image=IMAGE, reads={"/other.html": PAGE}),
        Contained(image=IMAGE, reads={"/page.html": PAGE}, memory="64m"),
        Contained(image=IMAGE, reads={"/page.html": PAGE}, keeps={"/data": volume("web", "data")}),
    ]
    assert len({declared(each) for each in (first, *others)}) == 6
    assert declared(first) == declared(Contained(image=IMAGE, reads={"/page.html": PAGE}))


def test_of_a_secret_that_nobody_here_opens_nothing_is_said() -> None:
    secret = File(f"{directory_of('web')}/key", UNOPENED, mode=0o600, secret=True)
    resources = list(stack("web", {"page": Contained(image=IMAGE, reads={"/key": secret})}))
    (compose,) = (each for each in of_kind(resources, File) if each.path.endswith("compose.yml"))
    assert compose.is_unopened
    (made,) = of_kind(resources, Stack)
    assert "page made of" not in made.desired and made.desired["page"] == "running"
    assert not list(made.second_look())


def test_volumes_are_made_apart_and_named_for_their_stack() -> None:
    resources = list(stack("web", {"page": Contained(image=IMAGE, keeps={"/data": volume("web", "data")})}))
    assert "volume:paddock-web-data" in {each.id for each in resources}
    (compose,) = (each for each in of_kind(resources, File) if each.path.endswith("compose.yml"))
    assert yaml.safe_load(compose.data)["volumes"] == {"paddock-web-data": {"external": True, "name": "paddock-web-data"}}


def test_images_that_are_brought_go_by_the_name_that_the_host_knows_them_by() -> None:
    resources = list(stack("web", {"page": Contained(image=IMAGE), "store": Contained(image=IMAGE)}, brought=True))
    (image,), (made,) = of_kind(resources, Image), of_kind(resources, Stack)
    assert image == Image(IMAGE, brought=True)
    (compose,) = (each for each in of_kind(resources, File) if each.path.endswith("compose.yml"))
    said = yaml.safe_load(compose.data)["services"]
    assert {said[each]["image"] for each in ("page", "store")} == {image.name} == {each.image for each in made.containers}
