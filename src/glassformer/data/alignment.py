"""Where two files that should hold line by line the same begin to differ, judged by the lengths of their lines."""

# N lines of the shorter file, D lines that the longer one has more

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Log = NDArray[np.floating[Any]]  # logarithms of lengths
MOST_GAPS = 64  # places at which lines may be missing one by one; the rest of the surplus is taken as one gap
LEAST_GAIN = 2.0  # by which every gap more must better the sum of logarithms; chance alone gives about 1
N_QUANTILES = 101
SMOOTHING = 8  # characters added to every length, so that the ratio of two short lines means little


def parting_line(shorter: Sequence[str], longer: Sequence[str]) -> int:
    """The index [0, N] of the first line of `longer` that has nothing beside it, N where only its end is surplus.

    The likeliest course of an alignment that never goes back: line i of `shorter` lies beside line i + shift of
    `longer`, the shift grows from 0 to D, at once or line by line, and the logarithms of the lengths' ratios stay as
    close as they can to the usual one (lengths alone, as in Gale and Church 1993, which needs no dictionary).
    """
    if not shorter:
        return 0
    surplus = len(longer) - len(shorter)
    short, long = log_lengths(shorter), log_lengths(longer)
    parts = np.linspace(0, 1, N_QUANTILES)
    usual = np.median(np.quantile(long, parts) - np.quantile(short, parts))  # needs no alignment, unlike their ratios
    at_once = first_shift(short, long - usual, [0, surplus])
    one_by_one = first_shift(short, long - usual, [*range(min(surplus, MOST_GAPS)), surplus])
    return min(at_once, (one_by_one[0] + LEAST_GAIN * surplus, one_by_one[1]))[1]


def first_shift(short: Log, long: Log, shifts: Sequence[int]) -> tuple[float, int]:
    """The least cost of a course through all of `shifts`, and the line at which it takes up the second of them."""
    n = len(short)
    least = np.empty(0)  # cost of the first i lines [N + 1] when they end with the shift at hand
    switches: list[NDArray[np.intp]] = []  # for each shift but 0 and each i, where the best course took it up
    for step, shift in enumerate(shifts):
        total = np.concatenate([np.zeros(1), np.cumsum(np.abs(long[shift : shift + n] - short))])
        if step == 0:
            least = total
            continue
        before = least - total
        best = np.minimum.accumulate(before)
        # The latest of equally good places: a gap is never earlier than the lengths say.
        switches.append(np.maximum.accumulate(np.where(before == best, np.arange(n + 1), 0)))
        least = best + total
    place = n
    for switch in reversed(switches):
        place = int(switch[place])
    return float(least[-1]), place


def log_lengths(texts: Sequence[str]) -> Log:
    """The logarithm of each text's length in characters."""
    return np.log([len(text) + SMOOTHING for text in texts])
