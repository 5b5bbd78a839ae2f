"""The model files that a host is to have."""

from collections.abc import Mapping

from inventory.fleet import Fleet, Host
from inventory.knowledge import Knowledge, ModelDigest
from inventory.model_sources import ModelSource
from inventory.schema import ModelEntry
from resources import Directory, ModelFile
from roles.models.plan import plan
from roles.models.settings import ModelsSettings

SHA = "a" * 64
MODELS = {
    "tiny": ModelEntry(),
    "qwen": ModelEntry(source=ModelSource(url="https://models.home.example/q.gguf", sha256=SHA, size=1000)),
    "gemma": ModelEntry(source=ModelSource(local="gemma.gguf", sha256=SHA)),
    "big": ModelEntry(source=ModelSource(path="/srv/big.gguf", sha256=SHA)),
    "unserved": ModelEntry(),
}
KNOWN = Knowledge(models={"tiny": ModelDigest("b" * 64, 62656), "gemma": ModelDigest(SHA, 2000)})


def files(knowledge: Knowledge = KNOWN) -> Mapping[str, ModelFile]:
    roles = {"models": {"directory": "/srv/models"}, "llama_server": {"models": ["tiny", "qwen", "gemma", "big"]}}
    host = Host.model_validate({"name": "pea", "address": "192.0.2.7", "roles": roles})
    fleet = Fleet(name="home", domain="home.example", hosts={"pea": host}, models=MODELS)
    planned = list(plan(host, ModelsSettings(directory="/srv/models"), fleet, knowledge))
    assert planned[0] == Directory("/srv/models")
    return {each.path: each for each in planned if isinstance(each, ModelFile)}


def test_a_host_gets_the_models_that_its_server_names() -> None:
    assert list(files()) == ["/srv/models/tiny.gguf", "/srv/models/qwen.gguf", "/srv/models/gemma.gguf", "/srv/big.gguf"]


def test_each_says_where_it_comes_from() -> None:
    assert [each.origin for each in files().values()] == ["tiny", "url https://models.home.example/q.gguf", "local gemma.gguf", "host"]


def test_only_the_tiny_model_goes_with_its_place_in_the_inventory() -> None:
    assert [each.keep for each in files().values()] == [False, True, True, True]


def test_sizes_are_checked_where_they_are_known() -> None:
    assert [each.desired.get("size") for each in files().values()] == ["62656", "1000", "2000", None]


def test_a_file_that_is_the_users_may_belong_to_whom_it_does() -> None:
    assert files()["/srv/big.gguf"].desired == {"type": "file", "sha256": SHA}


def test_a_plan_needs_no_model_to_have_been_written() -> None:
    assert files(Knowledge())["/srv/models/tiny.gguf"].sha256 == "0" * 64
