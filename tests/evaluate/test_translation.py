"""BLEU and chrF of cases that can be worked out by hand; that they are sacrebleu's is in tests/parity/test_metrics.py."""

from __future__ import annotations

import sys

import pytest

from glassformer.errors import DataError, GlassformerError
from glassformer.evaluate import bleu, chrf

pytest.importorskip("sacrebleu", reason="the eval extra is not installed")

SENTENCE = "the cat sat on the mat"


@pytest.mark.parametrize("score", [bleu, chrf])
def test_a_copy_scores_a_hundred_and_silence_nothing(score):
    assert score([SENTENCE], [SENTENCE]).value == pytest.approx(100)
    assert score([""], [SENTENCE]).value == 0


def test_bleu_is_the_geometric_mean_of_precisions_times_the_brevity_penalty():
    metric = bleu(["the cat sat on the"], [SENTENCE])
    assert metric.statistics.tolist() == [[5, 6, 5, 4, 3, 2, 5, 4, 3, 2]]  # two lengths, n-grams right, n-grams said
    assert metric.value == pytest.approx(100 * 2.718281828 ** (1 - 6 / 5))
    assert metric.detail == "100.0/100.0/100.0/100.0, brevity penalty 0.819, 5 words for 6"


def test_a_corpus_is_scored_by_its_sums_and_not_by_the_mean_of_its_sentences():
    metric = bleu(["the cat sat on the mat", "no"], [SENTENCE, "yes"])
    assert metric.scores.tolist() == pytest.approx([100, 0])
    assert metric.value == pytest.approx(100 * (6 / 7) ** (1 / 4))
    assert len(metric) == 2


def test_lists_that_are_refused():
    with pytest.raises(
        DataError, match=r"^1 translations for 2 examples; give one for each example, in the same order$"
    ):
        bleu(["a"], ["a", "b"])
    with pytest.raises(DataError, match="there are no translations to score; give at least one example"):
        chrf([], [])
    with pytest.raises(DataError, match="example 2 has no reference; give at least one"):
        bleu(["a", "b"], [["a"], []])


def test_without_sacrebleu_one_sentence_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics", None)
    for score in (bleu, chrf):
        with pytest.raises(GlassformerError) as caught:
            score(["a"], ["a"])
        assert str(caught.value) == "scoring translations needs sacrebleu: pip install 'glassformer[eval]'"
