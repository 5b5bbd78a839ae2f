"""After a teardown a host is as it was before Paddock came."""

from __future__ import annotations

import re

from conftest import BY_HAND, Story
from snapshot import differing

ALLOWED = {
    r"/etc/(passwd|group|shadow|gshadow|subuid|subgid)-": "the copy that useradd and userdel keep of how it was one change ago",
    r"/etc/ld\.so\.cache": "made anew whenever a library comes or goes",
}
"""What may differ among the files, and why."""

PACKAGE_OF_SOMEBODY_ELSE = """
mkdir -p /tmp/mine/DEBIAN; cd /tmp
printf 'Package: mine\\nVersion: 1\\nArchitecture: all\\nMaintainer: somebody\\nDepends: libgomp1\\nDescription: it came after Paddock\\n' >mine/DEBIAN/control
dpkg-deb --build mine >/dev/null; dpkg --install mine.deb >/dev/null; rm -r mine mine.deb
"""


def test_a_host_is_as_it_was_before(story: Story) -> None:
    story.begin()
    story.inside("ai", PACKAGE_OF_SOMEBODY_ELSE)
    done = story.fleet.paddock("teardown", "--lab", "--yes", "--data")
    print(done.stdout, flush=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {"mine", "libgomp1"} <= set(story.snapshot("ai").packages), "a package that somebody else's needs by now was taken away"
    story.inside("ai", "apt-get -qq -y purge --autoremove mine >/dev/null")
    differences = []
    for host, before in story.before.items():
        after = story.snapshot(host)
        for aspect in ("files", "unit_files", "units", "users", "groups", "listening", "packages"):
            for name, (was, now) in differing(getattr(before, aspect), getattr(after, aspect)).items():
                why = next((why for pattern, why in ALLOWED.items() if aspect == "files" and re.fullmatch(pattern, name)), "")
                print(f"{host}: {aspect}: {name} was {was}, is {now}  ({why or 'NOT ALLOWED'})", flush=True)
                differences += [] if why else [f"{host}: {aspect}: {name} was {was}, is {now}"]
        assert {path for path, *_ in BY_HAND[host]} <= set(after.files)
        assert set(after.running) == set(before.running)
        print(f"{host}: {len(before.files)} entries compared", flush=True)
    assert not differences
    assert "SubState=running" in story.inside("ai", "systemctl show llama-server -p SubState; systemctl show llama-server -p ExecStart")
    assert "sleep inf" in story.inside("ai", "cat /proc/$(systemctl show llama-server -P MainPID)/cmdline | tr '\\0' ' '"), (
        "it runs something else"
    )
