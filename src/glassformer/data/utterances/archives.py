"""Utterances out of files that hold many sequences of vectors with their texts: .npz and Parquet."""

# T vectors of a sequence, F numbers in each, N sequences

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glassformer.data.examples import Skipped
from glassformer.data.json_values import listed, unfit_as_text
from glassformer.data.labelled import label_in_words
from glassformer.data.source_file import Notes
from glassformer.data.utterances.columns import IDS, LABELS, SPEAKERS, TRANSCRIPTS, alias
from glassformer.data.utterances.corpus import Asked, Found, Utterance
from glassformer.data.utterances.names import NamePattern
from glassformer.data.utterances.vectors import (
    LENGTHS,
    Npz,
    Shape,
    bounds_of_rows,
    open_npz,
    shape_of_npy,
    shape_of_sequence,
)
from glassformer.errors import DataError

NO_VECTORS = "vectors that cannot be used"
DATA = ("data", "x", "vectors", "features", "inputs", "source", "sequences")  # arrays that hold all sequences
TEXTS = (*TRANSCRIPTS, "texts", "transcripts", "sentences", "transcriptions")
TARGETS = (*LABELS, "y", "target", "targets", "classes")
SAYERS = (*SPEAKERS, "speakers")


def sequence_in(path: Path, part: str) -> tuple[str, Shape]:
    """The part of a file of vectors that a row means, and its T F, by the header alone. Raises DataError."""
    if path.suffix.lower() == ".npy":
        if part:
            raise DataError(f"{path}: holds one array, so nothing in it is called {part!r}")
        return "", shape_of_npy(path)
    file = open_npz(path)
    part = next(iter(file.members)) if not part and len(file.members) == 1 else part
    if part not in file.members:
        wanted = f"no array {part!r}" if part else f"{len(file.members):,} arrays where a single one is expected"
        raise DataError(f"{path}: {wanted}, found {listed(file.members)}; give the name of one in a column 'key'")
    return part, shape_of_sequence(*file.header(part), file.name_of(part))


# --- .npz -------------------------------------------------------------------------------------------------------------


def is_archive(path: Path) -> bool:
    """Whether a file holds several sequences: Parquet with vectors, or an .npz of more than one array."""
    try:
        if path.suffix.lower() == ".parquet":
            return holds_vectors(path)
        return path.suffix.lower() == ".npz" and len(open_npz(path).members) > 1
    except DataError:
        return False


def rows_of_npz(path: Path, asked: Asked, pattern: NamePattern | None, notes: Notes) -> Found:
    """The sequences of one file: a row of its array of all data each, or an array each whose name tells the text."""
    file = open_npz(path)
    key = alias(list(file.members), DATA)
    texts = array_of_texts(file, asked)
    if key is not None and texts is not None:
        return rows_of_data(file, key, texts, notes)
    if pattern is None:
        found = f"no array of {asked.wanted}s, found {listed(file.members)}"
        way_out = (
            "name the one that holds them with --text-key or --label-key, or say with --name-pattern how names tell it"
        )
        raise DataError(f"{path}: {found}; {way_out}")
    notes.append((str(path), f"the names of its arrays read as {pattern.pattern!r}"))
    return [row_of_array(file, key, pattern) for key in file.members]


def row_of_array(file: Npz, key: str, pattern: NamePattern) -> Utterance | Skipped:
    """One utterance out of an array and its name."""
    where = file.name_of(key)
    fields = pattern.fields_of_name(key)
    if fields is None:
        return Skipped(where, f"a name that does not fit {pattern.pattern!r}: {key}")
    text = fields.get("text") or fields.get("label") or ""
    try:
        part, shape = sequence_in(file.path, key)
    except DataError as error:
        return Skipped(where, f"{NO_VECTORS}: {error}")
    return Utterance(where, file.path, text, fields.get("speaker", ""), fields=fields, part=part, shape=shape)


