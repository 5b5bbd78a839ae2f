"""What must not be read by others: sealed with age to every recipient of the fleet, opened with an identity of the operator's.

An identity is an age key, or an SSH key without a passphrase; it never lies in the state directory. See https://age-encryption.org/v1.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from control.state.fleet import FleetState, at_home, in_words, make_private, read, sync_directory, write_atomically
from control.state.lineage import note_change
from control.state.recipients import Recipients
from inventory.errors import PaddockError
from resources import UNOPENED, lines_of

NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
AGE_SECRET = "AGE-SECRET-KEY-"


@dataclass(frozen=True)
class Identity:
    """A private key as pyrage knows it, its public half (empty where that is not known), and where it was found."""

    key: Any = field(repr=False)
    public: str
    where: str


class Vault:
    """Sealed bytes by name: `ca.key` lies in `<state>/ca.key.age`, `secrets/hf-token` in `<state>/secrets/hf-token.age`."""

    def __init__(self, state: FleetState, *, looks: bool = False) -> None:
        """One that only `looks` makes no identity. What none opens it gives as UNOPENED, and `unopened` has its name."""
        self._state = state
        self._looks = looks
        self.recipients = Recipients(state)
        self.unopened: dict[str, None] = {}
        self._found: tuple[Identity, ...] | None = None

    def seal(self, name: str, data: bytes) -> None:
        """Keep `data` so that each of the recipients can open it. The first seal of all makes an identity where there is none."""
        import pyrage

        path = self.path(name)
        self._state.directory(*path.relative_to(self._state.path).parts[:-1])
        note_change(self._state)
        write_atomically(path, pyrage.encrypt(data, self.recipient_keys()))

    def unseal(self, name: str) -> bytes:
        """What was sealed. Raises PaddockError where it is missing or damaged, or where it was sealed to others."""
        import pyrage

        path = self.path(name)
        sealed = read(path)
        if sealed is None:
            raise PaddockError(f"{path}: there is no such file")
        try:
            return bytes(pyrage.decrypt(sealed, [identity.key for identity in self.identities()]))
        except pyrage.DecryptError as error:
            if "No matching keys" in str(error):
                if self._looks:
                    self.unopened[name] = None
                    return UNOPENED.encode()
                raise PaddockError(f"{path}: {self._refusal()}") from None
            raise PaddockError(f"{path}: damaged ({error}): put it back from a backup or from git") from None

    def has(self, name: str) -> bool:
        return self.path(name).is_file()

    def reseal(self) -> list[str]:
        """Seal everything anew to those who are in recipients.txt now. Gives the names."""
        names = sorted(path.relative_to(self._state.path).as_posix().removesuffix(".age") for path in self._state.path.rglob("*.age"))
        for name in names:
            self.seal(name, self.unseal(name))
        return names

    def path(self, name: str) -> Path:
        if not all(NAME.fullmatch(part) for part in name.split("/")):
            raise PaddockError(
                f"{name!r} is not a name for a secret: lower-case letters, digits, dots, underscores and hyphens, a letter or digit first"
            )
        return self._state.path / f"{name}.age"

    # The named secrets

    def names(self) -> list[str]:
        names = (path.name.removesuffix(".age") for path in (self._state.path / "secrets").glob("*.age"))
        return sorted(filter(NAME.fullmatch, names))  # no other can be set

    def is_named(self, name: str) -> bool:
        """Whether it is among the `names`."""
        with suppress(OSError):  # a name may be too long for a file
            return "/" not in name and (self._state.path / "secrets" / f"{name}.age").exists()
        return False

    def get(self, name: str) -> str:
        """A named secret. Raises PaddockError where there is none of that name."""
        if not self._secret(name).is_file():
            raise PaddockError(f"there is no secret {name!r} in {self._state.path}: `paddock secrets set {name}` makes one")
        return self.unseal(f"secrets/{name}").decode()

    def set(self, name: str, value: str) -> None:
        self._secret(name)
        try:
            data = value.encode()
        except UnicodeEncodeError:
            raise PaddockError(f"secret {name}: its value is not UTF-8 text, nothing was changed") from None
        self.seal(f"secrets/{name}", data)

    def remove(self, name: str) -> None:
        """Forgets a named secret. Raises PaddockError where it cannot be removed."""
        path = self._secret(name)
        note_change(self._state)
        with in_words(path, "cannot be removed"):
            path.unlink(missing_ok=True)
            sync_directory(path.parent)

    def _secret(self, name: str) -> Path:
        if "/" in name:
            raise PaddockError(f"{name!r} is not a name for a secret: it has a slash")
        return self.path(f"secrets/{name}")

    # Who can open

    @property
    def own(self) -> list[str]:
        """The public keys of the person here."""
        return [identity.public for identity in self.identities() if identity.public]

    def require_recipients(self) -> None:
        """Has recipients.txt, where there is one, agreed to before anything is begun. Raises PaddockError as `seal` does."""
        if self.recipients.file.exists():
            self.recipient_keys()

    def recipient_keys(self) -> list[Any]:
        import pyrage

        if not self.recipients.file.exists():
            self._write_recipients()
        keys, listed = [], self.recipients.listed()
        for each in listed:
            kind = pyrage.x25519.Recipient if each.key.startswith("age1") else pyrage.ssh.Recipient
            try:
                keys.append(kind.from_str(each.key))
            except pyrage.RecipientError:
                raise PaddockError(
                    f"{self.recipients.file}: {each.line[:40]!r} is neither an age key (age1…) nor an SSH key (ssh-ed25519 …)"
                ) from None
        if not keys:
            raise PaddockError(f"{self.recipients.file}: has no recipients, so nobody could decrypt: add your public key")
        self.recipients.require_known(listed, self.own)
        return keys

    def _write_recipients(self) -> None:
        if not self.own:
            where = self.identities()[0].where
            raise PaddockError(
                f"{self.recipients.file} is missing, and there is no {where}.pub to fill it from: write the public key of {where} there"
            )
        self._state.directory()
        write_atomically(
            self.recipients.file, "\n".join(["# Who can open what is sealed here: an age or SSH public key a line.", *self.own, ""])
        )

    def _refusal(self) -> str:
        mine = " or ".join(identity.public or identity.where for identity in self.identities())
        theirs = ", ".join(each.line for each in self.recipients.listed()) or "unknown keys, recipients.txt lists none"
        return (
            f"encrypted for other recipients than you ({mine}). It was encrypted for: {theirs}. "
            "Use one of their identities (PADDOCK_AGE_IDENTITY), "
            f"or have one of them add your public key to {self.recipients.file} and run `paddock secrets rotate`"
        )

    def identities(self) -> tuple[Identity, ...]:
        if self._found is None:
            self._found = tuple(self._look_for_identities())
        return self._found

    def _look_for_identities(self) -> Iterator[Identity]:
        given = os.environ.get("PADDOCK_AGE_IDENTITY")
        if given and given.strip().startswith(AGE_SECRET):
            yield _age_identity(given.strip(), "PADDOCK_AGE_IDENTITY")
            return
        if given:
            shown = given if AGE_SECRET not in given.upper() else "its value"
            yield from _identities_in(at_home(given, "PADDOCK_AGE_IDENTITY"), f"PADDOCK_AGE_IDENTITY: {shown}")
            return
        own = Path.home() / ".config" / "paddock" / "identity.txt"
        ssh = Path.home() / ".ssh" / "id_ed25519"
        by_ssh = self._names(ssh)
        if not own.exists() and not by_ssh and not self._looks:
            self._make_identity(own)
        if own.exists():
            yield from _identities_in(own, str(own))
        if by_ssh:
            try:
                yield from _identities_in(ssh, str(ssh))
            except PaddockError:  # it has a passphrase
                if not self._looks:
                    raise

    def _names(self, ssh: Path) -> bool:
        """Whether the recipients name this SSH key."""
        public = _public_half(ssh)
        return bool(public) and any(each.key.split() == public.split()[:2] for each in self.recipients.listed())

    def _make_identity(self, path: Path) -> None:
        import pyrage

        made = pyrage.x25519.Identity.generate()
        make_private(path.parent)
        try:
            write_atomically(path, f"# public key: {made.to_public()}\n{made}\n", exclusive=True)
        except FileExistsError:
            return  # another run was quicker, and its identity holds
        self._state.say(f"made an age identity, {path}: nothing else opens what Paddock seals, so keep a copy of it in a safe place")


class Secrets(Mapping[str, str]):
    """The named secrets, each unsealed when it is asked for."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._opened: dict[str, str] = {}

    def __getitem__(self, name: str) -> str:
        if name not in self._opened:
            if not self._vault.is_named(name):
                raise KeyError(name)
            self._opened[name] = self._vault.get(name)
        return self._opened[name]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._vault.is_named(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._vault.names())

    def __len__(self) -> int:
        return len(self._vault.names())

    def __repr__(self) -> str:
        return f"<secrets {', '.join(self)}>"


