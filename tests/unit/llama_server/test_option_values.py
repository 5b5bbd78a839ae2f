"""Which values an option takes: what its handler in llama.cpp's source proves, and what `paddock check` says of any other."""

from __future__ import annotations

import re

import pytest

from control.llama_cpp.options import options_of
from inventory.option_values import BOUNDS, unfit
from inventory.options import SHIPPED, Option, Value, bare, faults, read

NEWEST = read(SHIPPED.read_text())
LISTED = [option for option in NEWEST.all if option.values]
BOUNDED = [option for option in NEWEST.all if option.refused]
WORDS = ("none", "q8_0", "a+b", "draft-mtp", "x.1", "auto")

TABLE = """
    add_opt(common_arg({"--port"}, "N", "", [](common_params & params, int value) { params.port = value; }));
    add_opt(common_arg({"--ctx-size"}, "N", "", [](common_params & params, int value) { params.n_ctx = value; }));
    add_opt(common_arg({"--option"}, "WORD", "", [](common_params & params, TYPE value) { HANDLER }));
"""


def option(handler: str, kind: str = "const std::string &", **files: str) -> Option:
    """An option as its handler makes it. The files are called as their names are, and lie in common/."""
    texts = {f"common/{name}.cpp": text for name, text in files.items()}
    table = TABLE.replace("TYPE", kind).replace("HANDLER", handler)
    found = options_of({"common/arg.cpp": table + texts.pop("common/arg.cpp", ""), **texts}, "path x", "x").find("option")
    assert found
    return found


def compared(words: tuple[str, ...]) -> Option:
    chain = " else ".join(f'if (value == "{word}") {{ params.x = {number}; }}' for number, word in enumerate(words))
    return option(chain + ' else { throw std::invalid_argument("invalid value"); }')


def renamed(words: tuple[str, ...]) -> Option:
    chain = " else ".join(f'if (next == "{word}") {{ params.x = {number}; }}' for number, word in enumerate(words))
    return option(f'std::string next = value; {chain} else {{ throw std::invalid_argument("invalid value"); }} warn();')


def returned(words: tuple[str, ...]) -> Option:
    each = "".join(f'    if (name == "{word}") {{\n        return {number};\n    }}\n' for number, word in enumerate(words))
    chat = f"kind from_name(const std::string & name) {{\n{each}    throw std::runtime_error(name);\n}}\n"
    return option("params.x.y = from_name(value);", chat=chat)


def in_a_table(words: tuple[str, ...]) -> Option:
    entries = ",\n".join(f'    {{"{word}", KIND_{number}}}' for number, word in enumerate(words))
    names = f"static const std::map<std::string, kind> kinds = {{\n{entries}\n}};\n"
    found = "    const auto it = kinds.find(name);\n    if (it == kinds.end()) {\n        throw std::runtime_error(name);\n    }\n"
    return option(
        "params.x = from_name(value);", chat=f"{names}kind from_name(const std::string & name) {{\n{found}    return it->second;\n}}\n"
    )


def several(words: tuple[str, ...]) -> Option:
    entries = ",\n".join(f'    {{"{word}", KIND_{number}}}' for number, word in enumerate(words))
    names = f"const std::map<std::string, kind> kinds = {{\n{entries}\n}};\n"
    loop = "    for (const auto & name : names) {\n        auto found = kinds.find(name);\n"
    loop += "        if (found != kinds.end()) {\n            types.push_back(found->second);\n            continue;\n        }\n"
    text = f"{names}std::vector<kind> from_names(const std::vector<std::string> & names) {{\n    std::vector<kind> types;\n{loop}"
    text += "        throw std::invalid_argument(name);\n    }\n    return types;\n}\n"
    handler = "const auto names = string_split<std::string>(value, ','); auto types = from_names(names); params.x.insert(types);"
    return option(handler, speculative=text)


FORMS = [compared, renamed, returned, in_a_table, several]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("count", range(1, len(WORDS) + 1))
def test_every_word_that_a_handler_takes_passes_and_no_other_does(form: object, count: int) -> None:
    assert callable(form)
    found = form(WORDS[:count])
    assert found.values == WORDS[:count]
    assert [word for word in found.values if unfit("option", word, found)] == []
    wrong = [*WORDS[count:], *(f"{word}x" for word in WORDS), *map(str.upper, WORDS), "", "0", "other"]
    assert [word for word in wrong if not unfit("option", word, found)] == []


