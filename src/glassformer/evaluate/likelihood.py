"""Perplexity and bits per byte as metrics: from the loss of each example, whichever model it comes from. No torch."""

# N examples

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glassformer.evaluate.metric import Metric, check_same_examples, ratio


def perplexity_score(losses: ArrayLike, n_tokens: ArrayLike) -> Metric:
    """e to the mean loss of a token. `losses` [N]: -log p summed over each example's tokens, in nats; `n_tokens` [N].

    Comparable only between models that cut the text into the same tokens; the number of tokens is in the signature.
    """
    statistics = summable(losses, n_tokens)
    tokens = f"{int(statistics[:, 1].sum()):,}"
    return Metric(
        "perplexity",
        statistics,
        perplexity,
        signature=f"tokens:{tokens}",
        detail=f"{tokens} tokens",
        higher_is_better=False,
    )


def bits_per_byte_score(losses: ArrayLike, n_bytes: ArrayLike) -> Metric:
    """The code length of a byte of UTF-8, comparable between tokenizers. `losses` [N] in nats, `n_bytes` [N]."""
    statistics = summable(losses, n_bytes)
    size = f"{int(statistics[:, 1].sum()):,}"
    return Metric(
        "bits per byte",
        statistics,
        bits_per_byte,
        signature=f"bytes:{size}",
        detail=f"{size} bytes",
        higher_is_better=False,
    )


def summable(losses: ArrayLike, counts: ArrayLike) -> NDArray[np.float64]:
    """Statistics [N, 2]. Raises DataError where the two differ in length or are empty."""
    total, count = np.asarray(losses, np.float64), np.asarray(counts, np.float64)
    check_same_examples(total, count, "losses")
    return np.stack([total, count], axis=1)


def perplexity(summed: NDArray[np.float64]) -> float:
    """From (nats, tokens); infinite where it overflows."""
    loss = ratio(summed)
    return math.exp(loss) if loss < 700 else math.inf


def bits_per_byte(summed: NDArray[np.float64]) -> float:
    """From (nats, bytes)."""
    return ratio(summed) / math.log(2)