def _identities_in(path: Path, where: str) -> Iterator[Identity]:
    """The identities in a file: age keys, a line each, or one SSH private key."""
    import pyrage

    data = read(path)
    if data is None:
        raise PaddockError(
            f"{where}: there is no such file: `age-keygen -o FILE` makes an identity, and without the variable Paddock makes one"
        )
    _refuse_if_open(path)
    if b"PRIVATE KEY-----" in data:
        try:
            yield Identity(pyrage.ssh.Identity.from_buffer(data), _public_half(path), str(path))
        except pyrage.IdentityError as error:
            raise PaddockError(
                f"{where}: this SSH key cannot be used ({error}): name one without a passphrase, or an age identity"
            ) from None
        return
    lines = [line.strip() for line in lines_of(data.decode(errors="replace")) if line.strip().startswith(AGE_SECRET)]
    if not lines:
        raise PaddockError(f"{where}: contains no age identity ({AGE_SECRET}…) and no SSH private key")
    for line in lines:
        yield _age_identity(line, where)


def _age_identity(text: str, where: str) -> Identity:
    import pyrage

    try:
        key = pyrage.x25519.Identity.from_str(text)
    except pyrage.IdentityError:
        raise PaddockError(f"{where}: its {AGE_SECRET}… is incomplete") from None
    return Identity(key, str(key.to_public()), where)


def _public_half(ssh: Path) -> str:
    return (read(ssh.with_name(f"{ssh.name}.pub")) or b"").decode(errors="replace").strip()


def _refuse_if_open(path: Path) -> None:
    """A pipe is its reader's alone, whatever its mode says."""
    found = path.stat()
    mode = found.st_mode & 0o777
    if stat.S_ISREG(found.st_mode) and mode & 0o077:
        raise PaddockError(
            f"{path}: other accounts can read it (mode {mode:04o}): run `chmod 600 {path}`, and replace the key if they may have read it"
        )
