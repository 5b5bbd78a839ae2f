"""Archives and programs of others take no more of this machine than they may: real archives, real processes."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import os
import socket
import struct
import subprocess
import sys
import tarfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from test_artifacts import NAME, PROGRAM, RELEASE, packed

from control.fetching.archives import members
from control.fetching.limited import limited
from control.llama_cpp.artifacts import Artifacts, needs_of
from control.llama_cpp.sources import source_archive
from control.state.fleet import FleetState
from inventory import bounds
from inventory.bounds import Bound, TooMuch
from inventory.errors import PaddockError
from roles.source import Source
from tests.slow_server import OK, answering

ROOT = Path(__file__).parents[3]


def tar_of(path: Path, *entries: tuple[tarfile.TarInfo, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for info, content in entries:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


@pytest.fixture
def artifacts(tmp_path: Path) -> Artifacts:
    return Artifacts(FleetState(tmp_path / "home.yml", "home", tmp_path / ".paddock" / "home"))


def sparse(size: int) -> bytes:
    """A tar archive of a file with a hole of so many bytes, as GNU tar packs it, and nothing else."""
    info = tarfile.TarInfo(f"{NAME}/bin/llama-server")
    info.type = tarfile.GNUTYPE_SPARSE
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    number = struct.pack(">BxxxQ", 0x80, size)  # in base 256
    block[386:398], block[398:410], block[483:495] = number, b"00000000000\0", number
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + bytes(1024)


def test_an_artifact_with_a_hole_is_refused(artifacts: Artifacts, tmp_path: Path) -> None:
    (tmp_path / "plain.tar").write_bytes(sparse(4 << 40))
    with tarfile.open(tmp_path / "plain.tar") as tar:
        (member,) = tar.getmembers()
        assert member.issparse() and member.size == 4 << 40
    (tmp_path / "built.tar.gz").write_bytes(gzip.compress(sparse(4 << 40)))
    with pytest.raises(TooMuch, match="its archive has a file with holes"):
        artifacts.add(tmp_path / "built.tar.gz", RELEASE, "debian 13")


def test_real_tar_makes_such_a_file(tmp_path: Path) -> None:
    """Of every format that it has for them."""
    hole = tmp_path / "hole"
    with hole.open("wb") as file:
        file.truncate(1 << 40)
        file.seek(1 << 39)
        file.write(b"x")
    for format in ("gnu", "pax --sparse-version=0.0", "pax --sparse-version=0.1", "pax --sparse-version=1.0"):
        command = ["tar", "-C", str(tmp_path), "--sparse", *f"--format={format}".split(), "-cf", str(tmp_path / "x.tar"), "hole"]
        subprocess.run(command, check=True)
        with pytest.raises((TooMuch, tarfile.ReadError)):
            for member in members(tmp_path / "x.tar", bounds.ARTIFACT, "x"):
                for _ in member.blocks():
                    pass


BOMBS: dict[str, Any] = {"gzip": partial(gzip.open, mode="wb", compresslevel=1), "xz": partial(lzma.open, mode="wb", preset=0)}


@pytest.mark.parametrize("kind", BOMBS)
@pytest.mark.parametrize("read", [False, True], ids=["passed over", "read"])
def test_an_archive_that_unpacks_to_more_than_it_may_is_refused(kind: str, read: bool, tmp_path: Path) -> None:
    small, info = replace(bounds.ARTIFACT, size=32 << 20), tarfile.TarInfo("x/zeros")
    info.size = 24 << 20
    with BOMBS[kind](tmp_path / "bomb") as file:
        for _ in range(3):
            file.write(info.tobuf() + bytes(info.size))
    with pytest.raises(TooMuch, match="its archive unpacks to more than 32 MiB"):
        for member in members(tmp_path / "bomb", small, "x"):
            assert not read or sum(map(len, member.blocks())) == info.size


def peak_mib(script: str) -> int:
    """Runs Python code in a process of its own, and gives the most memory that it took."""
    told = "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
    done = subprocess.run([sys.executable, "-c", f"{script}\n{told}"], cwd=ROOT, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1])


READS = """
from pathlib import Path
from control.fetching.archives import members
from inventory import bounds
try:
    for member in members(Path({path!r}), bounds.SOURCE, "x"):
        for block in member.blocks(): pass
