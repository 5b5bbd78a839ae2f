"""A web page that needs no packages: its build is one script, and npm is the real one."""

import json
from pathlib import Path

NODE = Path("~/.cache/paddock/node").expanduser()

BUILD = """
const fs = require('fs');
fs.mkdirSync('dist/_app', { recursive: true });
fs.writeFileSync('dist/index.html', fs.readFileSync('src/page.txt'));
fs.writeFileSync('dist/_app/bundle.js', 'run();');
"""


def small_page(build: str = BUILD, **package: object) -> dict[str, bytes]:
    """Its files by name; `build` is the script, `package` more of package.json."""
    about = {"name": "page", "version": "1.0.0", "private": True}
    given = {**about, "scripts": {"build": "node build.cjs"}, **package}
    locked = {**about, "lockfileVersion": 3, "packages": {"": about}}
    files = {"package.json": json.dumps(given), "package-lock.json": json.dumps(locked), "build.cjs": build, "src/page.txt": "a page"}
    return {name: text.encode() for name, text in files.items()}


def keep_node(home: Path) -> None:
    """Where Node.js has to be fetched, it is for all tests once, whatever their home."""
    (home / ".cache/paddock").mkdir(parents=True, exist_ok=True)
    NODE.mkdir(parents=True, exist_ok=True)
    (home / ".cache/paddock/node").symlink_to(NODE)
