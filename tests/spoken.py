"""Small files of sound and of vectors that manifests can name, written with the standard library and numpy alone."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np


def tone(seconds: float = 0.4, hertz: float = 220.0, rate: int = 8000, amplitude: float = 0.3) -> np.ndarray:
    """A sine: N samples in [-1, 1]."""
    return amplitude * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def write_wav(path: str | Path, samples: np.ndarray | None = None, rate: int = 8000) -> Path:
    """A WAV file of 16 bits, and the folders above it. samples: N in [-1, 1], a tone where None."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = tone(rate=rate) if samples is None else samples
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.round(samples * 32767).astype("<i2").tobytes())
    return path


def write_npy(path: str | Path, n_steps: int = 4, n_channels: int = 3, seed: int = 0) -> Path:
    """An .npy file of vectors, and the folders above it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.random.default_rng(seed).normal(size=(n_steps, n_channels)).astype(np.float32))
    return path
