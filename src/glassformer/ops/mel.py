"""From a wave to vectors: frames, power spectra, mel bands and their logarithms, cepstra, deltas and normalisation."""

# N samples, T frames, W samples of a frame, F frequencies (W/2 + 1), M mel bands, C numbers of a vector; axes before these batch

from __future__ import annotations

import math
from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from glassformer.ops.framing import fewest_samples, n_frames
from glassformer.ops.mel_scale import mel_edges

FLOOR = 1e-10  # power below which a logarithm is not taken: Whisper's, and librosa's `amin`
CACHED = 128  # frames that are turned into bands together
STEADY = 1e-5  # added to variances, so that a channel that never changes becomes zeros and not noise made large


# --- bands of the mel scale -------------------------------------------------------------------------------------------


def mel_filters(
    n_mels: int,
    n_fft: int,
    rate: int,
    low_hz: float = 0.0,
    high_hz: float | None = None,
    *,
    scale: str = "slaney",
    equal_area: bool = True,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """How much each frequency counts in each band: triangles between `mel_edges`, computed in float64. Returns M F.

    high_hz: half of `rate` where none is given. equal_area: each triangle is divided by half its width in Hz, so that noise
    of even power is as loud in every band (Slaney 1998); otherwise its peak is one (HTK).
    """
    edges = torch.tensor(
        mel_edges(n_mels, low_hz, rate / 2 if high_hz is None else high_hz, scale), dtype=torch.float64
    )
    at = torch.arange(n_fft // 2 + 1, dtype=torch.float64) * rate / n_fft
    low, peak, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    triangles = torch.minimum((at - low) / (peak - low), (high - at) / (high - peak)).clamp(min=0)
    return (triangles * 2 / (high - low) if equal_area else triangles).to(dtype)


# --- frames and spectra -----------------------------------------------------------------------------------------------


def preemphasise(wave: Tensor, share: float) -> Tensor:
    """Each sample less a share of the one before, which lifts high frequencies; before the first stands the first again.

    wave: ... N. Returns ... N (Young et al., The HTK Book, equation 5.1).
    """
    return wave - share * torch.cat([wave[..., :1], wave[..., :-1]], -1)


def window(shape: str, length: int, size: int | None = None, dtype: torch.dtype = torch.float32) -> Tensor:
    """How much each sample of a frame counts: one of `WINDOWS`, of `length` samples, in the middle of `size`. Returns W."""
    size = length if size is None else size
    before = (size - length) // 2
    return F.pad(WINDOWS[shape](length), (before, size - length - before)).to(dtype)


def frames(wave: Tensor, size: int, hop: int, *, centred: bool = True) -> Tensor:
    """Cut a wave into frames of `size` samples that begin `hop` samples apart. wave: ... N, at least one. Returns ... T W.

    centred: frame t has its middle at sample t * hop, and the wave is mirrored at its ends. Otherwise frame t begins there,
    and samples that fill no frame are left out. A wave too short for one frame, or to be mirrored, ends in zeros.
    """
    n = wave.shape[-1]
    count = n_frames(n, size, hop, centred=centred)
    needed = fewest_samples(size, centred=centred)
    if n < needed:
        wave = F.pad(wave, (0, needed - n))
    if centred:
        lead = wave.shape[:-1]
        padded = F.pad(wave.reshape(-1, wave.shape[-1]), (size // 2, size - size // 2), mode="reflect")
        wave = padded.reshape(*lead, padded.shape[-1])
    return wave.unfold(-1, size, hop)[..., :count, :]


def power_spectrum(frames: Tensor, window: Tensor) -> Tensor:
    """How much of each frequency is in each frame: the square of the Fourier transform. frames: ... T W, window: W. Returns
    ... T F."""
    spectrum = cast("Tensor", torch.fft.rfft(frames * window))  # pyright: ignore[reportUnknownMemberType]
    return spectrum.real.square() + spectrum.imag.square()


# --- bands and cepstra ------------------------------------------------------------------------------------------------


def mel_power(frames: Tensor, window: Tensor, filters: Tensor) -> Tensor:
    """How much power is in each band of each frame. frames: ... T W, window: W, filters: M F. Returns ... T M.

    Few frames at a time: what comes between stays in the processor's cache (8 times faster for half a minute).
    """
    parts = [power_spectrum(some, window) @ filters.mT for some in torch.split(frames, CACHED, -2)]
    return torch.cat(parts, -2)


def log_mel(mel_power: Tensor) -> Tensor:
    """The natural logarithm of each band's power, of at least FLOOR. mel_power: ... M. Returns ... M."""
    return mel_power.clamp(min=FLOOR).log()


def whisper_log_mel(wave: Tensor, window: Tensor, filters: Tensor, hop: int, loudest: float | None = None) -> Tensor:
    """Bands as Whisper reads them (Radford et al. 2022, section 2.2, and the code that goes with it): centred frames without
    the last, log10, nothing further than 8 below the loudest of the wave, and (x + 4) / 4.

    wave: ... N, window: W, filters: M F. `loudest`: log10 of the loudest band of a sound that the wave is a part of.
    Returns ... T M with T = N // hop.
    """
    cut = frames(wave, len(window), hop)[..., :-1, :]
    bands = mel_power(cut, window, filters).clamp(min=FLOOR).log10()
    peak = bands.amax((-2, -1), keepdim=True)
    if loudest is not None:
        peak = peak.clamp(min=loudest)
    return (torch.maximum(bands, peak - 8) + 4) / 4


def cosines(n_bands: int, n_numbers: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """The first rows of the orthonormal cosine transform (DCT-II), computed in float64. Returns C M."""
    bands = torch.arange(n_bands, dtype=torch.float64)
    waves = (math.pi / n_bands * (bands + 0.5) * torch.arange(n_numbers)[:, None]).cos()
    waves *= math.sqrt(2 / n_bands)
    waves[0] /= math.sqrt(2)
    return waves.to(dtype)


def lifter(n_numbers: int, length: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """What each number of a cepstrum is multiplied by, so that high ones are as large as low ones: 1 + L/2 sin(π(c + 1)/L)
    for the number c, as librosa counts (Juang et al. 1987). length: L, 0 for ones. Returns C.
    """
    if length == 0:
        return torch.ones(n_numbers, dtype=dtype)
    at = torch.arange(1, n_numbers + 1, dtype=torch.float64)
    return (1 + length / 2 * (math.pi * at / length).sin()).to(dtype)


def cepstrum(log_bands: Tensor, cosines: Tensor, lifter: Tensor | None = None) -> Tensor:
    """Mel-frequency cepstral coefficients (Davis and Mermelstein 1980). log_bands: ... T M, cosines: C M. Returns ... T C."""
    numbers = log_bands @ cosines.mT
    return numbers if lifter is None else numbers * lifter


# --- over time --------------------------------------------------------------------------------------------------------


def deltas(x: Tensor, reach: int = 2) -> Tensor:
    """How fast each number changes: the slope of the line fitted through `reach` vectors on either side, d_t =
    Σ k (x_{t+k} - x_{t-k}) / 2Σk² over k = 1..reach; beyond its ends the sequence stands still (The HTK Book, equation 5.16).

    x: ... T C. Returns ... T C.
    """
    n = x.shape[-2]
    still = torch.cat(
        [x[..., :1, :].expand(*x.shape[:-2], reach, -1), x, x[..., -1:, :].expand(*x.shape[:-2], reach, -1)], -2
    )
    slope = torch.zeros_like(x)
    for k in range(1, reach + 1):
        slope = slope + k * (still[..., reach + k : reach + k + n, :] - still[..., reach - k : reach - k + n, :])
    return slope / (2 * sum(k * k for k in range(1, reach + 1)))


def with_deltas(x: Tensor, order: int, reach: int = 2) -> Tensor:
    """Vectors, behind them their deltas, and behind these the deltas of the deltas, up to `order`. x: ... T C. Returns
    ... T (1 + order)C."""
    parts = [x]
    for _ in range(order):
        parts.append(deltas(parts[-1], reach))
    return torch.cat(parts, -1)


def normalise_level(x: Tensor) -> Tensor:
    """All numbers of a sequence together to mean 0 and variance 1: how loud it is goes, how its channels differ stays, which
    is much of what a short word has. x: ... T C. Returns ... T C.
    """
    centred = x - x.mean((-2, -1), keepdim=True)
    return centred / (centred.square().mean((-2, -1), keepdim=True) + STEADY).sqrt()


def normalise_utterance(x: Tensor) -> Tensor:
    """Each channel to mean 0 and variance 1 over all vectors of its sequence. x: ... T C. Returns ... T C."""
    centred = x - x.mean(-2, keepdim=True)
    return centred / (centred.square().mean(-2, keepdim=True) + STEADY).sqrt()


def normalise_running(x: Tensor) -> Tensor:
    """Each channel less its mean and divided by its deviation over the vectors so far, the current one with them, so that it
    can be computed while they come in. x: ... T C. Returns ... T C.
    """
    wide = x.double()  # before it is squared: of channels far from zero float32 would lose how much they vary
    count = torch.arange(1, x.shape[-2] + 1, dtype=torch.float64, device=x.device)
    mean, square = torch.stack([wide, wide.square()]).cumsum(-2) / count[:, None]
    deviation = ((square - mean.square()).clamp(min=0) + STEADY).sqrt()
    return ((wide - mean) / deviation).to(x.dtype)


WINDOWS: dict[str, Callable[[int], Tensor]] = {  # periodic: the sample after the last would be the first again
    "hann": lambda n: torch.hann_window(n, dtype=torch.float64),
    "hamming": lambda n: torch.hamming_window(n, dtype=torch.float64),
    "blackman": lambda n: torch.blackman_window(n, dtype=torch.float64),
    "rectangular": lambda n: torch.ones(n, dtype=torch.float64),
}
