"""Sentences with a tag for each token: from lines of token and tag, or tables of lists, to one corpus; and its split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from glassformer.data.columns import TAGS_NAMES, TOKENS_NAMES, named
from glassformer.data.documents import counted
from glassformer.data.examples import Skipped, Tagged, TaggedCorpus
from glassformer.data.json_values import kind_of, listed
from glassformer.data.labelled import label_in_words, strata
from glassformer.data.notes import nothing_found, parted, sentences
from glassformer.data.opening import open_file, table_format
from glassformer.data.source_file import Notes, SourceFile
from glassformer.data.sources import distinct_sources, one_or_more
from glassformer.data.splitting import held_back_evenly, normalised, note_on_given, two_sides
from glassformer.data.tables import Row, Table, read_table
from glassformer.errors import DataError

LINES = "name a file with a token and its tag on each line and a blank line between sentences, or lines of JSON"
FORMATS_OF_LISTS = (".jsonl", ".ndjson", ".json", ".parquet")  # cells of CSV hold no lists
DOCUMENT_START = "-DOCSTART-"  # between the documents of CoNLL 2003
COLUMNS_OF_UNIVERSAL_DEPENDENCIES = 10  # ID FORM LEMMA UPOS …, of which FORM and UPOS are read


def read_tagged(sources: str | Path | Sequence[str | Path], *, encoding: str | None = None) -> TaggedCorpus:
    """Read every source, in the order given, into one corpus of sentences with a tag for each token.

    A source is a file of lines as of CoNLL 2003 (a token, perhaps more columns, its tag, between spaces or tabs; a
    blank line ends a sentence), of Universal Dependencies, of JSON (``{"tokens": […], "tags": […]}``), Parquet, or a
    folder or pattern of such files; each also as .gz or .zst. Sentences in which a line lacks its tag, or whose tags
    are not as many as their tokens, are listed in `skipped`.

    Raises DataError: missing, empty, binary or broken files, unknown columns.
    """
    notes: Notes = []
    rows: list[Tagged] = []
    skipped: list[Skipped] = []
    paths = distinct_sources(one_or_more(sources), notes)
    for path in paths:
        if not isinstance(path, Path):
            raise DataError(f"{path}: tagged sentences are read from files only; {LINES}")
        file = open_file(path, notes, encoding=encoding)
        known = table_format(path)
        found = sentences_of_table(file, known) if known in FORMATS_OF_LISTS else list(sentences_of_lines(file))
        usable, unusable = parted(file.name, found, notes)
        rows += usable
        skipped += unusable
    names = [str(path) for path in paths]
    if not names:
        raise DataError(f"no tagged sentences named; {LINES}")
    if not rows:
        raise nothing_found("tagged sentence", names, skipped)
    n_tags = len({tag for row in rows for tag in row.tags})
    n_tokens = sum(len(row.tokens) for row in rows)
    amount = f"{counted(len(rows), 'sentence')}, {counted(n_tokens, 'token')}, {counted(n_tags, 'tag')}"
    return TaggedCorpus(tuple(rows), tuple(skipped), (f"{counted(len(names), 'file')}, {amount}", *sentences(notes)))


# --- lines of token and tag -------------------------------------------------------------------------------------------


@dataclass
class Sentence:
    """What the lines of one sentence have told so far; a problem of any line is one of the whole."""

    where: str = ""
    tokens: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    problem: Skipped | None = None

    def finished(self) -> Iterator[Tagged | Skipped]:
        """The sentence, if it has begun."""
        if self.problem:
            yield self.problem
        elif self.tokens:
            yield Tagged(tuple(self.tokens), tuple(self.tags), self.where)


def sentences_of_lines(file: SourceFile) -> Iterator[Tagged | Skipped]:
    """Sentence by sentence of a file of lines, as its first line has them: between tabs or spaces, so many columns."""
    text = file.text_of_lines()
    between_tabs = "\t" in text
    width = 0
    sentence = Sentence()
    for number, line in enumerate(text.split("\n"), 1):
        where = f"{file.name}:{number}"
        cells = [cell.strip() for cell in line.split("\t")] if between_tabs else line.split()
        if not line.strip() or cells[0] == DOCUMENT_START:
            yield from sentence.finished()
            sentence = Sentence()
            continue
        if line.startswith("#") and not sentence.tokens and (len(cells) == 1 or " = " in line):
            continue
        width = width or len(cells)
        if width == COLUMNS_OF_UNIVERSAL_DEPENDENCIES and between_tabs and len(cells) == width:
            if not cells[0].isdecimal():  # the words that a contraction stands for have lines of their own
                continue
            cells = [cells[1], cells[3]]
        elif len(cells) != width or width < 2:
            expected = f"{width} as in the first line" if width > 1 else "a token and its tag"
            problem = Skipped(where, f"{counted(len(cells), 'column')}, expected {expected}")
            sentence.problem = sentence.problem or problem
            continue
        if not cells[0] or not cells[-1]:
            sentence.problem = sentence.problem or Skipped(where, f"{'no tag' if cells[0] else 'no token'} on the line")
        sentence.where = sentence.where or where
        sentence.tokens.append(cells[0])
        sentence.tags.append(cells[-1])
    yield from sentence.finished()


# --- tables of lists --------------------------------------------------------------------------------------------------


def sentences_of_table(file: SourceFile, known: str) -> list[Tagged | Skipped]:
    """Row by row of a table whose cells hold lists. Raises DataError where its columns are not known."""
    table = read_table(file, known, lambda _: True)
    if not any(row.cells for row in table.rows):
        return [Skipped(row.where, row.problem or "an object without keys") for row in table.rows]
    tokens, tags = columns_of_tags(table, file.name)
    return [sentence_of_row(row, tokens, tags) for row in table.rows]


def columns_of_tags(table: Table, name: str) -> tuple[str, str]:
    """The columns of tokens and tags. Raises DataError listing the columns."""
    tokens, tags = named(table.names, TOKENS_NAMES), named(table.names, TAGS_NAMES)
    if tokens is None or tags is None:
        found = f"no columns known as tokens and tags, found {listed(table.names)}"
        raise DataError(f"{name}: {found}; call them 'tokens' and 'tags'")
    return tokens, tags


def sentence_of_row(row: Row, tokens_column: str, tags_column: str) -> Tagged | Skipped:
    """One sentence, where its lists are of one length and hold text."""
    tokens, tags = row.cells.get(tokens_column), row.cells.get(tags_column)
    if row.problem:
        return Skipped(row.where, row.problem)
    for column, value in ((tokens_column, tokens), (tags_column, tags)):
        if not isinstance(value, list):
            found = f"{column!r} holds {kind_of(value)}" if column in row.cells else f"no key {column!r}"
            return Skipped(row.where, f"{found}, expected a list")
    words = [label_in_words(token) for token in tokens or ()]
    marks = [label_in_words(tag) for tag in tags or ()]
    if len(words) != len(marks):
        return Skipped(row.where, "not as many tags as tokens")
    if not words:
        return Skipped(row.where, "no token")
    if not all(words) or not all(marks):
        return Skipped(row.where, "a token or tag that is empty or no text")
    return Tagged(tuple(word for word in words if word), tuple(mark for mark in marks if mark), row.where)


# --- split ------------------------------------------------------------------------------------------------------------


class TaggedSplit(NamedTuple):
    """Two sides that share no sentence. `note` says in one sentence how they were made."""

    train: tuple[Tagged, ...]
    held_out: tuple[Tagged, ...]
    note: str


def split_tagged(corpus: TaggedCorpus, fraction: float = 0.1, validation: TaggedCorpus | None = None) -> TaggedSplit:
    """Hold back about `fraction` of the sentences with each tag, or take `validation` as it is given.

    Sentences that are the same but for case are on one side. A sentence counts for the rarest of its tags. Raises
    ConfigError for a fraction outside (0, 1), DataError where a side would be empty.
    """
    keys = [key_of(row) for row in corpus.rows]
    if validation is not None:
        train, _ = two_sides(corpus.rows, keys, {key_of(row) for row in validation.rows})
        return TaggedSplit(
            train, validation.rows, note_on_given("sentence", len(keys), len(train), len(validation.rows))
        )
    held = held_back_evenly(strata([row.tags for row in corpus.rows], keys), fraction, "sentence")
    train, held_out = two_sides(corpus.rows, keys, held)
    amount = f"{len(held_out):,} of {counted(len(keys), 'sentence')} held back for validation"
    return TaggedSplit(train, held_out, f"{amount}, of each tag alike, chosen by hash")


def key_of(row: Tagged) -> str:
    """The text by which sentences count as the same."""
    return normalised(" ".join(row.tokens))
