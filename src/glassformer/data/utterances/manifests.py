"""Utterances out of tables that name files: CSV, TSV, JSON, Parquet, and lines of cells between bars, as of LJSpeech."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glassformer.data.columns import heads, text_of_cell
from glassformer.data.examples import Skipped
from glassformer.data.json_values import kind_of, listed
from glassformer.data.labelled import label_in_words
from glassformer.data.opening import beginning_of, open_file, table_format
from glassformer.data.source_file import Notes, SourceFile
from glassformer.data.tables import Row, Table, blank_line, read_table
from glassformer.data.utterances.archives import NO_VECTORS, sequence_in
from glassformer.data.utterances.columns import (
    IDS,
    LANGUAGES,
    N_JUDGED,
    PATHS,
    Columns,
    Places,
    alias,
    columns_of,
    is_header,
    name_in_cell,
    names_media,
    path_column,
)
from glassformer.data.utterances.corpus import MEDIA_EXTENSIONS, UNKNOWN_KIND, Asked, Found, Utterance, kind_of_file
from glassformer.data.utterances.names import NamePattern
from glassformer.errors import DataError

BARRED = (".csv", ".txt", ".list", ".lst", "")  # extensions of files that may hold cells between bars
LONGEST_NAME = 200  # characters of a name that a reason shows


def manifest_table(file: SourceFile, path: Path, known: str | None, asked: Asked) -> Table | None:
    """The table of a manifest, whole or as much of it as `file` holds; None for a file that is no table."""
    head = heads((asked.path_key, asked.text_key, asked.label_key), is_header)
    if is_barred(path):
        return barred_table(file, Places(path.parent))
    if known is None:
        return None
    return read_table(file, known, head)


def is_barred(path: Path) -> bool:
    """Whether a file's first lines are cells between bars, of which the first names a file."""
    if path.suffix.lower() not in BARRED:
        return False
    first_lines = [line.rstrip("\r\n") for line in beginning_of(path)]
    n_bars = {line.count("|") for line in first_lines}
    if len(n_bars) != 1 or n_bars == {0}:
        return False
    names = [line.partition("|")[0].strip() for line in first_lines[:N_JUDGED]]
    places = Places(path.parent)
    return sum(names_media(name) or places.find(name) is not None for name in names) * 2 >= len(names)


def barred_table(file: SourceFile, places: Places) -> Table:
    """Cells between bars, quotation marks taken literally.

    Without a header: a name and a text; or between them a speaker; or behind it the same text with numbers and
    abbreviations written out (Ito and Johnson 2017, LJSpeech), which is taken where it is there.
    """
    lines = file.text_of_lines().removesuffix("\n").split("\n")
    cells = [[cell.strip() for cell in line.split("|")] for line in lines]
    width = next(len(row) for row in cells if len(row) > 1)
    has_header = is_header(cells[0]) and places.find(cells[0][0]) is None
    has_names = has_header or width < 4
    names = tuple(cells[0]) if has_header else ("path", "text") if width == 2 else tuple(map(str, range(1, width + 1)))
    sound = [row for row in cells if len(row) == width]
    if not has_header and width == 3 and sum(len(row[1]) for row in sound) < 0.5 * sum(len(row[2]) for row in sound):
        names = ("path", "speaker", "text")
    elif not has_header and width == 3:
        names = ("path", "raw", "text")
    rows: list[Row] = []
    for number, row in list(enumerate(cells, 1))[has_header:]:
        where = f"{file.name}:{number}"
        if len(row) != width:
            problem = f"{len(row)} columns where most rows have {width}"
            rows.append(Row(where, {}, problem) if any(row) else blank_line(where))
            continue
        by_name = dict(zip(names, row, strict=True))
        if by_name.get("text") == "" and "raw" in by_name:
            by_name["text"] = by_name["raw"]
        rows.append(Row(where, by_name))
    return Table(names, has_names, tuple(rows))


def beginning_of_manifest(path: Path, asked: Asked) -> Table | None:
    """The first rows of a table that names files of sound or vectors, of all rows in JSON; None for any other file."""
    known = table_format(path)
    first_lines = [] if known == ".parquet" else beginning_of(path)
    try:
        if known == ".parquet":
            table = beginning_of_parquet(path)
        elif known == ".json" and not any(end in line.lower() for line in first_lines for end in MEDIA_EXTENSIONS):
            return None
        else:
            content = read_whole(path) if known == ".json" else "\n".join(first_lines).encode()
            table = manifest_table(SourceFile(str(path), content), path, known, asked)
    except DataError:  # a row that was cut in two, or is wrong: reading the whole will tell
        return None
    if table is None or not any(row.cells for row in table.rows):
        return None
    named = asked.path_key if asked.path_key in table.names else path_column(table, Places(path.parent))
    return table if named is not None else None


def read_whole(path: Path) -> bytes:
    """All of a file, unpacked. Raises DataError."""
    return open_file(path, []).content


