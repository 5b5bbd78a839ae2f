"""What a host's machine is, in one command."""

from __future__ import annotations

import re

from pyinfra.api import FactBase

from inventory.hardware import Hardware

FLAGS_SH = "grep -m 1 -E '^(flags|Features)[[:space:]]*:' /proc/cpuinfo"

DISTRIBUTION_SH = """( . /etc/os-release; echo "$ID ${VERSION_ID:-}" )"""

IDENTITY_SH = f"{{ uname -m; {FLAGS_SH}; {DISTRIBUTION_SH}; }} | sha256sum | cut -c 1-16"
"""Prints sixteen hex digits over what a release of llama.cpp depends on: architecture, processor flags, distribution."""


class HardwareFact(FactBase[Hardware]):
    """`Hardware(architecture="x86_64", cpu_model="Intel(R) Celeron(R) CPU 3865U @ 1.80GHz", cores=2, distribution="debian 13", …)`"""

    def command(self) -> str:
        return f"""
echo "architecture: $(uname -m)"
echo "distribution: $( {DISTRIBUTION_SH} )"
echo "identity: $({IDENTITY_SH})"
echo "cores: $(nproc)"
grep -m 1 '^MemTotal:' /proc/meminfo
grep -m 1 -E '^(model name|Model)[[:space:]]*:' /proc/cpuinfo
{FLAGS_SH}
true"""

    def process(self, output: list[str]) -> Hardware:
        said = {key.strip(): value.strip() for key, colon, value in (line.partition(":") for line in output) if colon}
        return Hardware(
            architecture=said["architecture"],
            cpu_model=re.sub(r"\s+", " ", said.get("model name") or said.get("Model") or "unknown"),
            cpu_flags=frozenset((said.get("flags") or said.get("Features") or "").split()),
            cores=int(said["cores"]),
            memory_mib=int(said["MemTotal"].split()[0]) // 1024,  # the kernel's kB are KiB
            distribution=said["distribution"],
            identity=said["identity"],
        )
