"""Laws of the data room, over the table of readers, over any corpus, over any array of tokens."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import numpy as np
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from glassformer.data import IGNORED, READERS, Corpus, Document, TokenWindows, evaluation_windows, read_documents, split
from glassformer.errors import DataError

# --- readers: a format is written here once and then runs every law below ---------------------------------------------


def write_text(texts: Sequence[str]) -> bytes:
    return "<|endoftext|>\n".join(text + "\n" for text in texts).encode()


def write_json_lines(texts: Sequence[str]) -> bytes:
    return "".join(json.dumps({"id": 1, "text": text}) + "\n" for text in texts).encode()


def write_json(texts: Sequence[str]) -> bytes:
    return json.dumps([{"id": 1, "text": text} for text in texts], ensure_ascii=False).encode()


def write_table(delimiter: str) -> Callable[[Sequence[str]], bytes]:
    def write(texts: Sequence[str]) -> bytes:
        stream = io.StringIO()
        csv.writer(stream, delimiter=delimiter, lineterminator="\n").writerows(
            [("id", "text"), *((1, text) for text in texts)]
        )
        return stream.getvalue().encode()

    return write


def write_parquet(texts: Sequence[str]) -> bytes:
    pyarrow = pytest.importorskip("pyarrow", reason="the parquet extra is not installed")
    stream = io.BytesIO()
    pytest.importorskip("pyarrow.parquet").write_table(
        pyarrow.table({"id": [1] * len(texts), "text": list(texts)}), stream
    )
    return stream.getvalue()


def parquet_of_numbers() -> bytes:
    pyarrow = pytest.importorskip("pyarrow", reason="the parquet extra is not installed")
    stream = io.BytesIO()
    pytest.importorskip("pyarrow.parquet").write_table(pyarrow.table({"text": [1]}), stream)
    return stream.getvalue()


WRITERS: dict[str, Callable[[Sequence[str]], bytes]] = {
    ".txt": write_text,
    ".md": write_text,
    ".jsonl": write_json_lines,
    ".ndjson": write_json_lines,
    ".json": write_json,
    ".csv": write_table(","),
    ".tsv": write_table("\t"),
    ".parquet": write_parquet,
}
BAD_JSON_LINES = [
    (b'{"text": "a"}\n{"text": \n', r":2: is not valid JSON .*; mend or remove the line"),
    (b'{"text": "a"}\n\n{"body": "b"}\n', r":3: no key 'text', found 'body'; choose one with --text-key"),
    (b'{"text": "a"}\n{"text": 7}\n', r":2: 'text' holds a number, expected text"),
    (b'{"text": "a"}\n[1]\n', r":2: expected an object with the key 'text', found a list"),
    (b'{"text": "a"}\n{"text": "\\ud800"}\n', r":2: 'text' holds \\ud800, half of a surrogate pair"),
    (b'"a"\n' + b"[" * 100_000, r":2: JSON that cannot be read"),
    (b'"a"\n' + b"1" * 5_000, r":2: JSON that cannot be read"),
    (b"{}\n", r":1: no key 'text', found nothing"),
]
BAD_TABLES = [
    (b"id,text\n1,a\n2\n", r":3: 1 column, expected 2 as in the first row; .*quotation marks"),
    (b"id,body\n1,a\n", r":1: no column 'text', found 'id', 'body'; choose one with --text-key"),
]
BAD_ROWS: dict[str, list[tuple[bytes, str]]] = {  # what a row may do wrong, and the words that must be said about it
    ".txt": [(b"a\0b", r": looks like a binary file, not text .*; save")],
    ".md": [(b"a\0b", r": looks like a binary file, not text .*; save")],
    ".jsonl": BAD_JSON_LINES,
    ".ndjson": BAD_JSON_LINES,
    ".json": [
        (b'[{"text": "a"},\n {"text": }]', r":2: is not valid JSON .*; mend"),
        (b'["a", {"body": "b"}]', r", item 2: no key 'text', found 'body'; choose one with --text-key"),
        (b'[{"text": "a"}, {"text": []}]', r", item 2: 'text' holds a list, expected text"),
        (b"7", r", item 1: expected an object with the key 'text', found a number"),
    ],
    ".csv": [*BAD_TABLES, (b'id,text\n1,a\n2,"b\n3,c\n', r":3: the row that begins here is not valid CSV")],
    ".tsv": [(content.replace(b",", b"\t"), message) for content, message in BAD_TABLES],
    ".parquet": [(b"PAR1 and no more", r": is not a sound Parquet file .*; copy or download it again")],
}
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".zst": zstandard.compress,
}
SOME = [
    "It was the best of times,\nit was the worst of times.",
    'A "quoted", tabbed\tline',
    "Größe 大きさ 😀 \u2028 end",
]


def test_every_reader_is_under_these_laws():
    assert set(WRITERS) == set(READERS) == set(BAD_ROWS)


@pytest.mark.parametrize("packing", PACKERS)
@pytest.mark.parametrize("extension", READERS)
def test_reading_undoes_writing(tmp_path: Path, extension: str, packing: str):
    path = tmp_path / f"A{extension.upper()}{packing}"
    path.write_bytes(PACKERS[packing](WRITERS[extension](SOME)))
    corpus = read_documents([path])
    assert [document.text.removesuffix("\n") for document in corpus.documents] == SOME
    assert all(document.where.startswith(str(path)) for document in corpus.documents)
    assert len({document.where for document in corpus.documents}) == len(SOME)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("extension", [extension for extension in READERS if extension not in (".txt", ".md")])
@given(
    texts=st.lists(
        st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.just("\n"), min_size=1).filter(str.strip),
        min_size=1,
        max_size=5,
    )
)
def test_tables_keep_any_text(tmp_path: Path, extension: str, texts: list[str]):
    path = tmp_path / f"a{extension}"
    path.write_bytes(WRITERS[extension](texts))
    assert [document.text for document in read_documents([path]).documents] == texts


@pytest.mark.parametrize(
    ("extension", "content", "message"),
    [(extension, *row) for extension, rows in BAD_ROWS.items() for row in rows],
)
def test_a_bad_row_is_named_with_its_place_and_the_way_out(
    tmp_path: Path, extension: str, content: bytes, message: str
):
    path = tmp_path / f"bad{extension}"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"bad\{extension}{message}"):
        read_documents([path])


def test_a_parquet_column_of_numbers_is_a_bad_row(tmp_path: Path):
    (tmp_path / "n.parquet").write_bytes(parquet_of_numbers())
    with pytest.raises(DataError, match=r"n\.parquet, row 1: column 'text' holds a number, expected text"):
        read_documents([tmp_path / "n.parquet"])


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("extension", READERS)
@given(content=st.binary(max_size=60), packing=st.sampled_from(["", ".gz", ".zst"]))
def test_any_bytes_are_documents_or_one_sentence(tmp_path: Path, extension: str, content: bytes, packing: str):
    path = tmp_path / f"fuzz{extension}{packing}"
    path.write_bytes(content)
    try:
        found = read_documents([path]).documents[0].where
    except DataError as error:
        found = str(error)
    assert path.name in found


# --- splits -----------------------------------------------------------------------------------------------------------

corpora = st.lists(st.text("ab \n", min_size=1, max_size=30), min_size=1, max_size=40).map(
    lambda texts: Corpus(tuple(Document(text, str(i)) for i, text in enumerate(texts)))
)
many_documents = st.lists(st.integers(0, 10**6), min_size=200, max_size=300, unique=True).map(
    lambda numbers: Corpus(tuple(Document(f"document {number:07}", "") for number in numbers))
)


def sides(corpus: Corpus) -> tuple[Counter[str], Counter[str]]:
    halves = split(corpus)
    return Counter(document.text for document in halves.train), Counter(document.text for document in halves.validation)


@given(corpora, st.floats(0.05, 0.95))
def test_a_split_covers_everything_and_shares_no_document(corpus: Corpus, fraction: float):
    texts = [document.text for document in corpus.documents]
    try:
        halves = split(corpus, fraction)
    except DataError:  # only where a side would hold less than a character of each document
        assert len("".join(texts)) * min(fraction, 1 - fraction) < len(texts)
        return
    assert halves.train
    assert halves.validation
    assert Counter("".join(texts)) == Counter("".join(d.text for d in (*halves.train, *halves.validation)))
    whole = set(corpus.documents)  # the pieces of a document that was cut may well equal another document
    assert not {d.text for d in whole.intersection(halves.train)} & {
        d.text for d in whole.intersection(halves.validation)
    }
    assert split(corpus, fraction) == halves


@settings(max_examples=30)
@given(many_documents, st.randoms(use_true_random=False))
def test_a_document_stays_on_its_side_whatever_else_is_there(corpus: Corpus, random: Random):
    train, validation = sides(corpus)
    shuffled = list(corpus.documents)
    random.shuffle(shuffled)
    assert sides(Corpus(tuple(shuffled))) == (train, validation)

    new = tuple(Document(f"new {i:011}", "") for i in range(100))
    larger_train, larger_validation = sides(Corpus((*new, *corpus.documents)))
    assert train <= larger_train
    assert validation <= larger_validation


# --- windows ----------------------------------------------------------------------------------------------------------

window_cases = st.tuples(st.integers(1, 9), st.integers(0, 200), st.integers(0, 2**40)).map(
    lambda case: TokenWindows(np.arange(case[0] + 1 + case[1], dtype=np.uint16), case[0], case[2])
)


@given(window_cases, st.integers(0, 50))
def test_an_epoch_visits_disjoint_windows_once_and_nearly_every_token(windows: TokenWindows, epoch: int):
    per_epoch, length = windows.per_epoch, windows.length
    batch = np.concatenate([windows.batch(step, 1) for step in range(epoch * per_epoch, (epoch + 1) * per_epoch)])
    inputs = batch[:, :-1].ravel()
    assert (np.diff(batch, axis=1) == 1).all()  # the ids count up, so each window is an unbroken piece of them
    assert len(set(inputs.tolist())) == inputs.size == per_epoch * length
    assert len(windows.ids) - inputs.size <= 2 * length


@given(window_cases, st.lists(st.integers(0, 300), min_size=2, max_size=6), st.integers(1, 7))
def test_a_batch_depends_on_seed_step_and_size_alone(windows: TokenWindows, steps: list[int], size: int):
    for step in steps:  # whatever was asked before
        fresh = TokenWindows(windows.ids, windows.length, windows.seed)
        np.testing.assert_array_equal(windows.batch(step, size), fresh.batch(step, size))
        assert windows.batch(step, size).shape == (size, windows.length + 1)


@given(window_cases, st.integers(0, 40), st.integers(1, 9))
def test_the_order_does_not_depend_on_how_it_is_cut_into_batches(windows: TokenWindows, step: int, size: int):
    singles = [windows.batch(i, 1) for i in range(step * size, (step + 1) * size)]
    np.testing.assert_array_equal(windows.batch(step, size), np.concatenate(singles))


@given(st.integers(0, 10**6))
def test_seeds_and_epochs_have_orders_of_their_own(seed: int):
    def order(seed: int, epoch: int) -> list[int]:
        return TokenWindows(np.arange(1000), 10, seed).starts(epoch).tolist()

    assert order(seed, 0) != order(seed + 1, 0)
    assert order(seed, 0) != order(seed, 1)


@given(st.integers(2, 100), st.integers(1, 20))
def test_evaluation_predicts_each_token_but_the_first_once(n_tokens: int, length: int):
    inputs, targets = evaluation_windows(np.arange(n_tokens), length)
    counted = targets != IGNORED
    assert targets[counted].tolist() == list(range(1, n_tokens))
    assert (inputs[counted] + 1 == targets[counted]).all()
    assert inputs.shape == targets.shape == (-(-(n_tokens - 1) // length), length)
    assert (~counted).sum() < length
