"""Files of sound made by hand: WAV in every form, through a pipe and hours long; and damage in every way that a seed draws."""

from __future__ import annotations

import io
import os
import random
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from glassformer.data.sound.reading import read_sound
from glassformer.errors import DataError

GUID_END = bytes.fromhex("000000001000800000aa00389b71")
FORMS = {  # name: (code, bits)
    "8 bits": (1, 8),
    "16 bits": (1, 16),
    "24 bits": (1, 24),
    "32 bits": (1, 32),
    "32 bits floating": (3, 32),
    "64 bits floating": (3, 64),
}


def tones(seconds: float, rate: int, channels: int = 1) -> np.ndarray:
    """A swelling tone with noise in each channel, within [-0.8, 0.8]: n channels."""
    at = np.arange(round(seconds * rate)) / rate
    draw = np.random.default_rng(0)
    waves = [
        0.6 * np.sin(2 * np.pi * (220 * (c + 1)) * at) * np.minimum(1, at * 20) + 0.1 * draw.uniform(-1, 1, len(at))
        for c in range(channels)
    ]
    return np.stack(waves, 1)


def encoded(samples: np.ndarray, code: int, bits: int) -> bytes:
    """Samples in [-1, 1) as the bytes of a data chunk."""
    if code == 3:
        return samples.astype(f"<f{bits // 8}").tobytes()
    whole = np.round(samples * 2 ** (bits - 1)).clip(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1).astype(np.int64)
    if bits == 8:
        return (whole + 128).astype(np.uint8).tobytes()
    return whole.astype("<i8").reshape(-1, 1).view(np.uint8)[:, : bits // 8].tobytes()


def chunk(kind: bytes, content: bytes, size: int | None = None) -> bytes:
    """A chunk, padded to even length; `size` is what it says of itself."""
    return kind + struct.pack("<I", len(content) if size is None else size) + content + b"\0" * (len(content) % 2)


def wav(
    samples: np.ndarray,
    rate: int = 16000,
    *,
    code: int = 1,
    bits: int = 16,
    extensible: bool = False,
    before: bytes = b"",
    behind: bytes = b"",
    data_size: int | None = None,
    riff: bytes = b"RIFF",
) -> bytes:
    """A WAV file. samples: n channels."""
    channels, width = samples.shape[1], bits // 8
    fmt = struct.pack(
        "<HHIIHH", 0xFFFE if extensible else code, channels, rate, rate * channels * width, channels * width, bits
    )
    if extensible:
        fmt += struct.pack("<HHIH", 22, bits, 0, code) + GUID_END
    body = b"WAVE" + before + chunk(b"fmt ", fmt) + chunk(b"data", encoded(samples, code, bits), data_size) + behind
    return riff + struct.pack("<I", min(len(body), 0xFFFFFFFF)) + body


def flac(samples: np.ndarray, rate: int = 16000, **how: str) -> bytes:
    """A FLAC file, or with `format` and `subtype` another that soundfile writes. samples: n channels."""
    import soundfile

    held = io.BytesIO()
    soundfile.write(held, samples, rate, **{"format": "FLAC", **how})
    return held.getvalue()


def refused(source: object, *arguments: float, **how: float) -> str:
    """The sentence with which a file is refused, which is one line."""
    with pytest.raises(DataError) as error:
        read_sound(source, *arguments, **how)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)
    return str(error.value)


class Piped(io.RawIOBase):
    """Bytes that come a few at a time and only forwards, as from a pipe."""

    def __init__(self, content: bytes, most: int = 1000) -> None:
        self.rest, self.most = memoryview(content), most

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        n = min(len(buffer), self.most, len(self.rest))
        buffer[:n], self.rest = self.rest[:n], self.rest[n:]
        return n


