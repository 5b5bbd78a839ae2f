"""Releases that are worse than the one that serves: llama.cpp's own source, with a few lines changed as real regressions changed it.

All of them are paced: each batch takes the time that its tokens take at a speed that the release is told, far more than this machine needs.
So noise does not decide which of two is the faster one.
"""

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
DECODED = "            metrics_post_decode(off, batch.view.size(), has_output);"

STANDARD = "#include <chrono>\n#include <cstdio>\n#include <cstdlib>\n#include <cstring>\n#include <thread>\n"

PACED = """
// Ends when the batch is due, counted from the prompt: a delay of this machine is caught up with, so that none adds up.
static void paced(int tokens) {
    static auto due = std::chrono::steady_clock::now();
    const auto now = std::chrono::steady_clock::now();
    const double speed = std::atof(std::getenv(tokens > 1 ? "PACE_PROMPTS" : "PACE_GENERATION"));
    if (tokens > 1 || now - due > std::chrono::milliseconds(200)) {
        due = now;
    }
    due += std::chrono::microseconds((long long) (1e6 * tokens / speed));
    std::this_thread::sleep_until(due);
}
"""

PROMPTS, GENERATION = 2000, 200
"""Tokens a second of what serves before."""


@dataclass(frozen=True)
class Kind:
    """`after` stands in place of `before` in a file of the source, beside the speeds. `words` are what the report has of it."""

    words: str
    before: str = CALL
    after: str = CALL
    file: str = MAIN
    prompts: int = PROMPTS
    generation: int = GENERATION


def crashes(after_s: int) -> Kind:
    crash = f"    std::thread([] {{ std::this_thread::sleep_for(std::chrono::seconds({after_s})); std::abort(); }}).detach();\n"
    return Kind("llama-server.service", after=crash + CALL)


BAD = {
    "does not start": Kind(
        "does not run here: error: no kernel image", after='    std::fprintf(stderr, "error: no kernel image\\n"); return 1;'
    ),
    "hangs at its start": Kind(
        "does not pass its gate",
        after='    if (std::strcmp(argv[argc - 1], "--version")) std::this_thread::sleep_for(std::chrono::hours(9));\n' + CALL,
    ),
    "refuses a preset's key": Kind(
        "ctx-size",
        after="""    for (int at = 1; at < argc; ++at)
        if (!std::strcmp(argv[at], "--ctx-size")) { std::fprintf(stderr, "error: invalid argument: --ctx-size\\n"); return 1; }
"""
        + CALL,
    ),
    "crashes after a while": crashes(40),
    "answers nonsense": Kind("nonsense", file=CONTEXT, before=SAMPLE, after=f"{SAMPLE}\n                id = 40 + id % 7;"),
    "is 30 % slower": Kind("generation: 1", prompts=PROMPTS * 7 // 10, generation=GENERATION * 7 // 10),
    "is slower in prompts alone": Kind("prompts: 1,", prompts=PROMPTS * 7 // 10),
}
"""What is wrong → how."""

LATE = {"crashes after two minutes": crashes(120)}
"""Found by who watches for three minutes."""

HIDDEN = {
    "loses its device": Kind("devices: Vulkan0 cannot be seen", after='    setenv("GGML_VK_VISIBLE_DEVICES", "", 1);\n' + CALL),
}
"""On hosts that compute with Vulkan."""

SLIGHTLY_SLOWER = Kind("", prompts=PROMPTS * 95 // 100, generation=GENERATION * 95 // 100)
"""Within the limits of any inventory."""

AS_IT_IS = Kind("")


def source(kind: Kind, inventory: Path, into: Path) -> None:
    """Writes the source that Paddock builds by default, worse by this kind. What is there stays."""
    if not into.exists():
        with tarfile.open(source_archive(DEFAULT, inventory.parent)) as tar:
            tar.extractall(into.parent, filter="data")
        (into.parent / "llama.cpp").rename(into)
        _keep(into / MAIN, (CALL, f'    setenv("PACE_PROMPTS", "@P", 1);\n    setenv("PACE_GENERATION", "@G", 1);\n{CALL}'))
        _keep(into / CONTEXT, (DECODED, f"{DECODED}\n            paced(batch.view.size());"), PACED)
    for file in (MAIN, CONTEXT):
        text = (into / file).with_suffix(".original").read_text()
        text = text.replace("@P", str(kind.prompts)).replace("@G", str(kind.generation))
        if kind.file == file:
            text = _changed(text, kind.before, kind.after)
        (into / file).write_text(text)


def _keep(path: Path, pace: tuple[str, str], functions: str = "") -> None:
    """The paced file, from which all kinds are made."""
    text = _changed(path.read_text(), *pace)
    if functions:
        at = text.index("constexpr int HTTP_POLLING_SECONDS")
        text = text[:at] + functions + text[at:]
    path.with_suffix(".original").write_text(STANDARD + text)


def _changed(text: str, before: str, after: str) -> str:
    assert text.count(before) == 1, f"llama.cpp's source has changed: {before}"
    return text.replace(before, after)