def beginning_of_parquet(path: Path) -> Table | None:
    """The first rows of a Parquet file one of whose columns is called as those of paths are. Raises DataError."""
    from glassformer.data.utterances.parquet_vectors import opened_parquet

    with opened_parquet(path) as file:
        names = tuple(file.schema_arrow.names)
        if alias(names, (*PATHS, *IDS)) is None:
            return None
        batch = next(file.iter_batches(batch_size=N_JUDGED), None)
        rows = [] if batch is None else batch.to_pylist()
    return Table(names, True, tuple(Row(f"{path}, row {number}", cells) for number, cells in enumerate(rows, 1)))


# --- rows -------------------------------------------------------------------------------------------------------------


def rows_of_manifest(path: Path, asked: Asked, pattern: NamePattern | None, notes: Notes) -> Found:
    """Row by row of one manifest. Raises DataError where its columns are not known."""
    file = open_file(path, notes, encoding=asked.encoding)
    table = manifest_table(file, path, table_format(path), asked)
    if table is None:
        raise DataError(f"{path}: no table; name a manifest, or a folder of sounds with texts")
    if not any(row.cells for row in table.rows):
        return [Skipped(row.where, row.problem or "an object without keys") for row in table.rows]
    places = Places(path.parent)
    columns = columns_of(table, file.name, places, asked)
    if columns.text is None and not (pattern and asked_for(pattern)):
        found = f"no column known as the {asked.wanted}, found {listed(table.names)}"
        raise DataError(f"{file.name}: {found}; name it with --{asked.wanted}-key")
    how = "column" if table.has_header else "no header, column"
    what = f" and {columns.text!r} its {asked.wanted}" if columns.text else ""
    file.note(f"{how} {columns.path!r} names the file{what}")
    return [row_of_manifest(row, columns, places, pattern) for row in table.rows]


def asked_for(pattern: NamePattern) -> bool:
    """Whether names of files tell the text."""
    return "text" in pattern.fields or "label" in pattern.fields


def row_of_manifest(row: Row, columns: Columns, places: Places, pattern: NamePattern | None) -> Utterance | Skipped:
    """One utterance, or why it is none."""
    if row.problem or not row.cells:
        return Skipped(row.where, row.problem or "an object without keys")
    name = name_in_cell(row.cells.get(columns.path))
    if name is None:
        value = row.cells.get(columns.path)
        found = f"{kind_of(value)}" if value not in (None, "") else "nothing"
        return Skipped(row.where, f"{columns.path!r} holds {found}, expected the name of a file")
    path = places.find(name)
    if path is None:
        return Skipped(row.where, f"no such file: {name[:LONGEST_NAME]}")
    fields = fields_of(row.cells, columns)
    if pattern is not None:
        more = pattern.fields_of(path)
        if more is None:
            return Skipped(row.where, f"a name that does not fit {pattern.pattern!r}: {path.name}")
        fields = {**more, **fields}
    text, problem = text_of(row, columns, fields)
    if problem or not text:
        return Skipped(row.where, problem or "the text is empty")
    try:
        offset = number_of(row.cells, columns.offset) or 0.0
        duration = number_of(row.cells, columns.duration)
        end = number_of(row.cells, columns.end)
        if duration is None and end is not None:
            duration = end - offset
        if duration is not None and duration <= 0:
            return Skipped(row.where, f"a stretch that ends where it begins: {duration:g} seconds")
    except DataError as error:
        return Skipped(row.where, str(error))
    speaker = fields.get((columns.speaker or "speaker").strip(), "")
    try:
        is_sound = kind_of_file(path) == "sound"
    except DataError as error:
        return Skipped(row.where, f"{UNKNOWN_KIND}: {error}")
    if is_sound:
        return Utterance(row.where, path, text, speaker, offset, duration, fields)
    key = "" if columns.key is None else fields.get(columns.key.strip(), "")
    try:
        part, shape = sequence_in(path, key)
    except DataError as error:
        return Skipped(row.where, f"{NO_VECTORS}: {error}")
    return Utterance(row.where, path, text, speaker, fields=fields, part=part, shape=shape)


def fields_of(cells: Mapping[str, Any], columns: Columns) -> dict[str, str]:
    """What a row tells, as text by the names of its columns; the language also as ``lang``."""
    said = {name.strip(): label_in_words(value) for name, value in cells.items() if name != columns.path}
    fields = {name: value for name, value in said.items() if value}
    language = alias(list(fields), LANGUAGES)
    return fields if language is None else {"lang": fields[language], **fields}


def text_of(row: Row, columns: Columns, fields: Mapping[str, str]) -> tuple[str, str | None]:
    """The text of a row, on one line, and why it cannot be used, if it cannot; a number is text as it is written."""
    if columns.text is None:
        return fields.get("text") or fields.get("label") or "", None
    value = row.cells.get(columns.text)
    if isinstance(value, int | float):
        return label_in_words(value) or "", None
    text, problem = text_of_cell(row, columns.text)
    return " ".join(text.split()), problem


def number_of(cells: Mapping[str, Any], column: str | None) -> float | None:
    """The seconds that a cell holds, None where it is empty. Raises DataError for anything else."""
    value = None if column is None else cells.get(column)
    if value is None or value == "":
        return None
    try:
        seconds = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if not math.isfinite(seconds) or seconds < 0:
        shown = repr(value) if isinstance(value, str | int | float) else kind_of(value)
        raise DataError(f"a bad number: {column!r} holds {shown[:40]}, expected seconds")
    return seconds
