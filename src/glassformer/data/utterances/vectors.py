"""Sequences of vectors in files: their shapes without reading them, and the numbers themselves. Never pickled objects."""

# T vectors of a sequence, F numbers in each

from __future__ import annotations

import functools
import os
import re
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from glassformer.data.json_values import listed
from glassformer.data.utterances.corpus import Utterance
from glassformer.errors import DataError

BROKEN = (  # what numpy and zipfile answer damage with
    OSError,
    ValueError,
    EOFError,
    KeyError,
    TypeError,
    SyntaxError,
    RuntimeError,
    NotImplementedError,
    IndexError,
    OverflowError,
    MemoryError,
    RecursionError,
    struct.error,
    tokenize.TokenError,
    zlib.error,
    zipfile.BadZipFile,
)
KINDS_OF_NUMBER = "fiub"  # of numpy: real, whole, without sign, true or false
PART_OF_ARRAY = re.compile(r"(?P<name>.+)\[(?P<row>\d+)\]")
Shape = tuple[int, int]  # T F


def read_vectors(utterance: Utterance) -> NDArray[np.float32]:
    """The vectors of one utterance: T F, float32.

    Rows of one .npz or Parquet file are fastest in the order in which they lie. Raises DataError, naming file and part,
    where there are no such numbers, or one is not finite.
    """
    path, part = utterance.path, utterance.part
    name = f"{path}, {part}" if part else str(path)
    match path.suffix.lower():
        case ".npy":
            with opened(path) as stream:
                found = array_of_npy(stream, os.path.getsize(path), name)
        case ".npz":
            found = array_of_npz(path, part, name)
        case ".parquet":
            from glassformer.data.utterances.parquet_vectors import array_of_parquet

            found = array_of_parquet(path, part, name)
        case other:
            raise DataError(
                f"{path}: {other or 'a name without extension'} holds no vectors; name .npy, .npz or Parquet"
            )
    shape = shape_of_sequence(found.shape, found.dtype, name)
    with np.errstate(over="ignore"):  # a double beyond float32 becomes infinite, which is said below
        vectors = np.ascontiguousarray(found.reshape(shape), dtype=np.float32)
    odd = np.argwhere(~np.isfinite(vectors))
    if len(odd):
        t, f = odd[0].tolist()
        value = found.reshape(shape)[t, f]
        raise DataError(f"{name}: number {f + 1} of vector {t + 1} is {value}, expected a finite number of 32 bits")
    return vectors


def shape_of_sequence(shape: tuple[int, ...], dtype: np.dtype[Any], name: str) -> Shape:
    """T F of an array; one number for each step is F = 1. Raises DataError where it is no sequence of vectors."""
    if dtype.hasobject:
        raise DataError(f"{name}: holds pickled objects, which are not read as they can run code; save plain numbers")
    if dtype.kind not in KINDS_OF_NUMBER:
        raise DataError(f"{name}: holds {dtype}, expected real numbers")
    if len(shape) not in (1, 2):
        sizes = " x ".join(map(str, shape)) or "one number"
        raise DataError(f"{name}: an array of {sizes}, expected T x F, one vector of F numbers for each of T steps")
    n_steps, n_channels = (*shape, 1)[:2]
    if n_steps < 1 or n_channels < 1:
        raise DataError(f"{name}: an array of {' x '.join(map(str, shape))}, which holds no vector")
    return n_steps, n_channels


# --- .npy -------------------------------------------------------------------------------------------------------------


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """The file, to be read. Raises DataError with the system's reason."""
    try:
        stream = path.open("rb")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check that you may read it") from None
    with stream:
        yield stream


