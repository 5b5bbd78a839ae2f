"""What a version of llama-server takes, read out of its source, and what follows for a preset."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from cli import main
from control.llama_cpp.definitions import HEADER
from control.llama_cpp.options import FILES, checked, options_by_host, options_of
from control.llama_cpp.sizing import CONTEXT as SIZES
from control.llama_cpp.sizing import FIT as FITS
from inventory.errors import InventoryError, PaddockError
from inventory.load import load, loaded
from inventory.options import FIXED, SHIPPED, Option, Options, Sizing, TensorType, Value, as_arguments, bare, faults, named_twice, read
from roles.llama_cpp.settings import LlamaCppSettings
from roles.preset import OFF, ON, REFUSED, Several

ROOT = Path(__file__).parents[3]
NEWEST = read(SHIPPED.read_text())

ARGUMENTS = r"""
#define QUOTE "{"
static std::initializer_list<enum llama_example> pictures = {
    LLAMA_EXAMPLE_CLI, // }
    LLAMA_EXAMPLE_SERVER,
};
common_arg & common_arg::set_env(const char * env) { return *this; }

common_params_context common_params_parser_init(common_params & params, llama_example ex) {
    auto add_opt = [&](common_arg arg) { if (arg.in_example(ex)) { options.push_back(std::move(arg)); } };

    add_opt(common_arg(
        {"-c", "--ctx-size"}, "N",
        string_format("how much, (default: %d), " /* ) */ "or \"none\"", params.n_ctx),
        [](common_params & params, int value) { params.n_ctx = value; }
    ).set_env("LLAMA_ARG_CTX_SIZE"));
    /* add_opt(common_arg({"--commented-out"}, "away", [](common_params & params) { })); */
    add_opt(common_arg({ "--port" }, "PORT", "where", [](common_params & params, int value) {
        params.port = value;
    }).set_examples({LLAMA_EXAMPLE_SERVER}).set_env("LLAMA_ARG_PORT"));
    add_opt(common_arg(
        {"--jinja"}, {"-nj", "--no-jinja"}, "whether", [](common_params & params, bool value) { params.use_jinja = value; }
    ).set_examples({LLAMA_EXAMPLE_CLI, LLAMA_EXAMPLE_SERVER}).set_env("LLAMA_ARG_JINJA"));
    add_opt(common_arg({"--metrics"}, R"(a "raw", {text)", [](common_params & params) { params.metrics = true; }));
    add_opt(common_arg({"--temp"}, "T", "how warm", [](common_params & params, const std::string & value) {
        params.sampling.temp = std::stof(value);
    }));
    add_opt(common_arg({"--layers"}, "N", "a number, or all", [](common_params & params, const std::string & value) {
        if (value == "all") { params.n = -2; } else { params.n = std::stoi(value); }
    }));
    add_opt(common_arg({"--strict"}, "<0|1>", "a number as text", [](common_params & params, const std::string & text) {
        params.strict = std::stoul(text);
    }));
    add_opt(common_arg({"--attention"}, "[on|off|auto]", "which", [](common_params & params, const std::string & value) {
        if (is_truthy(value)) { params.attention = '{'; } else { throw std::invalid_argument("unknown"); }
    }));
    add_opt(common_arg({"--types"}, all_types(), "its hint is made at run time", [](common_params &, const std::string & value) {}));
    add_opt(common_arg({"--range"}, "START", "END", "two", [](common_params & p, const std::string & a, const std::string & b) {}));
    add_opt(common_arg({"--picture"}, "FILE", "by a list", [](common_params & params, const std::string & value) {
        params.picture = value;
    }).set_examples(pictures));
    add_opt(common_arg({"--quick"}, "many", [](common_params & params) {
        params.model.hf_repo = "somebody/something";
        params.port = 8012;
    }));
    add_opt(common_arg({"--license"}, "show and leave", [](common_params &) { printf("%s", "all of it"); exit(0); }));
    add_opt(common_arg({"--key"}, "KEY", "who knows", [](common_params & params, const std::string & value) {
        params.keys.push_back(value);
    }).set_env("LLAMA_API_KEY"));
    add_opt(common_arg({"--lock"}, "DEPRECATED in favor of `--load-mode`: lock", [](common_params & params) { params.lock = true; }));
    add_opt(common_arg({"--draft"}, "N", "the argument has been removed. use --spec-n or\n--spec-m", [](common_params &, int) {
        arg_removed("use --spec-n");
    }));
    add_opt(common_arg({"--image"}, "FILE", "of another program", [](common_params &, const std::string &) {
    }).set_examples({LLAMA_EXAMPLE_CLI}));
    add_opt(common_arg({"--prompt"}, "TEXT", "of all others", [](common_params &, const std::string &) {
    }).set_excludes({LLAMA_EXAMPLE_SERVER}));
    if (ex == LLAMA_EXAMPLE_SERVER) {
        add_opt(common_arg({"--parallel"}, "N", "slots", [](common_params & params, int value) { params.n_parallel = value; }));
    } else {
        add_opt(common_arg({"--parallel", "--sequences"}, "N", "not here", [](common_params & params, int value) {}));
    }
    if (ex == LLAMA_EXAMPLE_CLI) {
        add_opt(common_arg({"--color"}, "not here either", [](common_params & params) {}));
    }
    return ctx_arg;
}

