"""Releases of llama.cpp, packed to travel: kept in the fleet's state, carried out of it and into another's.

    artifacts/NAME.tar.gz       NAME/bin/…, NAME/MANIFEST, NAME/.paddock-release
    artifacts/NAME.json         what it is and what it needs: `inventory.knowledge.Artifact`, signed (see signing.py); this may be in git,
                                the archive is not

An exported artifact is a tar archive of these two. What this fleet's key has not signed counts as not there.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache, cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO

from pydantic import TypeAdapter

from control.fetching.archives import Member, members
from control.llama_cpp.signing import FleetKey, Record, signer_of
from control.state.fleet import FleetState, read, write_atomically
from inventory.bounds import ARTIFACT, ARTIFACT_FILE, PROGRAM, from_json
from inventory.errors import PaddockError
from inventory.knowledge import Artifact
from resources import Release, lines_of

if TYPE_CHECKING:
    from elftools.elf.gnuversions import GNUVerNeedSection

DESCRIPTION_MOST = 1 << 20
"""Bytes of what an artifact says of itself: its description, its list of files."""

ARCHITECTURES = {"EM_X86_64": "x86_64", "EM_AARCH64": "aarch64"}


@dataclass(frozen=True)
class Requirements:
    """What programs need of a host. `libc` is the newest version of the GNU C library that a symbol asks for."""

    architecture: str
    libc: str
    libraries: tuple[str, ...]


@dataclass(frozen=True)
class Contents:
    """What an archive holds: `manifest` is the sha256 of its list of files."""

    needs: Requirements
    manifest: str


@dataclass(frozen=True)
class Artifacts:
    """The artifacts of one fleet."""

    state: FleetState

    @property
    def directory(self) -> Path:
        return self.state.path / "artifacts"

    @cached_property
    def key(self) -> FleetKey:
        return FleetKey(self.state)

    def all(self) -> tuple[Artifact, ...]:
        """In the order of their names. One whose archive is missing is none."""
        return tuple(each for each in self.recorded() if each.archived)

    def recorded(self) -> tuple[Artifact, ...]:
        """In the order of their names, also those of which only the description is here: a state from git has no archives."""
        return tuple(artifact for record, artifact in self._described() if self.key.vouches_for(record))

    def unsigned(self) -> tuple[Artifact, ...]:
        """Those that the fleet's key has not signed, or not as they are now: they are not used."""
        return tuple(artifact for record, artifact in self._described() if not self.key.vouches_for(record))

    def archive(self, name: str) -> Path:
        """Where the archive of this name lies, or is to lie."""
        return self.directory / f"{name}.tar.gz"

    def has(self, release: Release) -> bool:
        return any(each.fingerprint == release.fingerprint for each in self.all())

    def add(self, archive: Path, release: Release, distribution: str) -> Artifact:
        """Takes in the archive that a builder made of a release: the file moves. Raises PaddockError where it is not that, whole."""
        found = _checked(archive, release.name, release.fingerprint)
        needs = found.needs
        artifact = Artifact(
            name=release.name,
            version=release.version,
            fingerprint=release.fingerprint,
            key=release.key,
            profile=release.profile,
            architecture=needs.architecture,
            distribution=distribution,
            libc=needs.libc,
            libraries=needs.libraries,
            sha256=_sha256(archive),
            size=archive.stat().st_size,
            manifest=found.manifest,
        )
        self.keep(archive, artifact)
        return artifact

    def signed_manifest(self, release: Release) -> str:
        """The sha256 of the list of files of a release whose archive is here.

        Raises PaddockError where the fleet's key has not signed it, or where the archive is another than was signed.
        """
        self.key.require()
        for artifact in self.recorded():
            if artifact.fingerprint == release.fingerprint and artifact.manifest:
                self._require_unchanged(artifact)
                return artifact.manifest
        raise PaddockError(
            f"release {release.name}: {self.directory / release.name}.json is not signed by this fleet's key, so no host is given the"
            f" release: `paddock artifacts prune {release.name}`, and it is built anew"
        )

    def take_back(self, archive: Path, release: Release) -> Artifact:
        """Takes in the archive of a release that is recorded here, as a host had it: the file moves. Raises PaddockError where it is not
        the very files that were recorded."""
        try:
            found = _checked(archive, release.name, release.fingerprint)
        except PaddockError as error:
            raise PaddockError(f"{error}: `paddock up --deep` puts it right there") from None
        recorded = next((each for each in self.recorded() if each.fingerprint == release.fingerprint), None)
        if not recorded or recorded.manifest != found.manifest:
            raise PaddockError(
                f"release {release.name}: its files are whole, and not those that were recorded when it was built: "
                f"`paddock artifacts prune {release.name}`, and it is built anew"
            )
        artifact = replace(recorded, sha256=_sha256(archive), size=archive.stat().st_size, archived=True)
        self.keep(archive, artifact)
        return artifact

    def named(self, name: str) -> Artifact:
        """The one of this name, or whose fingerprint begins so. Raises PaddockError."""
        known = tuple(artifact for _, artifact in self._described())
        found = [each for each in known if name in (each.name, each.fingerprint) or (len(name) >= 4 and each.fingerprint.startswith(name))]
        if len(found) != 1:
            have = ", ".join(each.name for each in known) or "none"
            what = "is more than one artifact" if found else "is not an artifact"
            raise PaddockError(f"{name}: {what} of fleet {self.state.fleet} (it has {have})")
        return found[0]

    def export(self, artifact: Artifact, target: Path) -> str:
        """Writes one file that `take_in` reads, anywhere, and gives the public key that has signed it. Raises PaddockError."""
        archive = self.archive(artifact.name)
        record = next((record for record, each in self._described() if each == artifact), {})
        if not self.key.vouches_for(record):
            raise PaddockError(
                f"{self.directory / artifact.name}.json: is not signed by this fleet's key: `paddock artifacts prune {artifact.name}`, then"
                " build it again"
            )
        if not artifact.archived:
            raise PaddockError(
                f"{archive}: the archive is not here, only what is recorded of it: `paddock up` fetches it from a host that has the release"
                " once another lacks it"
            )
        self._require_unchanged(artifact)
        description = json.dumps(record, indent=1).encode()
        try:
            with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".paddock-", delete=False) as file:
                with tarfile.open(fileobj=file, mode="w") as tar:
                    tar.addfile(_member("artifact.json", len(description)), io.BytesIO(description))
                    with archive.open("rb") as packed:
                        tar.addfile(_member("release.tar.gz", artifact.size), packed)
                file.flush()
                os.fsync(file.fileno())
            Path(file.name).chmod(0o644)
            Path(file.name).replace(target)
        except OSError as error:
            raise PaddockError(f"{target}: cannot be written: {error.strerror}") from None
        return str(signer_of(record))

    def take_in(self, source: Path, *, key: str = "", unsigned: bool = False) -> Artifact:
        """Keeps an exported artifact that this fleet's key has signed, or `key`, another fleet's; with `unsigned` also any other.

        Raises PaddockError where it is none, is damaged, is not what it says of itself, or where nobody vouches for it.
        """
        no_artifact = f"{source}: was not written by `paddock artifacts export`"
        with tempfile.TemporaryDirectory(dir=self.state.directory("artifacts"), prefix=".import-") as scratch:
            archive = Path(scratch) / "release.tar.gz"
            try:
                record = _carried(source, archive)
                said = _described_as().validate_python(record)
                imported = self._vouched(source, record, key, unsigned)
            except (tarfile.ReadError, ValueError) as error:
                raise PaddockError(f"{no_artifact}: {lines_of(str(error))[0]}") from None
            except OSError as error:
                raise PaddockError(f"{source}: cannot be read: {error.strerror or error}") from None
            if not re.fullmatch(r"[0-9a-f]{64}", said.fingerprint) or not re.fullmatch(rf"[\w.+-]+-{said.fingerprint[:12]}", said.name):
                raise PaddockError(f"{no_artifact}: {said.name!r} is not the name of a release")
            if _sha256(archive) != said.sha256:
                raise PaddockError(f"{source}: was damaged in transit: its sha256 differs from that of the export")
            found = _checked(archive, said.name, said.fingerprint)
            needs = found.needs
            if (needs.architecture, needs.libc, needs.libraries) != (said.architecture, said.libc, said.libraries):
                raise PaddockError(f"{source}: its description does not match its programs")
            taken = replace(said, manifest=found.manifest, imported=imported, archived=True)
            self.keep(archive, taken)
        return taken

    def _vouched(self, source: Path, record: Record, key: str, unsigned: bool) -> str:
        """How an artifact is known from now on: see `Artifact.imported`. Raises PaddockError where it is not to be taken."""
        signer = signer_of(record)
        if signer is None:
            raise PaddockError(f"{source}: was changed after it was signed, so nothing was taken: export it again")
        if signer and signer == self.key.public:
            return str(record.get("imported", ""))
        if signer and signer == key:
            return f"signed by {signer}"
        if unsigned:
            return "unsigned"
        if signer:
            raise PaddockError(
                f"{source}: is signed by another fleet, with the key {signer}: if `paddock artifacts export` said just that key where it"
                f" was exported, add `--key {signer}`"
            )
        raise PaddockError(
            f"{source}: is not signed, so nobody can say whether it is what was built: export it again with this version; `--unsigned`"
            " takes it as it is"
        )

    def _require_unchanged(self, artifact: Artifact) -> None:
        """Raises PaddockError. Files that no list has would come to a host with the rest."""
        archive = self.archive(artifact.name)
        if _sha256(archive) != artifact.sha256:
            raise PaddockError(
                f"{archive}: was changed since it was stored: `paddock artifacts prune {artifact.name}`, then build it again"
            )

    def remove(self, artifact: Artifact) -> None:
        self.archive(artifact.name).unlink(missing_ok=True)
        (self.directory / f"{artifact.name}.json").unlink(missing_ok=True)

    def keep(self, archive: Path, artifact: Artifact) -> None:
        """Signs what is known of an archive, and keeps both: the file moves. The archive first: what is described is there."""
        self.state.directory("artifacts")
        record = self.key.signed(_description(artifact))
        with archive.open("rb") as file:
            os.fsync(file.fileno())
        archive.chmod(0o600)
        archive.replace(self.archive(artifact.name))
        write_atomically(self.directory / f"{artifact.name}.json", json.dumps(record, indent=1) + "\n")

    def _described(self) -> Iterator[tuple[Record, Artifact]]:
        """What each description says, as it is written and as it is understood, whoever signed it."""
        for path in sorted(self.directory.glob("*.json")):
            try:
                record = _record(read(path) or b"")
                found = _described_as().validate_python(record)
            except ValueError:
                continue  # written by another version, or by hand
            if found.name == path.name.removesuffix(".json"):
                yield record, replace(found, archived=self.archive(found.name).is_file())


