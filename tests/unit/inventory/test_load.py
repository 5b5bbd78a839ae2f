"""What a good inventory becomes: ranges, merging, and the place of everything."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from inventory import compose
from inventory.errors import InventoryError
from inventory.fleet import Fleet
from inventory.json_schema import document_schema
from inventory.load import load
from inventory.ranges import RangeError, expanded
from inventory.summary import summary
from roles.base.settings import BaseSettings
from roles.llama_cpp.settings import LlamaCppSettings
from roles.llama_server.settings import LlamaServerSettings

DEMO = Path(__file__).parents[3] / "inventory" / "demo.yml"


Loaded = Callable[[str], Fleet]


@pytest.fixture
def loaded(tmp_path: Path) -> Loaded:
    def load_text(text: str) -> Fleet:
        path = tmp_path / "fleet.yml"
        path.write_text("fleet: demo\ndomain: home.example\n" + text)
        return load(path)

    return load_text


def settings(fleet: Fleet, host: str, role: str) -> Any:
    return fleet.hosts[host].carried[role]


def test_the_demo_is_one_host_with_every_role_and_one_model() -> None:
    fleet = load(DEMO)
    assert list(fleet.hosts) == ["ai"]
    assert list(fleet.hosts["ai"].carried) == ["base", "llama_cpp", "models", "llama_server", "caddy"]
    assert fleet.models["demo"].source == "tiny"
    assert list(fleet.clients) == ["laptop"]


def test_the_demo_fits_in_a_few_words() -> None:
    assert summary(load(DEMO)).splitlines() == [
        "fleet demo in home.example: 1 host, 1 model, 1 client",
        "  ai  192.0.2.10  base, llama_cpp, models, llama_server (demo), caddy (ai.home.example)",
    ]


def test_the_demo_fits_the_schema_that_editors_get() -> None:
    schema = document_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(yaml.safe_load(DEMO.read_text()))
    for example in schema["examples"]:
        jsonschema.Draft202012Validator(schema).validate(example)
    assert json.loads(json.dumps(schema)) == schema


@pytest.mark.parametrize(
    "broken",
    [
        {"modles": {}},
        {"hosts": {}},
        {"hosts": {"ai_1": {"address": "192.0.2.1"}}},
        {"hosts": {"ai": {"address": "192.0.2.1", "prot": 22}}},
        {"hosts": {"ai": {"address": "192.0.2.1", "roles": {"cady": None}}}},
        {"models": {"a/b": None}},
    ],
)
def test_an_editor_sees_what_is_no_inventory(broken: dict[str, object]) -> None:
    document = {"fleet": "demo", "domain": "home.example", "hosts": {"ai": {"address": "192.0.2.1"}}}
    assert jsonschema.Draft202012Validator(document_schema()).is_valid(document)
    assert not jsonschema.Draft202012Validator(document_schema()).is_valid({**document, **broken})


def test_the_real_model_that_the_demo_proposes_takes_the_place_of_the_tiny_one(tmp_path: Path) -> None:
    lines = [line for line in DEMO.read_text().splitlines() if "source: tiny" not in line]
    path = tmp_path / "real.yml"
    path.write_text("\n".join(line.replace("# source: {url", "source: {url") for line in lines))
    source = load(path).models["demo"].source
    assert source.url.endswith(".gguf") and source.url in (DEMO.parents[1] / "README.md").read_text()
    assert re.fullmatch("(?!0+$)[0-9a-f]{64}", source.sha256) and source.sha256 in (DEMO.parents[1] / "README.md").read_text()


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("ai", ["ai"]),
        ("pi[1:3]", ["pi1", "pi2", "pi3"]),
        ("pi[08:11]", ["pi08", "pi09", "pi10", "pi11"]),
        ("rack[9:10]-gpu", ["rack9-gpu", "rack10-gpu"]),
        ("192.0.2.[11:12]", ["192.0.2.11", "192.0.2.12"]),
        ("2001:db8::[1:2]", ["2001:db8::1", "2001:db8::2"]),
        ("pi[7:7]", ["pi7"]),
    ],
)
def test_a_range_is_its_names_with_both_ends(text: str, names: list[str]) -> None:
    assert list(expanded(text)) == names


def test_a_range_has_at_most_1024_names() -> None:
    assert len(expanded("pi[1:1024]")) == 1024
    with pytest.raises(RangeError, match="1025 names"):
        expanded("pi[1:1025]")


def test_nine_hosts_of_a_range_have_nine_addresses(loaded: Loaded) -> None:
    fleet = loaded("hosts:\n  pi[1:9]:\n    address: 192.0.2.[11:19]\n    user: pi\n")
    assert {name: host.address for name, host in fleet.hosts.items()} == {f"pi{number}": f"192.0.2.1{number}" for number in range(1, 10)}
    assert {host.user for host in fleet.hosts.values()} == {"pi"}


def test_a_host_goes_before_its_groups_a_later_group_before_an_earlier_and_all_before_the_defaults(loaded: Loaded, tmp_path: Path) -> None:
    fleet = loaded("""
