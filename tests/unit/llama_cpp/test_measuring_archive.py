"""What a host is given to measure: both releases as the service runs them, with what they are asked, and no secret."""

from __future__ import annotations

import io
import subprocess
import tarfile
from dataclasses import replace

import pytest

from control.lifecycle.requests import AskedModel, asked_models, requests
from inventory.errors import PaddockError
from resources import File, Release, Resource, Service, of_kind
from roles.llama_cpp.measuring import HOME, Side, measurement, program
from tests.unit.roles.small_fleet import Small

CURRENT = "/opt/paddock/llama.cpp/current"
UNIT = "llama-server.service"
MODELS = (AskedModel("demo"), AskedModel("other"))


def sides(small: Small) -> tuple[Side, Side]:
    """Of the host `ai`: the release that serves, and one in another directory."""
    plan = tuple(small.plan("ai").values())
    (release,) = of_kind(plan, Release)
    newer = replace(release, path="/opt/paddock/llama.cpp/releases/2.0-newer", environment=(("GGML_VK_VISIBLE_DEVICES", "0"),))
    return Side(release, plan), Side(newer, plan)


def packed(baseline: Side, canary: Side, models: tuple[AskedModel, ...] = MODELS, unit: str = UNIT) -> dict[str, str]:
    with tarfile.open(fileobj=io.BytesIO(measurement(unit, baseline, canary, requests(models, "router")))) as tar:
        assert {each.mode for each in tar} == {0o644}
        return {each.name: tar.extractfile(each).read().decode() for each in tar}  # type: ignore[union-attr]


def test_each_release_runs_by_its_own_path_on_its_own_socket_as_the_service_does() -> None:
    found = packed(*sides(Small()))
    assert found["canary/program"] == "/opt/paddock/llama.cpp/releases/2.0-newer/bin/llama-server\n"
    assert found["canary/environment"] == "GGML_VK_VISIBLE_DEVICES=0\n" and found["baseline/environment"] == ""
    for side in ("baseline", "canary"):
        arguments = found[f"{side}/arguments"].splitlines()
        assert arguments[arguments.index("--host") + 1] == f"{HOME}-{side}/http.sock"
        assert arguments[arguments.index("--models-preset") + 1] == f"{HOME}/{side}/services/{UNIT}/files/0"
        assert "User=llama-server" in found[f"{side}/properties"].splitlines()


def test_models_are_loaded_when_they_are_asked_for_also_where_the_service_loads_none() -> None:
    small = Small()
    small.models["demo"]["preset"] = {"load-on-startup": True, "slot-save-path": "/srv/slots"}
    small.roles["ai"]["llama_server"]["autoload"] = False
    found = packed(*sides(small))
    assert "--no-models-autoload" not in found["canary/arguments"]
    assert "load-on-startup = false\nslot-save-path = /tmp\n" in found[f"canary/services/{UNIT}/files/0"]


def test_what_is_timed_is_asked_in_rounds_and_a_router_swaps_first() -> None:
    found = packed(*sides(Small()))
    names = {each.rpartition("/")[0]: text.strip() for each, text in found.items() if each.endswith("/name")}
    assert [name for at, name in names.items() if at.startswith("rounds/")] == ["short prompt", "long prompt"]
    once = [name for at, name in sorted(names.items()) if at.startswith("once/")]
    assert once == ["load", "swap", "swap back", "likely words", "stream", "tool call", "JSON schema"]
    assert all("@@" in found[f"{at}/body"] for at in names if at.startswith("rounds/"))


def test_a_model_that_embeds_is_asked_for_vectors() -> None:
    made = requests((AskedModel("vectors", "embedding"),), "instance")
    assert [(each.name, each.path, each.timed) for each in made] == [
        ("embedding", "/v1/embeddings", False),
        ("long embedding", "/v1/embeddings", True),
    ]


@pytest.mark.parametrize(("context", "characters"), [(None, 2400), (32768, 2400), (2048, 1024), (256, 128), (8, 64)])
def test_a_long_prompt_fits_the_context_at_a_character_a_token(context: int | None, characters: int) -> None:
    long = next(each for each in requests((AskedModel("demo", context=context),), "instance") if each.name == "long prompt")
    assert len(long.body) - len(next(each for each in requests(MODELS, "instance") if each.name == "short prompt").body) <= characters


def test_the_models_of_a_server_are_asked_for_what_they_are_for() -> None:
    small = Small()
    small.models["demo"]["preset"] = {"ctx-size": 8192, "parallel": 4}
    small.models["vectors"] = {"preset": {"embeddings": True}}
    small.roles["ai"]["llama_server"]["models"] = ["demo", "vectors"]
    fleet = small.fleet
    (router,) = fleet.servers("ai")
    assert asked_models(router, fleet) == (AskedModel("demo", "chat", 2048), AskedModel("vectors", "embedding"))


def test_no_secret_is_measured() -> None:
    key = File("/etc/small/key", "sk-secret", mode=0o600, secret=True)
    release = sides(Small())[0].release
    unit = File(
        f"/etc/systemd/system/{UNIT}", f"[Service]\nExecStart={CURRENT}/bin/llama-server -m /srv/a.gguf --api-key-file {key.path}\n"
    )
    resources: tuple[Resource, ...] = (release, unit, key, Service(UNIT, restarts=(unit, key, release)))
    assert "sk-secret" not in str(packed(Side(release, resources), Side(release, resources)))


def test_one_that_computes_on_other_hosts_is_not_measured() -> None:
    release = sides(Small())[0].release
    unit = File(f"/etc/systemd/system/{UNIT}", f"[Service]\nExecStart={CURRENT}/bin/llama-server -m /srv/a.gguf --rpc 192.0.2.9:50052\n")
    side = Side(release, (release, unit, Service(UNIT, restarts=(unit, release))))
    with pytest.raises(PaddockError, match="computes on other hosts"):
        packed(side, side)


def test_a_service_that_does_not_run_the_release_is_named() -> None:
    with pytest.raises(PaddockError, match=r"caddy\.service does not run llama\.cpp"):
        packed(*sides(Small()), unit="caddy.service")


def test_the_program_is_one_that_dash_reads() -> None:
    subprocess.run(["dash", "-n"], input=program(), check=True)
