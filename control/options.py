"""Which options a version of llama-server takes, read out of its own source: `paddock check` knows them before anything is built.

    ~/.cache/paddock/sources/<digest>.options.json        beside the source, once that was fetched

Those of the version that Paddock builds by default ship with it, and those of a source tree on this machine are read where it lies.
`python -m control.options llama-cpp-python==0.3.36` writes the shipped list anew.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import tarfile
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

from control.cplusplus import Token, arguments, blocks, closing, strings, tokens
from control.download import Progress, silent
from control.sources import CACHE, source_archive
from inventory.errors import PaddockError
from inventory.options import SHIPPED, Option, Options, Part, Takes, read
from inventory.schema import Fleet
from roles.llama_cpp.settings import LlamaCppSettings, Source

READING = 1
"""Counted up when the same source is to give another list."""

ARG, HEADER, PRESET = "common/arg.cpp", "common/arg.h", "common/preset.cpp"
COMMON, HTTP, ROUTER = "common/common.cpp", "tools/server/server-http.cpp", "tools/server/server-models.cpp"
FILES = (ARG, HEADER, PRESET, COMMON, HTTP, ROUTER)
"""What is read of a source tree. Versions from before the router have the first two alone."""
