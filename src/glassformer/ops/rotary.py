"""Rotary position embedding (Su et al. 2021): queries and keys turned by angles that grow with their position."""

# B batch, H heads, T tokens, K head width

from __future__ import annotations

import math

import torch
from torch import Tensor


def frequencies(d_head: int, base: float, device: torch.device | None = None) -> Tensor:
    """Radians per position of each pair of channels: base^(-2i/d) for i in 0..d/2. Returns K/2, float32."""
    return base ** (-torch.arange(0, d_head, 2, dtype=torch.float32, device=device) / d_head)


def interpolate(frequency: Tensor, factor: float) -> Tensor:
    """Linear scaling (Chen et al. 2023): every position counts as 1/factor of one."""
    return frequency / factor


def ntk(frequency: Tensor, factor: float) -> Tensor:
    """NTK-aware scaling: the base grows so that the slowest pair is slowed by `factor` and the fastest not at all."""
    pairs = torch.arange(frequency.shape[0], dtype=torch.float32, device=frequency.device)
    return frequency * factor ** (-pairs / max(len(pairs) - 1, 1))


def llama3(frequency: Tensor, factor: float, low: float, high: float, original_max_len: int) -> Tensor:
    """Llama 3.1's law: pairs that turn fewer than `low` times over the original context are slowed by `factor`, those
    that turn more than `high` times are kept, and those between are blended."""
    turns = original_max_len * frequency / (2 * math.pi)
    keep = ((turns - low) / (high - low)).clamp(0, 1)
    return keep * frequency + (1 - keep) * frequency / factor


def rotation(at: Tensor, frequency: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosine and sine of each pair's angle. at: B T or T, positions; frequency: K/2. Returns two of (B 1) T K/2."""
    angle = at[..., None].float() * frequency
    if at.dim() == 2:
        angle = angle[:, None]
    return angle.cos().to(dtype), angle.sin().to(dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair of channels by its angle; the two of a pair lie half a head apart. x: B H T K."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
