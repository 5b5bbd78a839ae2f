"""No text of a person changes the structure of what is rendered, whatever the schema lets through.

On two levels: each filter of the templates, with any text at all, as its reader reads it; and whole plans, in which every text that a
person can write is drawn from what its field takes.
"""

from __future__ import annotations

import html
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from jinja2.filters import FILTERS as JINJA
from pydantic import BaseModel, ValidationError

from inventory.errors import PaddockError
from inventory.schema import Document
from resources import Release
from roles.llama_cpp.recipe import script
from roles.quoting import FILTERS, Unquotable
from roles.role import LABEL, Matches
from tests.share import WHOLE
from tests.unit.roles import everything, readers

MEANT = "ab0 \t\n\r\0\x85\u2028%$\\\"'`;#{}[]()<>&|=:,*?!~-+/@é"
"""What some reader takes for more than a letter, beside a few letters."""

ANY = st.one_of(st.text(st.sampled_from(MEANT), max_size=12), st.text(max_size=30))


def quoted(name: str, text: str) -> str | None:
    """What a filter makes of it; None where it says that it cannot."""
    try:
        return FILTERS[name](text)
    except Unquotable:
        return None


READ: dict[str, Callable[[str], object]] = {
    "line": lambda found: found.splitlines() and found.splitlines()[0],
    "word": lambda found: found.split()[0],
    "sh": lambda found: subprocess.run(["/bin/sh", "-c", f"printf '%s|' {found}"], capture_output=True, check=True).stdout.decode()[:-1],
    "unit": lambda found: _only(readers.unit_words(found)).replace("%%", "%"),
    "exec": lambda found: _only(readers.unit_words(found)).replace("%%", "%").replace("$$", "$"),
    "unit_text": lambda found: found.strip().replace("%%", "%"),
    "environment": readers.environment_value,
    "bind": lambda found: _only(readers.unit_words(found.replace("\\:", ":"))).replace("%%", "%"),
    "caddy": lambda found: _only(_only(readers.caddy_lines(found)))[0],
    "ini": readers.ini_value,
    "ini_name": lambda found: found.strip(" []="),
    "yaml": yaml.safe_load,
    "nft": lambda found: found,
}


def _only(found: list[Any]) -> Any:
    assert len(found) == 1, found
    return found[0]


@pytest.mark.parametrize("name", READ)
@settings(max_examples=60, deadline=None)
@given(text=ANY)
def test_a_reader_reads_what_was_written(name: str, text: str) -> None:
    """Or the filter says that its reader could not."""
    found = quoted(name, text)
    if found is not None and (text or name not in ("line", "unit_text")):
        assert READ[name](found) == text


@pytest.mark.parametrize("name", ["sh", "unit", "exec", "caddy", "ini", "yaml", "nft", "bind", "environment"])
def test_a_filter_takes_what_is_harmless(name: str) -> None:
    assert quoted(name, "192.0.2.10") is not None


def test_every_filter_has_a_reader() -> None:
    assert READ.keys() | {"caddy_json"} == FILTERS.keys()


@settings(max_examples=60, deadline=None)
@given(value=st.dictionaries(ANY, st.one_of(ANY, st.none(), st.dictionaries(ANY, ANY, max_size=2)), max_size=3))
def test_json_is_one_token_of_a_caddyfile_without_a_placeholder(value: dict[str, Any]) -> None:
    ((token, quote),) = _only(readers.caddy_lines(FILTERS["caddy_json"](value)))
    assert quote == "`" and json.loads(token) == value
    assert not [each for each in re.findall(r'"(?:[^"\\]|\\.)*"', token) if "{" in each or "}" in each]


@settings(max_examples=60, deadline=None)
@given(text=ANY)
def test_html_has_no_tag_and_no_end_of_an_attribute_in_it(text: str) -> None:
    found = str(JINJA["e"](text))
    assert html.unescape(found) == html.unescape(text) or html.unescape(found) == text
    assert not set(found) & set("<>\"'")


# What the fields of the schema take.

