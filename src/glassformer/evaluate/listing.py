"""The file that lists every example with its score, worst first: where a model fails is read there."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from glassformer.errors import ConfigError
from glassformer.files import whole_file

Row = Mapping[str, Any]  # "score", a number, and whatever else tells about the example: strings, numbers, lists of them


def write_examples(path: Path, rows: Iterable[Row], higher_is_better: bool = True) -> None:
    """Write the rows by their "score", worst first, ties as given, as .jsonl or .tsv; whole or not at all.

    A score that is not a number comes last, and becomes null in JSON, as infinity does. Raises ConfigError for another
    extension, DiskError where the file cannot be written.
    """
    write = WRITERS.get(path.suffix.lower())
    if write is None:
        raise ConfigError(f"{path}: examples are written as {' or '.join(WRITERS)}; choose a name that ends so")
    ordered = sorted(rows, key=lambda row: badness(row["score"], higher_is_better))
    # A lone half of a character has no UTF-8; it is written as \udXXX, which JSON reads as what it was.
    with (
        whole_file(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file,
    ):
        write(file, ordered)


def badness(score: float, higher_is_better: bool) -> tuple[bool, float]:
    """What sorts the worst score first and no score last."""
    if math.isnan(score):
        return True, 0.0
    return False, score if higher_is_better else -score


def write_json_lines(file: TextIO, rows: Sequence[Row]) -> None:
    """One object on each line."""
    for row in rows:
        file.write(json.dumps({key: plain(value) for key, value in row.items()}, ensure_ascii=False) + "\n")


def write_tsv(file: TextIO, rows: Sequence[Row]) -> None:
    """A header and a row for each example. Lists are JSON; what does not exist is an empty cell."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    for cells in (columns, *([row.get(column) for column in columns] for row in rows)):
        file.write("\t".join(map(cell, cells)) + "\n")


def cell(value: Any) -> str:
    """A value as one cell, in quotation marks where it holds one, a tab or a line end (csv would forget a lone CR)."""
    if value is None:
        return ""
    text = str(value) if isinstance(value, str | float) else json.dumps(plain(value), ensure_ascii=False)
    return '"' + text.replace('"', '""') + '"' if re.search(r'["\t\r\n]', text) else text


def plain(value: Any) -> Any:
    """A value as JSON knows it: numpy's numbers and arrays become Python's, numbers that JSON lacks become null."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(inner) for inner in (sorted(value) if isinstance(value, set | frozenset) else value)]
    return value


WRITERS: dict[str, Callable[[TextIO, Sequence[Row]], None]] = {".jsonl": write_json_lines, ".tsv": write_tsv}
