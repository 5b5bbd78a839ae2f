"""What fits is accepted, what does not is refused, and whatever is advised then fits."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control.models.gguf import local_shape
from inventory.model_shape import ModelShape
from roles.llama_server.fit import (
    HOST,
    Demand,
    InventoryChange,
    Load,
    ServingMemory,
    applied,
    fit,
    for_servers,
    nearest,
    refusal,
)
from roles.llama_server.memory_options import Value
from tests.share import WHOLE
from tests.unit.sparse_model import MODELS, write

CHAT: dict[str, Value] = {
    "n-gpu-layers": 33,
    "ctx-size": 16384,
    "batch-size": 128,
    "ubatch-size": 64,
    "cache-type-k": "q8_0",
    "cache-type-v": "q8_0",
    "cache-ram": 512,
}
EMBED: dict[str, Value] = {"embeddings": True, "pooling": "mean", "ctx-size": 2048, "batch-size": 2048, "ubatch-size": 2048, "cache-ram": 0}
INSTANCES = "hosts.pea.roles.llama_server.instances"
P104_MIB = 8118
"""What nvidia-smi says of a P104-100 with 8 GB."""


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelShape]:
    directory: Path = tmp_path_factory.mktemp("models")
    return {name: local_shape(write(directory / f"{name}.gguf", model())) for name, model in MODELS.items()}


def rig() -> ServingMemory:
    return ServingMemory(for_servers(31900), {f"card {number} (P104-100)": P104_MIB for number in range(1, 8)}, "cuda")


def layout(shapes: dict[str, ModelShape], **other: Value) -> tuple[Demand, ...]:
    """local-ai's: on each of seven cards a server for conversation and one for embeddings."""
    chat = {**CHAT, **{name.replace("_", "-"): value for name, value in other.items()}}
    return tuple(
        demand
        for number, card in enumerate(rig().cards, 1)
        for demand in (
            Demand(f"llama-server-chat-{number}", (Load("chat", shapes["llama_8b"], chat, f"{INSTANCES}.chat.preset"),), (card,)),
            Demand(
                f"llama-server-embed-{number}", (Load("embed", shapes["nomic_embed_text"], EMBED, f"{INSTANCES}.embed.preset"),), (card,)
            ),
        )
    )


def all_fit(machine: ServingMemory, demands: tuple[Demand, ...]) -> bool:
    return all(place.fits for place in fit(machine, demands))


def test_the_layout_of_the_mining_rig_is_accepted(shapes: dict[str, ModelShape]) -> None:
    places = fit(rig(), layout(shapes))
    assert [place.fits for place in places] == [True] * 8
    assert nearest(rig(), layout(shapes)) == ()
    assert all(6500 < place.used >> 20 < 7500 for place in places[:-1])


@pytest.mark.parametrize(
    ("asked", "advised"),
    [
        ({"ctx-size": 32768, "cache-type-k": "f16", "cache-type-v": "f16"}, {"cache-type-k": "q8_0", "cache-type-v": "q8_0"}),
        ({"ctx-size": 131072}, {"ctx-size": 32768}),
        ({"ctx-size": 131072, "flash-attn": "off", "cache-type-k": "f16", "cache-type-v": "f16"}, {"ctx-size": 16384}),
    ],
)
def test_a_context_that_is_too_long_is_refused_and_the_advice_applied_is_accepted(
    shapes: dict[str, ModelShape], asked: dict[str, Value], advised: dict[str, Value]
) -> None:
    demands = layout(shapes, **asked)
    assert not all_fit(rig(), demands)
    changes = nearest(rig(), demands)
    assert changes == (InventoryChange(f"{INSTANCES}.chat.preset", advised),)
    assert all_fit(rig(), applied(demands, changes))


def test_the_refusal_is_one_line_with_the_numbers_and_the_way_out(shapes: dict[str, ModelShape]) -> None:
    demands = layout(shapes, **{"ctx-size": 131072})
    words = refusal(fit(rig(), demands)[0], nearest(rig(), demands))
    assert words == (
        "card 1 (P104-100) has 8118 MiB and would need 14581 for chat (llama-server-chat-1) and embed (llama-server-embed-1);"
        " the nearest that fits is hosts.pea.roles.llama_server.instances.chat.preset: {ctx-size: 32768}"
    )


def router(shapes: dict[str, ModelShape], at_once: int, **models: dict[str, Value]) -> tuple[Demand, ...]:
    loads = tuple(Load(name, shapes[name], {"cache-ram": 256, **preset}, f"models.{name}.preset") for name, preset in models.items())
    return (Demand("llama-server", loads, (), at_once, "hosts.a.roles.llama_server"),)


