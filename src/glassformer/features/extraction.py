"""From a wave to the vectors that a config describes. The arithmetic is in `ops/mel.py`."""

# N samples, T vectors, F numbers of each

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain

import torch
import torch.nn.functional as F
from torch import Tensor

from glassformer.errors import DataError
from glassformer.features.config import FeatureConfig
from glassformer.ops import mel


@dataclass(frozen=True)
class Constants:
    """What a config computes once: the window W, the filters M F, the rows of the cosine transform C M and the lifter C."""

    window: Tensor
    filters: Tensor
    cosines: Tensor
    lifter: Tensor


@lru_cache(maxsize=32)
def constants(config: FeatureConfig, dtype: torch.dtype, device: torch.device) -> Constants:
    """The constants of a config, on a device."""
    filters = mel.mel_filters(
        config.n_mels,
        config.n_fft,
        config.rate,
        config.low_hz,
        config.high_hz,
        scale=config.scale,
        equal_area=config.equal_area,
        dtype=dtype,
    )
    return Constants(
        mel.window(config.window_shape, config.window, config.n_fft, dtype).to(device),
        filters.to(device),
        mel.cosines(config.n_mels, min(config.n_mfcc, config.n_mels), dtype).to(device),
        mel.lifter(min(config.n_mfcc, config.n_mels), config.lifter, dtype).to(device),
    )


def extract(wave: Tensor, config: FeatureConfig, loudest: float | None = None) -> Tensor:
    """The vectors of a wave. wave: ... N in [-1, 1] at config.rate (for "vectors" ... T size). Returns ... T F, of its dtype.

    A wave for kind "whisper" that is shorter than a chunk is filled up with silence; a longer one is taken whole. `loudest`:
    `loudest_band` of a longer sound that it is cut from, for this kind alone. Raises DataError for what has no samples, no
    floating numbers, or vectors of another size.
    """
    if not wave.is_floating_point():
        raise DataError(f"expected floating numbers in [-1, 1], found {str(wave.dtype).removeprefix('torch.')}")
    if config.kind == "vectors":
        if wave.ndim < 2 or wave.shape[-1] != config.size:
            raise DataError(f"expected vectors of {config.size} numbers, found an array of shape {tuple(wave.shape)}")
        found = wave
    else:
        found = from_wave(wave, config, loudest)
    if found.shape[-2] == 0:
        raise DataError("there is no sample in it, so no vector can be made")
    return NORMALISERS[config.normalise](mel.with_deltas(found, config.deltas))


def from_wave(wave: Tensor, config: FeatureConfig, loudest: float | None = None) -> Tensor:
    """Bands or cepstra, before deltas and normalisation. wave: ... N. Returns ... T M, or ... T C for "mfcc"."""
    if wave.ndim < 1 or wave.shape[-1] == 0:
        raise DataError("there is no sample in it, so no vector can be made")
    known = constants(config, wave.dtype, wave.device)  # pyright: ignore[reportArgumentType] frozen, so it has a hash
    if config.kind == "whisper":
        missing = (config.chunk_seconds or 0) * config.rate - wave.shape[-1]
        filled = F.pad(wave, (0, max(0, missing)))
        return mel.whisper_log_mel(filled, known.window, known.filters, config.hop, loudest)
    if config.preemphasis:
        wave = mel.preemphasise(wave, config.preemphasis)
    cut = mel.frames(wave, config.n_fft, config.hop, centred=config.centred)
    bands = mel.log_mel(mel.mel_power(cut, known.window, known.filters))
    return mel.cepstrum(bands, known.cosines, known.lifter) if config.kind == "mfcc" else bands


def loudest_band(blocks: Iterable[Tensor], config: FeatureConfig) -> float:
    """log10 of the most power in any band of any frame of a sound, its samples (N each) block by block, in bounded memory."""
    known = constants(config, torch.float32, torch.device("cpu"))  # pyright: ignore[reportArgumentType] frozen, so it has a hash
    half, loudest = config.n_fft // 2, mel.FLOOR
    kept, is_first = torch.empty(0), True
    for block in chain(blocks, [torch.zeros(half)]):
        kept = torch.cat((kept, block))
        if is_first and len(kept) <= half:
            continue
        if is_first:  # a centred frame reaches over the beginning
            kept, is_first = F.pad(kept[None], (half, 0), mode="reflect")[0], False
        count = (len(kept) - config.n_fft) // config.hop + 1
        if count > 0:
            cut = mel.frames(kept, config.n_fft, config.hop, centred=False)
            loudest = max(loudest, float(mel.mel_power(cut, known.window, known.filters).max()))
            kept = kept[count * config.hop :]
    return math.log10(loudest)


NORMALISERS = {
    "none": lambda x: x,
    "level": mel.normalise_level,
    "utterance": mel.normalise_utterance,
    "running": mel.normalise_running,
}
