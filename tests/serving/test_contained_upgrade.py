"""llama-servers in containers get another release by `paddock upgrade`, and the one before back by `rollback`: its image is still there.

The tests are one story, in the order of the file.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab_fleet import lab_fleet
from tests.serving.test_contained import BASE, CONTAINER, INVENTORY, Box
from tests.serving.test_stacks import REGISTRY
from tests.share import turn

pytestmark = turn(3, of=5)

NAME = "containedup"
OTHER = "llama_cpp: {ui: false, options: {GGML_CPU_REPACK: off}}"
"""Another release of the same source."""

RELEASE = "basename $(readlink /opt/paddock/llama.cpp/current)"
RUNS = "docker inspect --format '{{.Config.Image}} {{.Image}}' paddock-llama-server-chat"
IMAGES = "docker image ls --no-trunc --format '{{.Repository}}:{{.Tag}} {{.ID}}' paddock/llama.cpp | sort"


BAD = r"""set -e
mkdir -p /root/bad
printf '#!/bin/real\n[ "$(id -u)" = 0 ] || { echo not here; exit 3; }\nexec /bin/real "$@"\n' >/root/bad/dash
chmod 755 /root/bad/dash
printf 'FROM BASE\nRUN cp /usr/bin/dash /usr/bin/real\nCOPY dash /usr/bin/dash\n' >/root/bad/Dockerfile
docker build -q -t 127.0.0.1:5000/bad:13 /root/bad >/dev/null
docker push -q 127.0.0.1:5000/bad:13 >/dev/null
docker inspect --format '{{index .RepoDigests 0}}' 127.0.0.1:5000/bad:13
docker rmi 127.0.0.1:5000/bad:13 BASE >/dev/null 2>&1 || docker rmi 127.0.0.1:5000/bad:13 >/dev/null
"""
"""A base whose shell works for root alone: an image can be built on it, and no llama-server starts of that."""


class Upgraded(Box):
    def release(self, *, other: bool = False, contained: bool = True) -> None:
        text = INVENTORY.format(size=1024, runtime=CONTAINER.format(self.base) if contained else "")
        text = text.replace("fleet: contained", f"fleet: {NAME}")
        self.fleet.write(text.replace("llama_cpp: {ui: false}", OTHER) if other else text)

    def answers(self) -> bool:
        return all("tiny" in self.answer(port) for port in (8080, 8081))


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upgraded]:
    native = INVENTORY.format(size=1024, runtime="").replace("fleet: contained", f"fleet: {NAME}")
    with lab_fleet(NAME, tmp_path_factory.mktemp(NAME), native, ready=True) as fleet:
        made = Upgraded(fleet)
        made.paddock("up", "--yes", "--no-verify")
        made.on(REGISTRY)
        made.base = made.on(BASE).strip()
        made.release()
        made.paddock("up", "--yes", "--no-verify")
        yield made


def test_an_upgrade_makes_the_image_of_the_new_release_and_keeps_that_of_the_old(box: Upgraded) -> None:
    before, old = box.on(RUNS), box.on(RELEASE).strip()
    assert f"paddock/llama.cpp:{old}-" in before
    box.release(other=True)
    said = box.paddock("upgrade", "--yes", "--soak", "5", "--no-measure")
    new = box.on(RELEASE).strip()
    assert f"{old} → {new}" in said or new in said
    after = box.on(RUNS)
    assert f"paddock/llama.cpp:{new}-" in after and box.answers()
    assert {before.strip(), after.strip()} == set(box.on(IMAGES).splitlines())
    assert "checks passed" in box.paddock("verify")
    assert " 0 changed" in box.paddock("up", "--yes", "--no-verify")


def test_a_rollback_runs_the_image_that_was_kept(box: Upgraded) -> None:
    images, new = box.on(IMAGES), box.on(RELEASE).strip()
    box.paddock("rollback", "--yes", "box")
    assert box.on(RELEASE).strip() != new and box.answers()
    assert box.on(IMAGES) == images
    assert box.on(RUNS).strip() in images.splitlines()
    assert new not in box.on(RUNS)
    box.release()
    assert " 0 changed" in box.paddock("up", "--yes", "--no-verify")


def test_an_image_that_does_not_run_is_taken_back_and_the_one_before_serves(box: Upgraded) -> None:
    runs, base = box.on(RUNS).strip(), box.base
    box.base = box.on(BAD.replace("BASE", base)).strip()
    box.release(other=True)
    said = box.paddock("upgrade", "--yes", "--soak", "5", "--no-measure", code=4)
    assert "box: " in said and "Traceback" not in said
    assert box.on(RUNS).strip() == runs and box.answers()
    box.base = base
    box.release()
    box.paddock("up", "--yes", "--no-verify")
    assert box.on(RUNS).strip() == runs and box.answers()


def test_a_rollback_over_another_base_image_needs_no_registry(box: Upgraded) -> None:
    runs, base = box.on(RUNS), box.base
    box.base = box.on(BASE.replace("{ dpkg-query", "echo other >/etc/base-of-a-test; { echo /etc/base-of-a-test; dpkg-query")).strip()
    assert box.base != base
    box.release()
    box.paddock("up", "--yes", "--no-verify")
    assert box.on(RUNS) != runs and box.answers()
    box.on("systemctl stop docker-registry")
    box.paddock("rollback", "--yes", "box")
    assert box.on(RUNS) == runs and box.answers()
    box.on("systemctl start docker-registry")
    box.base = base
    box.release()
    assert " 0 changed" in box.paddock("up", "--yes", "--no-verify")


def test_the_runtime_goes_back_and_forth_with_a_new_release_at_once(box: Upgraded) -> None:
    box.release(other=True, contained=False)
    box.paddock("up", "--yes", "--no-verify")
    assert box.answers() and box.on("docker ps -aq; docker image ls -q").split() == []
    box.release()
    box.paddock("up", "--yes", "--no-verify")
    assert box.answers() and f"paddock/llama.cpp:{box.on(RELEASE).strip()}-" in box.on(RUNS)


def test_a_teardown_leaves_neither_container_nor_image(box: Upgraded) -> None:
    box.on("apt-get -qq purge -y docker-registry >/dev/null; rm -rf /etc/docker/registry")
    box.paddock("teardown", "--yes", "--data")
    assert box.on("command -v dockerd docker || true") == ""
    assert box.on("ls -d /etc/paddock /opt/paddock /etc/docker 2>/dev/null || true") == ""
    assert box.on("ls -d /etc/systemd/system/llama-server* 2>/dev/null || true") == ""
