"""`paddock upgrade --to`: the version in the inventory, and nothing else of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from control.editing.version import with_version
from inventory.errors import UsageError
from inventory.load import load
from roles.source import Source

DIGEST = "a" * 64

HEAD = "fleet: v\ndomain: home.example\nhosts:\n  ai:\n    address: 192.0.2.10\n    roles:\n      llama_cpp:"


def changed(tmp_path: Path, text: str, version: str, ggml: str = "") -> list[str]:
    """The lines that an edit takes away and adds."""
    path = tmp_path / "v.yml"
    path.write_text(text)

    def pin(source: Source) -> str:
        return DIGEST

    found = with_version(path, load(path), version, ggml, pin)
    assert path.read_text() == text
    return [line for line in found.difference() if line[0] in "+-" and not line.startswith(("---", "+++"))]


def test_a_source_distribution_gets_its_number_and_its_digest_and_keeps_its_comment(tmp_path: Path) -> None:
    text = f"{HEAD}\n        source: {{sdist: llama-cpp-python==0.3.35, sha256: {'b' * 64}}}  # mine\n"
    assert changed(tmp_path, text, "0.3.34") == [
        f"-        source: {{sdist: llama-cpp-python==0.3.35, sha256: {'b' * 64}}}  # mine",
        f"+        source: {{sdist: llama-cpp-python==0.3.34, sha256: {DIGEST}}}  # mine",
    ]


def test_what_is_built_by_default_gets_a_source_where_the_role_is_given(tmp_path: Path) -> None:
    assert changed(tmp_path, f"{HEAD}\n", "0.3.34") == [
        f"+        source: {{sdist: llama-cpp-python==0.3.34, sha256: {DIGEST}}}",
    ]


def test_a_commit_and_packages_are_written_where_there_is_one_of_their_kind(tmp_path: Path) -> None:
    git = f"{HEAD}\n        source:\n          git: https://example.org/llama.cpp\n          commit: {'1' * 40}\n"
    assert changed(tmp_path, git, "2" * 40) == [f"-          commit: {'1' * 40}", f"+          commit: {'2' * 40}"]
    packages = f"{HEAD}\n        source:\n          packages: 1:0.7.0+dfsg-1\n          ggml: 0.26.0-1\n"
    assert changed(tmp_path, packages, "1:0.7.0+dfsg-2", "0.27.0-1") == [
        "-          packages: 1:0.7.0+dfsg-1",
        "-          ggml: 0.26.0-1",
        '+          packages: "1:0.7.0+dfsg-2"',
        "+          ggml: 0.27.0-1",
    ]


@pytest.mark.parametrize(
    ("version", "ggml", "words"),
    [
        ("latest", "", "is no version of llama-cpp-python"),
        ("b1234", "", "is no version of llama-cpp-python"),
        ("1:0.7.0+dfsg-2", "", "--ggml"),
        ("2" * 40, "", r"has a source of this kind \(git\)"),
        ("", "", "is no version"),
    ],
)
def test_a_version_that_cannot_be_written_is_told(tmp_path: Path, version: str, ggml: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        changed(tmp_path, f"{HEAD}\n", version, ggml)
