"""What turns the last hidden vectors into predictions."""

# B batch, T tokens, D model, V vocabulary

from __future__ import annotations

from typing import ClassVar

import torch
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
