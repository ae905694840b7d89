"""Utterances as they are changed in training: at another speed, under noise, with parts hidden. Randomness is passed in."""

# N samples of a wave, T vectors of an utterance, F channels of each

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from glassformer.data.sound import resample
from glassformer.training.recipe import AugmentRecipe

Wave = np.ndarray  # N, float32 in [-1, 1]
QUIETEST = 1e-10  # mean square of what counts as silence, under which no noise has a level


class Draws:
    """Numbers that follow from a seed alone, the same in every version of numpy and torch."""

    def __init__(self, seed: int) -> None:
        self.source = np.random.Philox(key=seed)

    def share(self) -> float:
        """Evenly from [0, 1)."""
        return int(self.source.random_raw()) / 2**64

    def below(self, n: int) -> int:
        """A whole number from 0 to n - 1."""
        return int(self.source.random_raw()) % n

    def between(self, low: float, high: float) -> float:
        """Evenly from low to high."""
        return low + (high - low) * self.share()

    def shares(self, n: int) -> np.ndarray:
        """n numbers at once."""
        return self.source.random_raw(n) / 2**64


def at_speed(wave: Wave, rate: int, speed: float) -> Wave:
    """The wave played `speed` times as fast, its pitch moving with it (Ko et al. 2015). N to about N / speed."""
    return wave if speed == 1 else resample(wave, round(rate * speed), rate)


def with_noise(wave: Wave, noise: Wave, decibels: float) -> Wave:
    """The wave with noise of its length, so many decibels below it. Silence on either side is left as it is."""
    power, noise_power = (float(np.square(samples, dtype=np.float64).mean()) for samples in (wave, noise))
    if min(power, noise_power) < QUIETEST:
        return wave
    gain = math.sqrt(power / noise_power / 10 ** (decibels / 10))
    return np.clip(wave + np.float32(gain) * noise, -1, 1).astype(np.float32)


def white_noise(n: int, draws: Draws) -> Wave:
    """n samples of which none says anything of the others: even noise in [-1, 1)."""
    return (2 * draws.shares(n) - 1).astype(np.float32)


def stretch_of(noise: Wave, n: int, draws: Draws) -> Wave:
    """n samples of some noise from anywhere in it, repeated where it is shorter."""
    begin = draws.below(len(noise))
    return np.take(noise, np.arange(begin, begin + n), mode="wrap")


def hide(vectors: Tensor, recipe: AugmentRecipe, draws: Draws) -> Tensor:
    """SpecAugment (Park et al. 2019, section 2): stretches of time and bands of channels become the channels' means. T F.

    A stretch has up to `time_mask_width` vectors and up to `time_mask_share` of all; a band has up to
    `frequency_mask_width` channels.
    """
    n_vectors, n_channels = vectors.shape
    longest = min(recipe.time_mask_width, int(recipe.time_mask_share * n_vectors))
    widest = min(recipe.frequency_mask_width, n_channels)
    hidden = torch.zeros(vectors.shape, dtype=torch.bool)
    for _ in range(recipe.time_masks):
        width = draws.below(longest + 1)
        begin = draws.below(n_vectors - width + 1)
        hidden[begin : begin + width] = True
    for _ in range(recipe.frequency_masks):
        width = draws.below(widest + 1)
        begin = draws.below(n_channels - width + 1)
        hidden[:, begin : begin + width] = True
    return torch.where(hidden, vectors.mean(0), vectors)
