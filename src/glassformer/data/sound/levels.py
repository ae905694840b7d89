"""How loud samples are, how many of them are clipped, and how much is silence."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

CEILING = 0.985  # of full scale; the highest 8-bit sample is 0.992
RUN = 3  # equal samples at the ceiling that no wave but a clipped one has
FRAME_SECONDS = 0.02
SILENCE_DB = -60.0


@dataclass(frozen=True, slots=True)
class Levels:
    """`level` and `peak` in dBFS (-inf for digital silence), `clipped` and `silent` as shares of the samples."""

    level: float
    peak: float
    clipped: float
    silent: float


def measure(samples: np.ndarray, rate: int) -> Levels:
    """All of it at once. samples: N in [-1, 1]."""
    return Levels(level(samples), peak(samples), clipped_share(samples), silent_share(samples, rate))


def level(samples: np.ndarray) -> float:
    """Root of the mean square in dBFS: 0 for a square wave at full scale, -3.01 for a sine, -inf for silence."""
    return decibels(math.sqrt(float(np.mean(np.square(samples, dtype=np.float64))))) if samples.size else -math.inf


def peak(samples: np.ndarray) -> float:
    """The largest sample in dBFS."""
    return decibels(float(np.abs(samples).max())) if samples.size else -math.inf


def decibels(amplitude: float) -> float:
    """Of an amplitude, where 1 is full scale."""
    return 20 * math.log10(amplitude) if amplitude > 0 else -math.inf


def clipped_share(samples: np.ndarray) -> float:
    """The share of samples in runs of three or more that stand equal at full scale. samples: N, or N channels."""
    return n_clipped(samples) / samples.size if samples.size else 0.0


def n_clipped(samples: np.ndarray) -> int:
    """How many samples stand so."""
    hot = np.abs(samples) >= CEILING
    if len(samples) < RUN or not hot.any():
        return 0
    stands = hot[1:] & (samples[1:] == samples[:-1])
    third = stands[1:] & stands[:-1]
    clipped = np.zeros(samples.shape, bool)
    for shift in range(RUN):
        clipped[shift : len(samples) - RUN + 1 + shift] |= third
    return int(clipped.sum())


def silent_share(samples: np.ndarray, rate: int, below_db: float = SILENCE_DB) -> float:
    """The share of frames of 20 ms whose level lies below `below_db` dBFS. samples: N."""
    powers = frame_powers(samples, max(1, round(rate * FRAME_SECONDS)))
    return float(np.mean(powers < 10 ** (below_db / 10))) if len(powers) else 0.0


def frame_powers(samples: np.ndarray, frame: int) -> np.ndarray:
    """The mean square of each frame; the last may be shorter."""
    if not len(samples):
        return np.zeros(0)
    starts = np.arange(0, len(samples), frame)
    sums = np.add.reduceat(np.square(samples, dtype=np.float64), starts)
    return sums / np.diff(starts, append=len(samples))