@cache
def _described_as() -> TypeAdapter[Artifact]:
    """Made once: a run reads all descriptions a few times."""
    return TypeAdapter(Artifact)


def _description(artifact: Artifact) -> dict[str, object]:
    """As it is written down: whether the archive is there, the archive says itself."""
    return {name: value for name, value in asdict(artifact).items() if name != "archived"}


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o644
    return member


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _carried(source: Path, archive: Path) -> Record:
    """What an exported file says of its release, which is laid at `archive`.

    Raises ValueError or tarfile.ReadError where it is no such file.
    """
    names = ("artifact.json", "release.tar.gz")
    found = members(source, ARTIFACT_FILE, str(source))
    for name, member in zip(names, found, strict=False):
        if member.name != name or not member.info.isreg():
            raise ValueError("it holds other files")
        if name == names[0]:
            if member.info.size > DESCRIPTION_MOST:
                raise ValueError(f"its description has {member.info.size} bytes")
            record = _record(member.content())
            continue
        with archive.open("wb") as file:
            file.writelines(member.blocks())
        if next(found, None):
            raise ValueError("it holds other files")
        return record
    raise ValueError("it holds other files")


def _record(text: bytes) -> Record:
    """Raises ValueError where it is no description."""
    found = from_json(text)
    if not isinstance(found, dict):
        raise ValueError("its description is none")
    return found


