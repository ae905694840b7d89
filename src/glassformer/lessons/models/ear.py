"""From a wave to a sequence of vectors: frames, their spectrum, mel bands, and the cepstrum."""

# S samples, T frames, N samples of a frame, F frequencies (N/2 + 1), M mel bands

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from glassformer.errors import DataError
from glassformer.ops.mel import cosines, mel_filters
from glassformer.ops.mel_scale import mel_edges

QUIET = 1e-6  # added before the logarithm, so that silence has one


@dataclass(frozen=True, slots=True)
class Ear:
    """Cuts a wave into frames that overlap and tells how loud each range of pitch is in each. Everything is float64."""

    rate: int = 8000  # samples of a second
    frame: int = 256  # samples of a frame
    hop: int = 80  # samples from one frame to the next
    n_bands: int = 16

    def frames(self, wave: Tensor) -> Tensor:
        """wave: S. Returns the frames, each fading in and out by Hann's window so that its ends make no clicks: T N. Raises
        DataError for a wave shorter than one frame.
        """
        if len(wave) < self.frame:
            raise DataError(f"{len(wave)} samples are too few: expected at least the {self.frame} of a frame")
        fade = torch.hann_window(self.frame, dtype=torch.float64)
        return wave.double().unfold(0, self.frame, self.hop) * fade

    def power(self, wave: Tensor) -> Tensor:
        """How much of each frequency is in each frame, the square of the Fourier transform's size: T F."""
        return torch.fft.rfft(self.frames(wave)).abs().square()

    @property
    def frequencies(self) -> Tensor:
        """The frequencies of `power` in Hz: F."""
        return torch.arange(self.frame // 2 + 1, dtype=torch.float64) * self.rate / self.frame

    @property
    def edges(self) -> Tensor:
        """Where the bands begin, peak and end, in Hz: M + 2, evenly spaced in mels. Band m reaches from m to m + 2."""
        return torch.tensor(mel_edges(self.n_bands, 0.0, self.rate / 2, "htk"), dtype=torch.float64)

    @property
    def filters(self) -> Tensor:
        """How much each frequency counts in each band: a triangle that is one at the band's peak. M F."""
        return mel_filters(self.n_bands, self.frame, self.rate, scale="htk", equal_area=False, dtype=torch.float64)

    def hear(self, wave: Tensor) -> Tensor:
        """The logarithm of each band's power: T M. These are the vectors that a transformer takes."""
        return (self.power(wave) @ self.filters.T + QUIET).log()

    def cepstrum(self, wave: Tensor, n_numbers: int = 8) -> Tensor:
        """The first numbers of the cosine transform of `hear` over the bands (DCT-II, orthonormal): T n_numbers."""
        return self.hear(wave) @ cosines(self.n_bands, n_numbers, torch.float64).T


def melody(pitches: Sequence[float], seconds: float, rate: int, noise: float, seed: int) -> Tensor:
    """Tones one after another, each with its first two overtones at a half and a quarter of its size, and noise over it: S."""
    draw = torch.Generator().manual_seed(seed)
    n = round(seconds * rate)
    at = torch.arange(n, dtype=torch.float64) / rate
    tones = [sum((2 * math.pi * pitch * (k + 1) * at).sin() / 2**k for k in range(3)) for pitch in pitches]
    clean = torch.cat([torch.as_tensor(tone) for tone in tones])
    return clean + noise * torch.randn(len(clean), generator=draw, dtype=torch.float64)
