"""From a file of sound to mono samples at the rate that is wanted: whole, a part of it, or block by block."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass

import numpy as np

from glassformer.data.sound.findings import Findings
from glassformer.data.sound.libsndfile import ThroughSoundfile, format_of, through_soundfile
from glassformer.data.sound.opened import Forward, Source, opened
from glassformer.data.sound.resampling import resampled
from glassformer.data.sound.wav import CompressedWav, Wav, is_wav
from glassformer.errors import DataError

MOST_SAMPLES = 1 << 28  # read at once: 4.7 hours at 16 kHz, a gigabyte
BLOCK = 1 << 18  # samples of all channels that are decoded at once


@dataclass(frozen=True, eq=False)
class Sound:
    """Mono samples in [-1, 1]: N, float32; `notes` are sentences on what was found, each with the file's name."""

    samples: np.ndarray
    rate: int
    notes: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return len(self.samples) / self.rate


@dataclass(frozen=True, slots=True)
class SoundInfo:
    """What the header of a file says. `seconds` is None where it leaves that open."""

    format: str
    rate: int
    channels: int
    seconds: float | None
    notes: tuple[str, ...] = ()


def read_sound(source: Source, rate: int | None = None, *, offset: float = 0.0, duration: float | None = None) -> Sound:
    """The samples of a file, of bytes or of an open binary stream, channels averaged, at `rate` (the file's own where None).

    offset, duration: which part, in seconds; the rest is not read. Raises DataError with the file's name for what cannot be
    used: missing, no sound, damaged, empty, more than `MOST_SAMPLES`, an offset beyond the end, soundfile or soxr missing.
    """
    notes: list[str] = []
    with decoder(source) as (decoded, name):
        wanted = checked_rate(rate, decoded.rate, name)
        pieces: list[np.ndarray] = []
        n_samples = 0
        for piece in resampled(mono(decoded, name, offset, duration, notes), decoded.rate, wanted, name):
            pieces.append(piece)
            n_samples += len(piece)
            if n_samples > MOST_SAMPLES:
                raise too_long(name, wanted)
        if not n_samples:
            raise too_short(name, wanted)
        return Sound(np.concatenate(pieces), wanted, tuple(notes))


def sound_blocks(
    source: Source,
    rate: int | None,
    seconds: float,
    *,
    offset: float = 0.0,
    duration: float | None = None,
    notes: list[str] | None = None,
) -> Iterator[np.ndarray]:
    """The same samples in blocks of `seconds`, the last one shorter, in memory that does not grow with the file.

    What `read_sound` notes is appended to `notes` when the end is reached. Raises DataError as `read_sound` does.
    """
    with decoder(source) as (decoded, name):
        wanted = checked_rate(rate, decoded.rate, name)
        size = round(seconds * wanted) if math.isfinite(seconds) else 0
        if size < 1:
            raise DataError(f"{name}: blocks of {seconds:g} s hold no sample at {wanted:,} a second")
        kept: list[np.ndarray] = []
        n_kept = n_samples = 0
        at_once = max(1, math.ceil(seconds * decoded.rate))  # not more, so that a block comes as soon as it was heard
        heard = mono(decoded, name, offset, duration, [] if notes is None else notes, at_once)
        for piece in resampled(heard, decoded.rate, wanted, name):
            kept.append(piece)
            n_kept += len(piece)
            n_samples += len(piece)
            if n_kept >= size:
                joined = np.concatenate(kept)
                for start in range(0, n_kept - size + 1, size):
                    yield joined[start : start + size].copy()
                kept = [joined[n_kept - n_kept % size :].copy()]
                n_kept = len(kept[0])
        if n_kept:
            yield np.concatenate(kept)
        if not n_samples:
            raise too_short(name, wanted)


def sound_info(source: Source) -> SoundInfo:
    """What the header says, and of a WAV file how much of it is there; samples are not read. Raises DataError."""
    with decoder(source) as (decoded, name):
        seconds = None if decoded.n_frames is None else decoded.n_frames / decoded.rate
        notes: list[str] = []
        if isinstance(decoded, Wav):
            Findings(name, decoded.rate).cut_short(decoded.n_frames, decoded.promised, notes)
        return SoundInfo(decoded.format, decoded.rate, decoded.channels, seconds, tuple(notes))


