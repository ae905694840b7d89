"""Recall and mean reciprocal rank of embeddings: how high each text's own partner ranks among all partners."""

# N pairs, D model

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glassformer.errors import DataError
from glassformer.evaluate.metric import Metric, check_same_examples, ratio

SAME = 1e-6  # cosines nearer than this are a tie: float32 embeddings of one text differ so much from batch to batch
SIMILARITIES_AT_ONCE = 2**22  # 32 MB


@dataclass(frozen=True, eq=False)
class RetrievalScore:
    """Recall at each cutoff, mean reciprocal rank, and the rank of each anchor's partner, [N]; ties take the middle."""

    recall: dict[int, Metric]
    mrr: Metric
    ranks: NDArray[np.float64]

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """All that can be resampled and compared."""
        return *self.recall.values(), self.mrr


def retrieval_score(anchors: ArrayLike, positives: ArrayLike, cutoffs: Sequence[int] = (1, 5, 10)) -> RetrievalScore:
    """For anchors [N, D] the rank of row i of `positives` [N, D] among all N by cosine; all scores are from 0 to 1.

    Partners that tie with the right one share their ranks: each score is the mean over the orders in which they could
    stand, so that embeddings which are all alike score what guessing does. Raises DataError for shapes that differ and
    numbers that are not finite. Resampling chooses anchors; what they are compared with stays.
    """
    queries, answers = directions(anchors, "anchors"), directions(positives, "positives")
    check_same_examples(queries, answers, "anchors")
    if queries.shape != answers.shape:
        raise DataError(
            f"anchors have {queries.shape[1]:,} dimensions and positives {answers.shape[1]:,}; use one model for both"
        )
    above, tied = standings(queries, answers)
    n = len(queries)
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, n + 1))])
    reciprocal = (harmonic[above + tied] - harmonic[above]) / tied  # the mean of 1/rank over the tied places
    detail = f"among {n:,}"
    recall = {
        k: Metric(f"recall@{k}", of_one(np.clip((k - above) / tied, 0, 1)), ratio, signature=f"n:{n}", detail=detail)
        for k in cutoffs
    }
    mrr = Metric("MRR", of_one(reciprocal), ratio, signature=f"n:{n}", detail=detail)
    return RetrievalScore(recall, mrr, above + (tied + 1) / 2)


def standings(
    queries: NDArray[np.float64], answers: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of each query how many answers are nearer than its own, [N], and how many are as near, itself included, [N]."""
    n = len(queries)
    above, tied = np.empty(n, np.int64), np.empty(n, np.int64)
    rows = max(1, SIMILARITIES_AT_ONCE // n)
    for start in range(0, n, rows):
        some = np.arange(start, min(start + rows, n))
        gap = queries[some] @ answers.T
        gap -= gap[some - start, some][:, None]
        above[some] = (gap > SAME).sum(axis=1)
        tied[some] = (np.abs(gap) <= SAME).sum(axis=1)
    return above, tied


def directions(vectors: ArrayLike, name: str) -> NDArray[np.float64]:
    """Rows of length 1; a row of zeros stays and is as near to everything."""
    rows = np.asarray(vectors, np.float64)
    if rows.ndim != 2:
        raise DataError(f"{name} have the shape {list(rows.shape)}; give one row of numbers for each text")
    broken = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(broken):
        raise DataError(f"row {broken[0] + 1:,} of the {name} holds a number that is not finite; the model is damaged")
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1)


def of_one(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Statistics [N, 2] of a mean in which every example weighs one."""
    return np.stack([scores, np.ones_like(scores)], axis=1)
