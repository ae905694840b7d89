"""Splits whose outcome can be said in advance; what holds for every corpus is in tests/laws/test_data.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from glassformer.data import Corpus, Document, read_documents, split
from glassformer.errors import ConfigError, DataError


def corpus(*texts: str) -> Corpus:
    return Corpus(tuple(Document(text, f"{i}.txt") for i, text in enumerate(texts)))


def texts(documents: tuple[Document, ...]) -> list[str]:
    return [document.text for document in documents]


@pytest.mark.parametrize("length", [2, 9, 10, 11, 12_345])
def test_one_document_is_cut_at_nine_tenths_of_its_characters(length: int):
    text = "".join(chr(0x4E00 + i % 1000) for i in range(length))
    sides = split(corpus(text))
    assert texts(sides.train) == [text[: int(0.9 * length)]]
    assert texts(sides.validation) == [text[int(0.9 * length) :]]


def test_tiny_shakespeare_is_cut_where_everyone_cuts_it(shared_folder: Path):
    path = shared_folder / "data" / "tinyshakespeare" / "input.txt"
    if not path.exists():
        pytest.skip(f"needs {path}")
    sides = split(read_documents(path))
    assert (len(sides.train[0].text), len(sides.validation[0].text)) == (1_003_854, 111_540)
    assert sides.note == "the last 111,540 of 1,115,394 characters (10.0%) held back for validation"


def test_few_documents_are_parted_between_two_of_them():
    sides = split(corpus("a" * 50, "b" * 38, "c" * 12))
    assert texts(sides.train) == ["a" * 50, "b" * 38]
    assert texts(sides.validation) == ["c" * 12]
    assert sides.note.startswith("1 of 3 documents (12.0% of the text) held back for validation, the last ones")


def test_a_document_is_cut_when_no_boundary_is_near():
    sides = split(corpus("a" * 10, "b" * 90))
    assert texts(sides.train) == ["a" * 10, "b" * 80]
    assert texts(sides.validation) == ["b" * 10]


def test_many_documents_are_chosen_by_their_content():
    sides = split(corpus(*(f"document {i}" for i in range(500))))
    assert sides.note.endswith("held back for validation, chosen by the hash of their content")
    other_seed = split(corpus(*(f"document {i}" for i in range(500))), seed=1)
    assert texts(sides.validation) != texts(other_seed.validation)


def test_a_validation_text_of_the_users_own_is_kept_whole_and_out_of_training():
    sides = split(corpus("a", "b", "c"), validation=corpus("c", "d"))
    assert (texts(sides.train), texts(sides.validation)) == (["a", "b"], ["c", "d"])
    assert sides.note == "validation as given: 2 documents; 1 training document found in it left out of training"


def test_splits_that_are_refused():
    with pytest.raises(DataError, match="every training document is also in the validation text; name different"):
        split(corpus("a"), validation=corpus("a"))
    with pytest.raises(DataError, match="1 character cannot be split into training and validation; add text"):
        split(corpus("a"))
    with pytest.raises(DataError, match="2 characters cannot be split at 10%; add text"):
        split(corpus("ab"), fraction=0.9)
    for fraction in (0.0, 1.0, float("nan")):
        with pytest.raises(ConfigError, match=f"validation fraction is {fraction}, expected .* for example 0.1"):
            split(corpus("ab"), fraction=fraction)