void common_params_add_preset_options(std::vector<common_arg> & args) {
    args.push_back(common_arg({"load-on-startup"}, "NAME", "at once", [](common_params &, const std::string &) {
    }).set_env(PRESET_LOAD_ON_STARTUP).set_preset_only());
}
"""
FIT = "const uint32_t n_ctx_max       = (uint32_t) std::min<uint64_t>(uint64_t(hp_nct)    * n_streams, UINT32_MAX);"
CONTEXT = "model->hparams.n_ctx_train = cparams.n_ctx_orig_yarn / cparams.rope_freq_scale;"
TENSORS = """
    // enum ggml_type lies below
    enum ggml_type {
        GGML_TYPE_F32     = 0,
        GGML_TYPE_F16     = 1,
        // GGML_TYPE_Q4_2 = 4, support has been removed
        GGML_TYPE_I8,
        GGML_TYPE_BF16    = 30,
        // GGML_TYPE_Q4_0_4_4 = 31, support has been removed from gguf files
        // GGML_TYPE_IQ4_NL_8_8 = 38,
        GGML_TYPE_MXFP4   = 39, // MXFP4 (1 block)
        GGML_TYPE_IQ4_K = 139
        // a remark
        GGML_TYPE_COUNT,
    };
    enum ggml_prec { GGML_PREC_DEFAULT = 0 };
