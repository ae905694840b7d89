"""What there is to know of an utterance before it is trained on: how long, how loud, how silent, and of what content."""

# T vectors of a sequence, F numbers in each

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glassformer.data.sound import sound_blocks, sound_info
from glassformer.data.sound.levels import FRAME_SECONDS, decibels, frame_powers, n_clipped
from glassformer.data.utterances.corpus import Utterance, kind_of_file
from glassformer.data.utterances.vectors import read_vectors
from glassformer.errors import DataError

FRAMES_AT_ONCE = 1500  # half a minute; whole ones, so that none is cut where two blocks meet
QUIETER = 40.0  # dB below the loudest frame, where a voice is no longer heard


@dataclass(frozen=True)
class Heard:
    """An utterance and what its sound, or its vectors, are like. `problem`: why they cannot be read, if they cannot."""

    row: Utterance
    held_out: bool
    problem: str = ""
    digest: bytes = b""  # of the samples or numbers; the same sound in two formats has one
    length: float = 0.0  # seconds, or vectors
    file_seconds: float | None = None  # of the whole file
    rate: int = 0
    level: float = 0.0  # dBFS
    peak: float = 0.0  # dBFS
    clipped: float = 0.0  # share of the samples
    silent: float = 0.0  # seconds that nobody hears, in all
    silent_start: float = 0.0  # of these, those at the beginning
    silent_end: float = 0.0
    notes: tuple[str, ...] = ()
    channels: NDArray[np.float64] | None = None  # vectors: 4 F, least, greatest, sum and sum of squares of each number


def hear(row: Utterance, held_out: bool) -> Heard:
    """Read one utterance from its beginning to its end, in memory that does not grow with it where it is sound."""
    try:
        return hear_sound(row, held_out) if kind_of_file(row.path) == "sound" else see_vectors(row, held_out)
    except DataError as error:
        return Heard(row, held_out, problem=str(error))


def hear_sound(row: Utterance, held_out: bool) -> Heard:
    """Sound, block by block. Raises DataError where it cannot be read."""
    about = sound_info(row.path)
    digest = hashlib.sha256()
    notes: list[str] = []
    powers: list[NDArray[np.float64]] = []
    n_samples = n_hot = 0
    loudest = squares = 0.0
    frame = max(1, round(about.rate * FRAME_SECONDS))
    at_once = FRAMES_AT_ONCE * frame / about.rate
    blocks = sound_blocks(row.path, about.rate, at_once, offset=row.offset, duration=row.duration, notes=notes)
    for block in blocks:
        digest.update(np.ascontiguousarray(block).tobytes())
        n_samples += len(block)
        n_hot += n_clipped(block)
        loudest = max(loudest, float(np.abs(block).max()))
        squares += float(np.square(block, dtype=np.float64).sum())
        powers.append(frame_powers(block, frame))
    frames = np.concatenate(powers)
    heard = np.flatnonzero(frames > frames.max() * 10 ** (-QUIETER / 10)) if frames.max() > 0 else np.zeros(0, np.int64)
    start, end = (int(heard[0]), len(frames) - 1 - int(heard[-1])) if len(heard) else (len(frames), 0)
    seconds, step = n_samples / about.rate, frame / about.rate
    return Heard(
        row,
        held_out,
        digest=digest.digest(),
        length=seconds,
        file_seconds=about.seconds,
        rate=about.rate,
        level=decibels(math.sqrt(squares / n_samples)),
        peak=decibels(loudest),
        clipped=n_hot / n_samples,
        silent=min(seconds, (len(frames) - len(heard)) * step),
        silent_start=min(seconds, start * step),
        silent_end=min(seconds, end * step),
        notes=tuple(notes),
    )


def see_vectors(row: Utterance, held_out: bool) -> Heard:
    """Vectors, all at once. Raises DataError where they cannot be read."""
    vectors = read_vectors(row)
    wide = vectors.astype(np.float64)
    channels = np.stack([wide.min(0), wide.max(0), wide.sum(0), np.square(wide).sum(0)])
    digest = hashlib.sha256(repr(vectors.shape).encode() + vectors.tobytes())
    return Heard(row, held_out, digest=digest.digest(), length=float(len(vectors)), channels=channels)
