"""Pairs of a text and what it should become: from two aligned files, or tables with both sides, to one corpus; its split."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from glassformer.data.alignment import parting_line
from glassformer.data.columns import columns_of_pairs, heads, pair_columns, text_of_cell
from glassformer.data.documents import counted
from glassformer.data.examples import Pair, PairCorpus, Skipped
from glassformer.data.json_values import kind_of
from glassformer.data.notes import nothing_found, parted, sentences
from glassformer.data.opening import open_file
from glassformer.data.pair_sources import (
    TWO_FILES,
    AlignedFiles,
    TableOfPairs,
    built_in_pairs,
    sources_of,
    units_of,
)
from glassformer.data.source_file import Notes, SourceFile
from glassformer.data.sources import distinct, one_or_more
from glassformer.data.splitting import held_back, normalised, note_on_given, two_sides
from glassformer.data.tables import Row, Table, read_table, table_of_objects
from glassformer.errors import DataError

__all__ = ["Pair", "PairCorpus", "PairSplit", "Skipped", "read_pairs", "split_pairs"]

LONGEST_SAMPLE = 40  # characters of a line that an error shows


def read_pairs(
    sources: str | Path | Sequence[str | Path],
    *,
    source_key: str | None = None,
    target_key: str | None = None,
    encoding: str | None = None,
) -> PairCorpus:
    """Read every source, in the order given, into one corpus of pairs, without the space around their sides.

    A source is a table (a format of `TABLES`, or lines of JSON or of cells between tabs whatever their name), one of
    two files of text that follow each other and belong together line by line, a glob pattern or folder of such files,
    or ``demo:NAME`` for pairs of `BUILT_IN_PAIRS`; each also as .gz or .zst. `source_key` and `target_key` name the
    columns of tables; without them they are known by their names (`columns.PAIR_NAMES`, or two languages), and without
    a header they are the first two. Rows without text on both sides are listed in `skipped`.

    Raises DataError: missing, empty, binary or broken files, files of different numbers of lines, unknown columns.
    """
    notes: Notes = []
    pairs: list[Pair] = []
    skipped: list[Skipped] = []
    units = distinct(units_of(one_or_more(sources), notes), sources_of, notes)
    for unit in units:
        if isinstance(unit, str):
            built_in = built_in_pairs(unit)
            pairs += built_in.pairs
            notes += [(unit, note) for note in built_in.notes]
            continue
        if isinstance(unit, AlignedFiles):
            found = pairs_of_lines(unit, notes, encoding)
        else:
            found = pairs_of_table(unit, notes, encoding, source_key, target_key)
        usable, unusable = parted(str(sources_of(unit)[0]), found, notes)
        pairs += usable
        skipped += unusable
    names = [str(source) for unit in units for source in sources_of(unit)]
    if not names:
        raise DataError(f"no pairs named; {TWO_FILES}, or a table with both sides")
    if not pairs:
        raise nothing_found("pair", names, skipped)
    noun = "source" if any(isinstance(unit, str) for unit in units) else "file"
    amount = f"{counted(len(names), noun)}, {counted(len(pairs), 'pair')}"
    return PairCorpus(tuple(pairs), tuple(skipped), (amount, *sentences(notes)))


def pairs_of_lines(unit: AlignedFiles, notes: Notes, encoding: str | None) -> list[Pair | Skipped]:
    """Line by line of two files. Blank lines that only one of them has at its end are skipped.

    Raises DataError with both numbers of lines where they differ, and the line at which the files seem to part.
    """
    source = open_file(unit.source, notes, encoding=encoding)
    target = open_file(unit.target, notes, encoding=encoding)
    source_lines, target_lines = lines_of(source), lines_of(target)
    n_rows = max(len(source_lines), len(target_lines))
    if len(source_lines) != len(target_lines):
        n_common = min(len(source_lines), len(target_lines))
        if any(source_lines[n_common:]) or any(target_lines[n_common:]):
            raise misaligned(source.name, source_lines, target.name, target_lines)
        source_lines += [""] * (n_rows - len(source_lines))
        target_lines += [""] * (n_rows - len(target_lines))
    rows = zip(source_lines, target_lines, strict=True)
    found = [pair_or_skipped(*sides, f"{source.name}:{number}") for number, sides in enumerate(rows, 1)]
    notes.append((f"{source.name} and {target.name}", "source and target, line by line"))
    return found


def lines_of(file: SourceFile) -> list[str]:
    """The lines of a file without the space around them; the end of the last line begins no other."""
    text = file.text_of_lines()
    return [line.strip() for line in text.removesuffix("\n").split("\n")] if text else []


def misaligned(source: str, source_lines: list[str], target: str, target_lines: list[str]) -> DataError:
    """The error for files of different numbers of lines."""
    found = f"{source} has {counted(len(source_lines), 'line')} and {target} {len(target_lines):,}"
    shorter, longer = sorted((source_lines, target_lines), key=len)
    place = parting_line(shorter, longer)
    if place == len(shorter):
        where = f"they seem to agree up to line {place:,}, the last of the shorter one"
    else:
        source_sample, target_sample = sample(source_lines[place]), sample(target_lines[place])
        where = f"they seem to part near line {place + 1:,} ({source_sample} beside {target_sample})"
    return DataError(f"{found}; {where}; mend them so that each line stands beside its translation")


def sample(text: str) -> str:
    """The beginning of a text in quotes, on one line."""
    return repr(text if len(text) <= LONGEST_SAMPLE else text[: LONGEST_SAMPLE - 1] + "…")


def pairs_of_table(
    unit: TableOfPairs, notes: Notes, encoding: str | None, source_key: str | None, target_key: str | None
) -> list[Pair | Skipped]:
    """Row by row of one table. Raises DataError where its columns of source and target are not known."""
    file = open_file(unit.path, notes, encoding=encoding)
    table = read_table(
        file, unit.format, heads((source_key, target_key), lambda names: pair_columns(names) is not None)
    )
    if not any(row.cells for row in table.rows):
        return [Skipped(row.where, row.problem or "an object without keys") for row in table.rows]
    if "translation" in table.names and any(isinstance(row.cells.get("translation"), dict) for row in table.rows):
        table = with_translations(table)
    source, target = columns_of_pairs(table, file.name, source_key, target_key)
    how = "column" if table.has_header else "no header, column"
    file.note(f"{how} {source!r} is the source and {target!r} its target")
    found: list[Pair | Skipped] = []
    for row in table.rows:
        (source_text, problem), (target_text, other_problem) = text_of_cell(row, source), text_of_cell(row, target)
        if problem or other_problem:
            found.append(Skipped(row.where, problem or other_problem or ""))
        else:
            found.append(pair_or_skipped(source_text, target_text, row.where))
    return found


def with_translations(table: Table) -> Table:
    """The rows of ``{"translation": {"de": …, "en": …}}`` as tables of their languages."""
    rows: list[Row] = []
    for row in table.rows:
        inner = row.cells.get("translation")
        if row.problem is None and not isinstance(inner, dict):
            found = f"{kind_of(inner)} under 'translation'" if "translation" in row.cells else "no key 'translation'"
            rows.append(Row(row.where, {}, f"{found} where an object of two languages is expected"))
        else:
            rows.append(Row(row.where, inner if isinstance(inner, dict) else {}, row.problem))
    return table_of_objects(rows)


def pair_or_skipped(source: str, target: str, where: str) -> Pair | Skipped:
    """A pair where both sides hold text."""
    if source and target:
        return Pair(source, target, where)
    reason = "the target is empty" if source else "the source is empty" if target else "both sides are empty"
    return Skipped(where, reason)


# --- splitting --------------------------------------------------------------------------------------------------------


class PairSplit(NamedTuple):
    """Two sides that share no source text. `note` says in one sentence how they were made."""

    train: tuple[Pair, ...]
    held_out: tuple[Pair, ...]
    note: str


def split_pairs(corpus: PairCorpus, fraction: float = 0.1, *, validation: PairCorpus | None = None) -> PairSplit:
    """Hold back the pairs of about `fraction` of the sources, or take `validation` as it is given.

    A pair's side follows from its source text alone, whatever its case and spacing: a sentence with several
    translations is never on both sides, and what a user gives as validation leaves the training pairs. Raises
    ConfigError for a fraction outside (0, 1), DataError where a side would be empty.
    """
    keys = [normalised(pair.source) for pair in corpus.pairs]
    if validation is not None:
        train, _ = two_sides(corpus.pairs, keys, {normalised(pair.source) for pair in validation.pairs})
        note = note_on_given("pair", len(keys), len(train), len(validation.pairs))
        return PairSplit(train, validation.pairs, note)
    held = held_back(keys, fraction, "source text")
    train, held_out = two_sides(corpus.pairs, keys, held)
    amount = f"{len(held_out):,} of {counted(len(keys), 'pair')}, those of {counted(len(held), 'source text')}"
    return PairSplit(train, held_out, f"{amount}, held back for validation, chosen by hash")
