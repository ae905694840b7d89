"""Losses as sums and counts: they are divided once, by the tokens of the whole step, by whoever owns the step."""

from __future__ import annotations

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
