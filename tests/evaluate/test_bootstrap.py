"""Intervals and comparisons whose outcome can be said in advance; what holds for every metric is in tests/laws."""

from __future__ import annotations

import numpy as np
import pytest

from glassformer.errors import ConfigError, DataError
from glassformer.evaluate import (
    Metric,
    bits_per_byte_score,
    bootstrap,
    classification_score,
    confidence_interval,
    paired_test,
    perplexity_score,
)


def accuracy(right: int, n: int) -> Metric:
    return classification_score(["A"] * right + ["B"] * (n - right), ["A"] * n, ["A", "B"]).accuracy


def test_the_interval_of_a_share_is_that_of_the_binomial_distribution():
    low, high = confidence_interval(accuracy(600, 1000))
    assert (low, high) == pytest.approx((0.6 - 1.96 * 0.0155, 0.6 + 1.96 * 0.0155), abs=0.004)
    narrow = confidence_interval(accuracy(600, 1000), level=0.5)
    assert low < narrow[0] < 0.6 < narrow[1] < high


def test_examples_that_are_all_alike_leave_no_doubt():
    assert confidence_interval(accuracy(10, 10)) == (1, 1)
    assert confidence_interval(accuracy(0, 1)) == (0, 0)


def test_pairing_sees_what_two_intervals_hide():
    noise = np.random.default_rng(0).normal(5, 2, 100)
    better, worse = (bits_per_byte_score(noise + shift, np.ones(100)) for shift in (0.0, 0.1))
    low, high = confidence_interval(better)
    assert low < worse.value < high
    result = paired_test(better, worse)
    assert result.name == "bits per byte"
    assert result.difference == result.first - result.second == pytest.approx(-0.1 / np.log(2))
    assert (result.low, result.high) == pytest.approx((result.difference, result.difference))
    assert result.p_value == pytest.approx(2 / 1001)


def test_a_few_examples_prove_nothing():
    result = paired_test(accuracy(4, 8), accuracy(3, 8))
    assert result.difference == 0.125
    assert result.p_value > 0.5
    assert result.low <= 0 <= result.high


def test_what_cannot_be_compared_or_drawn():
    with pytest.raises(
        DataError, match="accuracy of 10 examples cannot be compared with accuracy of 9; score both on the"
    ):
        paired_test(accuracy(5, 10), accuracy(5, 9))
    with pytest.raises(
        DataError, match=r"perplexity \(tokens:9\) cannot be compared with perplexity \(tokens:8\); measure"
    ):
        paired_test(perplexity_score([1, 2], [4, 5]), perplexity_score([1, 2], [4, 4]))
    with pytest.raises(DataError, match="perplexity is inf and inf, and only finite numbers can be compared"):
        paired_test(perplexity_score([1e9], [1]), perplexity_score([1e9], [1]))
    with pytest.raises(
        ConfigError, match=r"n=38 resamples tell nothing at level 0\.95; draw at least 39, better 1,000"
    ):
        confidence_interval(accuracy(1, 2), n=38)
    with pytest.raises(ConfigError, match=r"level=95; a confidence level lies between 0 and 1, such as 0\.95"):
        confidence_interval(accuracy(1, 2), level=95)


@pytest.mark.parametrize(("n", "level"), [(39, 0.95), (3, 0.5), (199, 0.99), (19, 0.9)])
def test_the_fewest_resamples_give_the_whole_range(n: int, level: float):
    metric = bits_per_byte_score(np.arange(50.0), np.ones(50))
    scores = bootstrap.resampled([metric], n, seed=1)
    assert confidence_interval(metric, n, 1, level) == (scores.min(), scores.max())
    with pytest.raises(ConfigError, match=f"draw at least {n}"):
        confidence_interval(metric, n - 1, 1, level)
