"""FLAC, Ogg, MP3, AIFF and compressed WAV through soundfile, block by block."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from glassformer.data.sound.opened import Forward, on_disk
from glassformer.data.sound.wav import FASTEST, MOST_CHANNELS, SLOWEST
from glassformer.errors import DataError

NO_END = 1 << 60  # frames: what libsndfile gives where the header leaves it open
BEGINNINGS = {  # what files begin with, to name the format where it cannot be read
    b"fLaC": "FLAC",
    b"OggS": "Ogg",
    b"ID3": "MP3",
    b"\xff\xfb": "MP3",
    b"FORM": "AIFF",
    b".snd": "AU",
    b"RIFX": "big-endian WAV",
    b"RIFF": "RIFF",
    b"riff": "W64",
    b"caff": "CAF",
}


class ThroughSoundfile:
    """The samples of a file that libsndfile has opened. `n_frames` is what its header promises, None where that is open."""

    def __init__(self, opened: Any, name: str) -> None:
        self.opened, self.name = opened, name
        self.rate, self.channels = int(opened.samplerate), int(opened.channels)
        self.format = f"{opened.format}, {opened.subtype}"
        self.promised = self.n_frames = None if opened.frames >= NO_END else int(opened.frames)
        self.notes: list[str] = []
        self.at = 0
        self.damaged = False

    def skip(self, n_frames: int) -> None:
        """Go on so many frames, or to the end."""
        target = self.at + n_frames
        if self.n_frames is not None:
            target = min(target, self.n_frames)
        try:
            self.at = int(self.opened.seek(target))
        except (RuntimeError, ValueError) as error:
            raise DataError(f"{self.name}: frame {target:,} cannot be reached ({reason(error)})") from None

    def read(self, n_frames: int) -> np.ndarray:
        """The next frames, fewer at the end: n channels, float32. Damage ends it, with a note where something came before."""
        if self.n_frames is not None:
            n_frames = min(n_frames, self.n_frames - self.at)
        if self.damaged or n_frames <= 0:
            return np.zeros((0, self.channels), np.float32)
        # What is decoded takes the place of NaN: where damage ends it, soundfile does not say how much that was.
        block = np.full((n_frames, self.channels), np.nan, np.float32)
        try:
            block = block[: len(self.opened.read(dtype="float32", always_2d=True, out=block))]
        except (RuntimeError, ValueError) as error:
            self.damaged = True
            whole = np.flatnonzero(~np.isnan(block[:, 0]))
            block = block[: whole[-1] + 1] if len(whole) else block[:0]
            if self.at + len(block) == 0:
                raise DataError(f"{self.name}: is damaged ({reason(error)}); copy or download it again") from None
            seconds = (self.at + len(block)) / self.rate
            if self.n_frames is not None:  # otherwise running into the end is the only way to find it
                self.notes.append(f"{self.name}: is damaged {seconds:.2f} s from its beginning ({reason(error)})")
        self.at += len(block)
        return block


@contextlib.contextmanager
def through_soundfile(stream: Forward, name: str, known: str | None) -> Iterator[ThroughSoundfile]:
    """The opened file. known: its format, if its beginning told. Raises DataError without soundfile, and for what it cannot
    read."""
    try:
        import soundfile
    except (ImportError, OSError):  # OSError: the package without the library that it calls
        found = f"is {known}, which" if known else "is not WAV, and any other format"
        raise DataError(f"{name}: {found} needs soundfile: pip install 'glassformer[audio]'") from None
    with on_disk(stream) as number:
        try:
            opened = soundfile.SoundFile(number, closefd=False)
        except (RuntimeError, ValueError, TypeError) as error:
            what = f"is {known} that cannot be read" if known else "is no file of sound that can be read"
            raise DataError(f"{name}: {what} ({reason(error)}); convert it to WAV or FLAC") from None
        with opened:
            if not SLOWEST <= opened.samplerate <= FASTEST:
                raise DataError(
                    f"{name}: its header gives {opened.samplerate:,} samples a second, expected {SLOWEST:,} to {FASTEST:,}"
                )
            if not 1 <= opened.channels <= MOST_CHANNELS:
                raise DataError(f"{name}: its header gives {opened.channels:,} channels, expected 1 to {MOST_CHANNELS}")
            yield ThroughSoundfile(opened, name)


def format_of(beginning: bytes) -> str | None:
    """The format of a file that begins so, as far as that tells."""
    return next((kind for start, kind in BEGINNINGS.items() if beginning.startswith(start)), None)


def reason(error: Exception) -> str:
    """What libsndfile says, in one clause."""
    told = getattr(error, "error_string", None) or str(error)
    return " ".join(str(told).split()).rstrip(".").removeprefix("Error : ")
