"""No machine compiles what another has compiled: within a fleet, and from one fleet to another."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from snapshot import inside

from inventory.load import load
from lab import hosts as lab_hosts
from tests.lab_fleet import LabFleet, lab_fleet
from tests.share import turn

pytestmark = turn(0, of=5)

FLEET = """
fleet: {name}
domain: home.example
networks: [192.0.2.0/24]
defaults:
  roles:
    base:
    llama_cpp: {{builder: {builder}, ui: false}}
    models:
    llama_server: {{models: [demo]}}
hosts: {{{hosts}}}
models: {{demo: {{preset: {{ctx-size: 1024}}}}}}
"""


def inventory(name: str, hosts: int, builder: str = "null") -> str:
    entries = ", ".join(f"{name}{at}: {{address: 192.0.2.{10 + at}}}" for at in range(1, hosts + 1))
    return FLEET.format(name=name, hosts=entries, builder=builder)


def compiled(fleet: LabFleet, host: str) -> int:
    """How often a compiler was called on the host, as its journal has it."""
    return int(inside(fleet.host(host).container, "journalctl -q -o cat 2>/dev/null | grep -c '^\\[[0-9/]*\\] Building C' || true"))


@pytest.fixture(scope="module")
def pea(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabFleet]:
    """Five hosts alike, deployed together."""
    lab_hosts.down("pea")
    with lab_fleet("pea", tmp_path_factory.mktemp("pea"), inventory("pea", 5)) as fleet:
        began = time.monotonic()
        fleet.up()
        print(f"once: five hosts in {time.monotonic() - began:.0f} s", flush=True)
        yield fleet


def test_of_five_hosts_alike_one_compiles_and_five_serve(pea: LabFleet) -> None:
    calls = {f"pea{at}": compiled(pea, f"pea{at}") for at in range(1, 6)}
    print(f"once: compiler invocations {calls}", flush=True)
    assert calls["pea1"] > 100
    assert [calls[f"pea{at}"] for at in range(2, 6)] == [0, 0, 0, 0]
    releases = {inside(pea.host(f"pea{at}").container, "readlink /opt/paddock/llama.cpp/current") for at in range(1, 6)}
    assert len(releases) == 1
    assert not inside(pea.host("pea2").container, "command -v g++ cmake ccache || true")


def test_a_sixth_host_takes_what_is_there(pea: LabFleet) -> None:
    pea.write(inventory("pea", 6))
    lab_hosts.up(load(pea.inventory))
    before, began = compiled(pea, "pea1"), time.monotonic()
    pea.up("--limit", "pea6")
    print(f"once: the sixth in {time.monotonic() - began:.0f} s", flush=True)
    assert (compiled(pea, "pea1"), compiled(pea, "pea6")) == (before, 0)


def test_a_host_whose_builder_is_left_out_of_the_run_is_told_so(pea: LabFleet) -> None:
    pea.write(inventory("pea", 5).replace("{builder: null, ui: false}", "{ui: false, options: {GGML_LTO: on}}"))
    failed = pea.paddock("up", "--lab", "--yes", "--limit", "pea2")
    assert failed.returncode == 1
    words = r"^pea2: release 0\.3\.36-\w+ needs its builder pea1, which failed or is not in this run: name pea1 in `--limit` too, or .*$"
    assert re.search(words, failed.stderr, re.MULTILINE), failed.stderr
    pea.write(inventory("pea", 5))
    assert "0 changed" in pea.up("--limit", "pea2").stdout


@pytest.fixture(scope="module")
def isle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabFleet]:
    """One host of another fleet, without a compiler and without a way out: the bridge that Paddock comes over is all it has."""
    lab_hosts.down("isle")
    whole = inventory("isle", 1, "false")
    with lab_fleet("isle", tmp_path_factory.mktemp("isle"), whole) as fleet:
        fleet.write(re.sub(r"    llama_cpp.*\n    models.*\n    llama_server.*\n", "", whole))
        fleet.up()
        inside(
            fleet.host("isle1").container,
            "apt-get -qq update && apt-get -qq -y install libgomp1 libstdc++6 >/dev/null 2>&1 && ip route del default",
        )
        fleet.write(whole)
        yield fleet


def test_a_host_that_nothing_may_be_compiled_for_says_what_it_needs(isle: LabFleet) -> None:
    failed = isle.paddock("up", "--lab", "--yes")
    assert failed.returncode == 1
    assert "isle1: roles.llama_cpp.builder: nothing is to be compiled for this host, and no artifact fits it: " in failed.stderr


def test_an_artifact_for_a_newer_c_library_is_refused_before_it_is_installed(pea: LabFleet, isle: LabFleet, tmp_path: Path) -> None:
    carried, _ = exported(pea, tmp_path)
    altered = newer(carried)
    refused = isle.paddock("artifacts", "import", "--lab", str(altered))
    assert refused.returncode == 1 and "is not signed, so nobody can say whether it is what was built" in refused.stderr, refused.stderr
    imported = isle.paddock("artifacts", "import", "--lab", "--unsigned", str(altered))
    assert imported.returncode == 0, imported.stderr
    assert "it runs with glibc 2.99 or later" in imported.stderr
    failed = isle.paddock("up", "--lab", "--yes")
    assert failed.returncode == 1
    assert re.search(r"no artifact fits it \(0\.3\.36-\w+ needs glibc 2\.99, the host has 2\.41\)", failed.stderr), failed.stderr
    assert not inside(isle.host("isle1").container, "ls /opt")
    assert isle.paddock("artifacts", "prune", "--lab").returncode == 0
    assert isle.paddock("artifacts", "list", "--lab").stdout == ""


def test_an_artifact_that_was_carried_installs_a_host_without_a_compiler_and_a_way_out(
    pea: LabFleet, isle: LabFleet, tmp_path: Path
) -> None:
    container = isle.host("isle1").container
    assert "unreachable" in inside(container, "bash -c '</dev/tcp/192.0.2.1/80' 2>&1 || true")
    assert not inside(container, "command -v g++ gcc cc cmake || true")
    carried, key = exported(pea, tmp_path)
    refused = isle.paddock("artifacts", "import", "--lab", str(carried))
    assert refused.returncode == 1 and f"is signed by another fleet, with the key {key}: if" in refused.stderr, refused.stderr
    imported = isle.paddock("artifacts", "import", "--lab", "--key", key, str(carried))
    assert imported.returncode == 0, imported.stderr
    assert re.search(rf"^  isle1: release \S+ was not built by this fleet: imported, signed by {key}$", isle.up().stdout, re.MULTILINE)
    body = json.dumps({"model": "demo", "prompt": "Hello", "max_tokens": 8})
    asked = f"curl -sS http://127.0.0.1:8080/v1/completions -H 'Content-Type: application/json' -d '{body}'"
    assert '"text_completion"' in inside(container, asked)
    assert "0 changed" in isle.up().stdout


def exported(fleet: LabFleet, directory: Path) -> tuple[Path, str]:
    """The artifact that the fleet's hosts serve, as a file, and the key that it is signed with."""
    listed = json.loads(fleet.paddock("artifacts", "list", "--lab", "--json").stdout)
    (name,) = {each["name"] for each in listed if each["hosts"]}
    done = fleet.paddock("artifacts", "export", "--lab", name, "-o", str(directory))
    assert done.returncode == 0, done.stderr
    key = re.search(r"--key ([0-9a-f]{64})$", done.stderr, re.MULTILINE)
    assert key, done.stderr
    return Path(done.stdout.strip()), key[1]