"""
SMALL = {
    "common/arg.cpp": ARGUMENTS,
    "common/common.cpp": "cparams.n_seq_max = params.n_parallel;",
    "tools/server/server-http.cpp": "listen(params.port); int n = params.n_parallel;",
    "tools/server/server-models.cpp": (
        'void unset_reserved_args(preset & p, bool all) {\n p.unset_option("LLAMA_API_KEY");\n if (all) { p.unset_option("X"); }\n}'
    ),
    "common/fit.cpp": FIT,
    "src/llama-context.cpp": CONTEXT,
    "ggml/include/ggml.h": TENSORS,
}


def small() -> Options:
    return options_of(SMALL, "path small", "small")


@pytest.mark.parametrize(
    "expected",
    [
        Option(("-c", "--ctx-size"), "whole", env="LLAMA_ARG_CTX_SIZE", hint="N"),
        Option(("--port",), "whole", part="server", env="LLAMA_ARG_PORT", hint="PORT"),
        Option(("--jinja",), "on-off", negated=("-nj", "--no-jinja"), env="LLAMA_ARG_JINJA"),
        Option(("--metrics",), "nothing"),
        Option(("--temp",), "decimal", hint="T"),
        Option(("--layers",), "whole", hint="N", values=("all",)),
        Option(("--strict",), "long", hint="<0|1>"),
        Option(("--attention",), "text or on-off", hint="[on|off|auto]"),
        Option(("--types",), "text"),
        Option(("--range",), "two", hint="START"),
        Option(("--picture",), "text", hint="FILE"),
        Option(("--quick",), "nothing", part="source"),
        Option(("--license",), "nothing", part="ends"),
        Option(("--key",), "text", part="router", env="LLAMA_API_KEY", hint="KEY", several="again"),
        Option(("--lock",), "nothing", gone="deprecated", instead="use --load-mode"),
        Option(("--draft",), "whole", hint="N", gone="removed", instead="use --spec-n or --spec-m"),
        Option(("--parallel",), "whole", hint="N"),
        Option(("load-on-startup",), "text or on-off", part="preset", hint="NAME", values=(*sorted(ON), *sorted(OFF))),
    ],
    ids=lambda option: option.name,
)
def test_an_option_is_read_with_all_that_its_source_says(expected: Option) -> None:
    assert small().find(expected.name) == expected


def test_options_of_other_programs_and_in_comments_are_not_llama_servers() -> None:
    assert not {"image", "prompt", "sequences", "color", "commented-out"} & small().by_spelling.keys()
    assert len(small().all) == 18


def test_the_types_of_tensors_are_those_of_ggmls_own_table_gaps_and_removals_included() -> None:
    assert small().tensor_types == (
        TensorType(0, "F32"),
        TensorType(1, "F16"),
        TensorType(4, "Q4_2", removed=True),
        TensorType(2, "I8"),
        TensorType(30, "BF16"),
        TensorType(31, "Q4_0_4_4", removed=True),
        TensorType(38, "IQ4_NL_8_8", removed=True),
        TensorType(39, "MXFP4"),
        TensorType(139, "IQ4_K"),
    )


def test_the_table_that_ships_has_what_llama_cpp_loads_and_what_it_removed() -> None:
    removed = {4, 5, 31, 32, 33, 36, 37, 38}
    assert set(NEWEST.tensor_type) == set(range(43))
    assert {number for number, each in NEWEST.tensor_type.items() if each.removed} == removed
    assert (NEWEST.tensor_type[14].name, NEWEST.tensor_type[39].name) == ("Q6_K", "MXFP4")


def test_a_source_without_ggml_has_no_table_and_one_that_sizes_contexts_in_the_old_way_is_told_from_a_newer_one() -> None:
    other = {HEADER: "", SIZES: "n_ctx_train = 0; n_ctx_orig_yarn = 0;", FITS: "n_ctx_max = hp_nct; n = 2 * n_streams;"}
    bare = options_of({**SMALL, **other}, "path small", "small")
    assert (bare.tensor_types, bare.sizing) == ((), Sizing())
    assert small().sizing == NEWEST.sizing == Sizing(yarn_raises_limit=True, fit_counts_slots=True)


def test_a_list_that_was_written_reads_the_same() -> None:
    assert read(small().written()) == small()
    assert read(NEWEST.written()) == NEWEST


@pytest.mark.parametrize(
    "text",
    ["", "int main() { return 0; }", ARGUMENTS.replace("pictures = {", "pictures = "), ARGUMENTS[:900]],
    ids=["nothing", "other", "open", "half"],
)
def test_a_source_of_another_form_is_said_to_be_one(text: str) -> None:
    with pytest.raises(PaddockError, match=r"llama\.cpp small: its options cannot be read out of common/arg\.cpp: .+"):
        options_of({**SMALL, FILES[0]: text}, "path small", "small")


def test_the_list_that_ships_is_of_the_version_that_is_built_by_default() -> None:
    assert NEWEST.source == LlamaCppSettings().source.identity


def test_no_two_options_of_the_list_that_ships_have_one_spelling() -> None:
    found = [(spelling, option) for option in NEWEST.all for spelling in map(bare, option.names + option.negated)]
    assert len(found) > 350
    assert [spelling for spelling, option in found if NEWEST.find(spelling) is not option] == []


@pytest.mark.parametrize(
    ("preset", "words"),
    [
        ({"flash-atn": True}, '"flash-atn" is not an option of llama-server 0.3.36 (did you mean "flash-attn"?)'),
        ({"ctx_size": 1}, '"ctx_size" is not an option of llama-server 0.3.36: write "ctx-size"'),
        ({"CTX-SIZE": 1}, '"CTX-SIZE" is not an option of llama-server 0.3.36: write "ctx-size"'),
        ({"zzz": 1}, '"zzz" is not an option of llama-server 0.3.36'),
        ({"mlock": True}, '"mlock" is not an option of llama-server 0.3.36: it was removed, write `load-mode: mlock`'),
        ({"models-max": 2}, '"models-max" has no effect in a preset: only the router reads it, from its command line'),
        (
            {"n-gpu-layers": 9, "ngl": 8},
            '"n-gpu-layers" and "ngl" are the same option, and only one would take effect: keep "n-gpu-layers"',
        ),
        ({"ctx-size": "8k"}, '"ctx-size" takes a whole number, this is "8k"'),
        ({"ctx-size": True}, '"ctx-size" takes a whole number, this is true'),
        ({"ctx-size": ""}, '"ctx-size" takes a whole number, this is ""'),
        ({"temp": "warm"}, '"temp" takes a number, this is "warm"'),
        ({"lora": False}, '"lora" takes a value, which its help calls FNAME, this is false'),
        ({"metrics": 3}, '"metrics" must be on or off, this is 3'),
        ({"no-jinja": "auto"}, '"no-jinja" must be on or off, this is "auto"'),
    ],
)
def test_what_llama_server_would_not_take_is_told_in_words(preset: dict[str, Value], words: str) -> None:
    assert [fault.words for fault in faults(preset, NEWEST)] == [words]


def test_what_llama_server_takes_is_well() -> None:
    preset: dict[str, Value] = {"c": 0, "temp": 1, "top-p": "0.95", "flash-attn": True, "jinja": "on", "no-cont-batching": 0}
    preset |= {"metrics": False, "n-gpu-layers": 99, "load-mode": "none", "tensor-split": "3,1", "load-on-startup": True, "seed": "-1"}
    assert list(faults(preset, NEWEST)) == []


def test_what_only_a_router_reads_is_nothing_for_an_instance() -> None:
    assert [fault.key for fault in faults({"stop-timeout": 9, "ctx-size": 1}, NEWEST, router=False)] == ["stop-timeout"]


def test_what_paddock_starts_a_router_with_can_stand_in_no_preset() -> None:
    unit = (ROOT / "tests/golden/demo/ai/etc/systemd/system/llama-server.service").read_text()
    started = re.search(r"^ExecStart=((?:.*\\\n)*.*)", unit, re.MULTILINE)
    assert started
    given = [bare(word) for word in started[1].split() if word.startswith("--")]
    assert "models-preset" in given
    assert [each for each in given if each not in FIXED and each not in REFUSED] == []


@pytest.mark.parametrize(
    ("preset", "arguments"),
    [
        ({"ctx-size": 4096, "temp": 0.7}, "--ctx-size 4096 --temperature 0.7"),
        ({"ngl": 99}, "--n-gpu-layers 99"),
        ({"metrics": True, "embeddings": False}, "--metrics"),
        ({"jinja": False, "no-cont-batching": False}, "--no-jinja --cont-batching"),
        ({"no-host": True}, "--no-host"),
        ({"flash-attn": True, "reasoning": False}, "--flash-attn on --reasoning off"),
        ({"ctx-size": 512, "threads": 2, "c": 1024}, "--threads 2 --ctx-size 1024"),
        ({"jinja": True, "no-jinja": True}, "--no-jinja"),
        ({"load-on-startup": True, "cache-ram": 64}, "--cache-ram 64"),
        ({"from-a-later-version": 3}, "--from-a-later-version 3"),
    ],
)
def test_a_preset_as_an_instances_command_line(preset: dict[str, Value], arguments: str) -> None:
    assert " ".join(word for words in as_arguments(preset, NEWEST) for word in words) == arguments


@pytest.mark.parametrize(
    ("option", "values", "arguments"),
    [
        ("lora", ("/srv/a.gguf", "/srv/b.gguf"), "--lora /srv/a.gguf,/srv/b.gguf"),
        ("ot", ("exps=CPU", r"blk\.1\.=CUDA0"), r"--override-tensor exps=CPU,blk\.1\.=CUDA0"),
        ("override-kv", ("a=int:1", "b=bool:true"), "--override-kv a=int:1,b=bool:true"),
        ("tensor-split", (3, 1.5), "--tensor-split 3,1.5"),
        ("samplers", ("top_k", "min_p"), "--samplers top_k;min_p"),
        ("reverse-prompt", ("User: ", ";"), "--reverse-prompt User:  --reverse-prompt ;"),
        ("logit-bias", ("15043+1", "2-1"), "--logit-bias 15043+1 --logit-bias 2-1"),
        ("new-in-some-version", ("a", "b"), "--new-in-some-version a,b"),
    ],
)
def test_an_option_that_takes_several_values_has_them_as_its_source_reads_them(
    option: str, values: tuple[str | float, ...], arguments: str
) -> None:
    (words,) = as_arguments({option: Several(values)}, NEWEST)
    assert " ".join(words) == arguments
    assert option == "new-in-some-version" or not list(faults({option: Several(values)}, NEWEST, router=False))


def test_every_option_that_the_source_reads_several_values_of_takes_a_list() -> None:
    several = {name: each.several for each in NEWEST.all for name in map(bare, each.names)}
    assert {several[name] for name in ("lora-scaled", "control-vector", "device", "spec-draft-override-tensor", "spec-type")} == {","}
    assert not any(several[name] for name in ("ctx-size", "split-mode", "grammar", "mmproj", "cpu-range", "chat-template"))


def test_a_name_that_two_models_answer_to_is_found() -> None:
    assert list(named_twice({"a": ("x", "b"), "b": ("x", "y"), "c": ("c",)})) == [("a", 1, "b"), ("b", 0, "a"), ("c", 0, "c")]


INVENTORY = """
fleet: home
domain: home.example
hosts:
  ai:
    address: 192.0.2.10
    roles:
      llama_cpp: {{source: {source}}}
      models:
      llama_server: {{models: [demo]}}
