"""What a process holds of the cards, as its descriptors say it, and servers that never answer."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from control.servers import served as serving
from inventory.errors import PaddockError
from inventory.fleet import Fleet
from roles.role import render

# /proc/PID/fdinfo in the form of amdgpu (Linux 6.12), which says the same amount twice, and of i915 and xe, which count in MiB.
AMDGPU = """pos:\t0
drm-driver:\tamdgpu
drm-client-id:\t{client}
drm-pdev:\t{card}
drm-memory-vram:\t2048 KiB
drm-memory-cpu: \t9999 KiB
drm-resident-vram:\t2048 KiB
drm-resident-gtt:\t1024 KiB
"""
I915 = """drm-driver:\ti915
drm-pdev:\t0000:00:02.0
drm-client-id:\t3
drm-total-system0:\t900 MiB
drm-resident-system0:\t512 MiB
"""
XE = """drm-driver:\txe
drm-client-id:\t3
drm-pdev:\t0000:03:00.0
drm-resident-vram0:\t2 GiB
drm-resident-gtt:\t4096
"""


def held_kib(proc: Path, *descriptors: str) -> int:
    (proc / "7" / "fdinfo").mkdir(parents=True)
    for number, content in enumerate(descriptors):
        (proc / "7" / "fdinfo" / str(number)).write_text(content)
    script = f"{render('shared/drm.sh').replace('/proc/', f'{proc}/')}\ndrm_kib 7\n"
    return int(subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, check=True).stdout)


@pytest.mark.parametrize(
    ("descriptors", "kib"),
    [
        ((), 0),
        (("pos:\t0\n",), 0),
        ((AMDGPU.format(client=3, card="0000:c5:00.0"),) * 2, 3072),
        ((AMDGPU.format(client=3, card="0000:c5:00.0"), AMDGPU.format(client=4, card="0000:c5:00.0")), 6144),
        ((AMDGPU.format(client=3, card="0000:c5:00.0"), AMDGPU.format(client=3, card="0000:c6:00.0")), 6144),
        ((I915,), 512 * 1024),
        ((I915, "pos:\t0\n", XE), 512 * 1024 + 2 * 1024 * 1024 + 4),
    ],
)
def test_each_client_of_each_card_counts_once_in_the_unit_that_its_driver_says(
    tmp_path: Path, descriptors: tuple[str, ...], kib: int
) -> None:
    assert held_kib(tmp_path, *descriptors) == kib


def test_who_waits_for_a_server_that_never_answers_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "LOAD_TIMEOUT_S", 0)
    roles = {"llama_cpp": {}, "models": {}, "llama_server": {"models": ["chat"]}}
    hosts = {"pea": {"name": "pea", "address": "192.0.2.7", "roles": roles}}
    fleet = Fleet.model_validate({"name": "home", "domain": "home.example", "hosts": hosts, "models": {"chat": {}}})
    with pytest.raises(PaddockError, match=r"^pea/llama-server: still does not answer after .*: `paddock logs pea/llama-server`$"):
        serving.ready(cast(Any, SimpleNamespace(fleet=fleet)), fleet.servers("pea")[0])
