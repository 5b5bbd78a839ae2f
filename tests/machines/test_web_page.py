"""llama-server's web page, built on the control machine from the source that is served."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.lab.snapshot import inside
from tests.lab_fleet import LabFleet, lab_fleet

FLEET = """
fleet: page
domain: home.example
networks: [192.0.2.0/24]
hosts:
  ai: {address: 192.0.2.10, roles: {base: , llama_cpp: {ui: true}, models: , llama_server: {models: [demo]}}}
models: {demo: {preset: {ctx-size: 512}}}
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabFleet]:
    with lab_fleet("page", tmp_path_factory.mktemp("page"), FLEET) as fleet:
        done = fleet.paddock("up", "--lab", "--yes")
        assert done.returncode == 0, done.stdout + done.stderr
        yield fleet


def test_a_host_without_node_serves_the_page_with_all_that_it_loads(page: LabFleet) -> None:
    container = page.host("ai").container
    assert not inside(container, "command -v node npm || true")
    html = inside(container, "curl -sSf --compressed http://127.0.0.1:8080/")
    names = sorted(set(re.findall(r"""["'](?:\./|/)?([\w./-]*bundle[\w.-]*\.(?:js|css))["']""", html)))
    print(f"page: {names}", flush=True)
    assert any(name.endswith(".js") for name in names), html[:2000]
    for name in names:
        assert int(inside(container, f"curl -sSf --compressed http://127.0.0.1:8080/{name.lstrip('/')} | wc -c")) > 1000
