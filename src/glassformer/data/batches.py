"""Batches of rows of like length within a budget of tokens, in a stateless order. What the rows hold is not known here."""

# N rows, K lengths of one row (source and target, say), n batches of an epoch

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glassformer.data.windows import derived_key
from glassformer.errors import ConfigError, DataError

Lengths = NDArray[np.integer[Any]] | Sequence[int] | Sequence[Sequence[int]]


class LengthBatches:
    """Which rows the batch of a step holds, as a pure function of (seed, step), so that resuming needs no state.

    A batch costs its rows times the longest of them, summed over the K sides, which is what it holds when it is
    padded; no batch costs more than `max_tokens`, but for a single row that does so by itself. An epoch visits every
    row exactly once. All epochs have batches of the same lengths; which of the rows of equal lengths stand together,
    and the order of the batches, are each epoch's own.
    """

    def __init__(self, lengths: Lengths, max_tokens: int, seed: int) -> None:
        """`lengths` [N] or [N, K]. Raises DataError without rows, ConfigError for a budget that holds no token."""
        table = np.asarray(lengths, dtype=np.int64)
        if not table.size:
            raise DataError("no row to make batches of; add data")
        if max_tokens < 1:
            raise ConfigError(f"a batch of {max_tokens} tokens holds nothing; choose 1 or more, for example 4096")
        self.max_tokens = max_tokens
        self.seed = seed
        table = table.reshape(len(table), -1)
        # By the longest side, then by the last and the others: of the orders tried, with two sides of human language
        # this pads least (2.5 % at 4,096 tokens on Multi30k; by the first side and then the other it is 4 %).
        by_length = np.lexsort((*table.T, table.max(axis=1)))
        ordered = table[by_length]
        self._edges = cuts(
            ordered, max_tokens
        )  # batch i of an epoch, before they are shuffled, holds rows edges[i:i+2]
        self.per_epoch = len(self._edges) - 1
        changes = np.concatenate([[0], (np.diff(ordered, axis=0) != 0).any(axis=1).cumsum()])
        self._rank = np.empty(len(table), np.int64)  # rows of equal lengths share a rank
        self._rank[by_length] = changes
        self._latest: tuple[int, NDArray[np.int64], NDArray[np.int64]] | None = None  # spares sorting at every step

    def batch(self, step: int) -> NDArray[np.int64]:
        """The rows of one step, in no order. `step` counts from 0 through all epochs."""
        epoch, place = divmod(step, self.per_epoch)
        rows, batches = self.order(epoch)
        chosen = batches[place]
        return rows[self._edges[chosen] : self._edges[chosen + 1]]

    def epoch(self, step: int) -> float:
        """How many times all rows have been passed through before `step`."""
        return step / self.per_epoch

    def order(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """All rows [N] by length as this epoch has them, and the order [n] in which it visits their batches."""
        if self._latest is not None and self._latest[0] == epoch:
            return self._latest[1:]
        # Sorting raw Philox draws is a permutation that stays the same in every numpy; Generator.permutation may not.
        key = derived_key(self.seed, epoch, "batches")
        draws = np.random.Philox(key=key).random_raw(len(self._rank) + self.per_epoch)
        shuffled = np.argsort(draws[: len(self._rank)], kind="stable")
        rows = shuffled[np.argsort(self._rank[shuffled], kind="stable")]
        batches = np.argsort(draws[len(self._rank) :], kind="stable")
        self._latest = (epoch, rows, batches)
        return rows, batches


def cuts(ordered: NDArray[np.int64], max_tokens: int) -> list[int]:
    """Where batches begin, and the end of the last: each takes as many of the `ordered` rows [N, K] as it may hold."""
    edges = [0]
    while edges[-1] < len(ordered):
        begin = edges[-1]
        most = max_tokens // max(1, int(ordered[begin].sum())) + 1  # what follows is padded to this row at least
        longest = np.maximum.accumulate(ordered[begin : begin + most], axis=0).sum(axis=1)
        costs = longest * np.arange(1, len(longest) + 1)
        edges.append(begin + max(1, int(np.searchsorted(costs, max_tokens, side="right"))))
    return edges
