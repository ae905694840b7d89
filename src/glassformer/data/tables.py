"""From one file of JSON, CSV, TSV or Parquet to its rows and the names of their columns. What they mean is read elsewhere."""

from __future__ import annotations

import contextlib
import csv
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from glassformer.data.documents import counted
from glassformer.data.json_values import holds_json_lines, json_items, kind_of, parse_json
from glassformer.data.source_file import SourceFile, lines
from glassformer.errors import DataError

LONGEST_CELL = (1 << 31) - 1  # the csv module refuses cells over 128 KiB unless told otherwise
N_TRIED = 20  # rows that decide between delimiters
ANY_DELIMITER = ",;\t"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table: its cells by the names of their columns, or the problem for which it has none."""

    where: str
    cells: dict[str, Any]
    problem: str | None = None


@dataclass(frozen=True)
class Table:
    """The rows of one file, blank lines among them. Without a header the columns are named "1", "2" and so on."""

    names: tuple[str, ...]
    has_header: bool
    rows: tuple[Row, ...]


IsHeader = Callable[[Sequence[str]], bool]
TableReader = Callable[[SourceFile, IsHeader], Table]


def read_table(file: SourceFile, table_format: str, is_header: IsHeader) -> Table:
    """The rows of a file in one of the formats of `TABLES`.

    `is_header` judges the first row of a CSV or TSV. Raises DataError where the file as a whole cannot be read.
    """
    return TABLES[table_format](file, is_header)


def json_lines_table(file: SourceFile, is_header: IsHeader) -> Table:
    """One object in each line."""
    rows: list[Row] = []
    for number, line in enumerate(lines(file.text()), 1):
        where = f"{file.name}:{number}"
        rows.append(row_of_json(parse_json(line, file.name, number), where) if line.strip() else blank_line(where))
    return table_of_objects(rows)


def json_table(file: SourceFile, is_header: IsHeader) -> Table:
    """A list of objects, one object, or lines of JSON despite the name."""
    text = file.text()
    if holds_json_lines(text):
        file.note("read as lines of JSON, which is what it holds")
        return json_lines_table(file, is_header)
    return table_of_objects([row_of_json(row, where) for where, row in json_items(text, file.name)])


def csv_table(file: SourceFile, is_header: IsHeader) -> Table:
    """Cells between commas, or whichever of ``;`` and tab gives a header, or rows of one width."""
    return delimited_table(file, ANY_DELIMITER, is_header)


def tsv_table(file: SourceFile, is_header: IsHeader) -> Table:
    """Cells between tabs."""
    return delimited_table(file, "\t", is_header)


def delimited_table(file: SourceFile, delimiters: str, is_header: IsHeader) -> Table:
    """The rows below the header, or all of them; a row of another width than the first has a problem."""
    text = file.text_of_lines()
    rows = delimited_rows(text, delimiter_of(text, delimiters, is_header), file)
    first = next((number for number, (_, cells) in enumerate(rows) if cells), None)
    if first is None:
        return Table((), False, tuple(blank_line(f"{file.name}:{line}") for line, _ in rows))
    names = tuple(cell.strip() for cell in rows[first][1])
    has_header = is_header(names)
    if has_header:
        del rows[first]
    else:
        names = tuple(str(number) for number in range(1, len(names) + 1))
    found: list[Row] = []
    for line, cells in rows:
        where = f"{file.name}:{line}"
        if not cells:
            found.append(blank_line(where))
        elif len(cells) != len(names):
            found.append(Row(where, {}, f"{counted(len(cells), 'column')} where the first row has {len(names)}"))
        else:
            found.append(Row(where, dict(zip(names, cells, strict=True))))
    return Table(names, has_header, tuple(found))


def parquet_table(file: SourceFile, is_header: IsHeader) -> Table:
    """All columns."""
    rows = tuple(Row(f"{file.name}, row {number}", cells) for number, cells in enumerate(parquet_rows(file), 1))
    return Table(tuple(rows[0].cells) if rows else (), True, rows)


def row_of_json(value: object, where: str) -> Row:
    """The cells of an object; any other value is a problem."""
    if isinstance(value, dict):
        return Row(where, value)
    return Row(where, {}, f"{kind_of(value)} where an object with keys is expected")


def blank_line(where: str) -> Row:
    """A line without anything in it, which is listed like any other row that cannot be used."""
    return Row(where, {}, "a blank line")


def table_of_objects(rows: Sequence[Row]) -> Table:
    """A table whose columns are all keys that occur, in the order of their first appearance."""
    names = dict.fromkeys(itertools.chain.from_iterable(row.cells for row in rows))
    return Table(tuple(names), True, tuple(rows))


# --- text between delimiters ------------------------------------------------------------------------------------------


def delimiter_of(text: str, delimiters: str, is_header: IsHeader) -> str:
    """The delimiter with which the first row is a header, or the first rows are of one width, or of the most cells."""
    head = "".join(itertools.islice(lines(text), N_TRIED))

    def fitness(delimiter: str) -> tuple[bool, bool, int]:
        with contextlib.suppress(csv.Error), long_cells():
            rows = [cells for cells in csv.reader(lines(head), delimiter=delimiter) if cells]
            widths = {len(cells) for cells in rows}
            if rows:
                width = len(rows[0])
                return is_header([cell.strip() for cell in rows[0]]), len(widths) == 1 and width > 1, width
        return False, False, 0

    return max(delimiters, key=fitness) if len(delimiters) > 1 else delimiters


def delimited_rows(text: str, delimiter: str, file: SourceFile) -> list[tuple[int, list[str]]]:
    """The rows, blank lines as empty ones, each with the line on which it begins. Raises DataError with file:line.

    In a table with tabs, quotation marks may be part of the text. They are where reading them as quotes fails, or
    swallows tabs and line ends that parted the cells of a regular table.
    """
    quoted = None
    try:
        quoted = parse_rows(text, delimiter, file.name, csv.QUOTE_MINIMAL)
    except DataError:
        if delimiter != "\t":
            raise
    if quoted is not None and (delimiter != "\t" or '"' not in text):
        return quoted
    literal = parse_rows(text, delimiter, file.name, csv.QUOTE_NONE)
    if quoted is not None and (len(literal) == len(quoted) or len({len(cells) for _, cells in literal if cells}) > 1):
        return quoted
    file.note("quotation marks taken literally")
    return literal


def parse_rows(text: str, delimiter: str, name: str, quoting: Any) -> list[tuple[int, list[str]]]:
    """The rows of one dialect, read strictly: a quotation mark left open would swallow the rest of the table."""
    rows: list[tuple[int, list[str]]] = []
    reader = csv.reader(lines(text), delimiter=delimiter, quoting=quoting, strict=True)
    line = 1
    try:
        with long_cells():
            for cells in reader:
                rows.append((line, cells))
                line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{name}:{line}: the row that begins here is not valid CSV ({error})") from None
    return rows


@contextlib.contextmanager
def long_cells() -> Iterator[None]:
    """Lets the csv module read cells of any length, and leaves its limit as it was."""
    usual_limit = csv.field_size_limit(LONGEST_CELL)
    try:
        yield
    finally:
        csv.field_size_limit(usual_limit)


# --- Parquet ----------------------------------------------------------------------------------------------------------


def parquet_rows(file: SourceFile, choose: Callable[[list[str]], list[str]] = list) -> Iterator[dict[str, Any]]:
    """The rows as {column: value}, read one batch at a time; `choose` picks from the names of the columns.

    Raises DataError without pyarrow and for a damaged file.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise DataError(f"{file.name}: reading Parquet needs pyarrow: pip install 'glassformer[parquet]'") from None
    try:
        table: Any = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(file.content))
        for batch in table.iter_batches(batch_size=1024, columns=choose(table.schema_arrow.names)):
            yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        summary = str(error).partition("\n")[0].rstrip(".")
        raise DataError(f"{file.name}: is not a sound Parquet file ({summary}); copy or download it again") from None


TABLES: dict[str, TableReader] = {  # a format that holds rows of several cells
    ".jsonl": json_lines_table,
    ".ndjson": json_lines_table,
    ".json": json_table,
    ".csv": csv_table,
    ".tsv": tsv_table,
    ".parquet": parquet_table,
}