except Exception as error: print(repr(error))
"""


def test_a_bomb_takes_no_memory(tmp_path: Path) -> None:
    """160 MiB in a file, and in a header, which tarfile reads in one piece."""
    for name, type in (("content", tarfile.REGTYPE), ("header", tarfile.XHDTYPE), ("name", tarfile.GNUTYPE_LONGNAME)):
        info = tarfile.TarInfo("x/zeros")
        info.type, info.size = type, 160 << 20
        with gzip.open(tmp_path / name, "wb", compresslevel=1) as file:
            file.write(info.tobuf())
            for _ in range(160):
                file.write(bytes(1 << 20))
    nothing, *bombs = (peak_mib(READS.format(path=str(tmp_path / name))) for name in ("none", "content", "header", "name"))
    assert max(bombs) < nothing + 64


def test_xz_that_wants_much_memory_is_refused(tmp_path: Path) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 30}]
    (tmp_path / "x").write_bytes(lzma.compress(b"x", filters=filters))
    with pytest.raises(tarfile.ReadError, match="Memory usage limit"):
        list(members(tmp_path / "x", bounds.SOURCE, "x"))


def test_an_archive_of_too_many_files_is_refused(tmp_path: Path) -> None:
    path = tar_of(tmp_path / "x", *((tarfile.TarInfo(f"x/{number}"), b"") for number in range(101)))
    with pytest.raises(TooMuch, match="more than 100 files"):
        list(members(path, replace(bounds.SOURCE, items=100), "x"))


def test_an_archive_of_many_parts_is_read_whole(tmp_path: Path) -> None:
    """gzip, bzip2 and xz alike: one behind the other, with zeros at the end, as tar pads what it writes to a tape."""
    plain = tar_of(tmp_path / "plain", (tarfile.TarInfo("x/one"), b"1" * 70_000), (tarfile.TarInfo("x/two"), b"2"), mode="w:").read_bytes()
    for pack in (gzip.compress, lzma.compress, __import__("bz2").compress):
        (tmp_path / "x").write_bytes(pack(plain[:700]) + pack(plain[700:]) + bytes(512))
        found = {each.name: each.content() for each in members(tmp_path / "x", bounds.SOURCE, "x")}
        assert found == {"x/one": b"1" * 70_000, "x/two": b"2"}


def test_an_archive_that_is_cut_off_says_so(tmp_path: Path) -> None:
    whole = tar_of(tmp_path / "x", (tarfile.TarInfo("x/one"), os.urandom(70_000))).read_bytes()
    for path, data in (("packed", whole[:30_000]), ("plain", gzip.decompress(whole)[:30_000])):
        (tmp_path / path).write_bytes(data)
        with pytest.raises(tarfile.ReadError, match="cut off"):
            [each.content() for each in members(tmp_path / path, bounds.SOURCE, "x")]


def test_a_carried_artifact_is_read_as_plain_tar_of_two_files(artifacts: Artifacts, tmp_path: Path) -> None:
    bomb = tmp_path / "carried"
    with gzip.open(bomb, "wb", compresslevel=1) as file:
        info = tarfile.TarInfo("artifact.json")
        info.size = 300 << 20
        file.write(info.tobuf())
        for _ in range(300):
            file.write(bytes(1 << 20))
    with pytest.raises(PaddockError, match="its description has 314572800 bytes"):
        artifacts.take_in(bomb)


def test_a_program_that_leads_its_reader_in_circles_is_a_damaged_one(artifacts: Artifacts, tmp_path: Path) -> None:
    """Its table of versions says that it has four billion entries, each of which names itself as the next."""
    from elftools.elf.elffile import ELFFile

    elf, hostile = ELFFile(io.BytesIO(PROGRAM)), bytearray(PROGRAM)
    number, section = next((n, each) for n, each in enumerate(elf.iter_sections()) if each["sh_type"] == "SHT_GNU_verneed")
    header = elf["e_shoff"] + number * elf["e_shentsize"]
    struct.pack_into("<I", hostile, header + 44, 0xFFFFFFFF)  # sh_info
    struct.pack_into("<I", hostile, section["sh_offset"] + 12, 0)  # vn_next
    began = time.monotonic()
    with pytest.raises(PaddockError, match="damaged program"):
        needs_of({"bin/llama-server": bytes(hostile)})

    def exchanged(files: dict[str, bytes]) -> None:
        files["bin/llama-server"] = bytes(hostile)
        files["MANIFEST"] = f"{hashlib.sha256(bytes(hostile)).hexdigest()}  bin/llama-server\n".encode()

    with pytest.raises(PaddockError, match="bin/llama-server is a damaged program"):
        artifacts.add(packed(tmp_path / "built.tar.gz", exchanged), RELEASE, "debian 13")
    assert time.monotonic() - began < 120


def test_a_source_archive_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from control.llama_cpp import sources

    monkeypatch.setattr(sources, "SOURCE", replace(bounds.SOURCE, size=1 << 20))
    data = tar_of(
        tmp_path / "x", (tarfile.TarInfo("l/include/llama.h"), b""), (tarfile.TarInfo("l/CMakeLists.txt"), bytes(2 << 20))
    ).read_bytes()

    def send(connection: socket.socket) -> None:
        connection.sendall(OK + b"Content-Length: %d\r\n\r\n" % len(data) + data)

    with (
        answering(send) as url,
        pytest.raises(TooMuch, match=r"source, archive [0-9a-f]+: its archive unpacks to more than 1 MiB"),
    ):
        source_archive(Source(archive=f"{url}/x.tar.gz", sha256=hashlib.sha256(data).hexdigest()), tmp_path)
    (tmp_path / "tree/include").mkdir(parents=True)
    (tmp_path / "tree/include/llama.h").touch()
    with (tmp_path / "tree/CMakeLists.txt").open("wb") as file:
        file.truncate(2 << 20)
    with pytest.raises(PaddockError, match="which has 1 MiB in 100,000 files at most"):
        source_archive(Source(path="tree"), tmp_path)


def test_a_program_that_writes_without_end_is_stopped(tmp_path: Path) -> None:
    small = Bound("a test's program", 1 << 20, 20, 4096)
    ended = limited(["sh", "-c", "cat /dev/zero >big"], small, cwd=tmp_path)
    assert ended.status not in (0, None) and (tmp_path / "big").stat().st_size == 1 << 20
    said = limited(["sh", "-c", "yes a line; echo never"], small, cwd=tmp_path)
    assert said.status != 0 and len(said.said) <= 4096


def test_a_program_that_does_not_end_is_stopped_with_its_children(tmp_path: Path) -> None:
    ended = limited(["sh", "-c", "sleep 600 & echo $! >pid; wait"], Bound("a test's program", 1 << 20, 0.5, 4096), cwd=tmp_path)
    assert ended.status is None
    state = Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}/stat")
    end = time.monotonic() + 5
    while state.exists() and ") Z " not in state.read_text() and time.monotonic() < end:
        time.sleep(0.05)
    assert not state.exists() or ") Z " in state.read_text()
