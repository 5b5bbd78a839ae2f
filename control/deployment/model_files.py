"""Of what there is to do on a host, what is of its models alone: to fetch them ahead of everything else, and to take away what is left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import replace

from control.deployment.work import Work
from resources import Directory, ModelFile
from resources.drift import Change, Drift


def pulled(work: Work, paths: Collection[str]) -> Work:
    """The work that lays these files on the host, and the directories that they need, and does nothing else."""
    above = tuple(f"{path.rpartition('/')[0]}/" for path in paths)
    changes = tuple(
        change
        for change in work.drift.changes
        if (isinstance(change.resource, ModelFile) and change.resource.path in paths)
        or (isinstance(change.resource, Directory) and any(each.startswith(f"{change.resource.path}/") for each in above))
    )
    manifest = {
        **work.actual.manifest,
        **{change.id: work.drift.manifest[change.id] for change in changes if change.id in work.drift.manifest},
    }
    drift = Drift(changes, work.drift.left, manifest, manifest, recorded=manifest == work.actual.manifest, partial=True)
    return replace(work, drift=drift, needs={}, alternatives={})


def left(work: Work) -> dict[str, int]:
    """Path → bytes, of the models that Paddock put on the host and no plan names, and of what lies there of downloads that went wrong."""
    planned = {each.path for each in work.resources if isinstance(each, ModelFile)}
    unnamed = {name.removeprefix("model:") for name in work.drift.left if name.startswith("model:")}
    return {path: size for path, size in work.actual.data.items() if path in unnamed or _is_rest(path, planned)}


def freed(work: Work) -> int:
    """The bytes that taking away what is `left` frees: those of a file whose names all go."""
    going = left(work)
    files = {path: work.actual.names.get(path, (path, 1)) for path in going}
    gone = Counter(file for file, _ in files.values())
    return sum({file: going[path] for path, (file, names) in files.items() if gone[file] >= names}.values())


def stays(work: Work, path: str) -> bool:
    """Whether what is `left` at a path stays on the host under another name."""
    file, names = work.actual.names.get(path, (path, 1))
    return names > sum(work.actual.names.get(each, (each, 1))[0] == file for each in left(work))


def _is_rest(path: str, planned: Collection[str]) -> bool:
    return path.endswith(".wrong") or (path.endswith(".part") and path.removesuffix(".part") not in planned)


def pruned(work: Work) -> Work:
    """The work that takes away what is `left`, with the directories that were for it alone, and does nothing else."""
    files = left(work)
    gone = [name for name in work.drift.left if name.startswith("model:")]
    planned = {each.id for each in work.resources}
    around = [
        name
        for name in work.actual.manifest
        if name.startswith("directory:") and name not in planned and any(each.startswith(f"model:{name[10:]}/") for each in gone)
    ]
    rest = [f"model:{path}" for path in files if f"model:{path}" not in gone]
    changes = tuple(Change("remove", "-", "", name) for name in (*gone, *rest, *reversed(around)))
    manifest = {name: origin for name, origin in work.actual.manifest.items() if name not in (*gone, *around)}
    drift = Drift(changes, work.drift.left, manifest, work.actual.manifest, recorded=not changes, partial=True)
    return replace(work, drift=drift, needs={}, alternatives={})
