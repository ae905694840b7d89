"""Loss, perplexity and bits per byte of a language model over a whole text, each token predicted once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from glassformer.models import Model
from glassformer.ops.losses import IGNORED, cross_entropy

TOKENS_PER_BATCH = 8192  # enough to keep the cores busy
LOGITS_PER_BATCH = 2**26  # a quarter of a gigabyte, which large vocabularies would reach first


@dataclass(frozen=True)
class Score:
    """The mean negative log likelihood of each token (nats), over so many tokens that stand for so many bytes of UTF-8."""

    loss: float
    n_tokens: int
    n_bytes: int  # 0 where the targets stand for no text
    metrics: Mapping[str, float] = field(default_factory=dict)  # numbers beside the loss, such as accuracy
    errors: float | None = None  # what the best model has least of, where that is not the loss

    @property
    def objective(self) -> float:
        """What the best model has least of."""
        return self.loss if self.errors is None else self.errors

    @property
    def perplexity(self) -> float:
        """e to the loss: the number of equally likely tokens that would be as hard to guess. Infinite where it overflows."""
        return math.exp(self.loss) if self.loss < 700 else math.inf

    @property
    def bits_per_byte(self) -> float:
        """The code length per byte of text, which, unlike perplexity, can be compared between tokenizers."""
        return self.loss * self.n_tokens / math.log(2) / max(self.n_bytes, 1)


def evaluate(model: Model, inputs: NDArray[np.integer[Any]], targets: NDArray[np.integer[Any]], n_bytes: int) -> Score:
    """The score over windows of inputs and targets [n, T]; targets of -100 do not count. `n_bytes`: what they stand for."""
    n_tokens = int((targets != IGNORED).sum())
    return Score(float(window_losses(model, inputs, targets).sum()) / n_tokens, n_tokens, n_bytes)


@torch.inference_mode()
def window_losses(
    model: Model, inputs: NDArray[np.integer[Any]], targets: NDArray[np.integer[Any]]
) -> NDArray[np.float64]:
    """The summed loss of each window in nats, [n], over inputs and targets [n, T]; targets of -100 do not count."""
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    vocab_size = model.config.vocab_size
    rows = max(1, min(TOKENS_PER_BATCH, LOGITS_PER_BATCH // vocab_size) // inputs.shape[1])
    losses = np.empty(len(inputs))
    for start in range(0, len(inputs), rows):
        ids = torch.from_numpy(inputs[start : start + rows].astype(np.int64)).to(device)
        wanted = torch.from_numpy(targets[start : start + rows].astype(np.int64)).to(device)
        of_each = [cross_entropy(*row) for row in zip(model(ids)[:, None], wanted[:, None], strict=True)]
        losses[start : start + rows] = torch.stack(of_each).cpu().numpy()
    model.train(was_training)
    return losses
