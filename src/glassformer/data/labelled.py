"""Texts with labels: from tables, or folders that are named as classes, to one corpus; and its split."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from glassformer.data.columns import columns_of_labels, heads, is_labelled, text_of_cell
from glassformer.data.documents import counted
from glassformer.data.examples import Labelled, LabelledCorpus, Skipped
from glassformer.data.json_values import kind_of
from glassformer.data.notes import nothing_found, parted, sentences
from glassformer.data.opening import open_file
from glassformer.data.source_file import Notes, extension_of
from glassformer.data.sources import distinct, files_by_kind, files_of_folder, one_or_more, tables_of
from glassformer.data.splitting import held_back_evenly, normalised, note_on_given, two_sides
from glassformer.data.tables import TABLES, Row, read_table
from glassformer.errors import DataError

__all__ = ["Labelled", "LabelledCorpus", "LabelledSplit", "read_labelled", "split_labelled"]

A_TABLE = "name a CSV, TSV or JSONL file with a column of texts and one of labels, or a folder of classes"
SIDES_OF_DATA = frozenset({"train", "training", "valid", "validation", "val", "dev", "test", "eval"})
MOST_SHOWN = 8  # labels that a note lists with their counts


def read_labelled(
    sources: str | Path | Sequence[str | Path],
    *,
    text_key: str | None = None,
    label_key: str | None = None,
    separator: str | None = None,
    encoding: str | None = None,
) -> LabelledCorpus:
    """Read every source, in the order given, into one corpus of texts with labels.

    A source is a table (a format of `TABLES`, or lines of JSON or of cells between tabs whatever their name; each also
    as .gz or .zst), a glob pattern or folder of such files, or a folder of classes: each folder in it is a label, each
    file of text in that one row. `text_key` and `label_key` name the columns of tables; without them they are known by
    their names (`columns.TEXT_NAMES`, `LABEL_NAMES`), and without a header the label is the column of fewest different
    values. A list is any number of labels at once, and so is a cell that `separator` cuts. Rows without text or label
    are listed in `skipped`.

    Raises DataError: missing, empty, binary or broken files, unknown columns.
    """
    notes: Notes = []
    rows: list[Labelled] = []
    skipped: list[Skipped] = []
    units = distinct(units_of(one_or_more(sources), notes), lambda unit: [unit[0]], notes)
    for path, table_format in units:
        if table_format is None:
            found = rows_of_classes(path, notes, encoding)
        else:
            found = rows_of_table(path, table_format, notes, encoding, text_key, label_key, separator)
        usable, unusable = parted(str(path), found, notes)
        rows += usable
        skipped += unusable
    names = [str(path) for path, _ in units]
    if not names:
        raise DataError(f"no labelled text named; {A_TABLE}")
    if not rows:
        raise nothing_found("labelled text", names, skipped)
    amount = f"{counted(len(names), 'source')}, {counted(len(rows), 'text')} with {labels_in_words(rows)}"
    return LabelledCorpus(tuple(rows), tuple(skipped), (amount, *sentences(notes)))


def labels_in_words(rows: Sequence[Labelled]) -> str:
    """The labels and how often each occurs, the most frequent first."""
    counts = Counter(label for row in rows for label in row.labels)
    shown = ", ".join(f"{label} ({n:,})" for label, n in counts.most_common(MOST_SHOWN))
    return f"{counted(len(counts), 'label')}: {shown}{', …' if len(counts) > MOST_SHOWN else ''}"


# --- sources ----------------------------------------------------------------------------------------------------------


def units_of(sources: Sequence[str | Path], notes: Notes) -> Iterator[tuple[Path, str | None]]:
    """Tables with their formats, and folders of classes without one."""
    for source in sources:
        folder = Path(source).expanduser()
        if folder.is_dir() and holds_classes(folder):
            yield folder, None
        else:
            yield from tables_of(source, notes, A_TABLE)


def holds_classes(folder: Path) -> bool:
    """Whether a folder holds folders of text files and no table. Raises DataError where they are sides of a split."""
    texts, _ = files_by_kind(folder)
    if any(extension_of(path.name) in TABLES for path in texts):
        return False
    names = {path.relative_to(folder).parts[0] for path in texts if path.parent != folder}
    if names and names <= SIDES_OF_DATA:
        found = f"its folders are {', '.join(sorted(names))}, which are sides of a split and no classes"
        raise DataError(f"{folder}: {found}; name one of them, for example {folder / min(names, key=len)}")
    return bool(names)


def rows_of_classes(folder: Path, notes: Notes, encoding: str | None) -> list[Labelled | Skipped]:
    """One row for each text file below a folder, labelled with the name of the folder in it that leads there."""
    found: list[Labelled | Skipped] = []
    for path in files_of_folder(folder, notes):
        label, *below = path.relative_to(folder).parts
        if not below:
            notes.append((str(path), "left out, as it lies in no folder of a class"))
            continue
        text = open_file(path, notes, encoding=encoding).text_of_lines().strip()
        found.append(Labelled(text, (label,), str(path)) if text else Skipped(str(path), "the text is empty"))
    return found


def rows_of_table(
    path: Path,
    table_format: str,
    notes: Notes,
    encoding: str | None,
    text_key: str | None,
    label_key: str | None,
    separator: str | None,
) -> list[Labelled | Skipped]:
    """Row by row of one table. Raises DataError where its columns of text and label are not known."""
    file = open_file(path, notes, encoding=encoding)
    table = read_table(file, table_format, heads((text_key, label_key), is_labelled))
    if not any(row.cells for row in table.rows):
        return [Skipped(row.where, row.problem or "an object without keys") for row in table.rows]
    text_column, label_column = columns_of_labels(table, file.name, text_key, label_key)
    how = "column" if table.has_header else "no header, column"
    file.note(f"{how} {text_column!r} is the text and {label_column!r} its label")
    found: list[Labelled | Skipped] = []
    for row in table.rows:
        text, problem = text_of_cell(row, text_column)
        labels, other_problem = labels_of_cell(row, label_column, separator)
        if problem or other_problem:
            found.append(Skipped(row.where, problem or other_problem or ""))
        else:
            found.append(Labelled(text, labels, row.where) if text else Skipped(row.where, "the text is empty"))
    return found


def labels_of_cell(row: Row, column: str, separator: str | None) -> tuple[tuple[str, ...], str | None]:
    """The labels of one cell, each once, and why it cannot be used, if it cannot."""
    value = row.cells.get(column)
    if column not in row.cells:
        return (), row.problem or f"no key {column!r}"
    if isinstance(value, list):
        labels = [label_in_words(item) for item in value]
    elif separator is not None and isinstance(value, str):
        labels = [part.strip() for part in value.split(separator) if part.strip()]
    else:
        labels = [label_in_words(value)]
    if None in labels:
        return (), f"{column!r} holds {kind_of(value)}, expected a label"
    if "" in labels:
        return (), "the label is empty"
    return tuple(dict.fromkeys(label for label in labels if label)), None


def label_in_words(value: object) -> str | None:
    """A label as text: 1 and 1.0 are "1", null is empty. None for what is no label."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case float():
            return "" if math.isnan(value) else str(int(value)) if value.is_integer() else str(value)
        case str() | int():
            return str(value).strip()
        case _:
            return None


