"""The tree of files that would land on the hosts, and an index of all that is to be: for eyes, reviews and golden tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from inventory.errors import PaddockError
from inventory.fleet import Fleet
from inventory.knowledge import Knowledge
from resources import File, Resource
from roles.host_plan import HostPlan, host_plan

INDEX = "resources.txt"

HIDDEN = b"<secret>\n"
"""What stands in a rendered tree for the content of a secret."""

MARK = ".rendered-by-paddock"
"""What says of a directory that nothing in it is anybody's but ours."""


def tree(fleet: Fleet, knowledge: Knowledge, only: frozenset[str] = frozenset()) -> dict[str, bytes]:
    """`HOST/etc/caddy/…` → content, for the hosts that `only` leaves, with `HOST/resources.txt` beside. No secret's content is in it."""
    rendered: dict[str, bytes] = {}
    for host in fleet.limited(only):
        planned = host_plan(host, fleet, knowledge)
        rendered[f"{host.name}/{INDEX}"] = index(planned).encode()
        for file in _files(planned):
            rendered[host.name + file.path] = HIDDEN if file.secret else file.data
    return rendered


def index(planned: HostPlan) -> str:
    """Every resource of a host in the order of its plan: a heading a role, a line a resource, and what it is to be."""
    parts = [f"# {role}\n" + "".join(f"{_line(each)}\n" for each in resources) for role, resources in planned.items()]
    return "\n".join(parts)


def write(rendered: Mapping[str, bytes], directory: Path) -> None:
    """The tree, in `directory` alone: what an earlier one left there goes. Raises PaddockError where something else lies in it."""
    try:
        _write(rendered, directory)
    except OSError as error:
        raise PaddockError(f"{error.filename or directory}: cannot be written: {error.strerror}") from None


def _write(rendered: Mapping[str, bytes], directory: Path) -> None:
    if directory.exists():
        if not directory.is_dir() or (any(directory.iterdir()) and not (directory / MARK).is_file()):
            raise PaddockError(f"{directory}: this is not a rendered tree: name another directory, or delete it")
        shutil.rmtree(directory)
    directory.mkdir(parents=True)
    (directory / MARK).touch(exist_ok=False)
    for path, content in rendered.items():
        place = directory / path
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("xb") as file:
            file.write(content)


def read(directory: Path) -> dict[str, bytes]:
    """A tree as `write` left it."""
    files = (path for path in sorted(directory.rglob("*")) if path.is_file() and path.name != MARK)
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


def _line(resource: Resource) -> str:
    # A digest says nothing to a reader, and the content that it is of stands in the tree; one of a secret would tell it from others.
    unsaid = {"sha256"} if isinstance(resource, File) else set()
    desired = " ".join(f"{name}={value}" for name, value in resource.desired.items() if name not in unsaid)
    secret = " secret" if isinstance(resource, File) and resource.secret else ""
    return f"{resource.id}  {desired}{secret}".rstrip()


def _files(planned: HostPlan) -> Iterator[File]:
    for resources in planned.values():
        yield from (each for each in resources if isinstance(each, File))
