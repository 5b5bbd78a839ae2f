"""One content under several names: it comes to a host once and lies there once, whatever it is called. A real host, real servers."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest

from tests.lab_fleet import lab_fleet
from tests.model_server import gguf, model_server
from tests.serving.test_models import DIRECTORY, MIB, Moles, sha256
from tests.share import turn

pytestmark = turn(4, of=5)

NAME = "namesakes"
SIZE = 40 * MIB
"""More than one archive carries."""


@pytest.fixture(scope="module")
def moles(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moles]:
    """A host with the tiny model alone."""
    bare = {"address": "192.0.2.1", "roles": {"base": {}}}
    inventory = f'{{"fleet": "{NAME}", "domain": "home.example", "hosts": {{"one": {bare}}}}}'.replace("'", '"')
    with model_server() as server, lab_fleet(NAME, tmp_path_factory.mktemp(NAME), inventory, ready=True) as lab:
        host = lab.host("one")
        here = Moles(lab, {"one": host}, server, str(next(ip_network(host.network).hosts())))
        here.write()
        here.up()
        yield here


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("big")
    gguf(path, "big", SIZE)
    return path / "big.gguf"


def files_of(moles: Moles, *names: str) -> dict[str, int]:
    """Name → which file it is."""
    found = moles.inside("one", f"cd {DIRECTORY} && stat -c '%n %i' {' '.join(f'{name}.gguf' for name in names)}")
    return {name.removesuffix(".gguf"): int(inode) for name, inode in (line.split() for line in found.splitlines())}


def room(moles: Moles) -> int:
    """MiB that the models take."""
    return int(moles.inside("one", f"du -sm {DIRECTORY}").split()[0])


def test_two_names_of_one_url_are_fetched_once_and_both_are_served(moles: Moles, big: Path) -> None:
    for name in ("chat", "talk"):
        moles.offers(name, big.read_bytes())
        moles.models[name]["url"] = f"http://{moles.here}:{moles.server.port}/chat.gguf"
    moles.write(one=["chat", "talk"])
    moles.up()
    assert [each.path for each in moles.server.asked] == ["/chat.gguf"]
    assert len(set(files_of(moles, "chat", "talk").values())) == 1
    assert room(moles) < 2 * (SIZE // MIB)
    for name in ("chat", "talk"):
        assert "tiny model" in moles.answer(name)


def test_a_model_that_gets_another_name_is_there_at_once_and_the_old_file_stays(moles: Moles, big: Path) -> None:
    moles.server.forget()
    moles.models = {"voice": moles.models["chat"]}
    moles.write(one=["voice"])
    planned = moles.lab.paddock("plan")
    assert f"  + model:{DIRECTORY}/voice.gguf  (is there: {DIRECTORY}/chat.gguf)" in planned.stdout, planned.stdout + planned.stderr
    moles.up()
    assert moles.server.asked == []
    assert len(set(files_of(moles, "chat", "talk", "voice").values())) == 1
    assert moles.served() == {"tiny", "voice"} and "tiny model" in moles.answer("voice")
    moles.paddock("verify")


def test_a_file_of_this_machine_is_not_sent_where_the_host_has_it_by_another_name(moles: Moles, big: Path) -> None:
    moles.models["mine"] = {"local": str(big), "sha256": sha256(big.read_bytes())}
    moles.write(one=["voice", "mine"])
    said = moles.up()
    assert "of 40 MiB" not in said and len(set(files_of(moles, "voice", "mine").values())) == 1


def test_what_was_altered_without_a_trace_is_fetched_once_for_all_names(moles: Moles, big: Path) -> None:
    path = f"{DIRECTORY}/voice.gguf"
    flip = f"printf '\\377' | dd of={path} bs=1 seek={10 * MIB} conv=notrunc status=none"
    moles.inside("one", f"touch -r {path} /root/then; {flip}; touch -r /root/then {path}")
    moles.paddock("up", "--yes", "--no-verify", "--deep")
    assert [each.path for each in moles.server.asked] == ["/chat.gguf"]
    assert len(set(files_of(moles, "voice", "mine").values())) == 1
    assert moles.digest(path) == sha256(big.read_bytes())
    moles.paddock("verify", "--deep")


def test_a_prune_says_what_it_frees_and_takes_no_name_that_is_served(moles: Moles, big: Path) -> None:
    """`chat` and `talk` are names of the file that was altered, of which no other is left; `more` is one of the file that is served."""
    moles.offers("voice", big.read_bytes())
    moles.models["more"] = moles.models["voice"]
    moles.write(one=["voice", "more"])
    moles.up()
    del moles.models["more"]
    moles.write(one=["voice"])
    moles.up()
    freed = 41 if "chat.gguf" in moles.lies() else 0
    said = moles.paddock("models", "prune", "--yes")
    assert said.startswith(f"one: {freed} MiB\n") and f"{DIRECTORY}/more.gguf  41 MiB, which stay under another name\n" in said, said
    assert moles.lies() == {"voice.gguf", "voice.gguf.sha256"}
    assert "tiny model" in moles.answer("voice")
    planned = moles.lab.paddock("plan")
    assert planned.returncode == 0, planned.stdout + planned.stderr
