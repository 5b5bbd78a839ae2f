"""What an inventory may say of where a model comes from, and what of it lands where."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import ValidationError

from control.models.curl import curl_configuration
from control.models.origins import asked_of
from inventory.errors import PaddockError
from inventory.fleet import Fleet
from inventory.knowledge import Knowledge
from inventory.model_sources import ModelSource, parts_of
from inventory.schema import ModelEntry
from inventory.urls import without_query
from resources import Directory, ModelFile, Resource
from roles.models.plan import plan
from roles.models.settings import ModelsSettings

SHA, OTHER = "a" * 64, "b" * 64
TWO = [{"name": "Q8/x-00001-of-00002.gguf", "sha256": SHA, "size": 7}, {"name": "Q8/x-00002-of-00002.gguf", "sha256": OTHER, "size": 8}]


def planned(source: Mapping[str, Any]) -> list[Resource]:
    roles = {"models": {}, "llama_server": {"models": ["big"]}}
    host = {"name": "pea", "address": "192.0.2.7", "roles": roles}
    fleet = Fleet.model_validate({"name": "home", "domain": "home.example", "hosts": {"pea": host}, "models": {"big": {"source": source}}})
    return list(plan(fleet.hosts["pea"], ModelsSettings(), fleet, Knowledge()))


def test_a_model_in_parts_lies_in_a_directory_of_its_own_as_llama_server_looks_for_it() -> None:
    directory = "/var/lib/paddock/models"
    url = "hf org/repo main Q8/x-0000{}-of-00002.gguf"
    assert planned({"hf": "org/repo", "file": "Q8/x-00001-of-00002.gguf", "files": TWO}) == [
        Directory(directory),
        Directory(f"{directory}/big"),
        ModelFile(f"{directory}/big/big-00001-of-00002.gguf", SHA, 7, url.format(1)),
        ModelFile(f"{directory}/big/big-00002-of-00002.gguf", OTHER, 8, url.format(2)),
    ]


def test_a_file_in_a_directory_of_its_repository_is_fetched_from_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    source = {"hf": "org/repo", "revision": "refs/pr/1", "file": "Q8_0/m.gguf", "sha256": SHA}
    (file,) = (each for each in planned(source) if isinstance(each, ModelFile))
    assert file.path == "/var/lib/paddock/models/big.gguf"
    assert [each.url for each in asked_of(file)] == ["https://huggingface.co/org/repo/resolve/refs%2Fpr%2F1/Q8_0/m.gguf"]


def test_parts_that_lie_on_the_host_already_stay_where_they_are() -> None:
    _, *files = planned({"path": "/srv/x-00001-of-00002.gguf", "files": TWO})
    assert [each.id for each in files] == ["model:/srv/x-00001-of-00002.gguf", "model:/srv/x-00002-of-00002.gguf"]


def test_the_other_parts_of_a_url_are_beside_the_first() -> None:
    first, second = parts_of("https://models.home.example/x-00001-of-00002.gguf?download=true")
    assert second == "https://models.home.example/x-00002-of-00002.gguf?download=true"
    assert first != second


def test_a_model_that_nothing_says_the_digests_of_has_no_plan() -> None:
    with pytest.raises(PaddockError, match=r"models\.big\.source: nothing says which file it is.*: run `paddock models pull --lock big`"):
        planned({"hf": "org/repo"})


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({}, "needs exactly one of hf, url, local and path, this has none"),
        ({"hf": "org/repo", "url": "https://models.home.example/x"}, "this has hf and url"),
        ({"url": "https://models.home.example/x", "revision": "main"}, "revision is only for hf, and this source has url"),
        ({"hf": "org/repo", "file": "x.gguf", "include": "*"}, "needs one of file and include, this has both"),
        ({"hf": "repo"}, "is not a Hugging Face repository"),
        ({"hf": "org/repo", "file": "../x.gguf"}, "is not a file name"),
        ({"hf": "org/repo", "revision": "a/../b"}, "is not a revision"),
        ({"hf": "org/repo", "sha256": SHA}, "sha256 is for a single file: name it with file"),
        ({"hf": "org/repo", "file": "x-00001-of-00003.gguf", "sha256": SHA}, "give each digest in `files` or in the lock"),
        ({"hf": "org/repo", "file": "x-00001-of-00003.gguf", "files": TWO}, r"files has 2, and x-00001-of-00003\.gguf is of 3"),
        ({"path": "/srv/x.gguf"}, "path needs sha256: without it"),
    ],
)
def test_a_source_that_is_none_is_refused(source: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        ModelSource.model_validate(source)


def test_a_model_may_be_called_as_people_know_it() -> None:
    assert ModelEntry.model_validate({"aliases": ["qwen2.5:3b"]}).aliases == ("qwen2.5:3b",)
    with pytest.raises(ValidationError, match="is not a model alias"):
        ModelEntry.model_validate({"aliases": ["a, b"]})


def test_the_mirror_that_the_environment_names_is_asked_in_place_of_hugging_face(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ModelFile("/m.gguf", SHA, 7, "hf org/repo main a b.gguf")
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    assert [each.url for each in asked_of(model)] == ["https://huggingface.co/org/repo/resolve/main/a%20b.gguf"]
    monkeypatch.setenv("HF_ENDPOINT", "https://models.home.example/")
    assert [each.url for each in asked_of(model)] == ["https://models.home.example/org/repo/resolve/main/a%20b.gguf"]


def test_a_token_is_for_hugging_face_alone_and_shows_in_no_repr() -> None:
    (url,) = asked_of(ModelFile("/m.gguf", SHA, 7, "url https://models.home.example/x.gguf"), "hf_token")
    (hub,) = asked_of(ModelFile("/m.gguf", SHA, 7, "hf org/repo main x.gguf"), "hf_token")
    assert (url.token, hub.token) == ("", "hf_token")
    assert "hf_token" not in repr(hub)


def test_what_curl_is_to_ask_cannot_be_made_to_say_more() -> None:
    (asked,) = asked_of(ModelFile("/m.gguf", SHA, 7, 'url https://me:secret@models.home.example/x"\\y.gguf?signed=1'))
    assert curl_configuration(asked).splitlines() == [
        '# https://models.home.example/x"\\y.gguf',
        "# is the address right, and does it want a login?",
        r'url = "https://me:secret@models.home.example/x\"\\y.gguf?signed=1"',
    ]


def test_neither_a_password_nor_a_signature_is_shown() -> None:
    assert without_query("https://me:pass@word@models.home.example/a/x.gguf?signature=1") == "https://models.home.example/a/x.gguf"
    assert without_query("/srv/what?.gguf") == "/srv/what?.gguf"  # no URL