RENDERED_NOWHERE = {
    "LitellmSettings.version": "there is one",
    "Keep.disk": "a number on the control machine",
    **dict.fromkeys((f"UpgradeLimits.{name}" for name in ("slower", "first_token", "start", "memory")), "a number on the control machine"),
    "UpgradeSettings.floor": "a number where it lands",
    "Document.groups{key}": "a group is gone once the hosts are made of it",
    "Group.hosts[]": "a group is gone once the hosts are made of it",
    "HostDefaults.user": "what the control machine logs in with",
    "Group.user": "what the control machine logs in with",
    "HostEntry.user": "what the control machine logs in with",
    "HostDefaults.ssh_key": "a file of the control machine",
    "Group.ssh_key": "a file of the control machine",
    "HostEntry.ssh_key": "a file of the control machine",
    "HostDefaults.via": "what the control machine gives ssh",
    "Group.via": "what the control machine gives ssh",
    "HostEntry.via": "what the control machine gives ssh",
    "HostEntry.host_key": "what the control machine pins",
    "LabSettings.image": "the lab's",
    "SecretValue.secret": "where the control machine has it",
    "LlamaServerSettings.opens[]": "compared with the options of presets",
    "BaseSettings.packages[]": "the name of a package, which no file holds",
    "BaseSettings.accepted_units[]": "compared with what systemd has loaded",
    "Source.sdist": "where the control machine fetches from",
    "Source.archive": "where the control machine fetches from",
    "Source.git": "where the control machine fetches from",
    "Source.path": "a file of the control machine",
    "Source.sha256": "a digest",
    "Source.commit": "a digest",
    "Source.packages": "a version that apt is asked for",
    "Source.ggml": "a version that apt is asked for",
    "PackageFile.url": "where the control machine fetches from",
    "PackageFile.path": "a file of the control machine",
    "PackageFile.sha256": "a digest",
    "CaddyPackage.url": "where the control machine fetches from",
    "CaddyPackage.path": "a file of the control machine",
    "CaddyPackage.sha256": "a digest",
    "Acme.root": "a file of the control machine",
    "ModelSource.hf": "what curl is to ask",
    "ModelSource.revision": "what curl is to ask",
    "ModelSource.file": "what curl is to ask",
    "ModelSource.include": "a pattern for the control machine",
    "ModelSource.url": "what curl is to ask",
    "ModelSource.local": "a file of the control machine",
    "ModelSource.sha256": "a digest",
    "ModelPart.name": "what curl is to ask",
    "ModelPart.sha256": "a digest",
    "User.expires": "a day, which is a number where it lands",
}
"""Fields of which no template has the text, each with what it is for."""

REFERENCES = {
    "FirewallSettings.addresses{key}": "Document.hosts{key}",
    "FirewallSettings.allow{key}": "LlamaServerSettings.listen",
    "LlamaCppSettings.builder": "Document.hosts{key}",
    "LlamaServerSettings.models[]": "Document.models{key}",
    "InstanceSettings.model": "Document.models{key}",
    "InstanceSettings.gpus[][]": "InstanceSettings.gpus[]",
    "InstanceSettings.workers[]": "Document.hosts{key}",
    "GatewaySettings.upstream": "Document.hosts{key}",
    "GatewaySettings.upstream[]": "Document.hosts{key}",
    "LitellmSettings.upstream": "Document.hosts{key}",
    "LitellmSettings.upstream[]": "Document.hosts{key}",
    "PublicModel.model": "Document.models{key}",
    "PublicModel.upstream": "Document.hosts{key}",
    "PublicModel.upstream[]": "Document.hosts{key}",
    "Pi.model": "GatewaySettings.models{key}",
    "Site.upstream": "Document.hosts{key}",
    "Site.upstream[]": "Document.hosts{key}",
    "OfModel.model": "Document.models{key}",
    "Site.clients[]": "Document.clients{key}",
    "User.models[]": "Document.models{key}",
    "Seat.client": "Document.clients{key}",
    "Seat.site": "CaddySettings.sites{key}",
}
"""Fields that name what another one is called."""


def leaves(annotation: Any, where: str, metadata: tuple[Any, ...] = ()) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Each text in a type, with what stands in its annotations."""
    arguments = get_args(annotation)
    match get_origin(annotation):
        case None if annotation is str:
            yield where, metadata
        case kind if kind is Annotated:
            yield from leaves(arguments[0], where, (*metadata, *arguments[1:]))
        case kind if kind in (Union, UnionType):
            for each in arguments:
                yield from leaves(each, where, metadata)
        case kind if kind in (tuple, list):
            yield from leaves(arguments[0], f"{where}[]")
        case kind if kind is dict:
            yield from leaves(arguments[0], f"{where}{{key}}")
            yield from leaves(arguments[1], f"{where}{{}}")


def models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for each in get_args(annotation):
        yield from models(each)


def texts(model: type[BaseModel], seen: set[type[BaseModel]]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Each text of a schema by `Model.field`, what models are made of included."""
    if model in seen:
        return
    seen.add(model)
    for name, field in model.model_fields.items():
        yield from leaves(field.annotation, f"{model.__name__}.{name}", tuple(field.metadata))
        for each in models(field.annotation):
            yield from texts(each, seen)


SCHEMA = dict(texts(Document, set()))


PLAIN = ("_label", "_domain", "_endpoint", "_bridge")
"""Types whose text no reader can take for more than it is: a name, a domain, an address with a port."""


