"""How a version of llama-server sizes contexts, read out of its source, where versions differ."""

from __future__ import annotations

import re
from collections.abc import Mapping

from inventory.options import Sizing

FIT, CONTEXT = "common/fit.cpp", "src/llama-context.cpp"

YARN_RAISES = re.compile(r"\bn_ctx_train\s*=[^;]*n_ctx_orig_yarn")
"""In a llama-context.cpp that counts what YaRN stretches a model to as its training."""

FIT_COUNTS = re.compile(r"\bn_ctx_max\s*=[^;]*\bhp_nct\)?\s*\*\s*n_streams\b")
"""In a fit.cpp that gives as much context as was trained for to each slot that has a cache of its own."""


def sizing(files: Mapping[str, str]) -> Sizing:
    """`files` is path → text of a source tree. Versions from before there was a router have no FIT."""
    return Sizing(
        yarn_raises_limit=bool(YARN_RAISES.search(files.get(CONTEXT, ""))),
        fit_counts_slots=bool(FIT_COUNTS.search(files.get(FIT, ""))),
    )
