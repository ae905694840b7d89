"""What turns the last hidden vectors into predictions."""

# B batch, T tokens, D model, V vocabulary, L labels

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glassformer.models.config import ModelConfig
from glassformer.trace import tap


class Head(nn.Module):
    """One score per vocabulary entry: a linear map, softly capped where the config says so. B T D to B T V, float32."""

    points: ClassVar[tuple[str, ...]] = ("logits",)

    def __init__(self, config: ModelConfig, embedding: nn.Embedding) -> None:
        super().__init__()
        self.linear = nn.Linear(config.d_model, config.vocab_size, bias=config.head_bias)
        if config.tied:
            self.linear.weight = embedding.weight
        self.scale, self.softcap = config.logit_scale, config.logit_softcap

    def forward(self, x: Tensor) -> Tensor:
        logits = self.linear(x).float()
        if self.scale != 1.0:
            logits = logits * self.scale
        if self.softcap is not None:
            logits = self.softcap * torch.tanh(logits / self.softcap)
        return tap(self, "logits", logits)


class LabelHead(nn.Module):
    """One score per label for the whole text: pooled, then a linear map. B T D to B L, float32."""

    points: ClassVar[tuple[str, ...]] = ("pooled", "logits")

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.pool = POOLINGS[config.pooling]
        self.linear = nn.Linear(config.d_model, len(config.labels))

    def forward(self, x: Tensor, at: Tensor | None) -> Tensor:
        pooled = tap(self, "pooled", self.pool(x, at))
        return tap(self, "logits", self.linear(pooled).float())


class TagHead(nn.Module):
    """One score per label for each token. B T D to B T L, float32."""

    points: ClassVar[tuple[str, ...]] = ("logits",)

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.linear = nn.Linear(config.d_model, len(config.labels))

    def forward(self, x: Tensor, at: Tensor | None) -> Tensor:
        return tap(self, "logits", self.linear(x).float())


class PooledHead(nn.Module):
    """The text as one vector of length 1, so that a dot product is a cosine. B T D to B D, float32."""

    points: ClassVar[tuple[str, ...]] = ("pooled", "out")

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.pool = POOLINGS[config.pooling]

    def forward(self, x: Tensor, at: Tensor | None) -> Tensor:
        pooled = tap(self, "pooled", self.pool(x, at))
        return tap(self, "out", F.normalize(pooled.float(), dim=-1))


def mean(x: Tensor, at: Tensor | None) -> Tensor:
    """The mean over the tokens, padding (at < 0) left out. B T D to B D."""
    if at is None:
        return x.mean(1)
    real = (at >= 0)[..., None]
    return x.masked_fill(~real, 0.0).sum(1) / real.sum(1).clamp(min=1)


def first(x: Tensor, at: Tensor | None) -> Tensor:
    """The vector of the token at position 0. B T D to B D."""
    return x[:, 0] if at is None else x[torch.arange(len(x), device=x.device), at.eq(0).int().argmax(1)]


POOLINGS: dict[str, Callable[[Tensor, Tensor | None], Tensor]] = {"mean": mean, "first": first}
READING_HEADS: dict[str, Callable[[ModelConfig], nn.Module]] = {
    "labels": LabelHead,
    "tags": TagHead,
    "pooled": PooledHead,
}