def test_a_router_takes_as_much_as_the_largest_that_it_loads_at_a_time(shapes: dict[str, ModelShape]) -> None:
    asked: dict[str, dict[str, Value]] = {"llama_8b": {"c": 8192}, "gemma3_4b": {"c": 8192}, "gpt_oss_20b": {"c": 8192}}
    machine = ServingMemory(for_servers(64000))
    sizes = sorted(row.memory.total for row in fit(machine, router(shapes, 0, **asked))[0].rows)
    assert [fit(machine, router(shapes, count, **asked))[0].used for count in (1, 2, 0)] == [sizes[2], sizes[1] + sizes[2], sum(sizes)]


def test_fewer_models_at_a_time_are_advised_where_that_is_the_least(shapes: dict[str, ModelShape]) -> None:
    demands = router(shapes, 2, llama_8b={"c": 8192, "ctk": "q8_0", "ctv": "q8_0"}, gpt_oss_20b={"c": 8192, "ctk": "q8_0", "ctv": "q8_0"})
    machine = ServingMemory(for_servers(18000))
    changes = nearest(machine, demands)
    assert changes == (InventoryChange("hosts.a.roles.llama_server", {"models_max": 1}),)
    assert all_fit(machine, applied(demands, changes))


def test_no_fewer_models_at_a_time_are_advised_than_load_on_startup(shapes: dict[str, ModelShape]) -> None:
    small = {"c": 8192, "ctk": "q8_0", "ctv": "q8_0", "load-on-startup": True}
    changes = nearest(ServingMemory(for_servers(18000)), router(shapes, 2, llama_8b=small, gpt_oss_20b=small))
    assert "models_max" not in {name for change in changes or () for name in change.values}


def test_a_model_that_no_card_holds_is_split_with_the_host(shapes: dict[str, ModelShape]) -> None:
    machine = ServingMemory(for_servers(64000), {"card 0": 12000}, "vulkan")
    demands = (Demand("big", (Load("big", shapes["qwen3_30b_a3b"], {"c": 32768}, "models.big.preset"),), ("card 0",)),)
    changes = nearest(machine, demands)
    assert changes
    assert 10 < int(changes[0].values["n-gpu-layers"]) < 48
    assert all_fit(machine, applied(demands, changes))


def test_a_model_that_fits_nowhere_gets_no_advice_but_plain_words(shapes: dict[str, ModelShape]) -> None:
    machine, demands = ServingMemory(for_servers(8000)), router(shapes, 1, qwen3_30b_a3b={"c": 4096})
    assert nearest(machine, demands) is None
    assert "take a smaller model or quantization" in refusal(fit(machine, demands)[-1], None)


def test_a_card_that_nobody_knows_the_room_of_refuses_nothing(shapes: dict[str, ModelShape]) -> None:
    machine = ServingMemory(for_servers(64000), {"card 0": 0}, "vulkan")
    demands = (Demand("big", (Load("big", shapes["qwen3_30b_a3b"], {}, "models.big.preset"),), ("card 0",)),)
    assert all_fit(machine, demands)
    assert fit(machine, demands)[0].used > 18 << 30


def test_an_option_is_replaced_whatever_its_spelling(shapes: dict[str, ModelShape]) -> None:
    demands = router(shapes, 1, llama_8b={"c": 131072, "ctk": "f16"})
    changed = applied(demands, (InventoryChange("models.llama_8b.preset", {"ctx-size": 8192, "cache-type-k": "q8_0"}),))
    assert changed[0].loads[0].preset == {"cache-ram": 256, "ctx-size": 8192, "cache-type-k": "q8_0"}


@settings(max_examples=40 if WHOLE else 12, deadline=None)
@given(
    memory=st.integers(2000, 80000),
    card=st.one_of(st.none(), st.integers(1000, 30000)),
    models=st.dictionaries(st.sampled_from(sorted(MODELS)), st.integers(0, 200_000), min_size=1, max_size=3),
    at_once=st.integers(0, 3),
    flash=st.sampled_from(["on", "off"]),
)
def test_whatever_is_advised_fits(
    shapes: dict[str, ModelShape], memory: int, card: int | None, models: dict[str, int], at_once: int, flash: str
) -> None:
    machine = ServingMemory(for_servers(memory), {} if card is None else {"card 0": card}, "cuda" if card else "cpu")
    loads = tuple(
        Load(name, shapes[name], {"ctx-size": size, "flash-attn": flash, "cache-ram": 512}, f"models.{name}.preset")
        for name, size in models.items()
    )
    demands = (Demand("llama-server", loads, tuple(machine.cards), at_once, "hosts.a.roles.llama_server"),)
    changes = nearest(machine, demands)
    if changes is not None:
        assert all_fit(machine, applied(demands, changes))
    assert (changes == ()) == all_fit(machine, demands)
    assert HOST in {place.name for place in fit(machine, demands)}
