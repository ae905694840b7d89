"""Recall and reciprocal ranks of a few vectors whose neighbours can be seen by eye."""

from __future__ import annotations

import numpy as np
import pytest

from glassformer.errors import DataError
from glassformer.evaluate import retrieval, retrieval_score


def test_ranks_of_three_directions():
    anchors = [[1, 0], [0, 2], [1, 1]]
    positives = [[5, 0.1], [1, 1.2], [-1, 0.1]]  # first, first, and behind all others
    score = retrieval_score(anchors, positives, cutoffs=(1, 2, 3))
    assert score.ranks.tolist() == [1, 1, 3]
    assert [metric.value for metric in score.recall.values()] == pytest.approx([2 / 3, 2 / 3, 1])
    assert score.mrr.value == pytest.approx((1 + 1 + 1 / 3) / 3)
    assert [metric.name for metric in score.metrics] == ["recall@1", "recall@2", "recall@3", "MRR"]


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_embeddings_that_are_all_alike_score_what_guessing_does(value: float):
    score = retrieval_score(np.full((20, 3), value), np.full((20, 3), value))
    assert score.recall[1].value == pytest.approx(1 / 20)
    assert score.recall[10].value == pytest.approx(1 / 2)
    assert score.mrr.value == pytest.approx(sum(1 / rank for rank in range(1, 21)) / 20)
    assert set(score.ranks) == {10.5}


def test_the_same_text_twice_shares_its_places():
    identity = np.eye(3)[[0, 0, 1]]
    score = retrieval_score(identity, identity)
    assert score.recall[1].scores.tolist() == [1 / 2, 1 / 2, 1]
    assert score.recall[5].value == 1
    positives = [[1, 1], [1, 1 + 1e-7], [0, 1]]  # as one text comes out of two batches
    assert retrieval_score([[1, 0], [1, 0], [0, 1]], positives).ranks.tolist() == [1.5, 1.5, 1]


def test_how_many_are_compared_at_once_changes_nothing(monkeypatch):
    draw = np.random.default_rng(0)
    anchors, positives = draw.normal(size=(2, 25, 4))
    whole = retrieval_score(anchors, positives).ranks.tolist()
    for at_once in (1, 60, 624):
        monkeypatch.setattr(retrieval, "SIMILARITIES_AT_ONCE", at_once)
        assert retrieval_score(anchors, positives).ranks.tolist() == whole


def test_embeddings_that_are_refused():
    with pytest.raises(DataError, match=r"anchors have the shape \[3\]; give one row of numbers for each text"):
        retrieval_score([1, 2, 3], [[1, 2, 3]])
    with pytest.raises(DataError, match="anchors have 2 dimensions and positives 3; use one model for both"):
        retrieval_score(np.ones((4, 2)), np.ones((4, 3)))
    with pytest.raises(DataError, match="4 anchors for 3 examples"):
        retrieval_score(np.ones((4, 2)), np.ones((3, 2)))
    with pytest.raises(DataError, match="there are no anchors to score"):
        retrieval_score(np.ones((0, 2)), np.ones((0, 2)))
    with pytest.raises(DataError, match="row 2 of the positives holds a number that is not finite"):
        retrieval_score(np.ones((2, 1)), [[1], [np.nan]])
