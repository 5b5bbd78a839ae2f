"""The Caddy of Debian's unstable suite: newer than that of the lab's release, and from the same mirror."""

from __future__ import annotations

import lzma
import re
import urllib.request
from functools import cache

from lab.mirror import machine_sources


@cache
def newer_caddy() -> dict[str, str]:
    """What a host's `package` says of it."""
    mirror = next(each.uri for each in machine_sources() if each.suite == "trixie").rstrip("/")
    with urllib.request.urlopen(f"{mirror}/dists/sid/main/binary-amd64/Packages.xz", timeout=300) as answer:
        packages = lzma.decompress(answer.read()).decode()
    (stanza,) = re.findall(r"^Package: caddy\n(?:.+\n)+", packages, re.MULTILINE)
    fields = dict(re.findall(r"^(\S+): (.*)$", stanza, re.MULTILINE))
    return {"url": f"{mirror}/{fields['Filename']}", "sha256": fields["SHA256"], "version": fields["Version"]}