def header_of(stream: IO[bytes], size: int, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and kind of the numbers behind the header of an .npy file of `size` bytes. Raises DataError."""
    try:
        version = np.lib.format.read_magic(stream)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
        if read is None:  # version 3 is for arrays of records
            raise ValueError(f"version {version[0]}.{version[1]}")
        shape, _, dtype = read(stream)
        begin = stream.tell()
    except BROKEN as error:
        raise damaged(name, error) from None
    n_bytes = dtype.itemsize
    for n in shape:  # in Python's integers, which do not overflow
        n_bytes *= n
    if not dtype.hasobject and (n_bytes > size - begin or any(n < 0 for n in shape)):
        sizes = " x ".join(map(str, shape))
        found = f"{max(size - begin, 0):,} bytes behind a header that says {sizes} {dtype}"
        raise DataError(f"{name}: {found}; it was cut short, copy or write it again")
    return shape, dtype


def array_of_npy(stream: IO[bytes], size: int, name: str) -> NDArray[Any]:
    """The array of an .npy file or a member of an .npz. Raises DataError."""
    shape, dtype = header_of(stream, size, name)
    if dtype.hasobject:
        shape_of_sequence(shape, dtype, name)
    try:
        stream.seek(0)
        return np.lib.format.read_array(stream, allow_pickle=False)
    except BROKEN as error:
        raise damaged(name, error) from None


def shape_of_npy(path: Path) -> Shape:
    """T F of the sequence in an .npy file, by its header alone. Raises DataError."""
    with opened(path) as stream:
        shape, dtype = header_of(stream, os.path.getsize(path), str(path))
    return shape_of_sequence(shape, dtype, str(path))


def damaged(name: str, error: BaseException) -> DataError:
    """The error for a file that is not what its name says."""
    reason = " ".join(str(error).split()).rstrip(".")
    return DataError(f"{name}: is no sound file of numpy ({reason[:120]}); copy or write it again")


# --- .npz -------------------------------------------------------------------------------------------------------------


class Npz:
    """The arrays of an .npz by their names, read one at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with opened(path):  # for the system's reason, if there is one
            pass
        try:
            self.zip = zipfile.ZipFile(path)
        except BROKEN as error:
            raise damaged(str(path), error) from None
        members = (member for member in self.zip.infolist() if member.filename.endswith(".npy"))
        self.members = {member.filename.removesuffix(".npy"): member for member in members}
        if not self.members:
            self.zip.close()
            raise DataError(f"{path}: holds no array; write it with numpy.savez")

    def name_of(self, key: str) -> str:
        """How an error calls an array."""
        return f"{self.path}, {key}"

    def header(self, key: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Shape and kind of numbers of an array. Raises DataError."""
        try:
            with self.zip.open(self.members[key]) as stream:
                return header_of(stream, self.members[key].file_size, self.name_of(key))
        except BROKEN as error:
            raise damaged(self.name_of(key), error) from None

    def array(self, key: str) -> NDArray[Any]:
        """All of an array. Raises DataError."""
        try:
            with self.zip.open(self.members[key]) as stream:
                return array_of_npy(stream, self.members[key].file_size, self.name_of(key))
        except BROKEN as error:
            raise damaged(self.name_of(key), error) from None


def open_npz(path: Path) -> Npz:
    """The file, whose table of contents is read once as long as the file stays the same. Raises DataError."""
    return cached_npz(path, stamp_of(path), os.getpid())


def stamp_of(path: Path) -> tuple[int, int]:
    """Size and time of a file, by which it counts as the same. Raises DataError."""
    try:
        about = path.stat()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check that you may read it") from None
    return about.st_size, about.st_mtime_ns


@functools.lru_cache(maxsize=4)
def cached_npz(path: Path, stamp: tuple[int, int], process: int) -> Npz:
    """A file as it was at that time, in that process: two of them must not move one place in it."""
    return Npz(path)


@functools.lru_cache(maxsize=1)
def cached_array(path: Path, stamp: tuple[int, int], key: str) -> NDArray[Any]:
    """One array that holds many sequences."""
    return open_npz(path).array(key)


def array_of_npz(path: Path, part: str, name: str) -> NDArray[Any]:
    """One sequence of an .npz: the array of that name, a row of the one that holds all, or the only array there is."""
    file = open_npz(path)
    if not part and len(file.members) == 1:
        part = next(iter(file.members))
    if part in file.members:
        return file.array(part)
    found = PART_OF_ARRAY.fullmatch(part)
    if not found or found["name"] not in file.members:
        wanted = f"no array {part!r}" if part else f"{len(file.members)} arrays where a single one is expected"
        raise DataError(f"{path}: {wanted}, found {listed(file.members)}; give the name of one in a column 'key'")
    bounds = bounds_of_rows(file, found["name"])
    row = int(found["row"])
    if row >= len(bounds):
        raise DataError(f"{name}: there are only {len(bounds):,} sequences")
    data = cached_array(path, stamp_of(path), found["name"])
    first, last = bounds[row]
    return data[row, :last] if len(data.shape) == 3 else data[first:last]


LENGTHS = ("lengths", "length", "n_frames", "sizes")  # arrays that say how long each sequence in another array is


def bounds_of_rows(file: Npz, key: str) -> list[tuple[int, int]]:
    """First and last-but-one step of every sequence in an array N T F, or in one of all T together F. Raises DataError."""
    shape, dtype = file.header(key)
    name = file.name_of(key)
    lengths_key = next((known for known in LENGTHS if known in file.members), None)
    lengths = None if lengths_key is None else lengths_of(file, lengths_key)
    if len(shape) == 3:
        shape_of_sequence(shape[1:], dtype, name)
        lengths = [shape[1]] * shape[0] if lengths is None else lengths
        if len(lengths) != shape[0] or max(lengths, default=0) > shape[1]:
            found = (
                f"{len(lengths):,} lengths up to {max(lengths, default=0):,} for {shape[0]:,} sequences of {shape[1]:,}"
            )
            raise DataError(f"{name}: {found}; expected as many lengths as sequences, none beyond their end")
        return [(0, length) for length in lengths]
    shape_of_sequence(shape, dtype, name)
    if lengths is None:
        raise DataError(f"{name}: no array 'lengths' says where one sequence ends; found {listed(file.members)}")
    if sum(lengths) != shape[0]:
        raise DataError(
            f"{name}: lengths that add up to {sum(lengths):,} for {shape[0]:,} vectors; they must be the same"
        )
    ends = np.cumsum(lengths).tolist()
    return [(end - length, end) for end, length in zip(ends, lengths, strict=True)]


def lengths_of(file: Npz, key: str) -> list[int]:
    """The lengths that an array holds. Raises DataError where one is none."""
    shape, dtype = file.header(key)
    if len(shape) != 1 or dtype.kind not in "iu":
        raise DataError(
            f"{file.name_of(key)}: holds {' x '.join(map(str, shape))} {dtype}, expected whole numbers in a row"
        )
    lengths = [int(length) for length in file.array(key)]
    if min(lengths, default=1) < 0:
        raise DataError(f"{file.name_of(key)}: holds the length {min(lengths)}, expected none below 0")
    return lengths
