"""What a score is: statistics of every example that add up, and the formula that makes a number of their sum."""

# N examples, k statistics of each

from __future__ import annotations

from collections.abc import Callable, Sized
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glassformer.errors import DataError

Formula = Callable[[NDArray[np.float64]], float]  # statistics summed over examples, [k], to the score


@dataclass(frozen=True, eq=False)
class Metric:
    """A score of N examples that can be computed again for any choice of them without looking at the examples.

    `statistics` [N, k] holds what the score needs of each example, `formula` takes their sum [k] to the score. Corpus BLEU
    fits this as well as a mean does: its statistics are counts of n-grams and lengths. `formula_of_one`, where it
    differs, scores a single example. `signature` says how it was measured: only scores of equal ones can be compared.
    """

    name: str
    statistics: NDArray[np.float64]
    formula: Formula
    formula_of_one: Formula | None = None
    signature: str = ""
    detail: str = ""
    higher_is_better: bool = True

    def __len__(self) -> int:
        """The number of examples, N."""
        return len(self.statistics)

    @property
    def value(self) -> float:
        """The score of all examples together."""
        return self.formula(self.statistics.sum(axis=0))

    @property
    def scores(self) -> NDArray[np.float64]:
        """The score of each example by itself, [N]. Their mean is the score only where every example weighs the same."""
        formula = self.formula_of_one or self.formula
        return np.array([formula(row) for row in self.statistics])


def ratio(summed: NDArray[np.float64]) -> float:
    """A mean from (total, count); 0 where nothing was counted."""
    total, count = summed.tolist()
    return total / count if count else 0.0


def check_same_examples(found: Sized, wanted: Sized, noun: str) -> None:
    """Raises DataError where there is nothing to score, or not one wanted answer for each that was found."""
    if len(found) != len(wanted):
        raise DataError(
            f"{len(found):,} {noun} for {len(wanted):,} examples; give one for each example, in the same order"
        )
    if not len(found):
        raise DataError(f"there are no {noun} to score; give at least one example")
