"""The options of a distribution's packages, out of the help of their llama-server."""

from __future__ import annotations

from pathlib import Path

import pytest

from control.llama_cpp.help_text import options_of_help
from control.llama_cpp.options import known, packaged, packaged_anew
from inventory.errors import PaddockError
from inventory.options import SHIPPED, Value, faults, going, read
from roles.source import Source

BASE = read(SHIPPED.read_text())
MANUAL = Path(__file__).parent / "llama-server-0.7.0.1.gz"
"""The manual page of Debian's llama.cpp-tools 1:0.7.0+dfsg-2, as it is."""

IDENTITY = "packages llama.cpp 1:0.7.0+dfsg-2 ggml 0.27.0-1"

HELP = """\
----- common params -----

-c,    --ctx-size N                     size of the prompt context
                                        --port is another one
                                        (env: LLAMA_ARG_CTX_SIZE)
--control-vector-layer-range START END
                                        two numbers
                                        (env: LLAMA_ARG_OF_THE_RANGE)
-kvo,  --kv-offload, -nkvo, --no-kv-offload
                                        whether
--port PORT                             port to listen (default: 9931)
"""


def test_the_list_that_ships_is_what_the_manual_page_says() -> None:
    assert SHIPPED.with_name("llama-server-options-0.7.0.json").read_text() == packaged_anew(MANUAL, "0.7.0").written()


def test_the_packages_lost_no_option_and_have_three_new_ones() -> None:
    found = packaged("0.7.0", IDENTITY)
    assert found and (found.source, found.label) == (IDENTITY, "0.7.0")
    assert set(BASE.by_spelling) - set(found.by_spelling) == set()
    new = {name: found.by_spelling[name] for name in set(found.by_spelling) - set(BASE.by_spelling)}
    assert {name: (option.takes, option.part, option.values) for name, option in new.items()} == {
        "moe-cache-mib": ("whole", "model", ()),
        "spec-draft-n-ubatch": ("whole", "model", ()),
        "spec-draft-sampling": ("text", "model", ("greedy", "probabilistic")),
    }
    assert new["moe-cache-mib"].env == "LLAMA_ARG_MOE_CACHE_MIB"
    assert (found.rules, found.sizing, found.tensor_types) == (BASE.rules, BASE.sizing, BASE.tensor_types)


def test_a_version_whose_list_does_not_ship_is_unknown() -> None:
    assert packaged("0.8.0", IDENTITY.replace("0.7.0", "0.8.0")) is None


@pytest.mark.parametrize(
    ("preset", "words"),
    [
        ({"moe-cache-mib": 4096, "spec-draft-n-ubatch": 256, "spec-draft-sampling": "greedy"}, []),
        ({"moe-cache-mib": "all"}, ['"moe-cache-mib" takes a whole number, this is "all"']),
        (
            {"spec-draft-sampling": "greed"},
            ['"spec-draft-sampling" takes greedy or probabilistic, this is "greed" (did you mean "greedy"?)'],
        ),
        ({"parallel": 0}, ['"parallel" cannot be 0 or more than 256, this is 0']),
        ({"port": 9931}, []),
    ],
)
def test_a_preset_is_judged_by_the_list_of_the_packages(preset: dict[str, Value], words: list[str]) -> None:
    found = packaged("0.7.0", IDENTITY)
    assert found
    assert [fault.words for fault in faults(preset, found)] == words


def test_an_option_of_the_packages_alone_is_refused_for_the_default_version() -> None:
    (fault,) = faults({"moe-cache-mib": 4096}, BASE)
    assert fault.words.startswith('"moe-cache-mib" is not an option of llama-server 0.3.36')


def test_what_is_deprecated_is_so_in_the_packages_too() -> None:
    found = packaged("0.7.0", IDENTITY)
    assert found
    assert [fault.words for fault in going({"defrag-thold": 0.1}, found)] == ['"defrag-thold" is deprecated in llama-server as of 0.7.0']


def test_a_help_is_read_as_the_program_prints_it() -> None:
    found = options_of_help(HELP, BASE, "0.9.0")
    of_help = [option for option in found.all if option.part != "preset"]
    assert {option.name: option.env for option in of_help} == {
        "ctx-size": "LLAMA_ARG_CTX_SIZE",
        "control-vector-layer-range": "LLAMA_ARG_OF_THE_RANGE",
        "kv-offload": "",
        "port": "",
    }
    assert {option.part for option in found.all} == {"model", "server", "preset"}


@pytest.mark.parametrize(
    "line", ["--moe-cache-mib MIB", "-c,    --ctx-size SIZE", "-c,    --ctx-size, --context N", "--quietly", "--new <0|1>"]
)
def test_an_option_that_a_help_alone_does_not_explain_is_named(line: str) -> None:
    wanted = line.replace("    ", " ")
    with pytest.raises(PaddockError, match=rf"llama.cpp 0.9.0: its help alone does not say what {wanted.replace('|', '.')} takes"):
        options_of_help(f"{HELP}{line:40}something new\n", BASE, "0.9.0")


def test_what_is_no_help_is_refused() -> None:
    with pytest.raises(PaddockError, match="this is not the help of llama-server"):
        options_of_help("usage: llama-bench\n-p, --n-prompt N      tokens\n", BASE, "0.9.0")


def test_packages_are_known_by_the_version_of_llama_cpp_that_they_hold() -> None:
    """Debian's revisions change no option."""
    for version, knows in (("1:0.7.0+dfsg-2", True), ("1:0.7.0+dfsg-3", True), ("1:0.8.0+dfsg-1", False)):
        source = Source(packages=version, ggml="0.27.0-1")
        found = known(Path())(source)
        assert bool(found) == knows
        assert not found or (found.source == source.identity and found.find("moe-cache-mib"))