@pytest.mark.parametrize(
    "handler",
    [
        "params.x = value;",
        'if (value == "a") { params.x = 1; }',
        'if (value == "a") { params.x = 1; } else { params.x = 2; }',
        'if (value == "a" && params.x) { params.x = 1; } else { throw std::invalid_argument("x"); }',
        'if (value.size() < 3) { params.x = 1; } else { throw std::invalid_argument("x"); }',
        'value = lower(value); if (value == "a") { params.x = 1; } else { throw std::invalid_argument("x"); }',
        'if (params.old) { return; } if (value == "a") { params.x = 1; } else { throw std::invalid_argument("x"); }',
        "params.x = params.strict ? from_name(value) : 0;",
        "params.x = params.strict && from_name(value);",
        "params.x = from_name(value, 3);",
        "params.x = somewhere_else(value);",
        "try { params.x = from_name(value); } catch (...) {}",
    ],
)
def test_what_proves_nothing_takes_anything(handler: str) -> None:
    chat = 'int from_name(const std::string & name) {\n    if (name == "a") {\n        return 1;\n    }\n    throw name;\n}\n'
    found = option(handler, chat=chat)
    assert (found.values, found.refused) == ((), ())
    assert [value for value in ("a", "b", "", "-1") if unfit("option", value, found)] == []


def test_a_truth_is_every_word_that_the_source_reads_as_one() -> None:
    truths = 'bool is_truthy(const std::string & value) {\n    return value == "on" || value == "1";\n}\n'
    found = option('if (is_truthy(value) || value == "auto") { params.x = 1; } else { throw std::invalid_argument("x"); }', arg=truths)
    assert (found.takes, found.values) == ("text or on-off", ("on", "1", "auto"))


def test_a_number_may_stand_where_the_last_branch_reads_one() -> None:
    found = option('if (value == "all") { params.x = -2; } else { params.x = std::stoi(value); }')
    assert (found.takes, found.values) == ("whole", ("all",))
    assert [value for value in ("all", "-1", "99", 7) if unfit("option", value, found)] == []
    assert unfit("option", "al", found) == '"option" takes all or a whole number, this is "al" (did you mean "all"?)'


@pytest.mark.parametrize(
    ("kind", "handler", "refused"),
    [
        ("int", "if (value < 0 || value > 1024) { throw std::invalid_argument(value); } params.x = value;", ("< 0", "> 1024")),
        ("int", "if (value == 0 || value < -1) { throw std::invalid_argument(value); }", ("== 0", "< -1")),
        (
            "int",
            "if (value < 1) { throw std::invalid_argument(value); } if (value >= 9) { throw std::invalid_argument(value); }",
            ("< 1", ">= 9"),
        ),
        ("int", "if (value < LEAST || value > 3) { throw std::invalid_argument(value); }", ("> 3",)),
        ("int", "if (value < 0) { value = 0; }", ()),
        ("int", "if (value < 0 && params.x) { throw std::invalid_argument(value); }", ()),
        ("int", "params.x = value; if (value < 0) { throw std::invalid_argument(value); }", ()),
        (
            "const std::string &",
            "const float x = std::stof(value); if (!std::isfinite(x) || x <= 0.0f) { throw std::runtime_error(value); }",
            ("<= 0.0",),
        ),
    ],
)
def test_the_numbers_that_a_handler_refuses_first(kind: str, handler: str, refused: tuple[str, ...]) -> None:
    assert option(handler, kind).refused == refused


@pytest.mark.parametrize("option", LISTED, ids=lambda option: option.name)
def test_every_listed_value_of_llama_server_passes_under_every_name(option: Option) -> None:
    for key in map(bare, option.names):
        assert [value for value in option.values if list(faults({key: value}, NEWEST))] == []
    assert [value for value in option.values if value and not unfit(option.name, f"{value}_", option)] == []


def test_the_lists_hold_what_the_help_of_the_options_says() -> None:
    told = {option: re.findall(r"[\w+-]+", option.hint) for option in NEWEST.all if re.fullmatch(r"[{\[][\w+|, -]+[}\]]", option.hint)}
    assert len(told) >= 7
    assert [option.name for option, words in told.items() if not set(words) <= set(option.values)] == []


