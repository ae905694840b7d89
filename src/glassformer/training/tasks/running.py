"""Where running text comes from: documents in memory, or token shards of any amount. Both end as ids to cut windows from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glassformer.data import Corpus, Document, read_documents, split
from glassformer.data.documents import counted
from glassformer.data.shards import Shards, is_shards, open_shards, tokenizer_digest
from glassformer.data.shards.manifest import TOKENIZER
from glassformer.data.shards.tokens import ShardTokens, Verification, divided, whole
from glassformer.data.sources import expand
from glassformer.errors import ConfigError, DataError
from glassformer.files import sha256
from glassformer.tokenizers import Tokenizer
from glassformer.training.recipe import DataRecipe
from glassformer.training.tasks.task import fingerprint

MOST_HELD = 2_000_000  # tokens of shards that are held back, whatever the fraction; they are kept in memory

Ids = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Encoded:
    """One source in tokens: the training side, of any length, and what is held back, in memory."""

    train: Ids | ShardTokens
    validation: Ids
    validation_ends: Ids  # of documents
    validation_bytes: int
    fingerprint: str


class Source(ABC):
    """Some text, and what of it is held back."""

    notes: list[str]
    n_bytes: int
    tokenizer: Path | None = None  # that it is bound to
    digests: Mapping[str, str] | None = None  # of the files to train on, where it knows them

    def texts(self) -> Iterator[str]:
        """The training text, to train a tokenizer on."""
        return iter(())

    @abstractmethod
    def encode(self, tokenizer: Tokenizer) -> Encoded:
        """Both sides in tokens."""

    @abstractmethod
    def train_ends(self) -> Ids:
        """Where the documents of the training side end, once it is encoded."""

    def check(self) -> None:
        """Raise DataError where what is read turned out to be damaged."""
        return None


def source_of(names: Sequence[str], data: DataRecipe) -> Source:
    """Files or shards. Raises ConfigError where it is some of each."""
    kinds = {is_shards(name) for name in names}
    if len(kinds) > 1:
        raise ConfigError(
            "data.sources names token shards beside other files; give data.weights to mix them, or prepare all"
        )
    return ShardText(names, data) if kinds == {True} else DocumentText(names, data)


class DocumentText(Source):
    """Documents that are read into memory."""

    def __init__(self, names: Sequence[str], data: DataRecipe) -> None:
        corpus = read(names, data)
        held_back = read(data.validation, data) if data.validation else None
        self.parts = split(corpus, data.validation_fraction, validation=held_back)
        self.notes = [*corpus.notes, self.parts.note]
        self.n_bytes = corpus.n_bytes

    def texts(self) -> Iterator[str]:
        return (document.text for document in self.parts.train)

    @property
    def ends(self) -> bool:
        """Whether the end of a document is something to tell."""
        return len(self.parts.train) > 1

    def encode(self, tokenizer: Tokenizer) -> Encoded:
        """An end token stands behind each document where there are several."""
        train, self._train_ends = in_one_array(self.parts.train, tokenizer, self.ends)
        validation, validation_ends = in_one_array(self.parts.validation, tokenizer, self.ends)
        n_bytes = sum(len(document.text.encode()) for document in self.parts.validation)
        return Encoded(train, validation, validation_ends, n_bytes, fingerprint((train, validation)))

    def train_ends(self) -> Ids:
        return self._train_ends


class ShardText(Source):
    """Folders of token shards, one behind the other."""

    def __init__(self, names: Sequence[str], data: DataRecipe) -> None:
        self.names = names
        self.folders = [open_shards(name) for name in names]
        self.manifest = common_manifest(self.folders).manifest
        shards = [shard for folder in self.folders for shard in folder.shards]
        self.validation_names, self.data = data.validation, data
        held_folders: list[Shards] = []
        if not data.validation:
            self.train, self.held = divided(shards, data.validation_fraction, MOST_HELD)
            ends = [part.segments[-1] for part in (self.train, self.held) if part.segments]
            inside = len(ends) == 2 and ends[1].first < ends[0].last
            how = "the end of the last document" if inside else "the last documents of each shard"
        else:
            self.train, self.held, how = whole(shards), None, "as given"
            if is_shards(data.validation[0]):
                held_folders = [open_shards(name) for name in data.validation]
                common_manifest([*self.folders, *held_folders])
                held = [shard for folder in held_folders for shard in folder.shards]
                n_held = sum(shard.header.tokens for shard in held)
                self.held = whole(held) if n_held <= MOST_HELD else divided(held, 1.0, MOST_HELD)[1]
        self.verification = Verification([*self.folders, *held_folders])
        self.n_bytes = sum(folder.manifest.text_bytes for folder in self.folders)
        self.tokenizer = self.folders[0].folder / TOKENIZER
        self.digests = {name: digest for folder in self.folders for name, digest in folder.digests.items()}
        n_held = "" if self.held is None else f"{len(self.held):,} tokens "
        n_documents = sum(folder.manifest.documents for folder in self.folders)
        self.notes = [
            f"{', '.join(names)}: {counted(len(shards), 'shard')}, {counted(n_documents, 'document')}, "
            f"{len(self.train):,} tokens to train on",
            f"{n_held}held back for validation, {how}",
        ]

    def encode(self, tokenizer: Tokenizer) -> Encoded:
        """What stands in the shards. Raises ConfigError where another tokenizer made them."""
        if tokenizer_digest(tokenizer) != self.manifest.tokenizer:
            raise ConfigError(
                f"{self.names[0]}: its tokens were made with another tokenizer than the run has; leave out the tokenizer, so"
                f" that {self.tokenizer} is taken, or prepare the data with the run's"
            )
        if self.held is None:
            documents = read(self.validation_names, self.data).documents
            validation, ends = in_one_array(documents, tokenizer, self.manifest.end is not None)
            n_bytes = sum(len(document.text.encode()) for document in documents)
        else:
            if not len(self.held):
                raise DataError(f"{self.names[0]}: too few documents to hold any back; name validation data")
            validation, ends = self.held.array(), self.held.ends
            n_bytes = bytes_of(validation, tokenizer, self.manifest.end)
        said = "".join(f"{name}{digest}" for folder in self.folders for name, digest in body_digests(folder))
        marks = np.frombuffer(said.encode(), np.uint8)
        return Encoded(self.train, validation, ends, n_bytes, fingerprint((marks, self.train.edges, validation)))

    def train_ends(self) -> Ids:
        return self.train.ends

    def check(self) -> None:
        self.verification.check()


def common_manifest(folders: Sequence[Shards]) -> Shards:
    """The first of some folders, all of which have its tokenizer. Raises ConfigError."""
    first = folders[0]
    for other in folders[1:]:
        if other.manifest.tokenizer != first.manifest.tokenizer:
            raise ConfigError(
                f"{other.folder}: its tokens were made with another tokenizer than those of {first.folder}; prepare it with"
                f" --tokenizer {first.folder}"
            )
    return first


def body_digests(folder: Shards) -> Iterator[tuple[str, str]]:
    """What each shard of a folder holds, wherever the folder lies."""
    return ((shard.path.name, shard.header.body) for shard in folder.shards)


def file_digests(names: Sequence[str]) -> dict[str, str]:
    """sha256 of the files that some names stand for; of shards, that of what they hold."""
    found: dict[str, str] = {}
    for name in names:
        if is_shards(name):
            found |= open_shards(name).digests
        else:
            found |= {str(path): sha256(path) for path in map(Path, expand(name, [])) if path.is_file()}
    return found


def bytes_of(ids: Ids, tokenizer: Tokenizer, end: int | None) -> int:
    """How many bytes of UTF-8 some tokens stand for, ends of documents not counted."""
    if not tokenizer.bytewise:
        return len(tokenizer.decode_bytes(ids.tolist(), skip_special=True))
    sizes = np.array([len(piece) for piece in tokenizer.pieces])
    if end is not None:
        sizes[end] = 0
    return int(sizes[ids].sum())


def read(names: Sequence[str], data: DataRecipe) -> Corpus:
    """The documents of some sources."""
    return read_documents(names, text_key=data.text_key or "text", encoding=data.encoding)


def in_one_array(documents: Iterable[Document], tokenizer: Tokenizer, ends: bool) -> tuple[Ids, Ids]:
    """The ids of some documents one after the other, with an end token behind each where asked for, and where each ends."""
    end = np.array([tokenizer.eos_id] if ends else [], dtype=np.int64)
    arrays = [[tokenizer.encode_array(document.text), end] for document in documents]
    sizes = [sum(map(len, pair)) for pair in arrays]
    dtype = np.uint16 if tokenizer.vocab_size <= 2**16 else np.uint32
    joined = np.concatenate([array for pair in arrays for array in pair]).astype(dtype)
    return joined, np.cumsum(sizes, dtype=np.int64)
