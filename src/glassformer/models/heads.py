"""What turns the last hidden vectors into predictions."""

# B batch, T tokens, D model, V vocabulary, L labels

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glassformer.models.config import ModelConfig
from glassformer.models.stack import build_norm
from glassformer.nn.mlp import ACTIVATIONS
from glassformer.trace import tap


class Head(nn.Module):
    """One score per vocabulary entry: a linear map, softly capped where the config says so. B T D to B T V, float32."""

    def __init__(self, config: ModelConfig, embedding: nn.Embedding | None) -> None:
        super().__init__()
        self.hidden = HiddenLayer(config) if config.head_hidden else None
        self.norm = build_norm(config) if config.head_hidden else None
        self.points = ("logits",)
        self.linear = nn.Linear(config.d_model, config.vocab_size, bias=config.head_bias)
        if config.tied and embedding is not None:
            self.linear.weight = embedding.weight
        self.scale, self.softcap = config.logit_scale, config.logit_softcap

    def forward(self, x: Tensor) -> Tensor:
        if self.hidden is not None and self.norm is not None:
            x = self.norm(self.hidden(x))
        logits = self.linear(x).float()
        if self.scale != 1.0:
            logits = logits * self.scale
        if self.softcap is not None:
            logits = self.softcap * torch.tanh(logits / self.softcap)
        return tap(self, "logits", logits)


class CtcHead(nn.Module):
    """What is being said at each place of a source: one score per vocabulary entry, of which one is the blank (Graves et al.
    2006). B S D to B S V, float32."""

    points: ClassVar[tuple[str, ...]] = ("logits",)

    def __init__(self, d_source: int, vocab_size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(d_source, vocab_size)

    def forward(self, x: Tensor) -> Tensor:
        return tap(self, "logits", self.linear(x).float())


class LabelHead(nn.Module):
    """One score per label for the whole text: pooled, then a linear map. B T D to B L, float32."""

    points: ClassVar[tuple[str, ...]] = ("pooled", "logits")

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.pool = POOLINGS[config.pooling]
        self.hidden = HiddenLayer(config) if config.head_hidden else None
        self.linear = nn.Linear(config.d_model, len(config.labels))

    def forward(self, x: Tensor, at: Tensor | None) -> Tensor:
        pooled = tap(self, "pooled", self.pool(x, at))
        if self.hidden is not None:
            pooled = self.hidden(pooled)
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
    """The text as one vector, of length 1 unless told otherwise, so that a dot product is a cosine. B T D to B D, float32."""

    points: ClassVar[tuple[str, ...]] = ("pooled", "out")

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.pool, self.normalise = POOLINGS[config.pooling], config.normalise

    def forward(self, x: Tensor, at: Tensor | None) -> Tensor:
        pooled = tap(self, "pooled", self.pool(x, at))
        return tap(self, "out", F.normalize(pooled.float(), dim=-1) if self.normalise else pooled.float())


class HiddenLayer(nn.Module):
    """activation(linear(x)), before a head scores it (Devlin et al. 2019). ... D to ... D."""

    points: ClassVar[tuple[str, ...]] = ("pre", "out")

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        assert config.head_hidden is not None
        self.linear = nn.Linear(config.d_model, config.d_model)
        self.activation = ACTIVATIONS[config.head_hidden]

    def forward(self, x: Tensor) -> Tensor:
        return tap(self, "out", self.activation(tap(self, "pre", self.linear(x))))


def mean(x: Tensor, at: Tensor | None) -> Tensor:
    """The mean over the tokens, padding (at < 0) left out. B T D to B D."""
    if at is None:
        return x.mean(1)
    real = (at >= 0)[..., None]
    return x.masked_fill(~real, 0.0).sum(1) / real.sum(1).clamp(min=1)


def first(x: Tensor, at: Tensor | None) -> Tensor:
    """The vector of the token at position 0. B T D to B D."""
    return x[:, 0] if at is None else x[torch.arange(x.shape[0], device=x.device), at.eq(0).int().argmax(1)]


def largest(x: Tensor, at: Tensor | None) -> Tensor:
    """The largest value of each channel over the tokens, padding (at < 0) left out. B T D to B D."""
    return (x if at is None else x.masked_fill((at < 0)[..., None], -torch.inf)).amax(1)


POOLINGS: dict[str, Callable[[Tensor, Tensor | None], Tensor]] = {"mean": mean, "first": first, "max": largest}
READING_HEADS: dict[str, Callable[[ModelConfig], nn.Module]] = {
    "labels": LabelHead,
    "tags": TagHead,
    "pooled": PooledHead,
}