# --- split ------------------------------------------------------------------------------------------------------------


class LabelledSplit(NamedTuple):
    """Two sides that share no text. `note` says in one sentence how they were made."""

    train: tuple[Labelled, ...]
    held_out: tuple[Labelled, ...]
    note: str


def split_labelled(
    corpus: LabelledCorpus, fraction: float = 0.1, validation: LabelledCorpus | None = None
) -> LabelledSplit:
    """Hold back about `fraction` of the texts of each label, or take `validation` as it is given.

    Texts that are the same but for case and spacing are on one side. A text with several labels counts for the rarest
    of them. Raises ConfigError for a fraction outside (0, 1), DataError where a side would be empty.
    """
    keys = [normalised(row.text) for row in corpus.rows]
    if validation is not None:
        train, _ = two_sides(corpus.rows, keys, {normalised(row.text) for row in validation.rows})
        return LabelledSplit(train, validation.rows, note_on_given("text", len(keys), len(train), len(validation.rows)))
    held = held_back_evenly(strata([row.labels for row in corpus.rows], keys), fraction, "text")
    train, held_out = two_sides(corpus.rows, keys, held)
    amount = f"{len(held_out):,} of {counted(len(keys), 'text')} held back for validation"
    return LabelledSplit(train, held_out, f"{amount}, of each label alike, chosen by hash")


def strata(labels: Sequence[Sequence[str]], keys: Sequence[str]) -> dict[str, str]:
    """For each key the rarest of its labels, "" where it has none; what it has at its first appearance counts."""
    counts = Counter(label for row in labels for label in row)
    stratum_of: dict[str, str] = {}
    for key, row in zip(keys, labels, strict=True):
        stratum_of.setdefault(key, min(row, key=lambda label: (counts[label], label), default=""))
    return stratum_of
