"""The router's unit and presets, and what a restart is due for."""

from small_fleet import Small

from resources import Service
from roles.llama_server.plan import PRESETS

UNIT = "/etc/systemd/system/llama-server.service"


def started(small: Small) -> str:
    service = small.plan("ai")["service:llama-server.service"]
    assert isinstance(service, Service)
    return service.started


def test_every_model_has_a_section_with_its_file_and_its_options(small: Small) -> None:
    small.models["demo"] = {"preset": {"ctx-size": 2048, "temp": 0.7, "jinja": True, "cache-type-k": "q8_0"}}
    section = small.text("ai", PRESETS).partition("[demo]\n")[2].partition("\n\n")[0]
    assert section.splitlines() == [
        "model = /var/lib/paddock/models/demo.gguf",
        "ctx-size = 2048",
        "temp = 0.7",
        "jinja = true",
        "cache-type-k = q8_0",
    ]


def test_models_stand_in_the_order_of_the_server_and_not_of_the_fleet(small: Small) -> None:
    small.models = dict(reversed(small.models.items()))
    text = small.text("ai", PRESETS)
    assert text.index("[*]") < text.index("[demo]") < text.index("[code]")


def test_options_for_all_models_go_before_our_own(small: Small) -> None:
    small.roles["ai"]["llama_server"]["preset"] = {"cache-ram": 256, "metrics": False}
    assert "[*]\ncache-ram = 256\nmetrics = false\n" in small.text("ai", PRESETS)


def test_the_prompt_caches_of_all_loaded_models_take_an_eighth_of_the_memory(small: Small) -> None:
    assert "cache-ram = 2048\n" in small.text("ai", PRESETS)
    small.roles["ai"]["llama_server"]["models_max"] = 0
    assert "cache-ram = 1024\n" in small.text("ai", PRESETS)


def test_no_preset_is_indented_for_llama_cpp_would_refuse_the_file(small: Small) -> None:
    assert not [line for line in small.text("ai", PRESETS).splitlines() if line != line.strip()]


def test_the_command_line_carries_no_option_of_a_model(small: Small) -> None:
    small.roles["ai"]["llama_server"]["preset"] = {"ctx-size": 8192, "gpu-layers": 99}
    assert "ctx-size" not in small.text("ai", UNIT)
    assert "gpu-layers" not in small.text("ai", UNIT)


def test_autoload_is_off_only_where_it_is_said_to_be(small: Small) -> None:
    assert "--no-models-autoload" not in small.text("ai", UNIT)
    small.roles["ai"]["llama_server"]["autoload"] = False
    assert "--no-models-autoload" in small.text("ai", UNIT)


def test_a_server_on_loopback_reaches_nothing_else(small: Small) -> None:
    assert "IPAddressDeny=any" in small.text("one", UNIT)
    assert "IPAddressDeny" not in small.text("ai", UNIT)


def test_a_model_in_a_home_directory_is_shown_to_the_server_and_nothing_else_there(small: Small) -> None:
    small.models["demo"] = {"source": {"path": "/home/me/my models/50%q4.gguf", "sha256": "0" * 64}}
    text = small.text("ai", UNIT)
    assert "ProtectHome=tmpfs\n" in text
    assert 'BindReadOnlyPaths="-/home/me/my models/50%%q4.gguf"\n' in text


def test_another_preset_another_release_and_another_model_file_each_ask_for_a_restart(small: Small) -> None:
    seen = {started(small)}
    small.models["demo"]["preset"]["ctx-size"] = 4096
    seen.add(started(small))
    small.roles["ai"]["llama_cpp"] = {"source": {"sdist": "llama-cpp-python==0.3.35", "sha256": "aa" * 32}}
    seen.add(started(small))
    small.models["demo"]["source"] = {"url": "https://models.home.example/demo.gguf", "sha256": "1" * 64}
    seen.add(started(small))
    assert len(seen) == 4


def test_more_clients_ask_for_no_restart_of_the_server(small: Small) -> None:
    before = started(small)
    small.active = ["laptop"]
    assert started(small) == before
