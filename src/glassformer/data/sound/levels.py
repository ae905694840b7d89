"""How loud samples are, frame by frame, and how many of them are clipped."""

from __future__ import annotations

import math

import numpy as np

CEILING = 0.985  # of full scale; the highest 8-bit sample is 0.992
RUN = 3  # equal samples at the ceiling that no wave but a clipped one has
FRAME_SECONDS = 0.02


def decibels(amplitude: float) -> float:
    """Of an amplitude, where 1 is full scale."""
    return 20 * math.log10(amplitude) if amplitude > 0 else -math.inf


def n_clipped(samples: np.ndarray) -> int:
    """How many samples are in runs of three or more that stand equal at full scale. samples: N, or N channels."""
    hot = np.abs(samples) >= CEILING
    if len(samples) < RUN or not hot.any():
        return 0
    stands = hot[1:] & (samples[1:] == samples[:-1])
    third = stands[1:] & stands[:-1]
    clipped = np.zeros(samples.shape, bool)
    for shift in range(RUN):
        clipped[shift : len(samples) - RUN + 1 + shift] |= third
    return int(clipped.sum())


def frame_powers(samples: np.ndarray, frame: int) -> np.ndarray:
    """The mean square of each frame; the last may be shorter."""
    if not len(samples):
        return np.zeros(0)
    starts = np.arange(0, len(samples), frame)
    sums = np.add.reduceat(np.square(samples, dtype=np.float64), starts)
    return sums / np.diff(starts, append=len(samples))
