"""Where a model's files come from. A kind of source is one class here, among the bases of `ModelSource`, and a subclass of `Origin` with
its entry in ORIGINS in control/models/origins.py, which asks there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal, TypeAlias

from pydantic import Field, model_validator

from roles.role import LINE_ENDS, LocalPath, Matches, Settings, Sha256, Url

FilePath = Annotated[
    str,
    Matches(
        rf"(?=.{{1,4000}}$)(?!.*/\.{{0,2}}(/|$))/[^{LINE_ENDS};#'\"]*[^ {LINE_ENDS};#'\"]",
        "is not an absolute path that a preset and a unit can contain (no quotes, ; or #, no space at its end, no ..)",
    ),
]
FileName = Annotated[
    str,
    Matches(rf"(?!.*(^|/)\.{{0,2}}(/|$))[^/{LINE_ENDS}][^{LINE_ENDS}]*", "is not a file name relative to its source"),
]
Repository = Annotated[
    str,
    Matches(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*", 'is not a Hugging Face repository, such as "unsloth/Qwen3-8B-GGUF"'),
]
Revision = Annotated[str, Matches(r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._/-]*", "is not a revision: a branch, a tag or a commit, such as main")]


class ModelPart(Settings):
    """One file of a model."""

    name: FileName
    """The name at the source: `Q8_0/qwen-00001-of-00003.gguf`"""

    sha256: Sha256
    """The digest of the file."""

    size: Annotated[int, Field(gt=0)] | None = None
    """The size in bytes."""


class SourceKind(Settings):
    """One kind of source. Its fields are keys of `source`: the first says the kind, the others may stand beside it."""

    origin_word: ClassVar[str]
    """The word that the origin of a planned file begins with (`resources.ModelFile.origin`)."""

    there_already: ClassVar[bool] = False
    """Whether the files lie on their host already."""

    @classmethod
    def key(cls) -> str:
        return next(iter(cls.model_fields), "")

    @classmethod
    def first(cls, source: ModelSource) -> str | None:
        """The name of the first file, as far as it is known without a look: its URL, path or name in the repository."""
        found: str | None = getattr(source, cls.key())
        return found

    @classmethod
    def part_name(cls, first: str) -> str:
        """What a file that has its digest as `sha256` is called."""
        return first.rpartition("/")[2] or "model.gguf"

    @classmethod
    def faults(cls, source: ModelSource) -> Iterator[str]:
        """What does not fit together."""
        yield from ()

    @classmethod
    def origin(cls, source: ModelSource, at: int, part: ModelPart) -> str:
        """Where a planned file comes from: the word, and what is asked for there. `at` is the part's number, from 0."""
        return f"{cls.origin_word} {source.named[at]}"


class Tiny(SourceKind):
    """A model of random weights that Paddock writes itself. An inventory says `source: tiny`."""

    origin_word = "tiny"


class HuggingFace(SourceKind):
    """Files of a repository, with what decides which of them are meant."""

    origin_word = "hf"

    hf: Repository | None = None
    """A repository on Hugging Face: `unsloth/Qwen3-8B-GGUF`. The host downloads the files."""

    revision: Revision | None = None
    """A branch, tag or commit of the repository, by default `main`. The lock pins the commit."""

    file: FileName | None = None
    """The file in the repository."""

    include: Annotated[str, Field(min_length=1)] | None = None
    """Instead of `file`: a pattern that matches this model's files in the repository, and no other files: `*Q4_K_M*`."""

    @classmethod
    def first(cls, source: ModelSource) -> str | None:
        return source.file

    @classmethod
    def part_name(cls, first: str) -> str:
        return first

    @classmethod
    def faults(cls, source: ModelSource) -> Iterator[str]:
        if source.file and source.include:
            yield "needs one of file and include, this has both"
        if source.sha256 and not source.file and not source.files:
            yield "sha256 is for a single file: name it with file"

    @classmethod
    def origin(cls, source: ModelSource, at: int, part: ModelPart) -> str:
        return f"{cls.origin_word} {source.hf} {source.revision or 'main'} {part.name}"


class FromUrl(SourceKind):
    """A file on a web server."""

    origin_word = "url"

    url: Url | None = None
    """A URL. The host downloads the file."""


class Local(SourceKind):
    """A file on the control machine, which the host is sent."""

    origin_word = "local"

    local: LocalPath | None = None
    """A file on the control machine; the path is relative to the inventory."""


class OnHost(SourceKind):
    """A file that somebody else has put on the host."""

    origin_word = "host"
    there_already = True

    path: FilePath | None = None
    """A file that is already on the host. Paddock checks its digest and never changes it."""

    @classmethod
    def faults(cls, source: ModelSource) -> Iterator[str]:
        if not source.digests:
            yield "path needs sha256: without it Paddock would accept any file at that path"

    @classmethod
    def origin(cls, source: ModelSource, at: int, part: ModelPart) -> str:
        return cls.origin_word


