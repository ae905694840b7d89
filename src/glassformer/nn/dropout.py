"""Dropout (Srivastava et al. 2014), by itself and on the way into the residual stream."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from glassformer.ops import fused


class Dropout(nn.Module):
    """In training each number is zero with probability p, and the others are divided by 1-p."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0.0:
            return x
        return fused.dropout_add(None, x, self.p) if fused.usable(x) else F.dropout(x, self.p)

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        """x + dropout(y): what a sublayer adds to the residual stream."""
        if not self.training or self.p == 0.0:
            return x + y
        return fused.dropout_add(x, y, self.p) if fused.usable(y) and x.shape == y.shape else x + F.dropout(y, self.p)
