"""A fleet's certificates as they once were kept: one CA beside the state's other files, and one pair a subject under its name."""

from __future__ import annotations

import json
import shutil
from datetime import datetime

from control.pki.authority import Authority
from control.state.fleet import FleetState
from inventory.fleet import Fleet


def older_state(authority: Authority, state: FleetState, fleet: Fleet, now: datetime) -> None:
    """Issues everything, and lays it as it was laid then."""
    authority.issue(fleet, now)
    certs = state.path / "certs"
    (ca,) = (certs / "authorities").iterdir()
    for name, then in (("ca.pem", "ca.pem"), ("ca.json", "ca.json"), ("key.age", "ca.key.age")):
        (ca / name).rename(state.path / then)
    shutil.rmtree(certs / "authorities")
    (certs / "authorities.json").unlink()
    for kind in ("server", "client"):
        for path in sorted((certs / kind).glob("*.json")):
            leaf = json.loads(path.read_text())["current"]
            files = certs / kind / leaf.pop("files")
            files.with_name(f"{files.name}.pem").rename(path.with_suffix(".pem"))
            files.with_name(f"{files.name}.key.age").rename(certs / kind / f"{leaf['name']}.key.age")
            path.write_text(json.dumps({**leaf, "not_before": leaf["not_before"].replace("T", " ")}, indent=1) + "\n")
            files.parent.rmdir()
