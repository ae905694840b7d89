"""From a path to the opened file, whole or only its beginning, and whether it holds a table. What is in it is read elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

from glassformer.data.decoding import decode, decompress, decompress_beginning
from glassformer.data.json_values import json_or_none
from glassformer.data.source_file import Notes, SourceFile, extension_of, with_unix_line_ends
from glassformer.data.tables import TABLES
from glassformer.errors import DataError, nearest

N_GLANCED = 1 << 18  # bytes that tell what a file without a telling extension holds
N_GLANCED_LINES = 20


def open_file(
    path: Path, notes: Notes, *, text_key: str = "text", encoding: str | None = None, name: str | None = None
) -> SourceFile:
    """The file, unpacked; its findings go to `notes`. Raises DataError where it cannot be read or is damaged."""
    name = str(path) if name is None else name
    return SourceFile(name, decompress(read_bytes(path), name), text_key, encoding, notes)


def beginning_of(path: Path, n_lines: int = N_GLANCED_LINES) -> list[str]:
    """The first lines of a file that are not blank, at most `n_lines`; none where it is no text."""
    packed = read_bytes(path, N_GLANCED)
    head = decompress_beginning(packed, N_GLANCED)
    if max(len(packed), len(head)) >= N_GLANCED:  # there is more of it, so its last line may be cut
        head = head[: head.rfind(b"\n") + 1] or head
    try:
        text, _ = decode(head, str(path))
    except DataError:
        return []
    text, _ = with_unix_line_ends(text)
    return [line for line in text.split("\n") if line.strip()][:n_lines]


def table_format(path: Path) -> str | None:
    """The extension of `TABLES` that this file has or, to judge by its first lines, should have; None for other text."""
    extension = extension_of(path.name)
    if extension in TABLES:
        return extension
    first_lines = beginning_of(path)
    if first_lines and isinstance(json_or_none(first_lines[0]), dict):
        return ".jsonl"
    n_tabs = {line.count("\t") for line in first_lines}
    return ".tsv" if len(n_tabs) == 1 and n_tabs != {0} else None


def read_bytes(path: Path, limit: int = -1) -> bytes:
    """The bytes of a file, at most `limit` where one is given. Raises DataError with the system's reason."""
    try:
        with path.open("rb") as stream:
            return stream.read(limit)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check that you may read it") from None


def missing(path: Path) -> DataError:
    """The error for a file that is not there, with the nearest name in its folder."""
    folder = path.parent
    if not folder.is_dir():
        return DataError(f"{path}: no such file, and no such folder {folder}; check the path")
    names = [name for name in os.listdir(folder) if not name.startswith(".")]
    return DataError(f"{path}: no such file{nearest(path.name, names)}")
