"""Losses as sums and counts: they are divided once, by the tokens of the whole step, by whoever owns the step."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from glassformer.ops import fused

IGNORED = -100  # the target that counts for nothing, torch's own convention


def cross_entropy(logits: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Sum of -log p(target) in nats over all targets but IGNORED. logits: B T V, targets: B T. Returns a scalar.

    With label smoothing ε the target distribution is (1-ε) on the target plus ε/V everywhere (Szegedy et al. 2016).
    """
    logits, targets = logits.flatten(0, 1).float(), targets.flatten()
    if fused.usable(logits):
        return fused.cross_entropy(logits, targets, label_smoothing)
    return F.cross_entropy(
        logits,
        targets,
        ignore_index=IGNORED,
        label_smoothing=label_smoothing,
        reduction="sum",
    )


def ctc(logits: Tensor, targets: Tensor, lengths: Tensor, blank: int) -> Tensor:
    """Sum over rows of -log p(targets) in nats, p being the sum over every way to say the targets in `lengths` places.

    logits: B S V, targets: B T with IGNORED behind the last, lengths: B of the S places that count. Each place says a token or
    the blank; equal neighbours are one token unless a blank parts them (Graves et al. 2006, equations 3 and 8). A row that has
    fewer places than that takes counts for nothing. Returns a scalar.
    """
    return F.ctc_loss(
        logits.float().log_softmax(-1).transpose(0, 1),
        targets.clamp(min=0),
        lengths,
        (targets != IGNORED).sum(1),
        blank=blank,
        reduction="sum",
        zero_infinity=True,
    )


def places_needed(targets: Sequence[int]) -> int:
    """The fewest places in which CTC can say some tokens: one for each, and one more between two that are the same."""
    return len(targets) + sum(one == other for one, other in itertools.pairwise(targets))
