"""One reader for each file format: from the bytes of one file to its documents. Where files lie is known elsewhere."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from glassformer.data.decoding import COMPRESSED_EXTENSIONS, decode
from glassformer.data.documents import Document, counted
from glassformer.errors import DataError

SEPARATOR = re.compile(r"^[ \t]*<\|endoftext\|>[ \t\r]*(?:\n|\Z)", re.MULTILINE)
LONGEST_CELL = (1 << 31) - 1  # the csv module refuses cells over 128 KiB unless told otherwise


@dataclass(frozen=True)
class SourceFile:
    """One file to be read: its name as the user knows it, its unpacked bytes, and what the user said about it.

    `text_key` names the key or column that holds the text. `notes` collects (name, finding) of all files of a corpus.
    """

    name: str
    content: bytes
    text_key: str = "text"
    encoding: str | None = None
    notes: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    def text(self) -> str:
        """The content as text. Raises DataError; notes what had to be decided."""
        text, note = decode(self.content, self.name, self.encoding)
        if note:
            self.note(note)
        return text

    def note(self, finding: str) -> None:
        """Remember what was found in this file, to be told to the user."""
        self.notes.append((self.name, finding))


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
    if not text.strip():
        return
    if holds_json_lines(text):
        file.note("read as lines of JSON, which is what it holds")
        yield from read_json_lines(file)
        return
    value = parse_json(text, file.name)
    for number, row in enumerate(value if isinstance(value, list) else [value], 1):
        where = f"{file.name}, item {number}"
        yield Document(text_of_json(row, file.text_key, where), where)


def read_csv(file: SourceFile) -> Iterator[Document]:
    """A table with commas, or whichever of ``;`` and tab gives the first row the text column, or more cells."""
    return read_table(file, ",;\t")


def read_tsv(file: SourceFile) -> Iterator[Document]:
    """A table with tabs; quotation marks are literal where reading them as quotes makes no sense."""
    return read_table(file, "\t")


def read_table(file: SourceFile, delimiters: str) -> Iterator[Document]:
    """The text column of each row, found by name, as the only column, or by number in a table without a header."""
    text = file.text()
    heading = next(lines(text), "")
    names = {mark: [cell.strip(' "\r\n') for cell in heading.split(mark)] for mark in delimiters}
    delimiter = max(delimiters, key=lambda mark: (file.text_key in names[mark], len(names[mark])))
    rows = table_rows(text, delimiter, file)
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


def table_rows(text: str, delimiter: str, file: SourceFile) -> list[tuple[int, list[str]]]:
    """The rows that are not blank, each with the line on which it begins. Raises DataError with file:line."""
    try:
        return parse_rows(text, delimiter, file.name, csv.QUOTE_MINIMAL)
    except DataError:
        if delimiter != "\t":
            raise
    file.note("quotation marks taken literally")
    return parse_rows(text, delimiter, file.name, csv.QUOTE_NONE)


def parse_rows(text: str, delimiter: str, name: str, quoting: Any) -> list[tuple[int, list[str]]]:
    """The rows of one dialect, read strictly: a quotation mark left open would swallow the rest of the table."""
    rows: list[tuple[int, list[str]]] = []
    reader = csv.reader(lines(text), delimiter=delimiter, quoting=quoting, strict=True)
    line = 1
    usual_limit = csv.field_size_limit(LONGEST_CELL)
    try:
        for cells in reader:
            if cells:
                rows.append((line, cells))
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{name}:{line}: the row that begins here is not valid CSV ({error})") from None
    finally:
        csv.field_size_limit(usual_limit)
    return rows


def text_column(first_row: tuple[int, list[str]], file: SourceFile) -> tuple[int, bool]:
    """The index of the text column, and whether the first row is a header. Raises DataError listing the columns."""
    line, cells = first_row
    names = [cell.strip() for cell in cells]
    key = file.text_key
    if key.isdecimal() and 1 <= int(key) <= len(names):  # before names: in a table of "text TAB 1", 1 is a label
        return int(key) - 1, False
    if key in names:
        return names.index(key), True
    if len(names) == 1 and not key.isdecimal():
        file.note(f"one column and no header {key!r}, so every row is text")
        return 0, False
    choices = "choose one with --text-key NAME, or with --text-key 1 for the first column of a table without a header"
    raise DataError(f"{file.name}:{line}: no column {key!r}, found {listed(names)}; {choices}")


def read_parquet(file: SourceFile) -> Iterator[Document]:
    """The text column of each row, by name or as the only column, one batch of rows at a time."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise DataError(f"{file.name}: reading Parquet needs pyarrow: pip install 'glassformer[parquet]'") from None
    try:
        table: Any = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(file.content))
        names: list[str] = table.schema_arrow.names
        if file.text_key not in names and len(names) != 1:
            choices = f"found {listed(names)}; choose one with --text-key NAME"
            raise DataError(f"{file.name}: no column {file.text_key!r}, {choices}")
        column = file.text_key if file.text_key in names else names[0]
        number = 0
        for batch in table.iter_batches(batch_size=1024, columns=[column]):
            for value in batch.column(0).to_pylist():
                number += 1
                where = f"{file.name}, row {number}"
                yield Document(checked_text(value, f"column {column!r}", where), where)
    except (pyarrow.ArrowException, OSError) as error:
        summary = str(error).partition("\n")[0].rstrip(".")
        raise DataError(f"{file.name}: is not a sound Parquet file ({summary}); copy or download it again") from None


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
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DataError(f"{where}: {what} holds {kind_of(value)}, expected text")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(value[error.start]):04x}"
        raise DataError(f"{where}: {what} holds {half}, half of a surrogate pair, which is no character") from None
    return value


def parse_json(text: str, name: str, line: int | None = None) -> Any:
    """The value of one JSON text; `line` is given where the text is one line of a file. Raises DataError."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        found = f"{error.msg[0].lower()}{error.msg[1:]} at column {error.colno}"
        raise DataError(
            f"{name}:{line or error.lineno}: is not valid JSON ({found}); mend or remove the line"
        ) from None
    except (RecursionError, ValueError) as error:  # nested too deeply; an integer of thousands of digits
        raise DataError(f"{name}:{line or 1}: JSON that cannot be read ({error})") from None


def holds_json_lines(text: str) -> bool:
    """Whether the first line that is not blank is a JSON object by itself and another line follows it."""
    first, _, rest = text.lstrip().partition("\n")
    return bool(rest.strip()) and isinstance(json_or_none(first), dict)


def json_or_none(text: str | bytes) -> Any:
    """The value of a JSON text, None where it is not one."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def lines(text: str) -> Iterator[str]:
    r"""The lines of a text with their ends, cut at \n only (U+2028 ends no row), without a copy of the whole."""
    start = 0
    while start < len(text):
        end = text.find("\n", start) + 1 or len(text)
        yield text[start:end]
        start = end


def kind_of(value: object) -> str:
    """What a JSON or Parquet value is, in words."""
    kinds = {bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return "null" if value is None else kinds.get(type(value), type(value).__name__)


def listed(names: Iterable[str]) -> str:
    """The first names in quotes, long ones cut, for an error."""
    shown = [repr(name if len(name) <= 40 else name[:39] + "…") for name in names]
    return ", ".join(shown[:12]) + (", …" if len(shown) > 12 else "") if shown else "nothing"


def extension_of(name: str) -> str:
    """The extension that tells the format: ``.jsonl`` for ``Wiki.JSONL.gz``."""
    path = PurePath(name.lower())
    return PurePath(path.stem).suffix if path.suffix in COMPRESSED_EXTENSIONS else path.suffix


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
