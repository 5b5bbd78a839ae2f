"""Hostile text in every text of an inventory: it is refused with its place, or it is the value, to the letter, that the reader of each
rendered file reads.

The inventory is a file, as somebody writes it. Each file is read as its own program does (readers.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from test_text_of_a_person import ANY, DRAWN, REFERENCES, RENDERED_NOWHERE, SCHEMA, drawn

from control.deployment.plannable import require_plannable
from control.llama_cpp.options import checked
from inventory.errors import InventoryError, PaddockError
from inventory.fleet import Fleet
from inventory.knowledge import Certificate
from inventory.load import loaded
from resources import Release
from roles.client.archive import members
from roles.llama_cpp.recipe import script
from roles.role import render
from tests.share import WHOLE
from tests.unit.roles import everything, readers

ATTACKS = (
    *(f"x{end}User=root{end}[Service]{end}Environment=LD_PRELOAD=/x" for end in "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029\0"),
    *("%n %h %%", "$PATH ${PATH} $$", "{$PATH}", "{env.PATH}", "{file./etc/shadow}", "$(id)", "`id`", "a;b", "a b", " a", "a ", "\ta"),
    *("'; id; '", '"; id; "', "\\", "a\\", "\\n", "\\x41", "x\\\ny", "#x", "a #b", "; flush ruleset", "} table x {", "][", "[*]", "a=b"),
    *(
        "<script>alert(1)</script>",
        '"><img src=x>',
        "&lt;",
        "</pre>",
        "-x",
        "--log-file=/x",
        "~",
        "*",
        "!!python/x",
        "{{ 7*7 }}",
        "{% x %}",
    ),
    *(
        "\u202e\u2066",
        "\ufeff",
        "\x1b]0;P\x07",
        "é",
        "a" * 5000,
        "",
        "fe80::1%a 192.0.2.66:80 b",
        "fe80::2%eth0; flush ruleset",
        "[::1",
        "/",
    ),
)

MARKS: Mapping[str, str] = {
    "LlamaServerSettings.preset{}": "zqmark",
    "InstanceSettings.preset{}": "/root/zqmark",
    "ModelEntry.preset{}": "zqmark",
    "LlamaServerSettings.environment{}": "zqmark",
    "InstanceSettings.environment{}": "zqmark",
    "LlamaCppSettings.options{}": "zqmark",
    "LlamaCppSettings.programs[]": "llama-zqmark",
    "ModelsSettings.directory": "/srv/zqmark",
    "ModelSource.path": "/home/ann/zqmark.gguf",
    "WatchdogSettings.notify": "zqmark",
    "WatchdogSettings.notify[]": "/zqmark",
    "ExpirySettings.notify": "zqmark",
    "ExpirySettings.notify[]": "/zqmark",
    "Seat.home": "/home/zqmark",
    "Acme.email": "zqmark@home.example",
    "Acme.directory": "https://zqmark.example/directory",
    "Site.origins[]": "https://zqmark.home.example",
    "CaddySettings.accept{}": "zqmark",
    "ModelEntry.aliases[]": "zqmark",
}
"""In place of the harmless text, a text that stands nowhere else: so it is seen where it lands."""

KEYS = {"LlamaServerSettings.preset{key}": "chat-template", "ModelEntry.preset{key}": "grammar"}
"""Options that take any text."""

BEGINS = {name: mark.partition("zqmark")[0] for name, mark in MARKS.items()}

PLACE = re.compile(r"[^\n]+?:[0-9]+:[0-9]+: [^\n]+")


def hostile(name: str) -> SearchStrategy[str]:
    """An attack, any text, or what the field takes; behind what a path begins with, where it is one."""
    begins = BEGINS.get(name, "")
    text = st.one_of(st.sampled_from(ATTACKS), ANY)
    return st.one_of(text, text.map(lambda found: f"{begins}{found}"), DRAWN[name] if name in DRAWN else drawn(name))


def read(document: Mapping[str, object], path: Path, *, ascii: bool = True) -> Fleet:
    """What Paddock makes of the file. Raises InventoryError."""
    path.write_text(json.dumps(document, ensure_ascii=ascii), errors="surrogatepass")  # JSON is YAML
    found = loaded(path)
    checked(found.positions, found.fleet)
    return found.fleet


def rendered(fleet: Fleet, text: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Every file by its path, the scripts of builds, and an export."""
    known = everything.context(fleet)
    yield from ((file.path, file.data.decode()) for file in everything.files(fleet, known) if not file.path.endswith("/50-paddock.conf"))
    yield from (
        ("build", script(each, work="/var/tmp", packed="/var/tmp/packed")) for each in known.releases.values() if isinstance(each, Release)
    )
    client, site = text["Document.clients{key}"], text["CaddySettings.sites{key}"]
    exported = members(client, Certificate("chain", "key"), fleet, known, "password", site)
    yield from ((f"export/{name}", data.decode()) for name, data in exported.items() if name in ("README.html", "install.sh"))


