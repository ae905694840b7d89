"""Sequences of vectors for models that read them: what they can read, and batches in which each is read as it is alone."""

# B batch, T vectors of a source, F channels

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from glassformer.errors import ConfigError

AT_ONCE = 32  # sources in one batch,
VECTORS_AT_ONCE = 48_000  # or so many vectors with their padding: eight minutes at 100 a second


def stride_of(config: Any) -> int:
    """How many vectors become one frame of a model's encoder; 1 where it reads something else."""
    return 1 if config.vectors is None else math.prod(config.vectors.strides)


def most_vectors(config: Any) -> int:
    """How many vectors the encoder of a model has positions for, each of which may come to be less than a position."""
    most = config.source_side().max_len if config.shape == "encoder_decoder" else config.max_len
    return most * stride_of(config)


def n_frames_of(config: Any, n_vectors: int) -> int:
    """How many frames the encoder of a model leaves of so many vectors."""
    for stride in config.vectors.strides:
        n_vectors = -(-n_vectors // stride)
    return n_vectors


def refuse_unreadable_vectors(model: Any, sources: Sequence[Tensor]) -> None:
    """Raise ConfigError for vectors of another size, none at all, more than the model reads, or numbers that are not finite."""
    size, most = model.config.vectors.size, most_vectors(model.config)
    for number, source in enumerate(sources):
        name = f"source {number + 1}" if len(sources) > 1 else "the source"
        if source.ndim != 2 or source.shape[1] != size:
            raise ConfigError(
                f"{name} has the shape {list(source.shape)}: expected vectors of {size} channels, [T, {size}]"
            )
        if not len(source):
            raise ConfigError(f"{name} is empty: there is nothing to read")
        if len(source) > most:
            raise ConfigError(
                f"{name} has {len(source):,} vectors, more than the {most:,} that the model can read at once"
            )
        if not bool(source.isfinite().all()):
            raise ConfigError(f"{name} holds numbers that are not finite")


def batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """The sources in batches of similar length, longest first, none of them too large."""
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    start = 0
    while start < len(order):
        count = min(AT_ONCE, max(1, VECTORS_AT_ONCE // max(1, lengths[order[start]])))
        yield order[start : start + count]
        start += count


def padded_vectors(sources: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Sequences, T F each, as B T F with zeros behind the shorter ones, and each vector's position, B T, -1 there."""
    lengths = torch.tensor([len(source) for source in sources])
    x = torch.nn.utils.rnn.pad_sequence([source.float() for source in sources], batch_first=True)
    column = torch.arange(x.shape[1])[None].expand(len(sources), -1)
    return x, torch.where(column < lengths[:, None], column, -1)


def batch_for(model: Any, sources: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
    """The same where a model is, in the numbers it computes with; the positions None where nothing is padding, as alone."""
    weight = next(model.parameters())
    x, at = padded_vectors(sources)
    return x.to(weight.device, weight.dtype), at.to(weight.device) if bool((at < 0).any()) else None
