"""The plans of all hosts that a run changed, in one file. A resource that several hosts have is there once.

    {"resources": [{"id": "file:/etc/motd", …}, …], "plans": {"ai": {"base": [0, 4, …]}}}

Secrets are references (resources/codec.py). A stamp, which notes digests of all that a service reads, is one too: it follows from the rest.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Mapping
from typing import Any

from inventory.bounds import LOCAL_FILE, from_json, size_words
from inventory.errors import PaddockError
from resources import Service
from resources.codec import Plan, written

PlanData = Mapping[str, list[dict[str, Any]]]
"""Role → its resources as data."""


def as_data(plan: Plan) -> PlanData:
    """As `resources.codec.written`, with stamps by reference."""
    stamps = {each.stamp.id for resources in plan.values() for each in resources if isinstance(each, Service)}
    data: PlanData = written(plan)
    for resources in data.values():
        for each in resources:
            if each["id"] in stamps:
                each["content"] = {"secret": each["id"]}
    return data


def plan_digest(plan: PlanData) -> str:
    """Sixteen hex digits over a plan; a secret's content is no part of it."""
    return hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()[:16]


def packed(plans: Mapping[str, PlanData]) -> bytes:
    """Raises PaddockError where they are larger than what is read of a file."""
    numbers: dict[str, int] = {}
    indices = {
        host: {
            role: [numbers.setdefault(json.dumps(each, sort_keys=True), len(numbers)) for each in resources]
            for role, resources in plan.items()
        }
        for host, plan in plans.items()
    }
    data = f'{{"resources": [{", ".join(numbers)}], "plans": {json.dumps(indices)}}}'.encode()
    if len(data) > LOCAL_FILE.size:
        raise PaddockError(f"the plans of {len(plans)} hosts are larger than {size_words(LOCAL_FILE.size)} together")
    return gzip.compress(data, mtime=0)


def unpacked(data: bytes) -> dict[str, PlanData]:
    """Host → its plan. Raises ValueError for anything that `packed` did not give."""
    try:
        unzip = zlib.decompressobj(wbits=31)
        text = unzip.decompress(data, LOCAL_FILE.size)
        if not unzip.eof:
            raise ValueError("is cut off, or too large")
        found = from_json(text)
        resources: list[dict[str, Any]] = found["resources"]
        if not all(isinstance(each["id"], str) for each in resources):
            raise ValueError("has a resource without an id")
        return {
            str(host): {str(role): [resources[index] for index in indices] for role, indices in plan.items()}
            for host, plan in found["plans"].items()
        }
    except (zlib.error, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None
