"""WAV files read by ourselves: RIFF and RF64, whole numbers of 8 to 32 bits and floating ones, any number of channels."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from glassformer.data.sound.opened import Forward
from glassformer.errors import DataError

PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE  # WAVE_FORMAT_*
GUID_END = bytes.fromhex("000000001000800000aa00389b71")  # of a format that has a number: what follows the number
UNKNOWN = (0, 0xFFFFFFFF)  # sizes of those who could not tell while they wrote
MOST_CHUNKS = 10_000  # before the samples; a file of nothing else would be walked through for hours
MOST_CHANNELS = 256
SLOWEST, FASTEST = 1000, 768_000  # Hz
OTHER_CODES = {2: "ADPCM", 6: "A-law", 7: "µ-law", 17: "ADPCM", 49: "GSM", 80: "MPEG", 85: "MP3"}


@dataclass(frozen=True)
class WavFormat:
    """What the fmt chunk says: how a sample is written, how many at a time, and how often. `width` in bytes of a sample."""

    code: int
    channels: int
    rate: int
    width: int

    @property
    def frame(self) -> int:
        """Bytes of one sample of each channel."""
        return self.width * self.channels

    @property
    def name(self) -> str:
        """How a person would call it."""
        return f"WAV, {8 * self.width} bits" + (" floating" if self.code == FLOAT else "")


class CompressedWav(Exception):
    """A WAV file whose samples are compressed, which another reader knows."""


class Wav:
    """The samples of a WAV file, block by block. `n_frames` is what it holds, None where only its end will tell."""

    def __init__(self, stream: Forward, name: str) -> None:
        """Read the header. Raises DataError naming what is wrong, and CompressedWav with the name of the compression."""
        self.notes: list[str] = []
        self.stream = stream
        self.wav_format, promised = header(stream, name)
        self.format, self.rate, self.channels = self.wav_format.name, self.wav_format.rate, self.wav_format.channels
        left = None if stream.left is None else stream.left // self.wav_format.frame
        self.promised = None if promised is None else promised // self.wav_format.frame
        if left is None:
            self.n_frames = self.promised
        else:
            self.n_frames = left if self.promised is None else min(left, self.promised)
        self.at = 0

    def skip(self, n_frames: int) -> None:
        """Go on so many frames."""
        if self.n_frames is not None:
            n_frames = min(n_frames, self.n_frames - self.at)
        self.stream.skip(n_frames * self.wav_format.frame)
        self.at += n_frames

    def read(self, n_frames: int) -> np.ndarray:
        """The next frames, fewer at the end: n channels, float32, whole numbers scaled to [-1, 1)."""
        if self.n_frames is not None:
            n_frames = min(n_frames, self.n_frames - self.at)
        content = self.stream.read(n_frames * self.wav_format.frame)
        whole = len(content) // self.wav_format.frame
        self.at += whole
        decode = DECODERS[self.wav_format.code, self.wav_format.width]
        return decode(content[: whole * self.wav_format.frame]).reshape(whole, self.channels)


def is_wav(beginning: bytes) -> bool:
    """Whether a file that begins so is one of those that `Wav` reads."""
    return beginning[:4] in (b"RIFF", b"RF64", b"BW64") and beginning[8:12] == b"WAVE"


def header(stream: Forward, name: str) -> tuple[WavFormat, int | None]:
    """Everything before the samples: how they are written, and how many bytes of them are promised, None where that is left
    open. The stream then stands at the first."""
    whole = int.from_bytes(stream.read(12)[4:8], "little")  # bytes behind the first 8
    at = 12
    found: WavFormat | None = None
    long_size: int | None = None  # RF64 (EBU Tech 3306): sizes that 32 bits do not hold
    for _ in range(MOST_CHUNKS):
        start = stream.read(8)
        if len(start) < 8:
            break
        kind, size = start[:4], int.from_bytes(start[4:], "little")
        if kind == b"data":
            if found is None:
                raise DataError(f"{name}: says nothing of how its samples are written (no fmt chunk before them)")
            if size == 0 and whole not in UNKNOWN and chunk_follows(stream.peek(8), 8 + whole - (at + 8)):
                return found, 0  # there are no samples, and metadata behind them
            return found, (long_size if size == 0xFFFFFFFF else None if size in UNKNOWN else size)
        content = stream.read(min(size, 40)) if kind in (b"fmt ", b"ds64") else b""
        if kind == b"fmt ":
            found = read_format(content, name)
        elif kind == b"ds64" and len(content) >= 16:
            long_size = int.from_bytes(content[8:16], "little") or None
        stream.skip(size + size % 2 - len(content))  # chunks begin at even bytes
        at += 8 + size + size % 2
    else:
        raise DataError(f"{name}: has over {MOST_CHUNKS:,} chunks before its samples, so it is damaged")
    raise DataError(f"{name}: holds no samples (a WAV file without a data chunk); it was cut short or never finished")


def chunk_follows(beginning: bytes, room: int) -> bool:
    """Whether bytes begin a chunk, with a name in letters and a size, that ends within the next `room` bytes: samples hardly
    look so."""
    size = int.from_bytes(beginning[4:8], "little")
    return len(beginning) == 8 and all(32 <= letter < 127 for letter in beginning[:4]) and 8 + size <= room


def read_format(content: bytes, name: str) -> WavFormat:
    """What the fmt chunk says. Raises DataError for what cannot be, CompressedWav for what others can read."""
    if len(content) < 16:
        raise DataError(f"{name}: its fmt chunk has {len(content)} bytes, expected at least 16; the file is damaged")
    code, channels, rate, _, frame, bits = struct.unpack_from("<HHIIHH", content)
    if code == EXTENSIBLE:
        if len(content) < 40 or content[26:40] != GUID_END:
            raise DataError(f"{name}: is WAV of an extended format that has no number, which cannot be read")
        code = int.from_bytes(content[24:26], "little")
    if not 1 <= channels <= MOST_CHANNELS:
        raise DataError(f"{name}: its header gives {channels:,} channels, expected 1 to {MOST_CHANNELS}")
    if not SLOWEST <= rate <= FASTEST:
        raise DataError(f"{name}: its header gives {rate:,} samples a second, expected {SLOWEST:,} to {FASTEST:,}")
    if code not in (PCM, FLOAT):
        raise CompressedWav(OTHER_CODES.get(code, f"format {code}"))
    width = (bits + 7) // 8
    if (code, width) not in DECODERS or frame not in (0, width * channels):
        raise DataError(
            f"{name}: its header gives samples of {bits} bits in frames of {frame} bytes for {channels:,} channels; "
            "expected whole numbers of 8, 16, 24 or 32 bits or floating ones of 32 or 64"
        )
    return WavFormat(code, channels, rate, width)


def unsigned_8(content: bytes) -> np.ndarray:
    """8 bits, of which 128 is silence."""
    return (np.frombuffer(content, np.uint8).astype(np.float32) - 128) / 128


def signed_16(content: bytes) -> np.ndarray:
    """16 bits."""
    return np.frombuffer(content, "<i2").astype(np.float32) / 2**15


def signed_24(content: bytes) -> np.ndarray:
    """24 bits, three bytes each."""
    padded = np.zeros((len(content) // 3, 4), np.uint8)
    padded[:, 1:] = np.frombuffer(content, np.uint8).reshape(-1, 3)
    return padded.view("<i4")[:, 0].astype(np.float32) / 2**31


def signed_32(content: bytes) -> np.ndarray:
    """32 bits."""
    return np.frombuffer(content, "<i4").astype(np.float32) / 2**31


def float_32(content: bytes) -> np.ndarray:
    """Floating numbers as they are."""
    return np.frombuffer(content, "<f4").astype(np.float32)


def float_64(content: bytes) -> np.ndarray:
    """Floating numbers of twice the width."""
    with np.errstate(over="ignore", invalid="ignore"):  # what is too large becomes infinite, and is told as that
        return np.frombuffer(content, "<f8").astype(np.float32)


DECODERS = {  # (code, bytes of a sample)
    (PCM, 1): unsigned_8,
    (PCM, 2): signed_16,
    (PCM, 3): signed_24,
    (PCM, 4): signed_32,
    (FLOAT, 4): float_32,
    (FLOAT, 8): float_64,
}