def sparse(path: Path, seconds: int, rate: int) -> Path:
    """A long file of silence that takes no room on the disk."""
    empty = wav(np.zeros((0, 1)), rate, data_size=seconds * rate * 2)
    path.write_bytes(empty)
    os.truncate(path, len(empty) + seconds * rate * 2)
    return path


def flip_bits(content: bytearray, draw: random.Random) -> None:
    end = len(content) if draw.random() < 0.5 else min(len(content), 100)
    for _ in range(draw.choice((1, 1, 3, 30, 300))):
        if end:
            content[draw.randrange(end)] ^= 1 << draw.randrange(8)


def cut(content: bytearray, draw: random.Random) -> None:
    del content[draw.choice((draw.randrange(len(content) + 1), draw.randrange(100))) :]


def lengthen(content: bytearray, draw: random.Random) -> None:
    content += draw.randbytes(draw.choice((1, 3, 4096)))


def swap_fields(content: bytearray, draw: random.Random) -> None:
    first, second = draw.randrange(12, 44), draw.randrange(12, 44)
    width = draw.choice((1, 2, 4))
    if len(content) >= 50:
        one, other = bytes(content[first : first + width]), bytes(content[second : second + width])
        content[first : first + width], content[second : second + width] = other, one


def odd_fields(content: bytearray, draw: random.Random) -> None:
    """Numbers that no file has, in the header."""
    odd = (0, 1, 2, 3, 0x7F, 0xFFFE, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF0, 0xFFFFFFFF)
    for _ in range(draw.choice((1, 1, 2, 4))):
        width, at = draw.choice((2, 4)), draw.randrange(0, 60, 2)
        content[at : at + width] = (draw.choice(odd) & (256**width - 1)).to_bytes(width, draw.choice(("little", "big")))


def zero_rate(content: bytearray, draw: random.Random) -> None:
    place = (24, 4) if content[:4] == b"RIFF" else (18, 2)  # FLAC: the upper 16 of 20 bits
    content[place[0] : place[0] + place[1]] = bytes(place[1])


def huge_sizes(content: bytearray, draw: random.Random) -> None:
    """A header that promises far more than there is."""
    if content[:4] == b"RIFF":
        at = draw.choice((4, 16, 40))
        content[at : at + 4] = draw.choice((2**31, 2**32 - 1, 2**32 - 2, 2**30)).to_bytes(4, "little")
    else:
        content[21:26] = draw.choice((b"\xff\xff\xff\xff\xff", b"\xf0\x80\x00\x00\x00", b"\xf1\x00\x00\x00\x00"))


def move_blocks(content: bytearray, draw: random.Random) -> None:
    """A stretch twice, left out, zeroed or shuffled."""
    start = draw.randrange(len(content) + 1)
    stretch = content[start : start + draw.choice((2, 64, 700))]
    match draw.randrange(4):
        case 0:
            content[start:start] = stretch
        case 1:
            del content[start : start + len(stretch)]
        case 2:
            content[start : start + len(stretch)] = bytes(len(stretch))
        case _:
            content[start : start + len(stretch)] = draw.randbytes(len(stretch))


MUTATIONS: dict[str, Callable[[bytearray, random.Random], None]] = {
    "bits flipped": flip_bits,
    "cut": cut,
    "lengthened": lengthen,
    "fields swapped": swap_fields,
    "odd fields": odd_fields,
    "rate zero": zero_rate,
    "huge sizes": huge_sizes,
    "blocks moved": move_blocks,
}


def mutated(whole: bytes, draw: random.Random) -> tuple[bytes, str]:
    """The file wrong in one to three ways, and their names."""
    names = dict.fromkeys(draw.choices(list(MUTATIONS), k=draw.choice((1, 1, 1, 2, 3))))
    content = bytearray(whole)
    for name in names:
        MUTATIONS[name](content, draw)
    return bytes(content), ", ".join(names)


TONES, STEREO = tones(0.25, 16000), tones(0.25, 16000, 2)
WAV = wav(TONES)
