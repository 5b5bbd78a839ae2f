"""The inventories of tests/setups, written as owners of such machines would: accepted as they are, planned as their owners expect.

Nothing is asked of a host: the machines are those of hardware/recorded, and the models have the sizes of the real ones.
"""

from __future__ import annotations

import hashlib
import io
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cli import main
from cli.views.changes import lines
from control.deployment.fit import pools_of
from control.deployment.knowledge import knowledge_for
from control.deployment.work import Work
from control.models.gguf import local_shape
from control.ssh.ways import Ways
from control.state.fleet import FleetState
from inventory.errors import PaddockError
from inventory.fleet import Fleet
from inventory.hardware import Hardware, PciDevice
from inventory.knowledge import Knowledge
from inventory.load import load, loaded
from inventory.model_components import Component
from inventory.model_lock import ModelLock, Pin, lock_path
from inventory.model_shape import ModelShape, as_data
from inventory.model_sources import ModelPart, ModelSource
from lab.lab_host import LabHost
from lab.overlay import overlay
from resources import File, ModelFile, Package, Release, Resource
from resources.drift import drift
from resources.probe import Actual
from roles.host_plan import host_plan, refusals_of, remarks_of
from roles.llama_server.fit import HOST, MemoryPool
from tests.unit.hardware.machines import MACHINES
from tests.unit.sparse_model import gemma3_4b, gpt_oss_20b, llama_8b, nomic_embed_text, qwen3_30b_a3b, write

SETUPS = Path(__file__).parents[1] / "setups"

MIB = 1 << 20
UNITS = "/etc/systemd/system"
PRESETS = "/etc/paddock/llama-server/presets.ini"
SITES = "/etc/caddy/paddock/sites.caddy"
HERE = "/var/lib/paddock/models"

WITH_CUDA_12_9 = replace(MACHINES["two-kinds-of-nvidia"], compilers={**MACHINES["two-kinds-of-nvidia"].compilers, "nvcc": "12.9.86"})
"""As it is once its owner has done what the refusal says: Ubuntu's own CUDA is older than the card."""

RADEON = PciDevice("0000:03:00.0", "1002", "744c", "Navi 31 [Radeon RX 7900 XT]", 20464)
ON_DEBIAN_TESTING = {"distribution": "debian forky", "libc": "2.43", "compilers": {}}
WITH_RADEON = replace(
    MACHINES["zen-4-rtx-3090"],
    gpus=(RADEON,),
    gfx={"0000:03:00.0": "gfx1100"},
    nvidia_cards=(),
    nvidia_driver="",
    vulkan=(),
    **ON_DEBIAN_TESTING,
)

MACHINES_OF: dict[str, dict[str, Hardware]] = {
    "vision-with-draft": {"desk": WITH_CUDA_12_9},
    "thinking-and-instant": {"halo": MACHINES["strix-halo"]},
    "behind-a-bastion": {
        "gate": MACHINES["vm-without-avx"],
        "h200": MACHINES["h200-server"],
        "web": MACHINES["vm-without-avx"],
        "attic": MACHINES["core-2-q9550"],
    },
    "one-name-two-hosts": {
        "new": MACHINES["zen-4-rtx-3090"],
        "old": MACHINES["mining-rig"],
        "door": MACHINES["vm-without-avx"],
    },
    "chat-page-elsewhere": {"box": MACHINES["raspberry-pi-5"], "den": MACHINES["zen-4-rtx-3090"]},
    "unified-memory": {"tower": MACHINES["zen-4-rtx-3090"]},
    "experts-in-memory": {"pc": MACHINES["zen-4-rtx-3090"]},
    "code-completion": {"box": MACHINES["strix-halo"]},
    "debians-own": {"tower": WITH_RADEON, "shelf": replace(MACHINES["vm-without-avx"], **ON_DEBIAN_TESTING)},
    "jetson-and-spark": {"robot": MACHINES["jetson-agx-orin"], "spark": MACHINES["dgx-spark"]},
}
"""By set-up, its hosts' machines. Another set-up is a file in tests/setups, a line here, and a test of what its owner expects."""

REMARKS = {
    "one-name-two-hosts": ['requests for "embed" fail, or are answered by another model, where old/spare gets them'],
}
"""What an owner is told beside, by set-up; of the others nothing."""


