"""What a plan of a release cannot say by itself: that it is whole, and that this processor runs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from testinfra.host import Host as TestinfraHost

    from roles.llama_cpp.settings import LlamaCppSettings

CURRENT = "/opt/paddock/llama.cpp/current"


def check_the_release_is_as_it_was_built(host: TestinfraHost, settings: LlamaCppSettings) -> None:
    if not settings.serve:
        return
    checked = host.run(f"cd {CURRENT} && sha256sum --check --quiet MANIFEST")
    assert checked.rc == 0, f"{checked.stdout}{checked.stderr}: remove what {CURRENT} leads to, and `paddock up` puts it there anew"


def check_the_release_runs_on_this_processor(host: TestinfraHost, settings: LlamaCppSettings) -> None:
    if not settings.serve:
        return
    said = host.run(f"{CURRENT}/bin/llama-server --version")
    assert said.rc == 0 and settings.source.label in said.stderr, f"exit code {said.rc}: {said.stderr}"