def as_read(path: str, content: str, name: str) -> list[object]:
    if path.endswith("notify"):
        return list(readers.values("notify.words" if name.endswith("[]") else "notify", content))
    if path == "build":
        content = re.sub(
            r"(?<=-)[0-9a-f]{12}(?=\W)|(?<=fingerprint=)[0-9a-f]{64}", "0", content
        )  # a release is called after all of its options
    if "paddock/llama.cpp:" in content or path.endswith("/Dockerfile"):
        content = re.sub(r"(?<=-)[0-9a-f]{12}(-[0-9a-f]{8})?(?=\W)", "0", content)  # and so is its image
    if path.endswith("/watchdog/servers"):
        content = re.sub(r" [0-9a-f]{16}(?= [0-9]+\n)", " 0", content)  # the way in which a model is served is one of its options too
    if path.endswith("/compose.yml"):
        content = re.sub(r"(?<=paddock\.declared: )'?[0-9a-f]{16}'?", "0", content)  # a container is called after all that it reads
    return readers.values(path, content)


def replaced(value: object, mark: str, text: str) -> object:
    if isinstance(value, tuple):
        return tuple(replaced(each, mark, text) for each in value)
    assert isinstance(value, str)
    return value.replace(mark, text)


@pytest.mark.parametrize("name", everything.HARMLESS)
@settings(max_examples=120 if WHOLE else 6, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_hostile_text_is_refused_with_its_place_or_read_to_the_letter(name: str, tmp_path: Path, data: st.DataObject) -> None:
    mark, path = MARKS.get(name, everything.HARMLESS[name]), tmp_path / "home.yml"
    harmless = {**everything.HARMLESS, **{key: value for key, value in KEYS.items() if key != name}, name: mark}
    text = data.draw(hostile(name))
    said = {**harmless, name: text}
    try:
        fleet = read(everything.document(said), path, ascii=data.draw(st.booleans()))
    except InventoryError as error:
        assert all(map(PLACE.fullmatch, error.problems)), error.problems
        return
    try:
        found = list(rendered(fleet, said))
    except PaddockError:
        with pytest.raises(InventoryError) as told:
            require_plannable(loaded(path).positions, fleet, deploys=())
        assert all(map(PLACE.fullmatch, told.value.problems)), told.value.problems
        return
    begins = BEGINS.get(name, "")
    if name in MARKS and not (begins.startswith("/") and "/" in text.removeprefix(begins)):  # a unit names the directory of a file too
        for (path_, content), (of_mark, before) in zip(found, rendered(read(everything.document(harmless), path), harmless), strict=True):
            expected = [replaced(each, mark, text) for each in as_read(of_mark, before, name)]
            assert (path_, as_read(path_, content, name)) == (of_mark.replace(mark, text), expected)


def test_every_text_of_the_schema_is_attacked_or_lands_nowhere() -> None:
    """test_text_of_a_person.py holds the lists; these are in the inventory that is attacked here."""
    assert MARKS.keys() | KEYS.keys() <= everything.HARMLESS.keys() <= SCHEMA.keys()
    assert not MARKS.keys() & (RENDERED_NOWHERE.keys() | REFERENCES.keys())


@pytest.mark.parametrize("name", MARKS)
def test_a_mark_is_seen_where_it_lands(name: str, tmp_path: Path) -> None:
    """The comparison above would find nothing in a file that has no mark."""
    harmless = {**everything.HARMLESS, **KEYS, name: MARKS[name]}
    found = list(rendered(read(everything.document(harmless), tmp_path / "home.yml"), harmless))
    seen = [path for path, content in found if any("zqmark" in str(each).lower() for each in as_read(path, content, name))]
    assert seen or name == "CaddySettings.accept{}"


PAGE = ("client", "fleet", "password", "certificates", "installed", "bridge")
OF_A_SITE = ("name", "url", "address", "model")


@pytest.mark.parametrize("name", [*PAGE, *OF_A_SITE])
def test_an_exported_page_shows_what_is_hostile_as_text(name: str) -> None:
    """The schema lets little of it through. So what the template is given is hostile here."""

    def page(text: str) -> list[tuple[str, ...]]:
        said = {**dict.fromkeys((*PAGE, *OF_A_SITE), "plain"), name: text}
        site = {**{key: said[key] for key in OF_A_SITE}, "models": [said["model"]], "question": said["model"], "own_ca": True}
        site["asks_for_a_key"] = True
        return readers.html_values(render("export/README.html.j2", sites=[site], site=site, **{key: said[key] for key in PAGE}))

    before = page("zqmark")
    assert any("zqmark" in each for found in before for each in found)
    for attack in (each for each in ATTACKS if each and "\0" not in each):
        assert tags(page(attack)) == tags(before), attack


def tags(found: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Without texts, and without what the attributes say."""
    return [(kind, *more[:1], *more[1::2]) for kind, *more in found if kind != "text"]
