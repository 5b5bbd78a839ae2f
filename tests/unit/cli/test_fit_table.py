"""The picture of what fits: bars that add up, on terminals of any width."""

from __future__ import annotations

import json

from cli.views.fit import as_data, lines, together
from inventory.model_shape import ModelShape
from roles.llama_server.fit import Demand, Load, MemoryPool, ServingMemory, fit

GIB = 1 << 30


def shape(gib: int) -> ModelShape:
    """A model of so many GiB, all in its output layer, which keeps nothing."""
    return ModelShape("bert", gib * GIB, output_bytes=gib * GIB, block_count=1, context_length=512, embedding_length=64, head_count=1)


def places(*sizes: int, room_mib: int = 16 * 1024, at_once: int = 0) -> tuple[MemoryPool, ...]:
    loads = tuple(Load(f"m{number}", shape(gib), {"cache-ram": 0}, "") for number, gib in enumerate(sizes))
    return fit(ServingMemory(64 * 1024, {"card 0": room_mib}), (Demand("llama-server", loads, ("card 0",), at_once),))


def test_bars_stand_behind_one_another_as_their_sizes_do() -> None:
    card = list(lines(places(4, 8), 100))[:5]
    bars = [line[len(card[1]) + 2 :] for line in card[2:4]]
    assert card[0] == "card 0: 16384 MiB"
    assert abs(bars[0].count("█") * 2 - bars[1].count("█")) <= 2
    assert len(bars[0]) - 1 <= len(bars[1]) - len(bars[1].lstrip()) <= len(bars[0])
    assert card[4] == "  12290 MiB taken, 4094 left"


def test_no_line_is_wider_than_the_terminal() -> None:
    for width in (80, 100, 120, 200):
        assert max(len(line) for line in lines(places(4, 8), width)) <= width


def test_a_narrow_terminal_gets_numbers_without_bars() -> None:
    assert not any("█" in line for line in lines(places(4, 8), 60))
    assert any("8193" in line or "8192" in line for line in lines(places(4, 8), 60))


def test_a_terminal_without_blocks_gets_ascii() -> None:
    drawn = "\n".join(lines(places(4, 8), 100, blocks=False))
    assert drawn.isascii()
    assert "####" in drawn


def test_what_is_too_much_is_said_and_drawn_within_the_width() -> None:
    drawn = list(lines(places(12, 12), 100))
    assert any(line.endswith(" too many") for line in drawn)
    assert max(map(len, drawn)) <= 100


def test_a_place_of_unknown_room_has_no_rest() -> None:
    drawn = list(lines(places(4, room_mib=0), 100))
    assert drawn[0] == "card 0: memory unknown: not checked"
    assert drawn[3].endswith("MiB taken of nobody knows how many")


def test_as_data_a_place_of_unknown_room_does_not_seem_to_fit() -> None:
    card, host = as_data(places(4, room_mib=0))
    assert (card["room_mib"], card["left_mib"], card["fits"]) == (None, None, None)
    assert host["fits"] is True


def test_of_models_that_take_turns_the_largest_count() -> None:
    assert any("8193 MiB taken by the largest at a time, 8191 left" in line for line in lines(places(4, 8, at_once=1), 100))


def test_as_data_it_is_json_with_the_same_numbers() -> None:
    card, host = json.loads(json.dumps(as_data(places(4, 8))))
    assert (card["place"], card["room_mib"], card["fits"]) == ("card 0", 16384, True)
    assert card["used_mib"] + card["left_mib"] == 16384
    assert [model["weights_mib"] for model in card["models"]] == [4096, 8192]
    assert host["place"] == "host memory"


def test_what_is_the_same_of_many_hosts_is_said_once() -> None:
    many = [f"hosts.h{number}: memory unknown: not checked" for number in range(5)]
    place = "hosts.h1.roles.llama_server.instances.chat.preset: ctx-size gives"
    assert together([*many, "hosts.ai: host memory has 1 MiB", place, place, "a CA nears its end: soon"]) == [
        "hosts.h0, h1, h2 and 2 more: memory unknown: not checked",
        "hosts.ai: host memory has 1 MiB",
        place,
        "a CA nears its end: soon",
    ]
