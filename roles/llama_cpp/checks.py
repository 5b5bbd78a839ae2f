"""What a plan of a release cannot say by itself: that it is whole, that this processor runs it, and that its services reach its devices."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from resources import Release, Resource, lines_of, of_kind
from roles.llama_cpp.gate import instances

if TYPE_CHECKING:
    from testinfra.host import Host as TestinfraHost

    from roles.llama_cpp.settings import LlamaCppSettings

CURRENT = "/opt/paddock/llama.cpp/current"

LISTED = re.compile(r"^ +([A-Za-z]+[0-9]+): ", re.MULTILINE)
"""A line of --list-devices."""


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


def check_its_services_reach_the_devices_that_it_is_built_for(host: TestinfraHost, plan: Sequence[Resource]) -> None:
    """Each as its unit lets it: with its user and groups, and with the devices that it may open."""
    for release in of_kind(plan, Release):
        for service in instances(plan, release) if release.devices else ():
            command = "systemd-run --quiet --wait --pipe --collect" + " -p %s" * len(service.properties)
            said = host.run(f"{command} {CURRENT}/bin/llama-server --list-devices", *service.properties)
            listed = LISTED.findall(said.stdout + said.stderr)
            lacks = [each for each in release.devices if each not in listed]
            sees = ", ".join(listed) or f"none{f' ({last})' if (last := _last_line(said.stderr)) else ''}"
            assert not lacks, f"{service.unit} cannot use {', '.join(lacks)}: it would compute on the processor. It sees {sees}"


def _last_line(text: str) -> str:
    return next(iter(reversed(lines_of(text.strip()))), "")
