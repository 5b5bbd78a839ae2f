"""A backup of a fleet's state: what goes in comes out, and what is not as it says is refused before anything is touched."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pyrage
import pytest

from control.lifecycle.archive import Database, Entry, Manifest, Reading, Record, packed
from control.lifecycle.backup import Made, back_up, backups, directory_of, prune, target_of
from control.lifecycle.restore import checked, opened, put_state, require_fits
from control.state.fleet import FleetState
from control.state.lineage import lineage_of, note_change, told_hosts
from control.state.sealing import seal_file, unseal_file
from control.state.secrets import Vault
from inventory.errors import PaddockError

COPY = bytes(range(256)) * 5000


@pytest.fixture
def filled(state: FleetState, vault: Vault) -> FleetState:
    """With a secret, a pinned key, an artifact, and an inventory beside it."""
    state.inventory.write_text("fleet: home\nhosts: {}\n")
    vault.set("token", "hush")
    state.pin("pea", "192.0.2.7", "ssh-ed25519 AAAA")
    (state.directory("artifacts") / "0.3-1f.json").write_text("{}")
    (state.path / "artifacts" / "0.3-1f.tar.gz").write_bytes(b"large")
    (state.directory("history") / "000001.json").write_text("{}")
    (state.directory("export", "laptop") / "key.pem").write_text("clear")
    (state.path / "lock").write_text("")
    told_hosts(state)
    return state


def files_in(directory: Path) -> dict[str, bytes]:
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def made(state: FleetState, *, artifacts: bool = False) -> Made:
    return back_up(state, target_of(state, None), {}, artifacts=artifacts)


def elsewhere(tmp_path: Path) -> FleetState:
    """The fleet on another control machine."""
    (tmp_path / "other").mkdir(exist_ok=True)
    return FleetState.of(tmp_path / "other" / "home.yml", "home")


def restored(file: Path, state: FleetState) -> Path | None:
    with opened(Vault(state, looks=True), file, state.path) as backup:
        require_fits(backup.manifest, state, file)
        return put_state(backup, state, state.inventory)


def test_a_state_comes_back_on_another_machine_as_it_was(filled: FleetState, tmp_path: Path) -> None:
    backup = made(filled)
    other = elsewhere(tmp_path)
    assert restored(backup.file, other) is None
    wanted = {name: data for name, data in files_in(filled.path).items() if name.split("/")[0] not in ("reports", "export", "lock")}
    assert files_in(other.path) == {name: data for name, data in wanted.items() if not name.endswith(".tar.gz") and "admission" not in name}
    assert Vault(other).get("token") == "hush" and other.pinned("pea") == "ssh-ed25519 AAAA"
    assert other.inventory.read_text() == filled.inventory.read_text()
    assert lineage_of(other) == lineage_of(filled)
    modes = {path.stat().st_mode & 0o777 for path in [other.path, *other.path.rglob("*")]}
    assert modes == {0o700, 0o600}
    assert not list(other.path.parent.glob(".restore-*"))


def test_a_fleet_without_a_state_has_one_after_its_first_backup(state: FleetState, tmp_path: Path) -> None:
    state.inventory.write_text("fleet: home\nhosts: {}\n")
    other = elsewhere(tmp_path)
    restored(made(state).file, other)
    assert (other.path / "recipients.txt").read_bytes() == (state.path / "recipients.txt").read_bytes()


def test_archives_of_releases_go_along_where_they_are_asked_for(filled: FleetState, tmp_path: Path) -> None:
    other = elsewhere(tmp_path)
    restored(made(filled, artifacts=True).file, other)
    assert (other.path / "artifacts" / "0.3-1f.tar.gz").read_bytes() == b"large"


def test_nothing_of_it_lies_in_the_clear(filled: FleetState) -> None:
    backup = made(filled)
    assert backup.file.stat().st_mode & 0o777 == 0o600 and backup.file.parent.stat().st_mode & 0o777 == 0o700
    data = backup.file.read_bytes()
    assert data.startswith(b"age-encryption.org/v1") and b"AAAA" not in data and b"fleet" not in data
    assert (directory_of(filled) / ".gitignore").read_text() == "*\n"


def test_the_newest_backups_stay(filled: FleetState) -> None:
    made(filled)
    for name in ("20260101T000000Z", "20260102T000000Z", "20260103T000000Z"):
        back_up(filled, directory_of(filled) / f"{name}.tar.age", {})
    (directory_of(filled) / "mine.tar.age").write_bytes(b"x")
    before = backups(filled)
    assert prune(filled, 2) == tuple(before[:-2])
    assert backups(filled) == before[-2:] and (directory_of(filled) / "mine.tar.age").exists()


def test_a_backup_lies_neither_in_the_state_nor_in_place_of_a_file(filled: FleetState, tmp_path: Path) -> None:
    with pytest.raises(PaddockError, match="lies in the state that is backed up"):
        target_of(filled, filled.path)
    (tmp_path / "there").write_text("mine")
    with pytest.raises(PaddockError, match="is there already"):
        target_of(filled, tmp_path / "there")
    with pytest.raises(PaddockError, match="no such directory"):
        target_of(filled, tmp_path / "nowhere" / "file")
    assert target_of(filled, tmp_path).parent == tmp_path


def test_who_is_no_recipient_is_told_what_to_do(filled: FleetState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backup = made(filled)
    monkeypatch.setenv("PADDOCK_AGE_IDENTITY", str(pyrage.x25519.Identity.generate()))
    with pytest.raises(PaddockError, match=r"was encrypted for others than you \(age1.*name an identity of one of them"):
        checked(Vault(filled), backup.file)
    monkeypatch.delenv("PADDOCK_AGE_IDENTITY")
    monkeypatch.setenv("HOME", str(tmp_path / "empty"))
    with pytest.raises(PaddockError, match="there is none here"):
        checked(Vault(elsewhere(tmp_path), looks=True), backup.file)
    assert not (tmp_path / "empty").exists()


@pytest.mark.parametrize("spoilt", ["half", "one byte less", "a byte flipped", "not one at all", "nothing", "a directory"])
def test_a_file_that_is_not_whole_changes_nothing(filled: FleetState, tmp_path: Path, spoilt: str) -> None:
    data = bytearray(made(filled).file.read_bytes())
    data[-70] ^= spoilt == "a byte flipped"
    cut = {"half": len(data) // 2, "one byte less": len(data) - 1}.get(spoilt, len(data))
    file, other = tmp_path / "spoilt", elsewhere(tmp_path)
    if spoilt == "a directory":
        file.mkdir()
    else:
        file.write_bytes({"not one at all": b"PK" * 500, "nothing": b""}.get(spoilt, bytes(data[:cut])))
    with pytest.raises(PaddockError, match=r"spoilt: (is damaged, not whole|cannot be)"):
        restored(file, other)
    assert not other.path.exists() and not list(other.path.parent.glob(".restore-*"))


def test_a_newer_state_or_another_one_is_not_replaced(filled: FleetState, tmp_path: Path) -> None:
    backup = made(filled).file
    other = elsewhere(tmp_path)
    restored(backup, other)
    aside = restored(backup, other)
    assert aside and (aside / "fleet.json").exists(), "the same one is moved aside"
    note_change(other)
    with pytest.raises(PaddockError, match=r"was changed later.*who was let in and thrown out since.*move .* away"):
        restored(backup, other)
    (other.path / "fleet.json").unlink()
    told_hosts(other)
    with pytest.raises(PaddockError, match="is of another state of fleet home"):
        restored(backup, other)
    office = FleetState.of(tmp_path / "office.yml", "office")
    with pytest.raises(PaddockError, match="is of fleet home, and this inventory is of fleet office"):
        restored(backup, office)
    assert not office.path.exists()


# What the archive itself may be, before it is sealed


def entry(name: str, data: bytes) -> Entry:
    return Entry(name, len(data), hashlib.sha256(data).hexdigest(), lambda: iter((data[:7], data[7:])))


def manifest_of(*entries: Entry, **more: object) -> Manifest:
    said = {"fleet": "home", "made": "now", "paddock": "1", "members": [each.member for each in entries], **more}
    return Manifest.model_validate(said)


def read(data: bytes, pieces: int = 1000) -> dict[str, bytes]:
    got: dict[str, bytearray] = {}
    reading = Reading("it", lambda manifest, member: got.setdefault(member.name, bytearray()).extend)
    for at in range(0, len(data), pieces):
        reading.take(data[at : at + pieces])
    reading.close()
    return {name: bytes(content) for name, content in got.items()}


FILES = (entry("state/a", b"one"), entry("state/b/c.age", b""), entry("inventory/home.yml", bytes(512)), entry("databases/pea.dump", COPY))
RECORD = Record(
    name="20261130T155134.123456Z-asked",
    database="sqlite",
    revision="0001",
    created="2026-11-30T15:51:34Z",
    size=len(COPY),
    sha256=hashlib.sha256(COPY).hexdigest(),
    rows={"users": 2},
)


@pytest.mark.parametrize("pieces", [1, 511, 512, 700, 8192, 10**7])
def test_an_archive_is_read_in_pieces_of_any_size(pieces: int) -> None:
    files = FILES if pieces > 1 else FILES[:3]
    data = b"".join(packed(manifest_of(*files), files))
    assert read(data, pieces) == {each.name: b"".join(each.blocks()) for each in files}


def test_other_programs_read_it_too(tmp_path: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(b"".join(packed(manifest_of(*FILES), FILES)))) as tar:
        assert tar.getnames() == ["manifest.json", *(each.name for each in FILES)]
        tar.extractall(tmp_path, filter="data")
    assert (tmp_path / "databases" / "pea.dump").read_bytes() == COPY


def tarred(*files: tuple[str, bytes], kind: bytes = tarfile.REGTYPE) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size, info.type = len(data), kind if name != "manifest.json" else tarfile.REGTYPE
            tar.addfile(info, io.BytesIO(data))
    return made.getvalue()


def text_of(*names: str, size: int = 1, **more: object) -> bytes:
    members = [{"name": name, "size": size, "sha256": hashlib.sha256(b"x").hexdigest()} for name in names]
    return json.dumps({"format": 1, "fleet": "home", "made": "now", "paddock": "1", "members": members, **more}).encode()


def hostile() -> Iterator[tuple[str, bytes, str]]:
    one = ("state/a", b"x")
    for name in (
        "../a",
        "/etc/passwd",
        "state/../../a",
        "state/./a",
        "state//a",
        "state",
        "elsewhere/a",
        "state/a\0b",
        "state/" + "a" * 300,
    ):
        yield f"a name {name[:20]!r}", tarred(("manifest.json", text_of(name)), one), "its manifest makes no sense"
    yield "a link", tarred(("manifest.json", text_of("state/a")), one, kind=tarfile.SYMTYPE), "is no regular file"
    yield "a device", tarred(("manifest.json", text_of("state/a")), one, kind=tarfile.CHRTYPE), "is no regular file"
    yield "no manifest", tarred(one), "does not begin with a manifest"
    yield "a manifest of another kind", tarred(("manifest.json", b"[]"), one), "its manifest makes no sense"
    yield "a deep manifest", tarred(("manifest.json", b"[" * 100_000), one), "its manifest makes no sense"
    yield "another file", tarred(("manifest.json", text_of("state/b")), one), "state/b is not where its manifest says"
    yield "another content", tarred(("manifest.json", text_of("state/a")), ("state/a", b"y")), "is not what its manifest says"
    yield "another size", tarred(("manifest.json", text_of("state/a", size=2)), one), "is not where its manifest says"
    yield "a file twice", tarred(("manifest.json", text_of("state/a", "state/a")), one, one), "says a file twice"
    yield "a file too few", tarred(("manifest.json", text_of("state/a", "state/b")), one), "is not where its manifest says"
    yield "a file too many", tarred(("manifest.json", text_of("state/a")), one, ("state/b", b"x")), "has more files than its manifest says"
    yield "half a file", tarred(("manifest.json", text_of("state/a")), one)[:-10_000], "it ends before its end"
    yield "something behind", tarred(("manifest.json", text_of("state/a")), one) + b"x", "something follows its end"
    yield "sizes beyond all bounds", tarred(("manifest.json", text_of("state/a", size=1 << 50)), one), "its manifest makes no sense"
    yield "no archive", b"x" * 5000, "it is no archive"
    yield "nothing", b"", "it ends before its end"
    databases = [{"host": "pea", "record": RECORD.model_dump()}]
    yield (
        "a database that is not there",
        tarred(("manifest.json", text_of("state/a", databases=databases)), one),
        "says a database of 'pea'",
    )


HOSTILE: Mapping[str, tuple[bytes, str]] = {what: (data, why) for what, data, why in hostile()}


@pytest.mark.parametrize("what", HOSTILE)
def test_an_archive_that_is_not_as_it_says_is_refused(what: str, filled: FleetState, vault: Vault, tmp_path: Path) -> None:
    data, why = HOSTILE[what]
    file = tmp_path / "hostile"
    seal_file(vault, (data,), file)
    other = elsewhere(tmp_path)
    before = files_in(tmp_path)
    with pytest.raises(PaddockError, match=f"hostile: cannot be used: .*{why}"):
        restored(file, other)
    assert files_in(tmp_path) == before


def test_a_file_that_changes_while_it_is_packed_spoils_the_backup() -> None:
    sly = Entry("state/a", 3, hashlib.sha256(b"one").hexdigest(), lambda: iter((b"two",)))
    with pytest.raises(PaddockError, match="state/a: was changed while it was packed"):
        list(packed(manifest_of(sly), [sly]))


def test_what_fails_while_it_is_sealed_leaves_no_file(vault: Vault, tmp_path: Path, filled: FleetState) -> None:
    def blocks() -> Iterator[bytes]:
        yield bytes(1 << 20)
        raise PaddockError("the host is away")

    with pytest.raises(PaddockError, match=r"^the host is away$"):
        seal_file(vault, blocks(), tmp_path / "sealed")
    assert not list(tmp_path.glob("*sealed*")) and not list(tmp_path.glob(".*.tmp"))
    seal_file(vault, (bytes(1 << 20),), tmp_path / "sealed")

    def take(data: bytes) -> None:
        raise PaddockError("the disk is full")

    with pytest.raises(PaddockError, match=r"^the disk is full$"):
        unseal_file(vault, tmp_path / "sealed", take)


class Pea:
    """A gateway's database on a host, as far as a backup asks it."""

    def __init__(self, said: bytes = COPY, fails: str = "") -> None:
        self.said, self.fails, self.removed = said, fails, list[str]()

    def make(self) -> Record:
        if self.fails:
            raise PaddockError(self.fails)
        return RECORD

    def blocks(self, record: Record) -> Iterator[bytes]:
        yield from (self.said[:100_000], self.said[100_000:])

    def remove(self, record: Record) -> None:
        self.removed.append(record.name)


def test_a_database_travels_with_what_its_gateway_says_of_it(filled: FleetState, vault: Vault) -> None:
    pea = Pea()
    backup = back_up(filled, target_of(filled, None), {"pea": pea, "rig": Pea(fails="rig: away")})  # type: ignore[dict-item]
    assert backup.failed == {"rig": "rig: away"} and pea.removed == [RECORD.name]
    assert checked(vault, backup.file).databases == [Database(host="pea", record=RECORD)]


def test_a_copy_that_comes_otherwise_than_its_gateway_said_spoils_the_backup(filled: FleetState) -> None:
    for wrong in (COPY[:-1], COPY + b"x", b"x" + COPY[1:]):
        pea = Pea(wrong)
        with pytest.raises(PaddockError, match=r"databases/pea\.dump: was changed while it was packed"):
            back_up(filled, target_of(filled, None), {"pea": pea})  # type: ignore[dict-item]
        assert pea.removed == [RECORD.name] and backups(filled) == []