@contextlib.contextmanager
def decoder(source: Source) -> Generator[tuple[Wav | ThroughSoundfile, str]]:
    """The opened file behind the reader that knows its format, and its name. Raises DataError."""
    with opened(source) as (file, name), contextlib.ExitStack() as stack:
        stream = Forward(file)
        if not stream.peek(1):
            raise DataError(f"{name}: is empty")
        beginning, decoded = stream.peek(12), None
        known = format_of(beginning)
        if is_wav(beginning):
            try:
                decoded = Wav(stream, name)
            except CompressedWav as compression:
                known = f"WAV with {compression} samples"
                if stream.left is None:
                    raise DataError(f"{name}: is {known}, which cannot be read from a stream; save it first") from None
        yield decoded or stack.enter_context(through_soundfile(stream, name, known)), name


def mono(
    decoded: Wav | ThroughSoundfile,
    name: str,
    offset: float,
    duration: float | None,
    notes: list[str],
    at_once: int = BLOCK,
) -> Iterator[np.ndarray]:
    """The part that is wanted, channels averaged, block by block: at least one sample. What was found goes to `notes`.

    at_once: the most frames of a block of WAV, which may come from a stream; other formats lie on the disk by now.
    """
    start, length = part(decoded, name, offset, duration)
    if start:
        decoded.skip(start)
    findings = Findings(name, decoded.rate)
    n_block = max(1, BLOCK // decoded.channels)
    if isinstance(decoded, Wav):
        n_block = min(n_block, at_once)
    n_read = 0
    while length is None or n_read < length:
        block = decoded.read(n_block if length is None else min(n_block, length - n_read))
        if not len(block):
            break
        n_read += len(block)
        yield findings.heard(block).mean(1, dtype=np.float32) if decoded.channels > 1 else findings.heard(block)[:, 0]
    if not n_read and decoded.notes:
        raise DataError(decoded.notes[0])
    if not n_read:
        raise DataError(f"{name}: " + (f"ends before {offset:g} s" if start else "is empty: it holds no samples"))
    notes += decoded.notes
    if length is None or n_read < length:
        if not decoded.notes:
            findings.cut_short(start + n_read, decoded.promised, notes)
        if length is not None and not notes:
            findings.ends_early(n_read, length, notes)
    findings.tell(notes)


def part(decoded: Wav | ThroughSoundfile, name: str, offset: float, duration: float | None) -> tuple[int, int | None]:
    """The first frame and how many, None for all. Raises DataError for what no file has and what this one has not."""
    if not (math.isfinite(offset) and offset >= 0):
        raise DataError(f"{name}: offset={offset:g} s, expected seconds from its beginning")
    if duration is not None and not (math.isfinite(duration) and duration > 0):
        raise DataError(f"{name}: duration={duration:g} s, expected more than none")
    start = round(offset * decoded.rate)
    if decoded.n_frames is not None and start >= decoded.n_frames > 0:
        lasts = decoded.n_frames / decoded.rate
        raise DataError(f"{name}: lasts {lasts:g} s, so nothing begins at {offset:g} s")
    return start, None if duration is None else max(1, round(duration * decoded.rate))


def checked_rate(rate: int | None, own: int, name: str) -> int:
    """The rate that is wanted. Raises DataError for none that samples could have."""
    if rate is not None and rate < 1:
        raise DataError(f"{name}: cannot be read at {rate:,} samples a second")
    return own if rate is None else rate


def too_long(name: str, rate: int) -> DataError:
    """The error for what does not fit."""
    minutes = MOST_SAMPLES / rate / 60
    return DataError(
        f"{name}: lasts longer than the {minutes:,.0f} minutes that are read at once at {rate:,} samples a second; "
        "read a part of it, or cut it"
    )


def too_short(name: str, rate: int) -> DataError:
    """The error for what is less than one sample at the rate that is wanted."""
    return DataError(f"{name}: is too short: at {rate:,} samples a second nothing of it is left")