defaults: {user: defaults, port: 1, sudo: true, ssh_key: defaults}
groups:
  first: {hosts: [ai], user: first, port: 2, sudo: false}
  second: {hosts: [ai], user: second, port: 3}
hosts:
  ai: {address: 192.0.2.1, user: host}
  other: {address: 192.0.2.2}
""")
    ai = fleet.hosts["ai"]
    assert (ai.user, ai.port, ai.sudo, ai.ssh_key) == ("host", 3, False, str(tmp_path / "defaults")), "a key lies beside the inventory"
    assert ai.groups == ("first", "second")
    assert (fleet.hosts["other"].user, fleet.hosts["other"].groups) == ("defaults", ())


def test_mappings_merge_deeply_and_lists_are_replaced(loaded: Loaded) -> None:
    fleet = loaded("""
defaults:
  roles:
    base: {time: chrony, packages: [htop, tmux]}
    llama_cpp: {options: {GGML_AVX512: off}, jobs: 2}
groups:
  large: {hosts: ['n[1:2]'], roles: {llama_cpp: {options: {GGML_LTO: on}}}}
hosts:
  n[1:2]:
    address: 192.0.2.[1:2]
    roles:
      base: {packages: [vim]}
      llama_cpp:
""")
    assert settings(fleet, "n2", "base") == BaseSettings(time="chrony", packages=("vim",))
    assert settings(fleet, "n2", "llama_cpp") == LlamaCppSettings(options={"GGML_AVX512": False, "GGML_LTO": True}, jobs=2)


def test_a_host_can_take_back_what_it_inherits(loaded: Loaded) -> None:
    fleet = loaded("""
defaults: {roles: {llama_cpp: {source: {sdist: llama-cpp-python==0.3.36}}}}
hosts:
  ai: {address: 192.0.2.1, roles: {llama_cpp: {source: {sdist: null, path: /usr/src/llama.cpp}}}}
""")
    assert settings(fleet, "ai", "llama_cpp").source.identity == "path /usr/src/llama.cpp"


def test_a_group_may_hold_half_of_what_a_host_completes(loaded: Loaded) -> None:
    fleet = loaded(f"""
groups:
  pinned: {{hosts: [ai], roles: {{llama_cpp: {{source: {{sha256: "{"0" * 64}"}}}}}}}}
hosts:
  ai: {{address: 192.0.2.1, roles: {{llama_cpp: {{source: {{archive: "https://git.home.example/llama.tar.gz"}}}}}}}}