class Digests(Settings):
    """What a source of any kind may say of its files."""

    sha256: Sha256 | None = None
    """The digest of the file."""

    size: Annotated[int, Field(gt=0)] | None = None
    """The size in bytes. If given, Paddock checks it before the download."""

    files: tuple[ModelPart, ...] = ()
    """Every file with its digest, in the order of the parts."""


class ModelSource(Digests, OnHost, Local, FromUrl, HuggingFace):  # the last is the first in the schema
    """The source of a model's files: exactly one of `hf`, `url`, `local` and `path`.

    The digests are given here (`sha256`, or `files` for several files), or in the lock beside the inventory, which `paddock models pull
    --lock` writes. Name a multi-part model by its first part, `…-00001-of-00003.gguf`; the other parts must be beside it.
    """

    @model_validator(mode="after")
    def _whole(self) -> ModelSource:
        given = [kind for kind in KINDS if getattr(self, kind.key())]
        if len(given) != 1:
            *most, last = (kind.key() for kind in KINDS)
            found = " and ".join(kind.key() for kind in given) or "none"
            raise ValueError(f"needs exactly one of {', '.join(most)} and {last}, this has {found}")
        for kind in KINDS:
            if kind is not self.kind and (stray := [name for name in kind.model_fields if getattr(self, name)]):
                raise ValueError(f"{stray[0]} is only for {kind.key()}, and this source has {self.kind.key()}")
        for fault in self.kind.faults(self):
            raise ValueError(fault)
        if (first := self.kind.first(self)) and (part := PART.search(first)) and int(part[1]) > PARTS_MOST:
            raise ValueError(f"{first} is of {int(part[1]):,} parts: llama.cpp loads {PARTS_MOST:,} at most")
        if self.files and self.named and len(self.files) != len(self.named):
            raise ValueError(f"files has {len(self.files)}, and {self.named[0]} is of {len(self.named)}")
        if self.sha256 and (self.files or len(self.named) > 1):
            raise ValueError("sha256 is for a single file: for several parts, give each digest in `files` or in the lock")
        return self

    @property
    def kind(self) -> type[SourceKind]:
        return next(kind for kind in KINDS if getattr(self, kind.key()))

    @property
    def on_host(self) -> bool:
        """Whether its files lie on their host already."""
        return self.kind.there_already

    @property
    def asked(self) -> dict[str, str]:
        """What was asked for, without what it turned out to be: `{"hf": "unsloth/Qwen3-8B-GGUF", "include": "*Q4_K_M*"}`."""
        named = {name: getattr(self, name) for name in self.kind.model_fields}
        return {name: value for name, value in named.items() if value}

    @property
    def named(self) -> tuple[str, ...]:
        """The files, as far as their names are known without a look: the URLs, paths or names in the repository of all parts."""
        first = self.kind.first(self)
        return parts_of(first) if first else ()

    @property
    def digests(self) -> tuple[ModelPart, ...]:
        """Every file with its digest; none where the lock is to say them."""
        if self.sha256:
            return (ModelPart(name=self.kind.part_name(self.named[0]), sha256=self.sha256, size=self.size),)
        return self.files

    def origin_of(self, at: int) -> str:
        """Where a file of it comes from, by its number from 0, as its resource says it."""
        return self.kind.origin(self, at, self.digests[at])


class BesideModel(ModelSource):
    """The projector that lies beside a model in its repository, as `llama-server -hf` finds it. Nobody writes it: it stands for `auto`."""

    of: str = ""
    """What says which of the repository's models it is for: its file, or a pattern."""

    @property
    def asked(self) -> dict[str, str]:
        return {**super().asked, "beside": self.of}


KINDS: tuple[type[SourceKind], ...] = tuple(kind for kind in reversed(ModelSource.__bases__) if issubclass(kind, SourceKind))
"""In the order in which they are named: Hugging Face first."""

AnyModelSource: TypeAlias = Literal["tiny"] | ModelSource


def source_kind_of(source: AnyModelSource) -> type[SourceKind]:
    return source.kind if isinstance(source, ModelSource) else Tiny


PART = re.compile(r"-00001-of-([0-9]{5})(?=\.gguf)")
PARTS_MOST = 1024


def parts_of(first: str) -> tuple[str, ...]:
    """The names of all parts of a model, out of the first's, as llama-gguf-split gives them; of a model in one file its name alone."""
    found = PART.search(first)
    many = int(found[1]) if found else 1
    if not 1 < many <= PARTS_MOST:
        return (first,)
    return tuple(PART.sub(f"-{number:05d}-of-{many:05d}", first, count=1) for number in range(1, many + 1))