@pytest.mark.parametrize("option", BOUNDED, ids=lambda option: option.name)
def test_a_number_is_refused_at_each_bound_and_only_there(option: Option) -> None:
    bounds = [(BOUNDS[sign][0], float(limit)) for sign, limit in map(str.split, option.refused)]
    step = 1 if option.takes != "decimal" else 0.5
    for number in (limit + more for _, limit in bounds for more in (-step, 0, step)):
        value: Value = number if option.takes == "decimal" else int(number)
        assert bool(unfit(option.name, value, option)) == any(reaches(number, limit) for reaches, limit in bounds)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("pooling", "average", 'takes none, mean, cls, last or rank, this is "average"'),
        ("pooling", "MEAN", 'takes none, mean, cls, last or rank, this is "MEAN" (did you mean "mean"?)'),
        ("split-mode", "rows", 'takes none, layer, row or tensor, this is "rows" (did you mean "row"?)'),
        ("sm", True, "takes none, layer, row or tensor, this is true"),
        ("numa", "distributed", 'takes distribute, isolate or numactl, this is "distributed" (did you mean "distribute"?)'),
        ("flash-attn", "maybe", 'takes on, off or auto, this is "maybe"'),
        ("flash-attn", "On", 'takes on, off or auto, this is "On" (did you mean "on"?)'),
        ("fit", 3, "takes on or off, this is 3"),
        ("lazy-mode", True, 'takes on, auto or off, this is true: write "on" in quotes'),
        ("load-on-startup", "maybe", 'takes on or off, this is "maybe"'),
        ("reasoning-format", "deepsek", 'takes none, auto, deepseek or deepseek-legacy, this is "deepsek" (did you mean "deepseek"?)'),
        ("n-gpu-layers", "al", 'takes auto, all or a whole number, this is "al" (did you mean "all"?)'),
        ("prio", 9, "cannot be less than -1 or more than 3, this is 9"),
        ("parallel", 0, "cannot be 0 or more than 256, this is 0"),
        ("parallel", "257", "cannot be 0 or more than 256, this is 257"),
        ("sleep-idle-seconds", 0, "cannot be 0 or less than -1, this is 0"),
        ("ctx-size", -1, "cannot be less than 0, this is -1"),
        ("mirostat", 3, "cannot be less than 0 or more than 2, this is 3"),
        ("repeat-penalty", 0.0, "cannot be 0.0 or less, this is 0.0"),
        ("c", 99999999999, "takes a whole number of 32 bits, this is 99999999999"),
        ("chat-template-kwargs", "{enable", 'takes JSON, this is "{enable"'),
    ],
)
def test_another_value_is_refused_with_those_that_there_are(key: str, value: Value, words: str) -> None:
    assert [(fault.words, fault.of_value) for fault in faults({key: value}, NEWEST)] == [(f'"{key}" {words}', True)]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("flash-attn", 1),
        ("flash-attn", -1),
        ("flash-attn", "enabled"),
        ("numa", ""),
        ("load-mode", "mmap+mlock"),
        ("seed", 4294967296),
        ("n-gpu-layers", -1),
        ("reasoning-effort", "whatever a model calls it"),
        ("samplers", "top_k,and-what-not"),
        ("chat-template", "llam3"),
        ("chat-template-kwargs", '{"enable_thinking": false}'),
        ("spec-type", "draft-mtp"),
        ("spec-type", "ngram-mod,draft-mtp"),
        ("spec-type", "none,mtp"),
    ],
)
def test_what_llama_server_takes_is_not_refused(key: str, value: Value) -> None:
    assert list(faults({key: value}, NEWEST)) == []


@pytest.mark.parametrize(
    ("value", "ending"),
    [("mtp", 'this is "mtp" (did you mean "draft-mtp"?)'), ("ngram-mod,draft-mpt", 'this is "draft-mpt" (did you mean "draft-mtp"?)')],
)
def test_each_word_of_a_list_is_looked_at(value: str, ending: str) -> None:
    (fault,) = faults({"spec-type": value}, NEWEST)
    assert fault.words.startswith('"spec-type" takes none, draft-simple, ')
    assert fault.words.endswith(f'or ngram-cache, or several with "," between them, {ending}')
