"""Laws of the evaluate room, over a table of metrics: a new row runs every law below."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glassformer.evaluate import (
    Metric,
    bits_per_byte_score,
    bleu,
    bootstrap,
    chrf,
    classification_score,
    confidence_interval,
    paired_test,
    perplexity_score,
    retrieval_score,
    tagging_score,
)

LABELS = ["A", "B", "C"]
N = 200  # resamples, fewer than usual

Row = tuple[Any, Any]  # what was found and what was wanted, or a loss and what it was summed over


@dataclass(frozen=True)
class Case:
    """How to draw what is wanted and an answer to it, how to score such pairs, the least and the greatest score."""

    wanted: Callable[[Random], Any]
    answer: Callable[[Random, Any], Any]
    score: Callable[[Sequence[Any], Sequence[Any]], Metric]
    least: float
    greatest: float

    def metric(self, rows: Sequence[Row]) -> Metric:
        return self.score([found for found, _ in rows], [wanted for _, wanted in rows])

    def rows(self, seed: int, least: int = 1, most: int = 30) -> list[Row]:
        draw = Random(seed)
        wanted = [self.wanted(draw) for _ in range(draw.randint(least, most))]
        return [(self.answer(draw, each), each) for each in wanted]


def sentence(draw: Random) -> str:
    return " ".join(draw.choices(["the", "a", "cat", "dog", "sat", "ran,", "it's", "."], k=draw.randint(0, 12)))


def translation(draw: Random, wanted: str) -> str:
    words = [draw.choice(["cow", word, word, word]) for word in wanted.split()]
    return " ".join(words[: draw.randint(0, 14)])


def label(draw: Random) -> str:
    return draw.choice(LABELS)


def guess(draw: Random, wanted: str) -> str:
    return draw.choice([wanted, label(draw)])


def some_labels(draw: Random) -> set[str]:
    return set(draw.choices(LABELS, k=draw.randint(0, 3)))


def some_guesses(draw: Random, wanted: set[str]) -> set[str]:
    return draw.choice([wanted, some_labels(draw)])


def tags(draw: Random) -> list[str]:
    return draw.choices(LABELS, k=draw.randint(0, 5))


def tag_guesses(draw: Random, wanted: list[str]) -> list[str]:
    return [guess(draw, tag) for tag in wanted]


def count(draw: Random) -> int:
    return draw.randint(1, 30)


def loss(draw: Random, n: int) -> float:
    return sum(draw.expovariate(0.4) for _ in range(n))


def vector(draw: Random) -> list[float]:
    return [draw.gauss(0, 1) for _ in range(4)]


def nearby(draw: Random, wanted: list[float]) -> list[float]:
    return [draw.choice([value, draw.gauss(0, 1)]) for value in wanted]


def part(score: Callable[..., Any], name: str) -> Callable[[Sequence[Any], Sequence[Any]], Metric]:
    def metric(found: Sequence[Any], wanted: Sequence[Any]) -> Metric:
        labels = [] if score is retrieval_score else [LABELS]
        return next(each for each in score(found, wanted, *labels).metrics if each.name == name)

    return metric


CASES = {
    "BLEU": Case(sentence, translation, bleu, 0, 100),
    "chrF": Case(sentence, translation, chrf, 0, 100),
    "accuracy": Case(label, guess, part(classification_score, "accuracy"), 0, 1),
    "macro F1": Case(label, guess, part(classification_score, "macro F1"), 0, 1),
    "micro F1": Case(label, guess, part(classification_score, "micro F1"), 0, 1),
    "accuracy of sets": Case(some_labels, some_guesses, part(classification_score, "accuracy"), 0, 1),
    "macro F1 of sets": Case(some_labels, some_guesses, part(classification_score, "macro F1"), 0, 1),
    "micro F1 of sets": Case(some_labels, some_guesses, part(classification_score, "micro F1"), 0, 1),
    "accuracy of tags": Case(tags, tag_guesses, part(tagging_score, "accuracy"), 0, 1),
    "macro F1 of tags": Case(tags, tag_guesses, part(tagging_score, "macro F1"), 0, 1),
    "perplexity": Case(count, loss, perplexity_score, 1, np.inf),
    "bits per byte": Case(count, loss, bits_per_byte_score, 0, np.inf),
    "recall@1": Case(vector, nearby, part(retrieval_score, "recall@1"), 0, 1),
    "recall@5": Case(vector, nearby, part(retrieval_score, "recall@5"), 0, 1),
    "MRR": Case(vector, nearby, part(retrieval_score, "MRR"), 0, 1),
}
# Whose examples are scored without looking at the others.
SEPARATE = [name for name in CASES if name not in ("recall@1", "recall@5", "MRR")]

each_metric = pytest.mark.parametrize("name", CASES)
few = settings(max_examples=25)


@each_metric
@few
@given(seed=st.integers(0, 2**32))
def test_scores_and_intervals_keep_within_their_bounds(name: str, seed: int) -> None:
    case = CASES[name]
    metric = case.metric(case.rows(seed))
    low, high = confidence_interval(metric, N, seed)
    assert low <= high
    for score in (metric.value, low, high, *metric.scores):
        assert case.least - 1e-9 <= score <= case.greatest + 1e-9


@each_metric
@few
@given(seed=st.integers(0, 2**32))
def test_the_order_of_the_examples_changes_nothing(name: str, seed: int) -> None:
    case = CASES[name]
    rows = case.rows(seed)
    order = np.random.default_rng(seed).permutation(len(rows))
    metric, permuted = case.metric(rows), case.metric([rows[i] for i in order])
    assert permuted.value == pytest.approx(metric.value, rel=1e-12)
    assert permuted.scores == pytest.approx(metric.scores[order], rel=1e-12)
    assert confidence_interval(permuted, N) == pytest.approx(confidence_interval(metric, N), rel=1e-12)


@pytest.mark.parametrize("name", SEPARATE)
@few
@given(seed=st.integers(0, 2**32))
def test_the_statistics_of_a_choice_of_examples_score_it_as_if_it_were_all(name: str, seed: int) -> None:
    case = CASES[name]
    rows = case.rows(seed)
    chosen = np.random.default_rng(seed).integers(0, len(rows), len(rows))
    metric = case.metric(rows)
    again = case.metric([rows[i] for i in chosen])
    assert metric.formula(metric.statistics[chosen].sum(axis=0)) == pytest.approx(again.value, rel=1e-12)
    assert metric.scores[0] == case.metric(rows[:1]).scores[0]


@each_metric
@few
@given(seed=st.integers(0, 2**32))
def test_a_system_does_not_differ_from_itself(name: str, seed: int) -> None:
    case = CASES[name]
    rows = case.rows(seed)
    result = paired_test(case.metric(rows), case.metric(rows), N, seed)
    assert (result.difference, result.low, result.high, result.p_value) == (0, 0, 0, 1)
    assert result.first == result.second


@each_metric
@few
@given(seed=st.integers(0, 2**32))
def test_chance_is_ruled_out_exactly_where_the_interval_rules_out_zero(name: str, seed: int) -> None:
    case = CASES[name]
    rows, draw = case.rows(seed, least=8), Random(seed + 1)
    a, b = case.metric(rows), case.metric([(case.answer(draw, wanted), wanted) for _, wanted in rows])
    result, turned = paired_test(a, b, N, seed), paired_test(b, a, N, seed)
    assert result.difference == a.value - b.value == -turned.difference
    for each in (result, turned):
        assert (each.p_value <= 0.05) == (not each.low <= 0 <= each.high)
        assert 0 < each.p_value <= 1


@each_metric
def test_the_interval_contains_the_score_nearly_always(name: str) -> None:
    case = CASES[name]
    missed = 0
    for seed in range(60):
        metric = case.metric(case.rows(seed, least=20, most=40))
        low, high = confidence_interval(metric, N, seed)
        missed += not low - 1e-9 <= metric.value <= high + 1e-9
    assert missed <= 1


# What is added to the examples to make them worse: nothing said where something was wanted, or a plain mistake.
WORSE: dict[str, Row] = {
    "BLEU": ("", "the cat sat on the mat"),
    "chrF": ("", "the cat sat on the mat"),
    "accuracy": ("A", "B"),
    "macro F1": ("A", "B"),
    "micro F1": ("A", "B"),
    "accuracy of sets": ({"A"}, {"B"}),
    "macro F1 of sets": ({"A"}, {"B"}),
    "micro F1 of sets": ({"A"}, {"B"}),
    "accuracy of tags": (["A", "A"], ["B", "C"]),
    "macro F1 of tags": (["A", "A"], ["B", "C"]),
    "perplexity": (1000.0, 1),
    "bits per byte": (1000.0, 1),
}


@pytest.mark.parametrize("name", SEPARATE)
@few
@given(seed=st.integers(0, 2**32))
def test_a_worse_example_lowers_the_score(name: str, seed: int) -> None:
    case = CASES[name]
    rows = case.rows(seed, least=2)
    before, after = case.metric(rows), case.metric([*rows, WORSE[name]])
    sign = 1 if before.higher_is_better else -1
    assert sign * after.value <= sign * before.value
    if before.value != case.least and "macro" not in name:  # a label may have been at 0 already
        assert sign * after.value < sign * before.value


@few
@given(seed=st.integers(0, 2**32))
def test_a_partner_that_is_nowhere_near_lowers_recall(seed: int) -> None:
    case = CASES["recall@1"]
    rows = [([*anchor, 0.0], [*partner, 0.0]) for anchor, partner in case.rows(seed, least=2)]
    lost = ([*rows[0][1]], [0.0, 0.0, 0.0, 0.0, 1.0])
    before, after = case.metric(rows), case.metric([*rows, lost])
    assert after.value < before.value or before.value == after.value == 0


@pytest.mark.parametrize("at_once", [1, 7, 64, 1000])
def test_how_many_are_drawn_at_once_changes_nothing(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    case = CASES["BLEU"]
    metric = case.metric(case.rows(3, least=9, most=9))
    usual = confidence_interval(metric, N, seed=5)
    monkeypatch.setattr(bootstrap, "DRAWS_AT_ONCE", at_once)
    assert confidence_interval(metric, N, seed=5) == usual
    assert confidence_interval(metric, N, seed=6) != usual


def test_every_resample_is_as_large_as_the_whole_and_every_example_as_likely() -> None:
    times = np.concatenate(list(bootstrap.choices(10, 5000, seed=0)))
    assert (times.sum(axis=1) == 10).all()
    assert times.mean(axis=0) == pytest.approx(np.ones(10), abs=0.06)  # 4.5 standard errors
    assert times.var(axis=0) == pytest.approx(np.full(10, 0.9), rel=0.1)


def test_between_equal_systems_a_small_p_value_is_as_rare_as_it_says() -> None:
    draw = np.random.default_rng(0)
    p_values = []
    for seed in range(300):
        one, other = (bits_per_byte_score(draw.normal(5, 1, 80), np.ones(80)) for _ in range(2))
        p_values.append(paired_test(one, other, N, seed).p_value)
    assert 0.02 <= np.mean(np.array(p_values) <= 0.05) <= 0.09
    assert 0.4 <= np.mean(p_values) <= 0.6


def test_the_interval_holds_the_true_score_as_often_as_it_says() -> None:
    draw = np.random.default_rng(0)
    held = 0
    for seed in range(300):
        right = draw.random(80) < 0.7
        metric = classification_score(["A" if each else "B" for each in right], ["A"] * 80, LABELS).accuracy
        low, high = confidence_interval(metric, N, seed)
        held += low <= 0.7 <= high
    assert 0.9 <= held / 300 <= 0.98
