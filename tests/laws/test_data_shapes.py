"""Laws of pairs, labelled texts and batches: no row is lost, no source is on both sides, every row is visited once."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import TypeVar

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from glassformer.data import (
    TABLES,
    Labelled,
    LabelledCorpus,
    LengthBatches,
    Pair,
    PairCorpus,
    Skipped,
    Tagged,
    TaggedCorpus,
    read_labelled,
    read_pairs,
    read_tagged,
    split_labelled,
    split_pairs,
    split_tagged,
)
from glassformer.data.alignment import parting_line
from glassformer.data.splitting import normalised
from glassformer.errors import DataError

T = TypeVar("T")
files_anew = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


def outcome(read: Callable[[], T]) -> T | str:
    """What is read, or the sentence that says why nothing could be."""
    try:
        return read()
    except DataError as error:
        return str(error)


# --- batches ----------------------------------------------------------------------------------------------------------

tables_of_lengths = st.integers(1, 3).flatmap(
    lambda k: st.lists(st.lists(st.integers(0, 12), min_size=k, max_size=k), min_size=1, max_size=60)
)
batch_cases = st.builds(LengthBatches, tables_of_lengths, st.integers(1, 60), st.integers(0, 2**40))


def rows_of_epoch(batches: LengthBatches, epoch: int) -> list[list[int]]:
    first = epoch * batches.per_epoch
    return [batches.batch(step).tolist() for step in range(first, first + batches.per_epoch)]


@given(batch_cases, st.integers(0, 10**6))
def test_every_row_is_visited_once_in_each_epoch(batches: LengthBatches, epoch: int):
    visited = [row for rows in rows_of_epoch(batches, epoch) for row in rows]
    assert sorted(visited) == list(range(len(visited)))
    assert all(rows_of_epoch(batches, epoch))


@given(tables_of_lengths, st.integers(1, 60), st.integers(0, 9))
def test_no_batch_costs_more_than_the_budget_but_for_a_row_that_does_by_itself(
    lengths: list[list[int]], max_tokens: int, epoch: int
):
    table = np.array(lengths)
    batches = LengthBatches(lengths, max_tokens, seed=0)
    assert sum(map(len, rows_of_epoch(batches, 0))) == len(table)
    for rows in rows_of_epoch(batches, epoch):
        assert len(rows) == 1 or len(rows) * table[rows].max(axis=0).sum() <= max_tokens


@given(tables_of_lengths, st.integers(1, 60), st.integers(0, 9), st.lists(st.integers(0, 500), min_size=2, max_size=6))
def test_a_batch_depends_on_seed_and_step_alone(lengths: list[list[int]], max_tokens: int, seed: int, steps: list[int]):
    batches = LengthBatches(lengths, max_tokens, seed)
    for step in steps:  # whatever was asked before
        np.testing.assert_array_equal(batches.batch(step), LengthBatches(lengths, max_tokens, seed).batch(step))
        assert batches.epoch(step) == step / batches.per_epoch


@given(st.integers(0, 10**6))
def test_seeds_and_epochs_have_orders_of_their_own(seed: int):
    lengths = np.arange(600) % 6

    def order(seed: int, epoch: int) -> list[list[int]]:
        return rows_of_epoch(LengthBatches(lengths, 60, seed), epoch)

    def companions(batches: list[list[int]]) -> set[frozenset[int]]:
        return {frozenset(rows) for rows in batches}

    assert order(seed, 0) != order(seed + 1, 0)
    assert order(seed, 0) != order(seed, 1)
    assert companions(order(seed, 0)) != companions(order(seed, 1))


@given(batch_cases)
def test_every_epoch_has_batches_of_the_same_sizes(batches: LengthBatches):
    assert sorted(map(len, rows_of_epoch(batches, 0))) == sorted(map(len, rows_of_epoch(batches, 7)))


# --- readers ----------------------------------------------------------------------------------------------------------

words = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters='"'), max_size=8)
sides = st.tuples(words, words)


@files_anew
@given(st.lists(sides, min_size=1, max_size=12), st.booleans(), st.sampled_from(["\n", "\r\n"]))
def test_of_two_files_every_line_is_a_pair_or_skipped(
    tmp_path: Path, rows: list[tuple[str, str]], ends_last_line: bool, line_end: str
):
    for side, name in enumerate(("a.de", "a.en")):
        content = line_end.join(row[side] for row in rows)
        ends_it = ends_last_line or "" in rows[-1]  # nothing without an end is no line
        (tmp_path / name).write_bytes((content + line_end * ends_it).encode())
    wanted = [(source.strip(), target.strip()) for source, target in rows]
    corpus = outcome(lambda: read_pairs([tmp_path / "a.de", tmp_path / "a.en"]))
    if isinstance(corpus, str):
        assert not any(source and target for source, target in wanted)
        return
    assert [(pair.source, pair.target) for pair in corpus.pairs] == [row for row in wanted if all(row)]
    assert len(corpus.pairs) + len(corpus.skipped) == len(rows)
    places = {row.where for row in (*corpus.pairs, *corpus.skipped)}
    assert places == {f"{tmp_path / 'a.de'}:{number}" for number in range(1, len(rows) + 1)}


def write_json_lines(names: tuple[str, str], rows: Sequence[tuple[str, str]]) -> bytes:
    return "".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows).encode()


def write_json(names: tuple[str, str], rows: Sequence[tuple[str, str]]) -> bytes:
    return json.dumps([dict(zip(names, row, strict=True)) for row in rows], ensure_ascii=False).encode()


def write_table(delimiter: str) -> Callable[[tuple[str, str], Sequence[tuple[str, str]]], bytes]:
    def write(names: tuple[str, str], rows: Sequence[tuple[str, str]]) -> bytes:
        stream = io.StringIO()
        csv.writer(stream, delimiter=delimiter, lineterminator="\n").writerows([names, *rows])
        return stream.getvalue().encode()

    return write


def write_parquet(names: tuple[str, str], rows: Sequence[tuple[str, str]]) -> bytes:
    pyarrow = pytest.importorskip("pyarrow", reason="the parquet extra is not installed")
    stream = io.BytesIO()
    columns = {name: [row[side] for row in rows] for side, name in enumerate(names)}
    pytest.importorskip("pyarrow.parquet").write_table(pyarrow.table(columns), stream)
    return stream.getvalue()


WRITERS: dict[str, Callable[[tuple[str, str], Sequence[tuple[str, str]]], bytes]] = {
    ".jsonl": write_json_lines,
    ".ndjson": write_json_lines,
    ".json": write_json,
    ".csv": write_table(","),
    ".tsv": write_table("\t"),
    ".parquet": write_parquet,
}


def test_every_table_is_under_these_laws():
    assert set(WRITERS) == set(TABLES)


@files_anew
@pytest.mark.parametrize("extension", TABLES)
@given(rows=st.lists(sides, min_size=1, max_size=8))
def test_of_a_table_every_row_is_an_example_or_skipped(tmp_path: Path, extension: str, rows: list[tuple[str, str]]):
    full = [(source.strip(), target.strip()) for source, target in rows if source.strip() and target.strip()]
    for read, names in ((read_pairs, ("source", "target")), (read_labelled, ("text", "label"))):
        path = tmp_path / f"a{extension}"
        path.write_bytes(WRITERS[extension](names, rows))
        corpus = outcome(lambda read=read, path=path: read(path))
        if isinstance(corpus, str):
            assert not full
            continue
        examples = corpus.pairs if isinstance(corpus, PairCorpus) else corpus.rows
        found = [(e.source, e.target) if isinstance(e, Pair) else (e.text, e.labels[0]) for e in examples]
        assert found == full
        assert len(examples) + len(corpus.skipped) == len(rows)


@files_anew
@given(st.lists(st.lists(st.sampled_from(["a X", "b Y", "c", "d  Z", "e\u2028e V W"]), max_size=4), max_size=6))
def test_every_sentence_is_tagged_or_skipped(tmp_path: Path, sentences: list[list[str]]):
    path = tmp_path / "a.conll"
    path.write_text("\n\n".join("\n".join(lines) for lines in sentences))
    n_sentences = sum(bool(lines) for lines in sentences)
    corpus = outcome(lambda: read_tagged(path))
    if isinstance(corpus, str):
        return
    assert len(corpus.rows) + len(corpus.skipped) == n_sentences
    assert all(len(row.tokens) == len(row.tags) for row in corpus.rows)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("extension", [*TABLES, ".txt", ".conll", ".de"])
@given(content=st.binary(max_size=60) | st.text(st.sampled_from('\t\n"{}[],:ab1 '), max_size=40).map(str.encode))
def test_any_bytes_are_examples_or_one_sentence(tmp_path: Path, extension: str, content: bytes):
    path = tmp_path / f"fuzz{extension}"
    other = tmp_path / "other.en"
    path.write_bytes(content)
    other.write_bytes(b"one\ntwo\n")
    for read in (
        lambda: read_pairs([path, other] if extension in (".txt", ".conll", ".de") else path),
        lambda: read_labelled(path),
        lambda: read_tagged(path),
    ):
        corpus = outcome(read)
        if isinstance(corpus, str):
            assert "\n" not in corpus
            assert path.name in corpus or other.name in corpus
        else:
            assert all(isinstance(row, Skipped) and row.reason for row in corpus.skipped)


# --- where files part -------------------------------------------------------------------------------------------------


@settings(max_examples=30)
@given(st.lists(st.integers(0, 60), min_size=30, max_size=60), st.integers(0, 29), st.integers(1, 3))
def test_a_gap_is_found_where_lengths_leave_no_doubt(lengths: list[int], gap: int, surplus: int):
    shorter = ["x" * (length * 50) for length in lengths]
    longer = [*shorter[:gap], *(["y" * 9_000] * surplus), *shorter[gap:]]
    assert parting_line(shorter, longer) == gap
    assert parting_line(shorter, shorter + ["x"] * surplus) in range(len(shorter) + 1)


# --- splits -----------------------------------------------------------------------------------------------------------

texts = st.lists(st.text("aB ", min_size=1, max_size=4).filter(str.strip), min_size=1, max_size=60)
fractions = st.floats(0.05, 0.95)


@given(texts, fractions)
def test_splits_cover_everything_and_share_no_normalised_source(sources: list[str], fraction: float):
    pairs = tuple(Pair(source, str(i), f"a:{i}") for i, source in enumerate(sources))
    rows = tuple(Labelled(source, ("xyz"[i % 3],), f"a:{i}") for i, source in enumerate(sources))
    tagged = tuple(
        Tagged(tuple(source.split()), ("X",) * len(source.split()), f"a:{i}") for i, source in enumerate(sources)
    )
    for cut, corpus, examples in (
        (split_pairs, PairCorpus(pairs), pairs),
        (split_labelled, LabelledCorpus(rows), rows),
        (split_tagged, TaggedCorpus(tagged), tagged),
    ):
        try:
            train, held_out, note = cut(corpus, fraction)
        except DataError:
            assert len({normalised(source) for source in sources}) <= 3  # one for each label at most
            continue
        assert train
        assert held_out
        assert sorted((*train, *held_out), key=lambda row: int(row.where[2:])) == list(examples)
        places = {row.where for row in train}
        on_train = {normalised(source) for i, source in enumerate(sources) if f"a:{i}" in places}
        on_other = {normalised(source) for i, source in enumerate(sources) if f"a:{i}" not in places}
        assert not on_train & on_other
        assert note
        assert cut(corpus, fraction) == (train, held_out, note)


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.randoms(use_true_random=False))
def test_a_source_stays_on_its_side_whatever_else_is_there(first: int, random: Random):
    def held(sources: list[str]) -> set[str]:
        corpus = PairCorpus(tuple(Pair(source, "x", "") for source in sources))
        return {pair.source for pair in split_pairs(corpus).held_out}

    sources = [f"source {first + number}" for number in range(1000)]
    known = held(sources)
    random.shuffle(sources)
    assert held(sources) == known
    assert known <= held([*sources, *(f"new {number}" for number in range(100))])


@given(texts, texts)
def test_what_is_given_as_validation_is_kept_whole_and_leaves_training(sources: list[str], others: list[str]):
    corpus, validation = (
        PairCorpus(tuple(Pair(source, "x", str(i)) for i, source in enumerate(side))) for side in (sources, others)
    )
    try:
        train, held_out, _ = split_pairs(corpus, validation=validation)
    except DataError:
        assert {normalised(source) for source in sources} <= {normalised(source) for source in others}
        return
    assert held_out == validation.pairs
    assert not {normalised(pair.source) for pair in train} & {normalised(source) for source in others}
