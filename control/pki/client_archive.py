"""The archive for a client's machine that Paddock does not manage: its certificate and key sealed for browsers, and all of it packed."""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import Mapping

from control.pki.pkcs12 import new_password, pkcs12_of
from inventory.fleet import Fleet
from inventory.knowledge import Certificate, Knowledge
from roles.client.archive import members


def client_archive(client: str, identity: Certificate, fleet: Fleet, knowledge: Knowledge, site: str | None = None) -> bytes:
    """A .tar.gz, to be kept at 0600: the key of the client is in it. `site` is the one that the bridge and pi reach, of several.

    Raises PaddockError where no site lets the client in, or where of several none is named.
    """
    password = new_password()
    plain = members(client, identity, fleet, knowledge, password, site)
    sealed = {
        name: pkcs12_of(client, identity.chain, identity.key, knowledge.ca, password, legacy=name == "client-legacy.p12")
        for name in ("client.p12", "client-legacy.p12")
    }
    return _packed(f"paddock-{client}", {**plain, **sealed})


def _packed(top: str, members: Mapping[str, bytes]) -> bytes:
    """Whoever unpacks it is the only one to read what comes out."""
    packed, now = io.BytesIO(), int(time.time())
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name in sorted({f"{top}/{name}".rpartition("/")[0] for name in members} | {top}):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode, folder.mtime = tarfile.DIRTYPE, 0o700, now
            tar.addfile(folder)
        for name, data in members.items():
            member = tarfile.TarInfo(f"{top}/{name}")
            member.size, member.mtime = len(data), now
            member.mode = 0o700 if name == "install.sh" else 0o600
            tar.addfile(member, io.BytesIO(data))
    return packed.getvalue()
