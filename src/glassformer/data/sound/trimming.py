"""Silence at the beginning and the end of samples, found and cut off."""

from __future__ import annotations

import numpy as np

from glassformer.data.sound.levels import frame_powers

FRAME_SECONDS = 0.01


def sounding(samples: np.ndarray, rate: int, *, below_db: float = 40.0, margin: float = 0.05) -> tuple[int, int]:
    """From which sample to which there is sound: frames of 10 ms at most `below_db` quieter than the loudest, and `margin`
    seconds on either side. samples: N. Returns (0, 0) where all is digital silence."""
    frame = max(1, round(rate * FRAME_SECONDS))
    powers = frame_powers(samples, frame)
    if not len(powers) or powers.max() == 0:
        return 0, 0
    loud = np.flatnonzero(powers >= powers.max() * 10 ** (-below_db / 10))
    reach = round(margin * rate)
    return max(0, int(loud[0]) * frame - reach), min(len(samples), (int(loud[-1]) + 1) * frame + reach)


def trim(samples: np.ndarray, rate: int, *, below_db: float = 40.0, margin: float = 0.05) -> np.ndarray:
    """The samples without the silence before and behind, as `sounding` finds it; none where all is digital silence."""
    start, end = sounding(samples, rate, below_db=below_db, margin=margin)
    return samples[start:end]
