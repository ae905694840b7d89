"""Which of the files that the user names belong together as source and target, and which hold both sides."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from glassformer.data.corpora import BUILT_IN, BUILT_IN_PAIRS
from glassformer.data.documents import counted
from glassformer.data.examples import PairCorpus
from glassformer.data.opening import table_format
from glassformer.data.source_file import Notes
from glassformer.data.sources import BUILT_IN_PREFIX, STANDARD_INPUT, expand, note_held_out
from glassformer.errors import DataError, nearest

TWO_FILES = "name the file of the source and then that of its target, for example train.de train.en"


@dataclass(frozen=True, slots=True)
class TableOfPairs:
    """One file with both sides in it."""

    path: Path
    format: str


@dataclass(frozen=True, slots=True)
class AlignedFiles:
    """Two files whose lines of the same number belong together."""

    source: Path
    target: Path


Unit = TableOfPairs | AlignedFiles | str  # what is read as one; a string is a built-in corpus


def units_of(sources: Sequence[str | Path], notes: Notes) -> Iterator[Unit]:
    """Tables by themselves, files of text two by two. Raises DataError for a file without the other side."""
    waiting: tuple[str, list[Path]] | None = None  # files of sources whose targets are still to come
    for source in sources:
        if str(source) == STANDARD_INPUT:
            raise DataError("standard input: pairs are read from files only; save what you pipe in and name the file")
        if str(source).startswith(BUILT_IN_PREFIX):
            yield str(source)
            continue
        paths = [path for path in expand(source, notes) if isinstance(path, Path)]
        formats = {path: table_format(path) for path in paths}
        texts = [path for path in paths if formats[path] is None]
        note_held_out(source, paths, notes)
        if len(texts) < len(paths):
            notes += [(str(path), "left out, as it lies beside tables and is none") for path in texts]
            yield from (TableOfPairs(path, known) for path, known in formats.items() if known)
        elif waiting is None:
            waiting = (str(source), texts)
        else:
            yield from aligned(waiting, (str(source), texts))
            waiting = None
    if waiting is not None:
        name, texts = waiting
        if len(texts) != 2:
            found = f"{counted(len(texts), 'file')} of text without another side" if len(texts) > 1 else "one side only"
            raise DataError(f"{name}: {found}; {TWO_FILES}, or a table with both sides")
        yield AlignedFiles(*texts)


def aligned(source: tuple[str, list[Path]], target: tuple[str, list[Path]]) -> Iterator[AlignedFiles]:
    """The files of two sources, the first with the first. Raises DataError where they are not as many."""
    (source_name, source_paths), (target_name, target_paths) = source, target
    if len(source_paths) != len(target_paths):
        found = f"{source_name} is {counted(len(source_paths), 'file')} and {target_name} {len(target_paths):,}"
        raise DataError(f"{found}; {TWO_FILES}")
    for paths in zip(source_paths, target_paths, strict=True):
        if os.path.samefile(*paths):
            raise DataError(f"{paths[0]}: named as source and as target; {TWO_FILES}")
        yield AlignedFiles(*paths)


def sources_of(unit: Unit) -> list[Path | str]:
    """The files that a unit is read from, or the name of the built-in corpus."""
    match unit:
        case AlignedFiles():
            return [unit.source, unit.target]
        case TableOfPairs():
            return [unit.path]
        case _:
            return [unit]


def built_in_pairs(source: str) -> PairCorpus:
    """The corpus behind ``demo:NAME``. Raises DataError with the nearest name."""
    name = source.removeprefix(BUILT_IN_PREFIX)
    if name in BUILT_IN:
        raise DataError(
            f"{source}: holds text and no pairs; for pairs there is {BUILT_IN_PREFIX}{next(iter(BUILT_IN_PAIRS))}"
        )
    if name not in BUILT_IN_PAIRS:
        raise DataError(f"{source}: no built-in pairs of this name{nearest(name, BUILT_IN_PAIRS)}")
    return BUILT_IN_PAIRS[name]()