def _checked(archive: Path, name: str, fingerprint: str) -> Contents:
    """Raises PaddockError where an archive is not that release, whole."""
    texts, programs = {}, {}
    needs = Needs()
    try:
        for path, member in _files(archive, name):
            if path in (".paddock-release", "MANIFEST"):
                texts[path] = _text(member, name)
            elif path.startswith("bin/"):
                programs[path] = needs.learn(path, member.blocks())
    except tarfile.ReadError as error:
        raise PaddockError(f"release {name}: its archive cannot be read: {error}") from None
    if texts.get(".paddock-release", b"").decode(errors="replace").strip() != fingerprint:
        raise PaddockError(f"release {name}: its archive holds another release")
    listed = [line.partition("  ") for line in texts.get("MANIFEST", b"").decode(errors="replace").split("\n") if line]
    if sorted(path for _, _, path in listed) != sorted(programs):
        raise PaddockError(f"release {name}: its archive lacks files that its manifest names")
    for sha256, _, path in listed:
        if programs[path] != sha256:
            raise PaddockError(f"release {name}: {path} differs from its manifest: it was damaged")
    return Contents(needs.found(), hashlib.sha256(texts["MANIFEST"]).hexdigest())


def _files(archive: Path, name: str) -> Iterator[tuple[str, Member]]:
    """The regular files below the one directory that the archive may hold. Links lie beside what they lead to, or it is refused."""
    for member in members(archive, ARTIFACT, f"release {name}"):
        path = PurePosixPath(member.name)
        if path.parts[:1] != (name,) or ".." in path.parts:
            raise PaddockError(f"release {name}: its archive holds {member.name}")
        if member.info.issym() and "/" not in member.info.linkname:
            continue
        if not (member.info.isdir() or member.info.isreg()):
            raise PaddockError(f"release {name}: its archive contains an unexpected file: {member.name}")
        if member.info.isreg():
            yield str(path.relative_to(name)), member