def rows_of_data(file: Npz, key: str, texts: str, notes: Notes) -> Found:
    """The sequences of one array N T F with the lengths beside it, or of one in which they stand end to end."""
    bounds = bounds_of_rows(file, key)
    n_channels = file.header(key)[0][-1] if len(file.header(key)[0]) > 1 else 1
    told = {name: words_of(file, name, len(bounds)) for name in told_arrays(file, key, len(bounds))}
    if texts not in told:
        found = " x ".join(map(str, file.header(texts)[0])) or "one value"
        raise DataError(
            f"{file.name_of(texts)}: holds {found}, expected one text for each of {len(bounds):,} sequences"
        )
    notes.append((str(file.path), f"array {key!r} holds the vectors and {texts!r} their texts"))
    speakers = alias(list(told), SAYERS)
    rows: Found = []
    for number, (first, last) in enumerate(bounds):
        where = f"{file.path}, {key}[{number}]"
        fields = {name: words[number] for name, words in told.items() if words[number]}
        text = " ".join(fields.get(texts, "").split())
        if not text or last == first:
            rows.append(Skipped(where, "no vector" if text else "the text is empty"))
            continue
        speaker = "" if speakers is None else fields.get(speakers, "")
        part, shape = f"{key}[{number}]", (last - first, n_channels)
        rows.append(Utterance(where, file.path, text, speaker, fields=fields, part=part, shape=shape))
    return rows


def array_of_texts(file: Npz, asked: Asked) -> str | None:
    """The array that holds the texts or labels, None where none is known. Raises DataError for one that is not there."""
    names = list(file.members)
    for key, flag in ((asked.text_key, "--text-key"), (asked.label_key, "--label-key")):
        if key is not None and key not in names:
            raise DataError(f"{file.path}: no array {key!r}, found {listed(names)}; choose one with {flag}")
    if asked.wanted == "label":
        return asked.label_key or asked.text_key or alias(names, TARGETS) or alias(names, TEXTS)
    return asked.text_key or asked.label_key or alias(names, TEXTS) or alias(names, TARGETS)


def told_arrays(file: Npz, data: str, n_rows: int) -> list[str]:
    """The arrays beside the data that tell one thing of each sequence."""
    return [name for name in file.members if name not in (data, *LENGTHS) and file.header(name)[0] == (n_rows,)]


def words_of(file: Npz, key: str, n_rows: int) -> list[str]:
    """What an array tells of each sequence, in words. Raises DataError for pickled objects."""
    values: NDArray[Any] = file.array(key)
    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8", "replace")
    return [label_in_words(value) or "" for value in values.tolist()]


# --- Parquet ----------------------------------------------------------------------------------------------------------


def holds_vectors(path: Path) -> bool:
    """Whether a Parquet file has a column of lists of lists of numbers. Raises DataError for a file that is not sound."""
    from glassformer.data.utterances.parquet_vectors import list_column, opened_parquet

    with opened_parquet(path) as file:
        return list_column(file.schema_arrow) is not None


def rows_of_parquet(path: Path, asked: Asked, notes: Notes) -> Found:
    """The sequences of one file: one in each row, or rows of numbers one after another whose id is the same."""
    from glassformer.data.utterances.parquet_vectors import list_column, number_columns, opened_parquet

    with opened_parquet(path) as file:
        schema = file.schema_arrow
        vectors = list_column(schema)
        others = [name for name in schema.names if name != vectors]
        text = text_column(path, others, asked)
        if vectors is not None:
            told = scalar_columns(schema, others)
            notes.append((str(path), f"column {vectors!r} holds the vectors and {text!r} the {asked.wanted}"))
            return rows_of_lists(path, file, vectors, text, told)
        sequence_id = alias(others, IDS)
        channels = number_columns(schema, [text, *IDS, *SAYERS, *TEXTS, *LABELS])
        if sequence_id is None or not channels:
            found = f"no column of lists of vectors, and no id beside columns of numbers; found {listed(schema.names)}"
            raise DataError(f"{path}: {found}; call the id 'id'")
        if odd := [name for name in channels if ", " in name]:
            raise DataError(f"{path}: column {odd[0]!r} has a comma in its name; name it otherwise")
        told = [name for name in scalar_columns(schema, others) if name not in channels]
        shown = ", ".join(channels[:8]) + (", …" if len(channels) > 8 else "")
        notes.append((str(path), f"rows of one {sequence_id!r} are one sequence of the vectors {shown}"))
        return rows_of_columns(path, file, sequence_id, text, told, channels)


