"""From a path, bytes or a stream to the opened file and what to call it. What is in it is read elsewhere."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from glassformer.data.opening import missing
from glassformer.errors import DataError

Source = str | Path | bytes | BinaryIO
BLOCK = 1 << 20  # bytes


class Forward:
    """A stream read from where it stands to its end. Its first bytes can be looked at; what is passed over is not read where
    the stream can be wound."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self.looked_at = b""
        self.left = size_left(stream)  # bytes, None where nobody knows
        self.start = 0 if self.left is None else stream.tell()

    def peek(self, n_bytes: int) -> bytes:
        """The next bytes, which the next read gives again."""
        if len(self.looked_at) < n_bytes:
            self.looked_at += read_fully(self.stream, n_bytes - len(self.looked_at))
        return self.looked_at[:n_bytes]

    def read(self, n_bytes: int) -> bytes:
        """So many bytes, fewer only at the end."""
        taken, self.looked_at = self.looked_at[:n_bytes], self.looked_at[n_bytes:]
        if len(taken) < n_bytes:
            taken += read_fully(self.stream, n_bytes - len(taken))
        self.passed(len(taken))
        return taken

    def skip(self, n_bytes: int) -> None:
        """Pass over so many bytes, or to the end."""
        if self.left is not None:
            n_bytes = min(n_bytes, self.left)
            self.stream.seek(n_bytes - len(self.looked_at), io.SEEK_CUR)
            self.looked_at = b""
            self.passed(n_bytes)
            return
        while n_bytes > 0 and (taken := len(self.read(min(n_bytes, BLOCK)))):
            n_bytes -= taken

    def passed(self, n_bytes: int) -> None:
        """So many bytes fewer are left."""
        if self.left is not None:
            self.left = max(0, self.left - n_bytes)


@contextlib.contextmanager
def opened(source: Source) -> Iterator[tuple[BinaryIO, str]]:
    """The file as a stream and its name. A stream that was given stays open. Raises DataError where it cannot be opened, and
    for what the system refuses while it is read."""
    name = name_of(source)
    try:
        if isinstance(source, bytes | bytearray | memoryview):
            yield io.BytesIO(source), name
        elif isinstance(source, str | Path):
            with file_at(source) as stream:
                yield stream, name
        else:
            yield source, name
    except FileNotFoundError:
        raise missing(Path(name)) from None
    except IsADirectoryError:
        raise DataError(f"{name}: is a folder, where a file of sound is expected") from None
    except OSError as error:
        raise DataError(f"{name}: cannot be read ({error.strerror or error})") from None


def file_at(path: str | Path) -> BinaryIO:
    """The file at a path. Raises DataError for what can be none, and OSError."""
    try:
        return Path(path).open("rb")
    except ValueError as error:  # a NUL character in it
        raise DataError(f"{str(path)!r}: is no path of a file ({error})") from None


def name_of(source: Source) -> str:
    """What errors call it."""
    if isinstance(source, str | Path):
        return str(source)
    name = getattr(source, "name", None)
    if isinstance(source, bytes | bytearray | memoryview):
        return "the bytes given"
    return "standard input" if name in ("<stdin>", 0) else str(name) if isinstance(name, str) else "the stream given"


def size_left(stream: BinaryIO) -> int | None:
    """How many bytes are left of a stream that can be wound back, None of one that cannot."""
    try:
        if not stream.seekable():
            return None
        here = stream.tell()
        end = stream.seek(0, io.SEEK_END)
        stream.seek(here)
    except (OSError, AttributeError, ValueError):
        return None
    return max(0, end - here)


@contextlib.contextmanager
def on_disk(stream: Forward) -> Iterator[int]:
    """The number of an opened file that begins where the stream began: its own, or that of a copy."""
    number = file_number(stream)
    if number is not None:
        os.lseek(number, 0, os.SEEK_SET)
        yield number
        return
    if stream.left is not None:
        stream.stream.seek(stream.start)
        stream.looked_at = b""
    with tempfile.TemporaryFile() as copy:
        while piece := stream.read(BLOCK):
            copy.write(piece)
        copy.flush()
        os.lseek(copy.fileno(), 0, os.SEEK_SET)
        yield copy.fileno()


def file_number(stream: Forward) -> int | None:
    """The operating system's number of a file that the stream reads from its beginning, None for anything else."""
    if stream.left is None or stream.start != 0 or not isinstance(stream.stream, io.BufferedReader | io.FileIO):
        return None
    try:
        return stream.stream.fileno()
    except OSError:
        return None


def read_fully(stream: BinaryIO, n_bytes: int) -> bytes:
    """So many bytes of a stream that may give fewer at a time, fewer only at its end."""
    pieces: list[bytes] = []
    while n_bytes > 0 and (piece := stream.read(min(n_bytes, BLOCK))):
        pieces.append(piece)
        n_bytes -= len(piece)
    return b"".join(pieces)
