"""Our scores beside sacrebleu's, to the last bit, and beside definitions written out slowly here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from glassformer.evaluate import bleu, bootstrap, chrf, classification_score, confidence_interval, retrieval_score

sacrebleu = pytest.importorskip("sacrebleu", reason="the eval extra is not installed")

words = st.sampled_from(["the", "cat", "sat", "on", "a", "mat", ".", "it's", "1,000", "&quot;x&quot;", "Über", "猫"])
sentences = st.lists(words, max_size=12).map(" ".join) | st.text(max_size=12)
pairs = st.lists(st.tuples(sentences, sentences), min_size=1, max_size=12)

RIGHT = [
    "The dog bit the man.",
    "It was not unexpected.",
    "The man bit him first, with $1,000.50 in his hand.",
    "",
    "Zwei junge weiße Männer sind im Freien in der Nähe vieler Büsche.",
    "ok",
]
FOUND = [
    "The dog bit the man.",
    "It wasn't surprising.",
    "The man had just bitten him with $1,000 in hand .",
    "something",
    "Zwei weiße Männer sind draußen in der Nähe von Büschen.",
    "",
]


def made_up(n: int, noise: float, seed: int) -> tuple[list[str], list[str]]:
    """Sentences of random words, and the same with some words replaced."""
    draw = Random(seed)
    vocabulary = [f"w{i}" for i in range(30)]
    right = [draw.choices(vocabulary, k=draw.randint(4, 14)) for _ in range(n)]
    found = [[word if draw.random() > noise else draw.choice(vocabulary) for word in row] for row in right]
    return [" ".join(row) for row in found], [" ".join(row) for row in right]


@given(pairs)
@example(list(zip(FOUND, RIGHT, strict=True)))
@example([("", "")])
@example([("", "a"), ("b", "")])
def test_corpus_and_sentence_scores_are_sacrebleus(rows: list[tuple[str, str]]) -> None:
    found, right = [found for found, _ in rows], [right for _, right in rows]
    ours = bleu(found, right)
    assert ours.value == sacrebleu.corpus_bleu(found, [right], force=True).score
    assert ours.scores.tolist() == [sacrebleu.sentence_bleu(*pair).score for pair in ((f, [r]) for f, r in rows)]
    ours = chrf(found, right)
    assert ours.value == sacrebleu.corpus_chrf(found, [right]).score
    assert ours.scores.tolist() == [sacrebleu.sentence_chrf(f, [r]).score for f, r in rows]


def test_the_usual_settings_stand_in_the_signature() -> None:
    theirs = sacrebleu.BLEU()
    theirs.corpus_score(FOUND, [RIGHT])
    assert bleu(FOUND, RIGHT).signature == str(theirs.get_signature())
    assert bleu(FOUND, RIGHT).signature.startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|")
    assert chrf(FOUND, RIGHT).signature.startswith("nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|")
    assert bleu([text.lower() for text in FOUND], RIGHT).value < bleu(FOUND, RIGHT).value


def test_several_references_for_a_sentence_are_scored_as_sacrebleu_does() -> None:
    others: list[str | None] = ["A dog bit a man.", None, "He bit him first.", None, "Zwei Männer.", "okay"]
    references = [[one] if other is None else [one, other] for one, other in zip(RIGHT, others, strict=True)]
    assert bleu(FOUND, references).value == sacrebleu.BLEU().corpus_score(FOUND, [RIGHT, others]).score
    assert chrf(FOUND, references).value == sacrebleu.CHRF().corpus_score(FOUND, [RIGHT, others]).score
    assert bleu(FOUND, references).signature.startswith("nrefs:var|")
    assert bleu(FOUND, [(right, right) for right in RIGHT]).value == bleu(FOUND, RIGHT).value


@pytest.mark.parametrize("score", [bleu, chrf])
def test_a_resample_scores_what_sacrebleu_gives_its_sentences(score) -> None:
    found, right = made_up(15, 0.3, 0)
    metric = score(found, right)
    order = np.lexsort(metric.statistics.T)
    whole = {bleu: sacrebleu.corpus_bleu, chrf: sacrebleu.corpus_chrf}[score]
    [times] = bootstrap.choices(15, 20, seed=3)
    for resample, row in zip(bootstrap.resampled([metric], 20, seed=3)[:, 0], times.astype(int), strict=True):
        chosen = [i for i, n in zip(order, row, strict=True) for _ in range(n)]
        assert resample == whole([found[i] for i in chosen], [[right[i] for i in chosen]]).score


def test_the_interval_is_as_wide_as_sacrebleus() -> None:
    found, right = made_up(150, 0.3, 1)
    low, high = confidence_interval(bleu(found, right))
    theirs = sacrebleu.BLEU().corpus_score(found, [right], n_bootstrap=1000)
    assert (high - low) / 2 == pytest.approx(theirs._ci, rel=0.15)
    assert (high + low) / 2 == pytest.approx(theirs._mean, rel=0.02)


# --- labels --------------------------------------------------------------------------------------------------------

LABELS = ["A", "B", "C", "D"]
label_sets = st.sets(st.sampled_from(LABELS))


def slow_f1(predicted: Sequence[set[str]], wanted: Sequence[set[str]], labels: set[str]) -> float:
    """The harmonic mean of precision and recall of every decision about these labels."""
    decisions = [(label in p, label in w) for p, w in zip(predicted, wanted, strict=True) for label in labels]
    right = decisions.count((True, True))
    if not right:
        return 0.0 if any(p or w for p, w in decisions) else 1.0
    precision, recall = right / sum(p for p, _ in decisions), right / sum(w for _, w in decisions)
    return 2 / (1 / precision + 1 / recall)


@given(st.lists(st.tuples(label_sets, label_sets), min_size=1, max_size=20))
def test_f1_is_what_its_definition_gives(rows: list[tuple[set[str], set[str]]]) -> None:
    predicted, wanted = [p for p, _ in rows], [w for _, w in rows]
    score = classification_score(predicted, wanted, LABELS)
    occurring = set().union(*predicted, *wanted)
    assert score.micro_f1.value == pytest.approx(slow_f1(predicted, wanted, set(LABELS)))
    of_each = {label: slow_f1(predicted, wanted, {label}) for label in sorted(occurring)}
    assert score.macro_f1.value == pytest.approx(np.mean(list(of_each.values())) if of_each else 1.0)
    assert {each.label: each.f1 for each in score.per_class if each.label in occurring} == pytest.approx(of_each)
    assert score.accuracy.value == pytest.approx(np.mean([p == w for p, w in rows]))


@given(st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS)), min_size=1, max_size=30))
def test_one_label_each_is_a_set_of_one_and_is_counted_in_the_confusion(rows: list[tuple[str, str]]) -> None:
    predicted, wanted = [p for p, _ in rows], [w for _, w in rows]
    score = classification_score(predicted, wanted, LABELS)
    as_sets = classification_score([{p} for p in predicted], [(w,) for w in wanted], LABELS)
    assert [metric.value for metric in score.metrics] == [metric.value for metric in as_sets.metrics]
    assert score.confusion is not None
    assert score.confusion.tolist() == [[rows.count((p, w)) for p in LABELS] for w in LABELS]
    assert score.accuracy.value == pytest.approx(score.micro_f1.value)


# --- neighbours ----------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**32), st.integers(1, 30))
def test_ranks_are_those_of_a_sorted_list(seed: int, n: int) -> None:
    draw = np.random.default_rng(seed)
    anchors, positives = draw.normal(size=(2, n, 3))
    ranks = []
    for i, anchor in enumerate(anchors):
        cosines = [anchor @ other / math.sqrt(anchor @ anchor) / math.sqrt(other @ other) for other in positives]
        ranks.append(sorted(cosines, reverse=True).index(cosines[i]) + 1)
    score = retrieval_score(anchors.astype(np.float32), positives.astype(np.float32))
    assert score.ranks.tolist() == pytest.approx(ranks, abs=0.5)  # a near tie may be one
    assert score.mrr.value == pytest.approx(np.mean([1 / rank for rank in ranks]), abs=0.5 / n)
    if score.ranks.tolist() == ranks:
        for k, recall in score.recall.items():
            assert recall.value == pytest.approx(np.mean([rank <= k for rank in ranks]))