def text_column(path: Path, names: Sequence[str], asked: Asked) -> str:
    """The column of texts or labels. Raises DataError listing the columns."""
    for key, flag in ((asked.text_key, "--text-key"), (asked.label_key, "--label-key")):
        if key is not None and key not in names:
            raise DataError(f"{path}: no column {key!r}, found {listed(names)}; choose one with {flag}")
    keys, aliases = (asked.text_key, asked.label_key), (TEXTS, LABELS)  # no "y": that is an axis
    if asked.wanted == "label":
        keys, aliases = keys[::-1], aliases[::-1]
    text = keys[0] or keys[1] or alias(names, aliases[0]) or alias(names, aliases[1])
    if text is None:
        found = f"no column known as the {asked.wanted}, found {listed(names)}"
        raise DataError(f"{path}: {found}; name it with --{asked.wanted}-key")
    return text


def scalar_columns(schema: Any, names: Sequence[str]) -> list[str]:
    """The columns that hold one value in each row."""
    import pyarrow.types as types

    return [name for name in names if not types.is_nested(schema.field(name).type)]


def rows_of_lists(path: Path, file: Any, vectors: str, text: str, told: Sequence[str]) -> Found:
    """One sequence in each row."""
    from glassformer.data.utterances.parquet_vectors import lists_of_group
    from glassformer.data.utterances.vectors import stamp_of

    rows: Found = []
    for group in range(file.num_row_groups):
        lists = lists_of_group(path, stamp_of(path), group, vectors)
        for number, cells in enumerate(file.read_row_group(group, columns=list(told)).to_pylist()):
            where = f"{path}, row {len(rows) + 1}"
            sizes = lists.sizes_of(number)
            if not len(sizes) or sizes.min() != sizes.max() or not sizes[0]:
                problem = f"from {sizes.min()} to {sizes.max()} numbers" if len(sizes) and sizes.max() else "none"
                rows.append(Skipped(where, f"{NO_VECTORS}: {problem}"))
                continue
            shape = (len(sizes), int(sizes[0]))
            rows.append(utterance_of(where, path, cells, text, f"row {len(rows) + 1} of {vectors}", shape))
    return rows


def rows_of_columns(
    path: Path, file: Any, sequence_id: str, text: str, told: Sequence[str], channels: Sequence[str]
) -> Found:
    """Rows of numbers whose id is the same, one after another. Raises DataError where an id comes back later."""
    rows: Found = []
    seen: set[str] = set()
    current: str | None = None
    first: int = 1
    cells: dict[str, Any] = {}

    def finished(last: int) -> None:
        if current is not None:
            where = f"{path}, rows {first} to {last}"
            part = f"rows {first} to {last} of {', '.join(channels)}"
            rows.append(utterance_of(where, path, cells, text, part, (last - first + 1, len(channels))))

    number = 0
    for batch in file.iter_batches(batch_size=4096, columns=list(told)):
        for row in batch.to_pylist():
            number += 1
            known = label_in_words(row[sequence_id]) or ""
            if known == current:
                continue
            finished(number - 1)
            if known in seen:
                found = f"{sequence_id} {known!r} comes again after rows of another"
                raise DataError(f"{path}, row {number}: {found}; sort the rows by {sequence_id!r}, keeping their order")
            seen.add(known)
            current, first, cells = known, number, row
    finished(number)
    return rows


def utterance_of(
    where: str, path: Path, cells: dict[str, Any], text: str, part: str, shape: Shape
) -> Utterance | Skipped:
    """One utterance out of the cells beside its vectors."""
    value = cells.get(text)
    if isinstance(value, str) and (problem := unfit_as_text(value)):
        return Skipped(where, f"{text!r} {problem}")
    said = {name: label_in_words(cell) or "" for name, cell in cells.items()}
    fields = {name: words for name, words in said.items() if words}
    words = " ".join(fields.get(text, "").split())
    if not words:
        return Skipped(where, "the text is empty")
    speaker = alias(list(fields), SAYERS)
    return Utterance(where, path, words, fields[speaker] if speaker else "", fields=fields, part=part, shape=shape)
