"""The best continuations of every beam, exactly and in a fixed order, without sorting beams times vocabulary numbers."""

# S sources, K beams, V vocabulary, M candidates, W groups of tokens; "flat": beam x V + token

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from glassformer.errors import GlassformerError

GROUP = 32  # tokens that are first looked at through their maximum


class Candidate(NamedTuple):
    """One token after one hypothesis of a source, and what the hypothesis would then have in sum."""

    beam: int
    token: int
    log_p: float
    cumulative: float


def normalisers(logits: Tensor) -> Tensor:
    """What to subtract from the logits [R, V] of each row for log probabilities: R, float64, never below a logit of its row.

    Raises GlassformerError if the logits are not numbers.
    """
    sums = logits.logsumexp(-1).double()
    if not sums.isfinite().all():
        raise GlassformerError(
            "the model's logits are not finite numbers: it diverged in training or its weights are damaged;"
            " use an earlier checkpoint"
        )
    return sums


def best_candidates(logits: Tensor, sums: Tensor, cumulative: Tensor, count: int) -> list[list[Candidate]]:
    """The `count` candidates of each source whose cumulative log probability is largest, best first; fewer if there are.

    logits: S*K V, -inf where forbidden; sums: S*K, their normalisers; cumulative: S K, float64, of each hypothesis, -inf
    for one that does not count. Of equal ones the lower beam comes first, then the lower token.
    """
    (S, K), V = cumulative.shape, logits.shape[-1]
    logits, sums = logits.contiguous().view(S, K, V), sums.view(S, K)
    count = min(count, K * V)
    flat = promising(logits, sums, cumulative, count + 1)
    scores = score(logits, sums, cumulative, flat)
    values, places = scores.topk(min(count + 1, scores.shape[1]))  # one more, to see whether it equals the last
    tied = ((values[:, 1:] == values[:, :-1]) & values[:, 1:].isfinite()).any(1)
    flat = flat.gather(1, places)
    if tied.any():
        flat[tied] = best_slowly(logits[tied], sums[tied], cumulative[tied], flat.shape[1])
        values = score(logits, sums, cumulative, flat)
    flat, values = flat[:, :count], values[:, :count]
    log_p = logits.flatten(1).gather(1, flat).double() - sums.gather(1, flat // V)
    columns = (flat // V, flat % V, log_p, values)
    return [
        [candidate for candidate in map(Candidate, *of_source) if candidate.cumulative > -math.inf]
        for of_source in zip(*(column.tolist() for column in columns), strict=True)
    ]


def score(logits: Tensor, sums: Tensor, cumulative: Tensor, flat: Tensor) -> Tensor:
    """The cumulative log probability of the candidates `flat` [S, N]: S N, float64."""
    beam = flat // logits.shape[-1]
    return cumulative.gather(1, beam) + (logits.flatten(1).gather(1, flat).double() - sums.gather(1, beam))


def promising(logits: Tensor, sums: Tensor, cumulative: Tensor, count: int) -> Tensor:
    """Candidates [S, N] among which the `count` best of each source are: those of the groups with the `count` best maxima.

    A group holds tokens W apart, so that all maxima are taken at once by comparing whole stretches of memory.
    """
    S, K, V = logits.shape
    W = V // GROUP
    if count >= W * K:
        return torch.arange(K * V).expand(S, -1)
    maxima = logits[..., : W * GROUP].unflatten(-1, (GROUP, W)).amax(-2)  # S K W
    bounds = cumulative[..., None] + (maxima.double() - sums[..., None])
    group = bounds.flatten(1).topk(count, sorted=False).indices  # S M, beam x W + group
    first = group // W * V + group % W
    members = first[..., None] + torch.arange(0, GROUP * W, W)  # S M GROUP
    rest = torch.arange(W * GROUP, V) + torch.arange(K)[:, None] * V
    return torch.cat((members.flatten(1), rest.flatten().expand(S, -1)), dim=1)


def best_slowly(logits: Tensor, sums: Tensor, cumulative: Tensor, count: int) -> Tensor:
    """The definition: all candidates, sorted so that equal ones keep their order. S M, flat."""
    scores = cumulative[..., None] + (logits.double() - sums[..., None])
    return scores.flatten(1).argsort(dim=1, descending=True, stable=True)[:, :count]
