"""Accuracy, F1 and confusion of tables that were worked out by hand."""

from __future__ import annotations

import pytest

from glassformer.errors import DataError
from glassformer.evaluate import classification_score, tagging_score

#          cat cat cat cat dog dog dog cow cow cow
WANTED = ["cat"] * 4 + ["dog"] * 3 + ["cow"] * 3
FOUND = ["cat", "cat", "cat", "dog", "dog", "cow", "cow", "cow", "cow", "cow"]
LABELS = ["cat", "cow", "dog", "owl"]


def test_one_label_each():
    score = classification_score(FOUND, WANTED, LABELS)
    assert score.accuracy.value == 0.7
    assert score.accuracy.detail == "7 of 10 examples right"
    assert score.confusion is not None
    assert score.confusion.tolist() == [[3, 0, 1, 0], [0, 3, 0, 0], [0, 2, 1, 0], [0, 0, 0, 0]]
    cat, cow, dog, owl = score.per_class
    assert (cat.precision, cat.recall, cat.f1) == (1, 3 / 4, pytest.approx(6 / 7))
    assert (cow.precision, cow.recall, cow.f1) == (3 / 5, 1, 3 / 4)
    assert (dog.precision, dog.recall, dog.f1) == (1 / 2, 1 / 3, 2 / 5)
    assert (owl.precision, owl.recall, owl.f1, owl.n_wanted) == (0, 0, 0, 0)
    assert score.macro_f1.value == pytest.approx((6 / 7 + 3 / 4 + 2 / 5) / 3)  # no owl was seen, so none counts
    assert score.micro_f1.value == pytest.approx(0.7)
    assert score.accuracy.scores.tolist() == [1, 1, 1, 0, 1, 0, 0, 1, 1, 1]


def test_a_label_that_was_only_predicted_counts_as_missed():
    score = classification_score(["cat", "owl"], ["cat", "cat"], LABELS)
    assert score.macro_f1.value == pytest.approx((2 / 3 + 0) / 2)


def test_several_labels_each():
    score = classification_score([{"a"}, {"a", "b"}, set()], [["a", "b"], ["b", "a"], []], ["a", "b"])
    assert score.confusion is None
    assert score.accuracy.value == pytest.approx(2 / 3)
    assert score.macro_f1.value == pytest.approx((1 + 2 / 3) / 2)
    assert score.micro_f1.value == pytest.approx(6 / 7)
    assert score.micro_f1.scores.tolist() == pytest.approx([2 / 3, 1, 1])


def test_tokens_are_counted_and_sentences_are_the_examples():
    score = tagging_score([["D", "N", "V"], ["N"]], [["D", "N", "N"], ["N"]], ["D", "N", "V"])
    assert score.accuracy.value == 3 / 4
    assert score.accuracy.statistics.tolist() == [[2, 3], [1, 1]]
    assert score.accuracy.detail == "3 of 4 tokens right"
    assert score.macro_f1.value == pytest.approx((1 + 4 / 5 + 0) / 3)
    assert score.confusion is not None
    assert score.confusion.tolist() == [[1, 0, 0], [0, 2, 1], [0, 0, 0]]


def test_labels_and_lists_that_are_refused():
    with pytest.raises(
        DataError, match=r"^example 2: the label 'catt' is not among the model's \(did you mean 'cat'\?\)"
    ):
        classification_score(["cat", "cat"], ["cat", "catt"], LABELS)
    with pytest.raises(
        DataError, match=r"^a\.tsv:7: the label 'x' is not .* \(known: cat, cow, dog, owl\); correct it or"
    ):
        classification_score(["cat"], [["x"]], LABELS, where=["a.tsv:7"])
    with pytest.raises(DataError, match="1 predictions for 2 examples; give one for each example, in the same order"):
        classification_score(["cat"], ["cat", "cow"], LABELS)
    with pytest.raises(DataError, match=r"b\.conll:3: 2 tags predicted for 1 tokens; give one for each"):
        tagging_score([["cat", "cow"]], [["cat"]], LABELS, where=["b.conll:3"])
    with pytest.raises(DataError, match="there are no tagged sentences to score"):
        tagging_score([], [], LABELS)
