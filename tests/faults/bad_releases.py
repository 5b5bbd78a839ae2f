"""Releases that are worse than the one that serves: llama.cpp's own source, with one line changed as real regressions changed it."""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from pathlib import Path

from control.llama_cpp.sources import source_archive
from roles.source import DEFAULT

MAIN = "tools/server/main.cpp"
CONTEXT = "tools/server/server-context.cpp"
CALL = "    return llama_server(argc, argv);"
SAMPLE = "                id = common_sampler_sample(slot.smpl.get(), slot.ctx_tgt, tok_idx);"

STANDARD = "#include <chrono>\n#include <cstdio>\n#include <cstdlib>\n#include <cstring>\n#include <thread>\n"


@dataclass(frozen=True)
class Bad:
    """`after` stands in place of `before` in a file of the source. `words` are what the report has of it."""

    words: str
    before: str = CALL
    after: str = CALL
    file: str = MAIN


BAD = {
    "does not start": Bad(
        "does not run here: error: no kernel image", after='    std::fprintf(stderr, "error: no kernel image\\n"); return 1;'
    ),
    "hangs at its start": Bad(
        "does not pass its gate",
        after='    if (std::strcmp(argv[argc - 1], "--version")) std::this_thread::sleep_for(std::chrono::hours(9));\n' + CALL,
    ),
    "refuses a preset's key": Bad(
        "ctx-size",
        after="""    for (int at = 1; at < argc; ++at)
        if (!std::strcmp(argv[at], "--ctx-size")) { std::fprintf(stderr, "error: invalid argument: --ctx-size\\n"); return 1; }
"""
        + CALL,
    ),
    "crashes after a while": Bad(
        "llama-server.service",
        after="    std::thread([] { std::this_thread::sleep_for(std::chrono::seconds(40)); std::abort(); }).detach();\n" + CALL,
    ),
    "answers nonsense": Bad("nonsense", file=CONTEXT, before=SAMPLE, after=f"{SAMPLE}\n                id = 40 + id % 7;"),
}
"""What is wrong → how."""


def source(kind: str, inventory: Path, into: Path) -> None:
    """Writes the source that Paddock builds by default, worse by this kind, or as it is where it is of none. What is there stays."""
    if not into.exists():
        with tarfile.open(source_archive(DEFAULT, inventory.parent)) as tar:
            tar.extractall(into.parent, filter="data")
        (into.parent / "llama.cpp").rename(into)
        for file in (MAIN, CONTEXT):
            original = into / file
            original.with_suffix(".original").write_text(STANDARD + original.read_text())
    for file in (MAIN, CONTEXT):
        path = into / file
        text = path.with_suffix(".original").read_text()
        bad = BAD.get(kind)
        if bad and bad.file == file:
            assert text.count(bad.before) == 1, f"{file} has changed: {bad.before}"
            text = text.replace(bad.before, bad.after)
        path.write_text(text)
