"""What a host says of its machine: as machines said it, and as this one does."""

import re
import subprocess

from facts.hardware import IDENTITY_SH, HardwareFact

CELERON = """architecture: x86_64
distribution: debian 13
identity: 6d5f3a0c9f1e2b47
cores: 2
MemTotal:        3931236 kB
model name\t: Intel(R) Celeron(R) CPU 3865U @ 1.80GHz
flags\t\t: fpu vme sse sse2 ssse3 sse4_1 sse4_2 popcnt""".splitlines()

RASPBERRY_PI_5 = """architecture: aarch64
distribution: debian 12
identity: 0f1e2b476d5f3a0c
cores: 4
MemTotal:        8245760 kB
Model\t\t: Raspberry Pi 5 Model B Rev 1.0
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp""".splitlines()


def shell(command: str) -> str:
    return subprocess.run(["sh", "-c", command], check=True, capture_output=True, text=True).stdout


def test_a_celeron() -> None:
    found = HardwareFact().process(CELERON)
    assert (found.architecture, found.distribution, found.cores, found.memory_mib) == ("x86_64", "debian 13", 2, 3839)
    assert found.cpu_model == "Intel(R) Celeron(R) CPU 3865U @ 1.80GHz"
    assert "sse4_2" in found.cpu_flags and "avx" not in found.cpu_flags


def test_a_raspberry_pi() -> None:
    found = HardwareFact().process(RASPBERRY_PI_5)
    assert found.cpu_model == "Raspberry Pi 5 Model B Rev 1.0"
    assert "asimddp" in found.cpu_flags


def test_the_command_runs_and_its_answer_is_understood() -> None:
    found = HardwareFact().process(shell(HardwareFact().command()).splitlines())
    assert found.cores > 0 and found.memory_mib > 0 and found.cpu_flags
    assert re.fullmatch(r"[a-z]+ \S*", found.distribution)


def test_the_identity_is_the_same_wherever_it_is_asked_for() -> None:
    found = HardwareFact().process(shell(HardwareFact().command()).splitlines())
    assert re.fullmatch(r"[0-9a-f]{16}", found.identity)
    assert shell(f"set -eu; identity() {{ {IDENTITY_SH}\n}}; identity").strip() == found.identity
