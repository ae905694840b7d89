"""How far a score can be trusted, and whether two differ: by drawing the examples again, many times, with replacement."""

# N examples, n resamples, M metrics, k statistics

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glassformer.errors import ConfigError, DataError
from glassformer.evaluate.metric import Metric

DRAWS_AT_ONCE = 2**20  # 8 MB of them
ROUNDING = 1e-9  # 1 - 0.95 is a little more than 0.05


@dataclass(frozen=True)
class Comparison:
    """Two systems on the same examples: `difference` is first minus second, `low` to `high` where it probably lies.

    `p_value` is how often chance alone would order two equal systems as clearly as this, whichever comes out ahead.
    """

    name: str
    first: float
    second: float
    difference: float
    low: float
    high: float
    p_value: float


def confidence_interval(metric: Metric, n: int = 1000, seed: int = 0, level: float = 0.95) -> tuple[float, float]:
    """The scores between which `level` of n resamples lie (percentile bootstrap, Efron and Tibshirani 1993, chapter 13).

    A pure function of the examples, in any order, and the seed. Raises ConfigError for an n or level that has no meaning.
    """
    check_sense(n, level)
    return percentiles(resampled([metric], n, seed)[:, 0], level)


def paired_test(a: Metric, b: Metric, n: int = 1000, seed: int = 0, level: float = 0.95) -> Comparison:
    """Whether a and b, scores of the same examples in the same order, differ by more than chance (Koehn 2004).

    Both are scored on the same n resamples. Koehn counts the resamples in which the better system is not ahead; twice
    that share, counting the test itself once, is the two-sided p value, so it is at most 1 - `level` exactly where the
    interval of the difference leaves out 0. Raises DataError where the two cannot be compared, else as above.
    """
    check_sense(n, level)
    check_comparable(a, b)
    scores = resampled([a, b], n, seed)
    differences = scores[:, 0] - scores[:, 1]
    low, high = percentiles(differences, level)
    not_ahead = min((differences <= 0).sum(), (differences >= 0).sum())
    p_value = min(1.0, 2 * (1 + int(not_ahead)) / (n + 1))
    return Comparison(a.name, a.value, b.value, a.value - b.value, low, high, p_value)


def resampled(metrics: Sequence[Metric], n: int, seed: int) -> NDArray[np.float64]:
    """The metrics' scores on n resamples of their common examples, [n, M]."""
    order = np.lexsort(np.hstack([metric.statistics for metric in metrics]).T)  # equal rows are exchangeable
    sorted_statistics = [metric.statistics[order] for metric in metrics]
    blocks = [
        [
            [metric.formula(summed) for summed in times @ statistics]
            for metric, statistics in zip(metrics, sorted_statistics, strict=True)
        ]
        for times in choices(len(order), n, seed)
    ]
    return np.concatenate(blocks, axis=1).T


def choices(n_examples: int, n: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """How often each of n resamples holds each example, [n, N], in blocks of some rows."""
    draw = np.random.Philox(key=derived_key(seed))
    rows = max(1, DRAWS_AT_ONCE // n_examples)
    for start in range(0, n, rows):
        some = min(rows, n - start)
        # Raw draws stay the same in every numpy; that their remainder favours the first examples shows at 2^64 / N draws.
        chosen = draw.random_raw((some, n_examples)) % np.uint64(n_examples)
        flat = (chosen.astype(np.int64) + n_examples * np.arange(some)[:, None]).ravel()
        yield np.bincount(flat, minlength=some * n_examples).reshape(some, n_examples).astype(np.float64)


def percentiles(scores: NDArray[np.float64], level: float) -> tuple[float, float]:
    """The scores between which `level` of all lie: the m-th from either end, m = (n+1)(1-level)/2 (Davison and Hinkley 1997)."""
    m = math.floor((len(scores) + 1) * (1 - level) / 2 + ROUNDING)
    ordered = np.sort(scores)
    return float(ordered[m - 1]), float(ordered[-m])


def check_sense(n: int, level: float) -> None:
    """Raises ConfigError for a level that is no share, or fewer resamples than have a percentile so far out."""
    if not 0 < level < 1:
        raise ConfigError(f"level={level}; a confidence level lies between 0 and 1, such as 0.95")
    least = math.ceil(2 / (1 - level) - ROUNDING) - 1
    if n < least:
        raise ConfigError(f"n={n} resamples tell nothing at level {level}; draw at least {least:,}, better 1,000")


def derived_key(seed: int) -> int:
    """128 bits that follow from what they are for."""
    return int.from_bytes(hashlib.sha256(f"resamples {seed}".encode()).digest()[:16], "big")


def check_comparable(a: Metric, b: Metric) -> None:
    """Raises DataError where a difference of the two would mean nothing."""
    if (a.name, a.signature, a.statistics.shape[1]) != (b.name, b.signature, b.statistics.shape[1]):
        measured = [f"{metric.name} ({metric.signature})" if metric.signature else metric.name for metric in (a, b)]
        raise DataError(f"{measured[0]} cannot be compared with {measured[1]}; measure both in the same way")
    if len(a) != len(b):
        raise DataError(
            f"{a.name} of {len(a):,} examples cannot be compared with {b.name} of {len(b):,}; score both on the same ones"
        )
    if not (math.isfinite(a.value) and math.isfinite(b.value)):
        raise DataError(f"{a.name} is {a.value} and {b.value}, and only finite numbers can be compared")