def dense(layers: int, width: int, heads_kv: int, hidden: int, mib: int) -> ModelShape:
    """A model of Qwen 2.5's make, without its tensors."""
    edge = 152064 * width * 5 // 8
    sizes = {"tensor_bytes": mib * MIB, "input_bytes": edge, "output_bytes": edge, "layer_bytes": (mib * MIB - 2 * edge) // layers}
    heads = {"head_count": width // 128, "head_count_kv": heads_kv, "feed_forward_length": hidden}
    return ModelShape(
        "qwen2vl",
        **sizes,
        **heads,
        block_count=layers,
        embedding_length=width,
        vocabulary=152064,
        context_length=128000,
        tensor_types=TYPES,
    )


TYPES = ((12, "Q4_K", "blk.0.attn_q.weight", "model.gguf"),)
PROJECTOR = ModelShape(
    "clip", 1290 * MIB, context_length=2116, embedding_length=1280, feed_forward_length=3420, head_count=16, tensor_types=TYPES
)
ADAPTER = ModelShape("llama", 80 * MIB, tensor_types=TYPES)


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelShape]:
    """By a part of the source's name."""
    directory = tmp_path_factory.mktemp("models")
    builders = {
        "Qwen3-30B-A3B": qwen3_30b_a3b,
        "gpt-oss-20b": gpt_oss_20b,
        "nomic-embed-text": nomic_embed_text,
        "Llama-3.1-8B": llama_8b,
        "gemma-3-4b": gemma3_4b,
    }
    found = {name: local_shape(write(directory / f"{name}.gguf", build())) for name, build in builders.items()}
    found["Qwen3-Coder-30B-A3B"] = replace(found["Qwen3-30B-A3B"], context_length=262144)
    found["VL-32B"], found["VL-3B"] = dense(64, 5120, 8, 27648, 18900), dense(36, 2048, 2, 11008, 3130)
    found["Coder-1.5B"] = dense(28, 1536, 2, 8960, 1570)
    return found


@dataclass(frozen=True)
class Setup:
    """An inventory in a directory of its own, as after `models pull --lock` and a first look at its machines."""

    path: Path
    run: Callable[..., tuple[int, str]]
    """The command, with its exit code and what it says."""

    @property
    def fleet(self) -> Fleet:
        return load(self.path)

    @property
    def knowledge(self) -> Knowledge:
        return knowledge_for(self.fleet, FleetState.of(self.path, self.fleet.name), now=datetime.now(UTC))

    def plan(self, host: str) -> dict[str, Resource]:
        parts = host_plan(self.fleet.hosts[host], self.fleet, self.knowledge)
        return {each.id: each for part in parts.values() for each in part}

    def text(self, host: str, path: str) -> str:
        file = self.plan(host)[f"file:{path}"]
        assert isinstance(file, File)
        return file.data.decode()

    def unit(self, host: str, name: str) -> str:
        return self.text(host, f"{UNITS}/{name}.service")

    def models(self, host: str) -> dict[str, str]:
        """The digest of each file of a model, by its path."""
        return {each.path: each.sha256 for each in self.plan(host).values() if isinstance(each, ModelFile)}

    def release(self, host: str) -> Release:
        found = self.knowledge.releases[host]
        assert isinstance(found, Release), found
        return found

    def places(self, host: str) -> dict[str, MemoryPool]:
        return {each.name.partition(" (")[0]: each for each in pools_of(host, self.fleet, self.knowledge)}


def option(release: Release, name: str) -> str:
    return dict(release.options)[name]


@pytest.fixture
def setup(
    request: pytest.FixtureRequest,
    shapes: dict[str, ModelShape],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Setup:
    name: str = request.param
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    for variable in ("PADDOCK_STATE", "PADDOCK_INVENTORY", "PADDOCK_AGE_IDENTITY"):
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / "me" / ".ssh").mkdir(parents=True)
    (tmp_path / "me" / ".ssh" / "id_cluster").write_text("a key\n")
    path = Path(shutil.copy(SETUPS / f"{name}.yml", tmp_path))
    lock_path(path).write_text(ModelLock(models=_pins(path, shapes)).text)
    state = FleetState.of(path, loaded(path).fleet.name)
    for host, hardware in MACHINES_OF[name].items():
        state.save_hardware(host, hardware)

    def run(*words: str, stdin: str = "") -> tuple[int, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        code = main(["-i", str(path), *words])
        said = capsys.readouterr()
        return code, said.out + said.err

    return Setup(path, run)


def _pins(path: Path, shapes: dict[str, ModelShape]) -> dict[str, Pin]:
    fleet = loaded(path).fleet
    components = [each for name, entry in fleet.models.items() for each in entry.components(name)]
    return {each.name: _pin(each, shapes) for each in components}


def _pin(component: Component, shapes: dict[str, ModelShape]) -> Pin:
    source = component.source
    assert isinstance(source, ModelSource)
    asked = source.hf or source.local or ""
    shape = {"mmproj": PROJECTOR, "lora": ADAPTER}.get(component.key) or next(shape for part, shape in shapes.items() if part in asked)
    name = source.file or source.local or "model.gguf"
    sha256 = hashlib.sha256(f"{asked} {name} {component.key}".encode()).hexdigest()
    part = ModelPart(name=name, sha256=sha256, size=shape.tensor_bytes)
    return Pin(source=source.asked, revision="c0ffee" * 6 + "c0ff" if source.hf else "", files=(part,), shape=as_data(shape))


def every() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("setup", MACHINES_OF, indirect=True)


def of(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("setup", [name], indirect=True)


def test_each_inventory_is_one_of_these() -> None:
    assert {each.stem for each in SETUPS.glob("*.yml")} == set(MACHINES_OF)


@every()
def test_check_has_nothing_to_say_against_it(setup: Setup) -> None:
    code, said = setup.run("check")
    first, *rest = said.splitlines()
    assert code == 0 and ": no errors. fleet " in first
    assert len(rest) == len(setup.fleet.hosts)  # a line each, and no warning


@every()
def test_each_host_can_be_as_it_says_and_its_owner_is_told_what_is_to_be_known(setup: Setup) -> None:
    setup.run("secrets", "set", "metrics-token", stdin="of the tool")
    fleet, knowledge = setup.fleet, setup.knowledge
    assert [line for host in fleet.hosts.values() for line in refusals_of(host, fleet, knowledge)] == []
    told = dict.fromkeys(line for host in fleet.hosts.values() for line in remarks_of(host, fleet, knowledge))
    expected = REMARKS.get(setup.path.stem, [])
    assert len(told) == len(expected) and all(words in line for words, line in zip(expected, told, strict=True))
    assert setup.run("plan", "--offline")[0] == 0


@every()
def test_what_is_new_on_a_host_comes_without_advice_for_what_went_wrong(setup: Setup) -> None:
    for host in setup.fleet.hosts.values():
        planned, nothing = host_plan(host, setup.fleet, setup.knowledge), Actual()
        shown = list(lines(Work(planned, nothing, drift(planned, nothing))))
        assert [line for line in shown if "+ service:" in line and "starts" in line]
        assert not [line for line in shown if "accepted_units" in line or "why it ended" in line]


@every()
def test_render_writes_it_without_a_secret(setup: Setup, tmp_path: Path) -> None:
    setup.run("secrets", "set", "metrics-token", stdin="of the tool")
    code, said = setup.run("render", "--to", str(tmp_path / "out"))
    assert code == 0 and re.fullmatch(r"\d+ files in .*\n", said)
    written = [each for each in (tmp_path / "out").rglob("*") if each.is_file()]
    assert {each.relative_to(tmp_path / "out").parts[0] for each in written if each.parent != tmp_path / "out"} == set(setup.fleet.hosts)
    assert not [each for each in written if b"of the tool" in each.read_bytes()]


@every()
def test_a_rehearsal_has_no_option_that_its_lab_cannot_take(setup: Setup) -> None:
    fleet = setup.fleet
    hosts = {
        name: LabHost(fleet.name, name, f"paddock-{name}", "running", "root", Path("/lab/ssh_key"), f"172.17.0.{at}", "172.17.0.0/16", "")
        for at, name in enumerate(fleet.hosts, 2)
    }
    moved, _ = overlay(fleet, hosts)
    presets = [moved.preset(server, name) for host in moved.hosts for server in moved.servers(host) for name in server.models]
    assert presets and not [preset for preset in presets if {"spec-draft-device", "mmproj-device"} & preset.keys()]
    assert {preset.get("device", "none") for preset in presets} == {"none"}


@of("vision-with-draft")
def test_the_older_card_has_the_draft_and_the_projector(setup: Setup) -> None:
    release = setup.release("desk")
    assert (release.backend, option(release, "CMAKE_CUDA_ARCHITECTURES")) == ("cuda", "86-real;120-real")
    preset = setup.text("desk", PRESETS).partition("[qwen-vl]")[2].partition("[qwen-coder]")[0]
    for line in (
        "alias = gpt-4o",
        "mmproj = /srv/models/qwen-vl+mmproj.gguf",
        "model-draft = /srv/models/qwen-vl+draft.gguf",
        "spec-type = draft-simple",
        "spec-draft-n-max = 16",
        "device = CUDA0",
        "spec-draft-device = CUDA1",
        "mmproj-device = CUDA1",
    ):
        assert f"\n{line}\n" in preset
    assert "CUDA_DEVICE_ORDER=PCI_BUS_ID" in setup.unit("desk", "llama-server")  # CUDA0 is the card that nvidia-smi calls 0
    places = setup.places("desk")
    of_vision = {name: [row.memory for row in place.rows if row.model == "qwen-vl"] for name, place in places.items()}
    assert 18000 < of_vision["card 0"][0].weights / MIB < 19000
    assert 3100 + 1290 - 400 < of_vision["card 1"][0].weights / MIB < 3100 + 1290
    assert all(place.fits for place in places.values())


@of("vision-with-draft")
def test_where_ubuntus_cuda_is_too_old_for_a_card_the_owner_is_told_what_to_install(setup: Setup) -> None:
    FleetState.of(setup.path, "studio").save_hardware("desk", MACHINES["two-kinds-of-nvidia"])
    code, said = setup.run("check")
    assert code == 2 and "CUDA 12.0 does not know compute capability 12.0 yet, 12.8 is the first that does" in said
    code, said = setup.run("models", "fit")
    assert code == 1 and "memory unknown: not checked" in said and "host memory:" not in said


@of("thinking-and-instant")
def test_one_file_has_two_names_and_each_its_own_options(setup: Setup) -> None:
    found = setup.models("halo")
    assert list(found) == ["/srv/models/qwen-instant.gguf", "/srv/models/qwen-thinking.gguf"] and len(set(found.values())) == 1
    instant, thinking = setup.text("halo", PRESETS).partition("[qwen-instant]")[2].split("[qwen-thinking]")
    assert "alias = qwen\n" in instant and 'chat-template-kwargs = {"enable_thinking": false}\n' in instant
    assert 'chat-template-kwargs = {"enable_thinking": true}\n' in thinking and "reasoning-budget = 8192\n" in thinking
    assert setup.release("halo").backend == "vulkan"
    memory = setup.places("halo")[HOST]
    assert memory.fits and memory.used > 2 * 18000 * MIB  # two processes have it twice


@of("behind-a-bastion")
def test_each_host_is_reached_through_its_bastion(setup: Setup) -> None:
    ways = Ways(setup.fleet.hosts)
    found = {name: [each.where for each in ways.to(name).bastions] for name in setup.fleet.hosts}
    gate = "deploy@bastion.home.example:2222"
    assert found == {"gate": [], "h200": [gate], "web": [gate], "attic": ["admin@old-gate.home.example:22"]}
    assert {ways.to(name).where for name in ("h200", "web")} == {"deploy@192.0.2.71:22", "deploy@192.0.2.72:22"}
    assert ways.to("h200").only_keys and ways.to("h200").becomes_root


@of("behind-a-bastion")
def test_each_of_its_servers_has_its_own_cards_in_the_order_of_their_slots(setup: Setup) -> None:
    cards = {card.address: card.uuid for card in MACHINES["h200-server"].nvidia_cards}
    in_order = [cards[address] for address in sorted(cards)]
    for name, numbers in (("large-1", (0, 1)), ("large-2", (2, 3)), ("embed", (7,))):
        visible = ",".join(in_order[number] for number in numbers)
        assert f"\nEnvironment=CUDA_VISIBLE_DEVICES={visible}\n" in setup.unit("h200", f"llama-server-{name}")
    release = setup.release("h200")
    assert (release.backend, option(release, "CMAKE_CUDA_ARCHITECTURES"), release.builder) == ("cuda", "90-real", "h200")
    assert setup.text("web", SITES).count("reverse_proxy unix//run/paddock/hop-h200.8080.sock unix//run/paddock/hop-h200.8081.sock {") == 2


@of("one-name-two-hosts")
def test_requests_go_to_a_server_that_is_up(setup: Setup) -> None:
    text = setup.text("door", SITES)
    ai, llama, old = re.split(r"^https://(?:llama|old)\.home\.example:443", text, flags=re.M)
    both = "reverse_proxy unix//run/paddock/hop-new.8080.sock unix//run/paddock/hop-old.8080.sock"
    assert f"{both} {{" in ai and f"{both} unix//run/paddock/hop-old.8081.sock {{" in llama
    assert "reverse_proxy unix//run/paddock/hop-old.8081.sock {" in old and "hop-new" not in old
    for line in ("lb_policy least_conn", "health_uri /health", "health_interval 2s", "fail_duration 3s"):
        assert line in ai and line in llama
    assert "clients/family.pem" in ai and "clients/family.pem" not in old.partition("log {")[0]


@of("one-name-two-hosts")
def test_the_two_machines_have_builds_of_their_own_and_the_same_servers(setup: Setup) -> None:
    new, old = setup.release("new"), setup.release("old")
    assert [option(each, "CMAKE_CUDA_ARCHITECTURES") for each in (new, old)] == ["86-real", "61-real"]
    assert [option(each, "GGML_AVX") for each in (new, old)] == ["ON", "OFF"]
    assert setup.models("new") == setup.models("old")
    assert "load-on-startup = true" in setup.text("old", PRESETS)
    places = setup.places("old")
    assert all(place.fits for place in places.values())
    assert [row.server for row in places["card 7"].rows] == ["llama-server", "llama-server", "spare"]


@of("chat-page-elsewhere")
def test_the_page_may_call_and_nobody_elses(setup: Setup) -> None:
    text = setup.text("box", SITES)
    ai, monitor = text.split("https://monitor.home.example:443")
    for line in ("https://chat.family.example", "http://localhost:5173", "Access-Control-Allow-Origin", "Vary Origin"):
        assert line in ai and line not in monitor
    assert "/models/load" in ai and "/metrics" in monitor
    clients = {client: f"clients/{client}.pem" for client in ("ann", "ben", "tablet", "prometheus")}
    assert [client for client, file in clients.items() if file in monitor.partition("log {")[0]] == ["prometheus"]


@of("chat-page-elsewhere")
def test_browsers_show_the_certificate_and_firefox_with_a_preflight_too(setup: Setup) -> None:
    plan = setup.plan("den")
    preferences = [each.data.decode() for each in plan.values() if isinstance(each, File) and each.path.endswith("paddock.js")]
    assert preferences and all("network.cors_preflight.allow_client_cert" in each for each in preferences)
    assert "https://ai.home.example" in setup.text("den", "/etc/chromium/policies/managed/paddock.json")
    assert setup.release("box").backend == "cpu"


@of("unified-memory")
def test_each_server_has_its_variables_and_the_token_is_in_no_unit(setup: Setup) -> None:
    code, said = setup.run("plan", "--offline")
    assert code == 1 and "there is no secret metrics-token yet: `paddock secrets set metrics-token`" in said
    assert setup.run("secrets", "set", "metrics-token", stdin="of the tool")[0] == 0
    chat, embed = (setup.unit("tower", f"llama-server-{name}") for name in ("chat", "embed"))
    assert "\nEnvironment=GGML_CUDA_ENABLE_UNIFIED_MEMORY=1\n" in chat and "UNIFIED" not in embed
    assert "\nEnvironment=OMP_WAIT_POLICY=passive\n" in chat and "\nEnvironment=OMP_WAIT_POLICY=active\n" in embed
    assert "\nEnvironment=OMP_NUM_THREADS=8\n" in embed
    for name, unit in (("chat", chat), ("embed", embed)):
        path = f"/etc/paddock/llama-server/llama-server-{name}.env"
        assert f"\nEnvironmentFile={path}\n" in unit and "of the tool" not in unit
        file = setup.plan("tower")[f"file:{path}"]
        assert isinstance(file, File) and file.secret and file.mode == 0o600 and b'METRICS_TOKEN="of the tool"' in file.data


@of("unified-memory")
def test_a_rehearsals_secret_is_set_before_there_is_a_lab(setup: Setup) -> None:
    assert setup.run("secrets", "set", "--lab", "metrics-token", stdin="of the lab")[0] == 0
    assert setup.run("secrets", "list", "--lab") == (0, "metrics-token\n")
    assert setup.run("secrets", "show", "--lab", "metrics-token") == (0, "of the lab\n")
    assert setup.run("secrets", "list") == (0, "no secrets, but in the lab there are 1: `paddock secrets list --lab`\n")


@of("unified-memory")
def test_what_the_card_has_no_room_for_counts_in_the_machines_memory(setup: Setup) -> None:
    places = setup.places("tower")
    card, memory = places["card 0"], places[HOST]
    (row,) = card.rows
    assert row.server == "chat" and row.memory.total > card.room_mib * MIB and (card.left_mib, card.fits) == (0, True)
    assert memory.fits and memory.used >= sum(row.memory.total for row in memory.rows) + row.memory.total - card.room_mib * MIB
    assert "ProcSubset=pid" not in setup.unit("tower", "llama-server-chat")  # CUDA reads there how much there is
    without = setup.path.read_text().replace("{GGML_CUDA_ENABLE_UNIFIED_MEMORY: 1}", "{}")
    setup.path.write_text(without)
    code, said = setup.run("check")
    assert code == 2 and "card 0 (NVIDIA GeForce RTX 3090) has 24576 MiB and would need" in said


@of("experts-in-memory")
def test_experts_stay_in_memory_and_every_option_comes_through(setup: Setup) -> None:
    preset = setup.text("pc", PRESETS)
    patterns = ",".join(rf"blk\.({which})\.ffn_.*_exps\.=CPU" for which in ("1[0-9]|2[0-9]", "3[0-9]|4[0-9]"))
    assert f"\noverride-tensor = {patterns}\n" in preset and "\nsampler-seq = kpmt\n" in preset
    assert "\noverride-kv = qwen3moe.expert_used_count=int:8,tokenizer.ggml.add_bos_token=bool:false\n" in preset
    places = setup.places("pc")
    assert [row.model for row in places["card 0"].rows] == ["qwen-moe"] and 4000 < places["card 0"].rows[0].memory.weights / MIB < 5000
    assert all(place.fits for place in places.values())
    assert "q8_0-q4_0" in option(setup.release("pc"), "GGML_CUDA_FA_QUANTS")


@of("experts-in-memory")
def test_an_option_that_is_given_more_than_once_is_so_on_the_command_line(setup: Setup) -> None:
    unit = setup.unit("pc", "llama-server-writer")
    for words in (
        f"--lora-scaled {HERE}/writer+lora-1.gguf:1,{HERE}/writer+lora-2.gguf:0.4",
        "--device none",
        '--samplers "penalties;dry;top_k;min_p;temperature"',
        "--dry-sequence-breaker none",
        "--logit-bias 15043-1 --logit-bias 2+0.5",
        r'--reverse-prompt User: --reverse-prompt "\\n\\n###"',
    ):
        assert f"\n    {words} \\\n" in unit
    setup.path.write_text(setup.path.read_text().replace("sampler-seq: kpmt", "samplers: [top_k, top_p, min_p, temperature]"))
    code, said = setup.run("check")
    assert code == 2 and "such as `sampler-seq: kpmt`" in said


@of("code-completion")
def test_an_instance_takes_what_an_ini_file_cannot_hold(setup: Setup) -> None:
    for name in ("complete-1", "complete-2"):
        unit = setup.unit("box", f"llama-server-{name}")
        for words in (
            r'--reverse-prompt ";" --reverse-prompt "# " --reverse-prompt " // " --reverse-prompt "<%%= 100%% $$HOME \"x\" %%>"',
            r'--dry-sequence-breaker # --dry-sequence-breaker ";" --dry-sequence-breaker "\\n"',
            '--chat-template "{# one line; no more #}{%% for m in messages %%}{{ m.role }}: {{ m.content }}{%% endfor %%}"',
            '--samplers "top_k;temperature"',
            "--cache-ram 512",
        ):
            assert f"\n    {words} \\\n" in unit
        assert f"--model {HERE}/coder.gguf --alias coder,qwen2.5-coder:1.5b" in unit and "\nMemoryMax=4G\n" in unit
    assert f"file:{PRESETS}" not in setup.plan("box")
    assert set(setup.places("box")) == {HOST}  # no server's limit is too small


@of("code-completion")
def test_a_router_refuses_the_same_and_says_who_takes_it(setup: Setup) -> None:
    text = setup.path.read_text()
    setup.path.write_text(
        text.replace("    aliases: [qwen", '    preset: {reverse-prompt: ";"}\n    aliases: [qwen').replace(
            "        instances:\n", "        models: [coder]\n        instances:\n"
        )
    )
    code, said = setup.run("check")
    assert code == 2 and "models.coder.preset.reverse-prompt" in said and "an instance, which has no such file, takes it" in said


@of("debians-own")
def test_debians_packages_serve_on_a_radeon_and_on_a_processor_and_nothing_is_compiled(setup: Setup) -> None:
    tower, shelf = setup.release("tower"), setup.release("shelf")
    assert (tower.backend, tower.devices, shelf.backend) == ("hip", ("ROCm0",), "cpu")
    assert "libggml0-backend-hip=0.27.0-1" in tower.downloads and "libggml0-backend-hip=0.27.0-1" not in shelf.downloads
    for host in ("tower", "shelf"):
        packages = {each.name for each in setup.plan(host).values() if isinstance(each, Package) and each.needed}
        assert not {"cmake", "g++", "ccache", "llama.cpp-tools", "libggml0"} & packages
    unit = setup.unit("tower", "llama-server")
    assert "DeviceAllow=/dev/kfd rw" in unit and f"DeviceAllow=/dev/dri/by-path/pci-{RADEON.address}-render rw" in unit
    assert "char-drm" not in unit and "ProcSubset=pid" not in unit
    assert "InaccessiblePaths=-/usr/lib/x86_64-linux-gnu/ggml" in unit
    assert "\nmoe-cache-mib = 1024\n" in setup.text("tower", PRESETS)  # an option of 0.7.0
    places = setup.places("tower")
    assert places["card 0"].room_mib == pytest.approx(20464, abs=1) and all(each.fits for each in places.values())


@of("jetson-and-spark")
def test_arm_machines_are_built_for_by_their_own_cuda_and_judged_by_their_memory(setup: Setup) -> None:
    for host, architecture, arm, memory_mib in (
        ("robot", "87-real", "armv8.2-a+dotprod+fp16", 62837),
        ("spark", "121-real", "armv8.2-a+dotprod+fp16+i8mm", 122548),
    ):
        release = setup.release(host)
        assert (release.backend, option(release, "CMAKE_CUDA_ARCHITECTURES")) == ("cuda", architecture)
        assert option(release, "GGML_CPU_ARM_ARCH") == arm
        (memory,) = setup.places(host).values()
        assert memory.name == HOST and memory.fits and memory_mib * 15 // 16 == pytest.approx(memory.room_mib, abs=1)
        unit = setup.unit(host, "llama-server")
        assert "ProcSubset=pid" not in unit and "DeviceAllow=char-nvidia-uvm rw" in unit
        assert not [each for each in setup.plan(host) if "nvidia-driver" in each or "nvidia-cuda-toolkit" in each]
    assert "DeviceAllow=/dev/nvmap rw" in setup.unit("robot", "llama-server")
    assert "/dev/nvmap" not in setup.unit("spark", "llama-server")
    assert "unix//run/paddock/hop-robot.8080.sock" in setup.text("spark", SITES)


def test_a_32_bit_system_is_refused_before_anything_is_built(shapes: dict[str, ModelShape], tmp_path: Path) -> None:
    """The page's family may have put the wrong image on its Pi."""
    path = Path(shutil.copy(SETUPS / "chat-page-elsewhere.yml", tmp_path))
    lock_path(path).write_text(ModelLock(models=_pins(path, shapes)).text)
    state = FleetState.of(path, "family")
    state.save_hardware("box", MACHINES["raspberry-pi-os-32-bits"])
    found = knowledge_for(load(path), state, now=datetime.now(UTC)).releases["box"]
    assert isinstance(found, PaddockError) and "64-bit" in str(found)