def _text(member: Member, name: str) -> bytes:
    if member.info.size > DESCRIPTION_MOST:
        raise PaddockError(f"release {name}: its archive contains an unexpected file: {member.name}, of {member.info.size} bytes")
    return member.content()


def needs_of(programs: Mapping[str, bytes]) -> Requirements:
    """What ELF files, by name, need that is not among them. Raises PaddockError where they are not all for one architecture."""
    needs = Needs()
    for name, content in programs.items():
        needs.learn(name, [content])
    return needs.found()


class Needs:
    """What the programs of a release need, learned of one after the other."""

    def __init__(self) -> None:
        self.architectures: set[str] = set()
        self.damaged = ""
        self.versions, self.libraries, self.names = {"0"}, set[str](), list[str]()

    def learn(self, name: str, blocks: Iterable[bytes]) -> str:
        """Reads one program, which lies on the disk meanwhile, and gives its sha256."""
        self.names.append(name)
        digest = hashlib.sha256()
        with tempfile.TemporaryFile() as file:
            for block in blocks:
                digest.update(block)
                file.write(block)
            file.seek(0)
            if file.read(4) == b"\x7fELF":  # no web page, no kernel of a backend
                self._learn_elf(name, file)
        return digest.hexdigest()

    def _learn_elf(self, name: str, file: BinaryIO) -> None:
        from elftools.common.exceptions import ELFError, ELFParseError
        from elftools.construct import ConstructError
        from elftools.elf.dynamic import DynamicSection
        from elftools.elf.elffile import ELFFile
        from elftools.elf.gnuversions import GNUVerNeedSection

        try:
            elf = ELFFile(_Glimpsed(file))  # type: ignore[arg-type]  # as much of a file as it needs
            self.architectures.add(ARCHITECTURES.get(elf["e_machine"], str(elf["e_machine"])))
            for section in elf.iter_sections():
                if isinstance(section, DynamicSection):
                    self.libraries |= {str(tag.needed) for tag in section.iter_tags("DT_NEEDED")}  # type: ignore[attr-defined]  # set by its tag
                if isinstance(section, GNUVerNeedSection):
                    self.versions |= set(_libc(section))
        except (ELFError, ELFParseError, ConstructError, ValueError, LookupError, AttributeError, TypeError, AssertionError) as error:
            self.damaged = self.damaged or f"{name} is a damaged program: {error}"

    def found(self) -> Requirements:
        """Raises PaddockError where one is damaged, or they are not all for one architecture."""
        if self.damaged:
            raise PaddockError(self.damaged)
        if len(self.architectures) != 1:
            raise PaddockError(f"its programs are for {' and '.join(sorted(self.architectures)) or 'no architecture'}")
        own = {PurePosixPath(path).name for path in self.names}
        return Requirements(
            architecture=next(iter(self.architectures)),
            libc=max(self.versions, key=lambda version: [int(part) for part in version.split(".")]),
            libraries=tuple(sorted(each for each in self.libraries if each not in own and not any(name.startswith(each) for name in own))),
        )


class _Glimpsed:
    """A program as elftools reads it: a little here and there. One that leads it in circles is damaged."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.left = file, PROGRAM.size
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        data = self.file.read(size if 0 <= size <= self.left else self.left)
        self.left -= len(data) + 1
        if self.left <= 0:
            raise ValueError("what it says of itself has no end")
        return data


def _libc(section: GNUVerNeedSection) -> Iterable[str]:
    for _, symbols in section.iter_versions():
        for symbol in symbols:
            if version := re.fullmatch(r"GLIBC_([0-9]+(?:\.[0-9]+)*)", symbol.name):
                yield version[1]