models:
  demo: {{preset: {preset}}}
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No cache but a test's own."""
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def tree(root: Path, arguments: str) -> Path:
    """A source tree of llama.cpp, as small as it can be."""
    for name, text in {**SMALL, FILES[0]: arguments, "CMakeLists.txt": "", "include/llama.h": ""}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def inventory(home: Path, source: str, preset: str) -> Path:
    path = home / "home.yml"
    path.write_text(INVENTORY.format(source=source, preset=preset))
    return path


ROUTED = ARGUMENTS.replace(
    "    return ctx_arg;", '    add_opt(common_arg({"--models-preset"}, "PATH", "x", [](common_params &, const std::string &) {}));\n'
)
LATER = re.sub(r'    add_opt\(common_arg\(\{"--lock"\}.*\n', "", ROUTED)


def test_a_key_that_a_newer_version_removed_is_caught_in_its_source_before_anything_is_built(home: Path) -> None:
    tree(home / "older", ROUTED)
    tree(home / "newer", LATER)
    path = inventory(home, "{path: older}", "{lock: on}")
    assert checked(loaded(path).positions, load(path)).going == (
        f'{path}:12:19: models.demo.preset.lock: "lock" is deprecated in llama-server as of older: use --load-mode',
    )
    path = inventory(home, "{path: newer}", "{lock: on}")
    with pytest.raises(InventoryError) as caught:
        checked(loaded(path).positions, load(path))
    assert caught.value.problems == [f'{path}:12:19: models.demo.preset.lock: "lock" is not an option of llama-server newer']