""")
    assert settings(fleet, "ai", "llama_cpp").source.label == "0000000"


def test_a_mistake_in_a_group_is_told_once_where_it_was_written(loaded: Loaded) -> None:
    with pytest.raises(InventoryError) as caught:
        loaded("groups:\n  pis:\n    hosts: ['pi[1:9]']\n    port: many\nhosts:\n  pi[1:9]:\n    address: 192.0.2.[11:19]\n")
    assert [problem.partition("fleet.yml:")[2] for problem in caught.value.problems] == [
        '6:11: groups.pis.port: should be a whole number, this is "many"'
    ]


@pytest.mark.parametrize(
    ("of_defaults", "of_host", "problem"),
    [
        ("chrony", "never", '12:15: hosts.ai.roles.base.time: "never" is not one of'),
        ("chrony", "[]", '12:15: hosts.ai.roles.base.time: should be "timesyncd"'),
        ("never", "elsewhere", '6:13: defaults.roles.base.time: "never" is not one of'),
    ],
)
def test_an_error_in_what_was_merged_points_at_where_it_was_written(loaded: Loaded, of_defaults: str, of_host: str, problem: str) -> None:
    with pytest.raises(InventoryError, match=rf"\A\S+fleet.yml:{re.escape(problem)}[^\n]*\Z"):
        loaded(f"""defaults:
  roles:
    base:
      time: {of_defaults}
hosts:
  ai:
    address: 192.0.2.1
    roles:
      base:
        time: {of_host}
""")


def test_aliases_and_merge_keys_save_typing(loaded: Loaded) -> None:
    fleet = loaded("""
hosts:
  a: &box
    address: 192.0.2.1
    user: box
    roles: &roles {base: {time: chrony}}
  b:
    <<: *box
    address: 192.0.2.2
  c: {address: 192.0.2.3, roles: *roles}
""")
    assert [(host.address, host.user) for host in fleet.hosts.values()] == [
        ("192.0.2.1", "box"),
        ("192.0.2.2", "box"),
        ("192.0.2.3", "root"),
    ]
    assert settings(fleet, "c", "base") == settings(fleet, "b", "base") == BaseSettings(time="chrony")


def test_what_yaml_reads_as_true_is_true_in_a_preset_and_text_in_quotes_is_text(loaded: Loaded) -> None:
    fleet = loaded("""
hosts: {ai: {address: 192.0.2.1, roles: {llama_cpp: , models: , llama_server: {models: [m]}}}}
models: {m: {preset: {flash-attn: on, cache-type-k: q8_0, "temp": 0.7, ctx-size: 8_192, alias: "1.10", threads: -1}}}
""")
    assert fleet.models["m"].preset == {
        "flash-attn": True,
        "cache-type-k": "q8_0",
        "temp": 0.7,
        "ctx-size": 8192,
        "alias": "1.10",
        "threads": -1,
    }
    assert settings(fleet, "ai", "llama_server") == LlamaServerSettings(models=("m",))


def test_a_digest_of_digits_alone_is_text_without_quotes(loaded: Loaded) -> None:
    fleet = loaded(f"hosts: {{ai: {{address: 192.0.2.1}}}}\nmodels: {{m: {{source: {{local: m.gguf, sha256: {'12345678' * 8}}}}}}}\n")
    assert getattr(fleet.models["m"].source, "sha256", "") == "12345678" * 8


def test_addresses_are_kept_in_one_spelling(loaded: Loaded) -> None:
    fleet = loaded('hosts:\n  a: {address: "2001:0db8::0001"}\n  b: {address: b.home.example}\n')
    assert [host.address for host in fleet.hosts.values()] == ["2001:db8::1", "b.home.example"]


def test_a_windows_file_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    path = tmp_path / "windows.yml"
    path.write_bytes(b"\xef\xbb\xbffleet: demo\r\ndomain: home.example\r\nhosts:\r\n  ai:\r\n    address: 192.0.2.10\r\n")
    assert load(path).hosts["ai"].address == "192.0.2.10"


def test_pyyaml_without_libyaml_reads_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    with_libyaml = load(DEMO)
    monkeypatch.setattr(compose, "LOADER", yaml.SafeLoader)
    assert load(DEMO) == with_libyaml
