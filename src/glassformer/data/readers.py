"""One reader for each file format: from the bytes of one file to its documents. Where files lie is known elsewhere."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from glassformer.data.documents import Document, counted
from glassformer.data.json_values import (
    holds_json_lines,
    json_items,
    json_or_none,
    kind_of,
    listed,
    parse_json,
    unfit_as_text,
)
from glassformer.data.source_file import SourceFile, extension_of, lines
from glassformer.data.tables import ANY_DELIMITER, delimited_rows, delimiter_of, parquet_rows
from glassformer.errors import DataError

SEPARATOR = re.compile(r"^[ \t]*<\|endoftext\|>[ \t\r]*(?:\n|\Z)", re.MULTILINE)

Reader = Callable[[SourceFile], Iterable[Document]]


def read_text(file: SourceFile) -> Iterator[Document]:
    """The whole file is one document, unless lines that say ``<|endoftext|>`` cut it into several."""
    text = file.text()
    if not SEPARATOR.search(text):
        yield Document(text, file.name)
        return
    start, line, n_documents = 0, 1, 0
    for end, next_start in [*(mark.span() for mark in SEPARATOR.finditer(text)), (len(text), len(text))]:
        yield Document(text[start:end], f"{file.name}:{line}")
        n_documents += bool(text[start:end].strip())
        line += text.count("\n", start, next_start)
        start = next_start
    file.note(f"{counted(n_documents, 'document')}, separated by lines of <|endoftext|>")


def read_json_lines(file: SourceFile) -> Iterator[Document]:
    """Each line is an object that holds the text under `text_key`, or a string. Blank lines are passed over."""
    for number, line in enumerate(lines(file.text()), 1):
        if line.strip():
            where = f"{file.name}:{number}"
            yield Document(text_of_json(parse_json(line, file.name, number), file.text_key, where), where)


def read_json(file: SourceFile) -> Iterator[Document]:
    """A list of objects or strings, one object, or (there are many such files) lines of JSON despite the name."""
    text = file.text()
    if holds_json_lines(text):
        file.note("read as lines of JSON, which is what it holds")
        yield from read_json_lines(file)
        return
    for where, row in json_items(text, file.name):
        yield Document(text_of_json(row, file.text_key, where), where)


def read_csv(file: SourceFile) -> Iterator[Document]:
    """A table with commas, or whichever of ``;`` and tab gives the first row the text column, or more cells."""
    return read_column(file, ANY_DELIMITER)


def read_tsv(file: SourceFile) -> Iterator[Document]:
    """A table with tabs; quotation marks are literal where reading them as quotes makes no sense."""
    return read_column(file, "\t")


def read_column(file: SourceFile, delimiters: str) -> Iterator[Document]:
    """The text column of each row, found by name, as the only column, or by number in a table without a header."""
    text = file.text_of_lines()
    delimiter = delimiter_of(text, delimiters, lambda names: file.text_key in names)
    rows = [(line, cells) for line, cells in delimited_rows(text, delimiter, file) if cells]
    if not rows:
        return
    column, has_header = text_column(rows[0], file)
    width = len(rows[0][1])
    for line, cells in rows[has_header:]:
        where = f"{file.name}:{line}"
        if len(cells) != width:
            found = f"{counted(len(cells), 'column')}, expected {width} as in the first row"
            raise DataError(f"{where}: {found}; put cells that contain {delimiter!r} in quotation marks")
        yield Document(cells[column], where)


def text_column(first_row: tuple[int, list[str]], file: SourceFile) -> tuple[int, bool]:
    """The index of the text column, and whether the first row is a header. Raises DataError listing the columns."""
    line, cells = first_row
    names = [cell.strip() for cell in cells]
    key = file.text_key
    if is_column_number(key, names):  # before names: in a table of "text TAB 1", 1 is a label
        return int(key) - 1, False
    if key in names:
        return names.index(key), True
    if len(names) == 1 and not key.isdecimal():
        file.note(f"one column and no header {key!r}, so every row is text")
        return 0, False
    choices = "choose one with --text-key NAME, or with --text-key 1 for the first column of a table without a header"
    raise DataError(f"{file.name}:{line}: no column {key!r}, found {listed(names)}; {choices}")


def is_column_number(key: str, columns: Sequence[str]) -> bool:
    """Whether `key` counts one of the columns, from 1 on."""
    return key.isdecimal() and 1 <= int(key) <= len(columns)


def read_parquet(file: SourceFile) -> Iterator[Document]:
    """The text column of each row, by name or as the only column, one batch of rows at a time."""

    def text_column_of(names: list[str]) -> list[str]:
        if file.text_key not in names and len(names) != 1:
            choices = f"found {listed(names)}; choose one with --text-key NAME"
            raise DataError(f"{file.name}: no column {file.text_key!r}, {choices}")
        return [file.text_key] if file.text_key in names else names

    for number, cells in enumerate(parquet_rows(file, text_column_of), 1):
        where = f"{file.name}, row {number}"
        ((column, value),) = cells.items()
        yield Document(checked_text(value, f"column {column!r}", where), where)


def text_of_json(row: object, key: str, where: str) -> str:
    """The text of one JSON row. Raises DataError listing the keys found, or naming the kind of value found."""
    if isinstance(row, str):
        return checked_text(row, "the string", where)
    if not isinstance(row, dict):
        raise DataError(f"{where}: expected an object with the key {key!r}, found {kind_of(row)}")
    if key not in row:
        choices = f"found {listed(row)}; choose one with --text-key NAME"
        raise DataError(f"{where}: no key {key!r}, {choices}")
    return checked_text(row[key], repr(key), where)


def checked_text(value: object, what: str, where: str) -> str:
    """`value` if it is text; null is empty text, as which data frames write a missing value. Raises DataError."""
    if problem := unfit_as_text(value):
        raise DataError(f"{where}: {what} {problem}")
    return "" if value is None else str(value)


def reader_for(file: SourceFile) -> Reader:
    """The reader of the file's extension; without a known one, text, or lines of JSON where the first is one."""
    known = READERS.get(extension_of(file.name))
    if known:
        return known
    first_line, _, _ = file.content.partition(b"\n")
    first_row = json_or_none(first_line) if first_line.startswith(b"{") else None
    if isinstance(first_row, dict) and file.text_key in first_row:
        file.note("read as lines of JSON, which is what it holds")
        return read_json_lines
    return read_text


READERS: dict[str, Reader] = {  # the only line that a new format adds elsewhere
    ".txt": read_text,
    ".md": read_text,
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
    ".json": read_json,
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".parquet": read_parquet,
}