def test_a_version_from_before_the_router_is_said_to_have_none(home: Path) -> None:
    tree(home / "old", ARGUMENTS)
    path = inventory(home, "{path: old}", "{metrics: on}")
    with pytest.raises(InventoryError) as caught:
        checked(loaded(path).positions, load(path))
    (problem,) = caught.value.problems
    assert problem.endswith("llama_server.models: llama.cpp old has no router: use `instances`, or a newer llama.cpp")


def test_a_source_is_not_known_until_it_was_fetched_and_known_from_then_on(home: Path) -> None:
    root = tree(home / "repository", ROUTED)
    git = ["git", "-C", str(root), "-c", "user.name=x", "-c", "user.email=x@home.example"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
        subprocess.run([*git, *command], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    path = inventory(home, f"{{git: 'file://{root}', commit: {commit}}}", "{metric: on}")
    assert [source.identity for source in checked(loaded(path).positions, load(path)).unknown] == [f"git {commit}"]
    with pytest.raises(InventoryError, match=f'is not an option of llama-server {commit[:7]} \\(did you mean "metrics"'):
        checked(loaded(path).positions, load(path), progress=lambda *told: None)
    (root / FILES[0]).unlink()
    (root / ".git").rename(home / "gone")
    with pytest.raises(InventoryError, match="did you mean"):
        checked(loaded(path).positions, load(path))


def test_a_source_that_cannot_be_had_or_read_stops_nothing(home: Path) -> None:
    tree(home / "strange", "int main() {}")
    for source in (f"{{git: 'file://{home}/none', commit: {'c' * 40}}}", "{path: strange}"):
        path = inventory(home, source, "{metric: on}")
        assert len(checked(loaded(path).positions, load(path), progress=lambda *told: None).unknown) == 1


def test_a_plan_may_know_the_options_of_each_host_whose_source_was_seen(home: Path) -> None:
    tree(home / "mine", ROUTED)
    for source, labels in (("{sdist: llama-cpp-python==0.3.36}", ["0.3.36"]), ("{path: mine}", ["mine"]), ("{path: none}", [])):
        path = inventory(home, source, "{metrics: on}")
        assert [options.label for options in options_by_host(load(path), home).values()] == labels


def test_check_tells_what_is_on_its_way_out_and_what_it_could_not_look_at(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree(home / "older", ROUTED)
    path = inventory(home, "{path: older}", "{lock: on}")
    assert main(["-i", str(path), "check"]) == 0
    assert f'{path}:12:19: models.demo.preset.lock: "lock" is deprecated in llama-server' in capsys.readouterr().out
    path = inventory(home, f"{{git: 'file://{home}/none', commit: {'c' * 40}}}", "{metric: on}")
    assert main(["-i", str(path), "check"]) == 0
    assert f"not checked: presets for git {'c' * 40}" in capsys.readouterr().out