def newer(carried: Path) -> Path:
    """The same artifact, were it built with a C library that is yet to come: its programs ask for a later version of some symbols. All
    digests fit; whoever has the file can do that, but for the signature."""
    with tarfile.open(carried) as tar:
        described, packed = (tar.extractfile(name) for name in ("artifact.json", "release.tar.gz"))
        assert described and packed
        said, files = json.loads(described.read()), io.BytesIO(packed.read())
    changed = io.BytesIO()
    sums = {}
    with (
        tarfile.open(fileobj=files) as old,
        gzip.GzipFile(fileobj=changed, mode="wb") as zipped,
        tarfile.open(fileobj=zipped, mode="w") as new,
    ):
        for member in old.getmembers():
            file = old.extractfile(member)
            content = file.read() if file else b""
            if "/bin/" in member.name:
                content = content.replace(f"GLIBC_{said['libc']}".encode(), b"GLIBC_2.99")
                sums[member.name.partition("/")[2]] = hashlib.sha256(content).hexdigest()
            if member.name.endswith("/MANIFEST"):
                manifest = member
                continue
            member.size = len(content)
            new.addfile(member, io.BytesIO(content))
        content = "".join(f"{digest}  {path}\n" for path, digest in sorted(sums.items())).encode()
        manifest.size = len(content)
        new.addfile(manifest, io.BytesIO(content))
    archive = changed.getvalue()
    del said["signer"], said["signature"]
    said |= {"libc": "2.99", "sha256": hashlib.sha256(archive).hexdigest(), "size": len(archive)}
    target = carried.with_name("newer.paddock.tar")
    with tarfile.open(target, "w") as tar:
        for name, content in (("artifact.json", json.dumps(said).encode()), ("release.tar.gz", archive)):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return target
