"""Dense vectors as the input of an encoder: frames of sound, readings of sensors, whatever comes as a row of numbers."""

# B batch, S vectors of a source, T what convolutions leave of them, F channels of a vector, D model

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from glassformer.errors import ConfigError
from glassformer.models.config import ModelConfig, VectorInput
from glassformer.nn.mlp import ACTIVATIONS
from glassformer.nn.norms import NORMS
from glassformer.nn.positions import Positions
from glassformer.trace import tap

KERNEL = 3  # vectors that a convolution sees at once: one before, one after


class VectorEmbedding(nn.Module):
    """What stands in place of a table of tokens: convolutions over the vectors, or one linear map, plus the code of positions.

    The vectors of a text need no lookup, since they are what a lookup would give (Gulati et al. 2020, section 2.1, and
    Radford et al. 2022, section 2.2, shorten sound this way).
    """

    def __init__(self, config: ModelConfig, positions: Positions) -> None:
        super().__init__()
        assert config.vectors is not None
        self.reads: VectorInput = config.vectors
        self.max_len = config.max_len
        widths = [self.reads.size, *(config.d_model for _ in self.reads.strides)]
        self.convolutions = nn.ModuleList(
            Convolution(width, config.d_model, stride, self.reads.activation)
            for width, stride in zip(widths, self.reads.strides, strict=False)
        )
        self.linear = None if self.reads.strides else nn.Linear(self.reads.size, config.d_model)
        make = NORMS[config.norm]
        normed = config.embedding_norm
        self.norm = (
            make(config.d_model, config.norm_eps, gain=config.norm_gain, bias=config.norm_bias) if normed else None
        )
        self.points = (
            "vectors",
            *(["mapped"] if self.linear is not None else []),
            *(["position"] if positions.adds else []),
            *(["sum"] if self.norm is not None else []),
            "out",
        )

    def forward(self, vectors: Tensor, at: Tensor | None, positions: Positions) -> tuple[Tensor, Tensor | None]:
        """What the first block reads (B T D) of vectors (B S F), and its positions where `at` (B S, -1: padding) gives any.

        Padding is silence to each convolution, so that a text in a batch is read as it is alone. Raises ConfigError for
        vectors of another size, or more than the encoder has positions for.
        """
        if vectors.ndim != 3 or vectors.shape[2] != self.reads.size:
            raise ConfigError(f"expected vectors of {self.reads.size} channels, found {tuple(vectors.shape)}")
        x = tap(self, "vectors", self.silenced(vectors, at))
        if self.linear is not None:
            x = tap(self, "mapped", self.linear(x))
        for convolution, stride in zip(self.convolutions, self.reads.strides, strict=True):
            at = None if at is None else shortened(at, stride)
            x = self.silenced(convolution(x), at)
        if positions.adds:
            index = torch.arange(x.shape[1], device=x.device)[None] if at is None else at
            if x.shape[1] > self.max_len and int(index.max()) >= self.max_len:
                raise ConfigError(
                    f"{vectors.shape[1]} vectors make {int(index.max()) + 1} positions, which do not fit into"
                    f" max_len={self.max_len}"
                )
            code = positions.code(index)
            assert code is not None
            x = x + tap(self, "position", code.to(x.dtype))
        if self.norm is not None:
            x = self.norm(tap(self, "sum", x))
        return tap(self, "out", x), at

    @property
    def weight(self) -> Tensor:
        """The first of its matrices, whose number type and device are the stack's."""
        return next(self.parameters())

    @staticmethod
    def silenced(x: Tensor, at: Tensor | None) -> Tensor:
        """Zeros where there is padding."""
        return x if at is None else x.masked_fill((at < 0)[..., None], 0.0)


class Convolution(nn.Module):
    """activation(convolution over time): each result sees three vectors, one in `stride` is kept. B S F to B ceil(S/stride) D."""

    points: ClassVar[tuple[str, ...]] = ("pre", "out")

    def __init__(self, d_in: int, d_out: int, stride: int, activation: str) -> None:
        super().__init__()
        self.conv = nn.Conv1d(d_in, d_out, KERNEL, stride=stride, padding=KERNEL // 2)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        pre = tap(self, "pre", self.conv(x.transpose(1, 2)).transpose(1, 2))
        return tap(self, "out", self.activation(pre))


def shortened(at: Tensor, stride: int) -> Tensor:
    """Positions (B S, -1: padding, on the right) after a convolution that keeps one in `stride`: B ceil(S/stride)."""
    kept = at[:, ::stride]
    return torch.where(kept >= 0, kept // stride, kept)


def subsampled(at: Tensor, strides: Sequence[int]) -> Tensor:
    """Positions after all convolutions of an encoder."""
    for stride in strides:
        at = shortened(at, stride)
    return at
