"""Sequences of vectors in Parquet: a column of lists of lists, or columns of numbers whose rows belong together by an id."""

# T vectors of a sequence, F numbers in each, R rows of a row group

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glassformer.data.json_values import listed
from glassformer.data.shards.blocks import Broken
from glassformer.data.shards.parquet import open_parquet
from glassformer.data.utterances.vectors import stamp_of
from glassformer.errors import DataError

TIMES = ("time", "t", "timestamp", "step", "index", "frame", "row")  # columns that number the steps and are no channel
PART = re.compile(
    r"row (?P<row>\d+) of (?P<column>.+)|rows (?P<first>\d+) to (?P<last>\d+) of (?P<columns>.+)", re.DOTALL
)
Stamp = tuple[int, int]


@contextmanager
def opened_parquet(path: Path) -> Iterator[Any]:
    """The file as pyarrow knows it. Raises DataError without pyarrow, and for a file that is not sound."""
    stamp_of(path)
    try:
        with open_parquet(path) as file:
            yield file
    except Broken as error:
        raise DataError(f"{path}: is {error}; copy or download it again") from None


def list_column(schema: Any) -> str | None:
    """The first column that holds lists of lists of numbers, None where there is none."""
    import pyarrow.types as types

    for field in schema:
        inner = field.type
        depth = 0
        while types.is_list(inner) or types.is_large_list(inner) or types.is_fixed_size_list(inner):
            inner, depth = inner.value_type, depth + 1
        if depth == 2 and is_number(inner):
            return field.name
    return None


def is_number(kind: Any) -> bool:
    """Whether a column holds numbers."""
    import pyarrow.types as types

    return types.is_floating(kind) or types.is_integer(kind)


def number_columns(schema: Any, without: Collection[str]) -> list[str]:
    """The columns that hold numbers, but those named and those that count time."""
    known = {name.casefold() for name in (*without, *TIMES)}
    return [field.name for field in schema if is_number(field.type) and field.name.casefold() not in known]


def array_of_parquet(path: Path, part: str, name: str) -> NDArray[Any]:
    """One sequence: ``row 3 of vectors`` (counted from 1), or ``rows 3 to 90 of x, y`` where columns hold numbers."""
    found = PART.fullmatch(part)
    if found is None:
        raise DataError(f"{name}: no such part of a Parquet file")
    stamp = stamp_of(path)
    if found["row"] is None:
        data = numbers_of(path, stamp, tuple(found["columns"].split(", ")))
        return data[int(found["first"]) - 1 : int(found["last"])]
    group, first = group_with(path, stamp, int(found["row"]))
    sequences = lists_of_group(path, stamp, group, found["column"])
    number = int(found["row"]) - first
    sizes = sequences.sizes_of(number)
    if not len(sizes):
        raise DataError(f"{name}: holds no vector")
    odd = np.flatnonzero(sizes != sizes[0])
    if len(odd):
        differing = f"vector {odd[0] + 1} has {sizes[odd[0]]} numbers and the first has {sizes[0]}"
        raise DataError(f"{name}: {differing}; all must have as many")
    return sequences.numbers_of(number).reshape(len(sizes), int(sizes[0]))


@dataclass(frozen=True)
class Lists:
    """The lists of lists of one row group, laid end to end."""

    ends: NDArray[np.int64]  # R + 1: where the vectors of each row begin and end
    sizes: NDArray[np.int64]  # of all vectors: how many numbers each has
    number_ends: NDArray[np.int64]  # where the numbers of each vector begin and end
    numbers: NDArray[np.float64]

    def sizes_of(self, row: int) -> NDArray[np.int64]:
        """How many numbers each vector of a row has."""
        return self.sizes[self.ends[row] : self.ends[row + 1]]

    def numbers_of(self, row: int) -> NDArray[np.float64]:
        """The numbers of all vectors of a row."""
        first, last = self.number_ends[self.ends[row : row + 2]]
        return self.numbers[first:last]


@functools.lru_cache(maxsize=8)
def row_groups(path: Path, stamp: Stamp) -> list[int]:
    """How many rows each row group has."""
    with opened_parquet(path) as file:
        return [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]


def group_with(path: Path, stamp: Stamp, row: int) -> tuple[int, int]:
    """The row group that holds a row (counted from 1), and the number of its first row. Raises DataError."""
    first = 1
    for group, n_rows in enumerate(row_groups(path, stamp)):
        if row < first + n_rows:
            return group, first
        first += n_rows
    raise DataError(f"{path}: has no row {row:,}, only {first - 1:,}")


@functools.lru_cache(maxsize=2)
def lists_of_group(path: Path, stamp: Stamp, group: int, column: str) -> Lists:
    """The lists of one row group, kept while rows of it are asked for."""
    import pyarrow
    import pyarrow.compute

    compute: Any = pyarrow.compute
    with opened_parquet(path) as file:
        if column not in file.schema_arrow.names:
            raise DataError(f"{path}: no column {column!r}, found {listed(file.schema_arrow.names)}")
        rows = file.read_row_group(group, columns=[column]).column(0)
        vectors = compute.list_flatten(rows)
        numbers = compute.list_flatten(vectors).cast(pyarrow.float64())
        lengths, sizes = (
            compute.fill_null(compute.list_value_length(lists), 0).to_numpy() for lists in (rows, vectors)
        )
        return Lists(cumulated(lengths), sizes.astype(np.int64), cumulated(sizes), numbers.to_numpy())


def cumulated(lengths: NDArray[Any]) -> NDArray[np.int64]:
    """Where each of several stretches begins and ends."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


@functools.lru_cache(maxsize=1)
def numbers_of(path: Path, stamp: Stamp, names: Sequence[str]) -> NDArray[np.float64]:
    """All numbers of some columns, as many rows as the file has; a missing one is not a number. Kept for the next call."""
    with opened_parquet(path) as file:
        table = file.read(columns=list(names))
        if unknown := [name for name in names if name not in table.column_names]:
            raise DataError(f"{path}: no column {unknown[0]!r}, found {listed(file.schema_arrow.names)}")
        return np.stack([table.column(name).to_numpy().astype(np.float64) for name in names], axis=1)