def checked_by(name: str) -> list[str]:
    return [getattr(getattr(each, "func", None), "__name__", "") for each in SCHEMA[name]]


def test_every_free_text_of_the_schema_is_drawn_or_is_rendered_nowhere() -> None:
    """A new one belongs into tests/unit/roles/everything.py, where the new template is rendered, or into the list above."""
    known = everything.HARMLESS.keys() | RENDERED_NOWHERE.keys() | REFERENCES.keys()
    assert known <= SCHEMA.keys()
    assert {name for name in SCHEMA if not set(checked_by(name)) & set(PLAIN)} <= known
    assert not everything.HARMLESS.keys() & (RENDERED_NOWHERE.keys() | REFERENCES.keys())


SCOPED = st.builds("fe80::1%{}".format, ANY.filter(lambda text: bool(text) and "%" not in text and "/" not in text))
"""Python's ipaddress takes anything for the scope of an IPv6 address."""

DRAWN: dict[str, SearchStrategy[str]] = {
    "HostEntry.address": st.one_of(SCOPED, st.just("192.0.2.77"), st.just("2001:db8::10")),
    "FirewallSettings.allow{}[]": SCOPED,
    "FirewallSettings.addresses{}[]": SCOPED,
    "Document.networks[]": SCOPED,
    "Nvidia.driver": st.just("installed"),
    "Acme.email": st.from_regex(r"(#|\{|\{\$)[a-zA-Z.]*\}?@b\.example", fullmatch=True),
    "ModelSource.path": st.from_regex(r"/home/[^/;#'\"\x00-\x1f\x7f ]+(/[^/;#'\"\x00-\x1f\x7f ]+)*", fullmatch=True),
    "CaddySettings.listen[]": st.just("[2001:db8::12]:443"),
    "AdminSettings.listen": st.just("[::]:8079"),
    "LlamaServerSettings.listen": st.just("[::]:8080"),
    "InstanceSettings.listen": st.just("[::]:8090"),
    "Seat.bridge": st.just("[::1]:8399"),
    "GatewaySettings.listen[]": st.just("[2001:db8::15]:8001"),
    "GatewaySettings.callers[]": SCOPED,
    "GatewaySettings.metrics_listen": st.just("[::1]:9101"),
    "Pi.keys_generate[]": SCOPED,
    "CaddyPackage.version": st.just("2.11.5~rc.1"),
    "LlamaServerSettings.preset{key}": st.sampled_from(["temp", "x.y", "z"]),
    "InstanceSettings.preset{key}": st.sampled_from(["chat-template-file", "grammar-file"]),
    "InstanceSettings.preset{}": st.from_regex(r"/root/[^/;#'\"\x00-\x1f\x7f ]+(/[^/;#'\"\x00-\x1f\x7f ]+)*", fullmatch=True),
    "ModelEntry.preset{key}": st.sampled_from(["temp", "x.y", "z"]),
}
"""Fields of which hypothesis is told better what they take."""


def fits(pattern: str) -> SearchStrategy[str]:
    """What fits a pattern, most of it of few letters and of what some reader has a meaning for."""
    few = st.characters(categories=(), include_characters=MEANT + pattern)
    return st.one_of(st.from_regex(pattern, fullmatch=True, alphabet=few), st.from_regex(pattern, fullmatch=True))


def drawn(name: str) -> SearchStrategy[str]:
    """What a field takes: what fits its pattern, or else any text, of which its validators take some."""
    if name in DRAWN:
        return DRAWN[name]
    for each in SCHEMA[name]:
        if isinstance(each, Matches):
            return fits(each.pattern)
    return st.from_regex(LABEL, fullmatch=True) if {"_label", "_domain"} & set(checked_by(name)) else ANY


def rendered(text: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Every file, by its path, and the scripts of builds. Raises ValidationError or PaddockError where the text is refused."""
    fleet = everything.fleet(text)
    known = everything.context(fleet)
    yield from ((file.path, file.data.decode()) for file in everything.files(fleet, known))
    yield from (("build", script(each, work="/var/tmp")) for each in known.releases.values() if isinstance(each, Release))


HARMLESS = [readers.structure(path, text) for path, text in rendered(dict(everything.HARMLESS))]


@pytest.mark.parametrize("name", everything.HARMLESS)
@settings(max_examples=30 if WHOLE else 5, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_plan_has_the_same_structure_whatever_a_person_writes(name: str, data: st.DataObject) -> None:
    text = {**everything.HARMLESS, name: data.draw(drawn(name))}
    try:
        found = list(rendered(text))
    except (ValidationError, PaddockError):
        return
    for (path, content), structure in zip(found, HARMLESS, strict=True):
        assert readers.structure(path, content) == structure, path
