"""Silence at the beginning and the end of samples, found and cut off."""

from __future__ import annotations

import numpy as np

from glassformer.data.sound.levels import frame_powers
from glassformer.features import FeatureConfig

FRAME_SECONDS = 0.01
MARGIN_SECONDS = 0.05  # that is kept on either side: a word begins and ends more quietly than it is


def sounding(samples: np.ndarray, rate: int, *, below_db: float, margin: float = MARGIN_SECONDS) -> tuple[int, int]:
    """From which sample to which there is sound: frames of 10 ms at most `below_db` quieter than the loudest, and `margin`
    seconds on either side. samples: N. Returns (0, 0) where all is digital silence."""
    frame = max(1, round(rate * FRAME_SECONDS))
    powers = frame_powers(samples, frame)
    if not len(powers) or powers.max() == 0:
        return 0, 0
    loud = np.flatnonzero(powers >= powers.max() * 10 ** (-below_db / 10))
    reach = round(margin * rate)
    return max(0, int(loud[0]) * frame - reach), min(len(samples), (int(loud[-1]) + 1) * frame + reach)


def heard_part(samples: np.ndarray, features: FeatureConfig) -> tuple[int, int]:
    """From which sample to which a model of these features hears, in training and whenever it is asked: all, unless it has
    `trim_db` and there is more than digital silence. samples: N at the rate of the features."""
    if features.trim_db is None:
        return 0, len(samples)
    start, end = sounding(samples, features.rate, below_db=features.trim_db)
    return (start, end) if end else (0, len(samples))


def trimmed(samples: np.ndarray, features: FeatureConfig) -> np.ndarray:
    """That part of the samples."""
    start, end = heard_part(samples, features)
    return samples if end - start == len(samples) else samples[start:end].copy()
