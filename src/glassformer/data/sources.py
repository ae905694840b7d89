"""From what the user names (files, folders, globs) to files, each once. What is in them is read elsewhere."""

from __future__ import annotations

import functools
import glob
import itertools
import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePath
from typing import TypeVar

from glassformer.data.decoding import COMPRESSED_EXTENSIONS, signs_of_binary
from glassformer.data.documents import counted
from glassformer.data.opening import missing, read_bytes, table_format
from glassformer.data.readers import READERS
from glassformer.data.source_file import Notes, extension_of
from glassformer.errors import DataError

STANDARD_INPUT = "-"
BUILT_IN_PREFIX = "demo:"
HELD_OUT = frozenset({"valid", "validation", "val", "dev", "eval", "test", "heldout"})  # words in the names of files
T = TypeVar("T")
N_SNIFFED = 8192  # bytes that decide whether a file of unknown extension in a folder is text


def one_or_more(sources: str | Path | Sequence[str | Path]) -> Sequence[str | Path]:
    """A list of sources, also where a single one is given."""
    return [sources] if isinstance(sources, str | Path) else sources


def distinct_sources(sources: Sequence[str | Path], notes: Notes) -> list[str | Path]:
    """Each file (or ``-``, or ``demo:NAME``) once, however often and in whatever spelling the sources name it."""
    expanded = list(itertools.chain.from_iterable(expand(source, notes) for source in sources))
    return distinct(expanded, lambda source: [source], notes)


def distinct(units: Iterable[T], sources_of: Callable[[T], Sequence[str | Path]], notes: Notes) -> list[T]:
    """Each of `units` once, told apart by the files that it is read from."""
    first: dict[tuple[str, ...], T] = {}
    for unit in units:
        sources = sources_of(unit)
        identity = tuple(os.path.realpath(source) if isinstance(source, Path) else source for source in sources)
        if identity in first:
            names = " and ".join(str(source) for source in sources_of(first[identity]))
            notes.append((names, "named more than once, read once"))
        first.setdefault(identity, unit)
    return list(first.values())


def expand(source: str | Path, notes: Notes) -> list[Path] | list[str]:
    """The files that one source stands for. Raises DataError when there are none."""
    if str(source) == STANDARD_INPUT or str(source).startswith(BUILT_IN_PREFIX):
        return [str(source)]
    path = Path(source).expanduser()
    if path.is_dir():
        return files_of_folder(path, notes)
    if path.exists():
        return [path]
    if glob.has_magic(str(path)):
        files = [Path(name) for name in sorted(glob.glob(str(path), recursive=True)) if not Path(name).is_dir()]
        if files:
            return files
        raise DataError(f"{source}: no file matches this pattern; try **/ for folders inside folders")
    raise missing(path)


def files_of_folder(folder: Path, notes: Notes) -> list[Path]:
    """The text files of a folder and the folders in it, sorted, hidden ones passed over. Raises DataError if none."""
    texts, others = files_by_kind(folder)
    shown = ", ".join(others[:3]) + (", …" if len(others) > 3 else "")
    if not texts:
        found = f"{counted(len(others), 'file')} of other kinds: {shown}" if others else "no file at all"
        raise DataError(f"{folder}: no text file in this folder, found {found}; name a folder or file that holds text")
    if others:
        notes.append((str(folder), f"{counted(len(others), 'file')} left out, not known as text: {shown}"))
    return texts


def files_by_kind(folder: Path) -> tuple[list[Path], list[str]]:
    """The text files of a folder and the folders in it, sorted, and the names of its other files; no hidden ones."""
    texts: list[Path] = []
    others: list[str] = []
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and not is_run(Path(root, name)))
        for path in (Path(root, name) for name in sorted(names) if not name.startswith(".")):
            if is_wanted(path):
                texts.append(path)
            else:
                others.append(str(path.relative_to(folder)))
    return texts, others


def tables_of(source: str | Path, notes: Notes, way_out: str) -> list[tuple[Path, str]]:
    """The tables that one source stands for, each with its format; other files beside them are noted.

    Raises DataError, whose `way_out` says what to name instead, for a pipe, a built-in text, or where none is a table.
    """
    if str(source) == STANDARD_INPUT or str(source).startswith(BUILT_IN_PREFIX):
        found = (
            "standard input: these are read from files only" if str(source) == STANDARD_INPUT else f"{source}: no table"
        )
        raise DataError(f"{found}; {way_out}")
    formats = {path: table_format(path) for path in expand(source, notes) if isinstance(path, Path)}
    if not any(formats.values()):
        raise DataError(f"{source}: no table; {way_out}")
    notes += [(str(path), "left out, as it lies beside tables and is none") for path in formats if not formats[path]]
    note_held_out(source, [path for path in formats if formats[path]], notes)
    return [(path, known) for path, known in formats.items() if known]


def note_held_out(source: str | Path, paths: Sequence[Path], notes: Notes) -> None:
    """Say so where one source stands for files to train on and others that are named as if to measure with."""
    held_out = [path.name for path in paths if says_held_out(path.name)]
    if 0 < len(held_out) < len(paths):
        shown = ", ".join(held_out[:3]) + (", …" if len(held_out) > 3 else "")
        notes.append((str(source), f"{shown} read like its other files; to measure with them, name files one by one"))


@functools.cache
def says_held_out(name: str) -> bool:
    """Whether the last part of a path has a word in it that stands for data to measure with."""
    return not HELD_OUT.isdisjoint(re.split(r"[^a-z]+", PurePath(name).name.casefold()))


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a training run, whose samples and logs are nothing to train on."""
    return (folder / "recipe.yaml").exists() and (folder / "tokenizer").is_dir()


def is_wanted(path: Path) -> bool:
    """Whether a file met in a folder counts as data: by its extension, or, uncompressed, because it looks like text."""
    if not path.is_file():  # a broken link, a socket, a pipe that would be waited for
        return False
    if extension_of(path.name) in READERS:
        return True
    if path.name.lower().endswith(COMPRESSED_EXTENSIONS):
        return False
    return signs_of_binary(read_bytes(path, N_SNIFFED)) is None
