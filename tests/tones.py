"""A model that hears tones without having learned anything: each letter is a tone, silence is the blank of CTC."""

from __future__ import annotations

import math
import wave
from pathlib import Path

import numpy as np
import torch

from glassformer.features import FeatureConfig
from glassformer.models import Encoder, ModelConfig, build_model
from glassformer.pipeline import Pipeline
from glassformer.tokenizers import Tokenizer, train_tokenizer

RATE = 8000
FEATURES = FeatureConfig.parse({"kind": "log-mel", "rate": RATE, "n_mels": 24, "high_hz": 4000.0})
LETTERS = "abcde "
STEP, GAP = 0.08, 0.04  # seconds of a letter, and of the silence behind it
SHARP = 20.0


def tones_tokenizer() -> Tokenizer:
    return train_tokenizer("characters", [LETTERS])


def band_of(number: int) -> int:
    """The mel band of a letter, far from those of the others."""
    return 2 + 4 * number - number // 5


def frequency(letter: str) -> float:
    """In Hz: the middle of its band."""
    from glassformer.ops.mel_scale import mel_edges

    edges = mel_edges(FEATURES.n_mels, FEATURES.low_hz, FEATURES.high_hz, FEATURES.scale)
    return float(edges[band_of(LETTERS.index(letter)) + 1])


def hearing_model(max_len: int = 3001, labels: tuple[str, ...] = ()) -> Encoder:
    """Its logits are the loudness of bands; what is not loud at all is blank."""
    tokenizer = tones_tokenizer()
    config = ModelConfig.parse(
        {
            "shape": "encoder",
            "vectors": {"size": FEATURES.channels},
            "vocab_size": tokenizer.vocab_size,
            "max_len": max_len,
            "d_model": FEATURES.channels,
            "n_layers": 0,
            "n_heads": 1,
            "positions": "none",
            "head_bias": True,
            **({"head": "labels", "labels": labels, "pooling": "max"} if labels else {"ctc_blank": tokenizer.pad_id}),
        }
    )
    model = build_model(config)
    with torch.no_grad():
        embedding = model.encoder.embedding.linear
        embedding.weight.copy_(torch.eye(FEATURES.channels))
        embedding.bias.zero_()
        linear = model.head.linear
        linear.weight.zero_()
        if linear.bias is not None:
            linear.bias.fill_(-10 * SHARP)
        for number, letter in enumerate(labels or LETTERS):
            row = number if labels else tokenizer.encode(letter)[0]
            linear.weight[row, band_of(LETTERS.index(letter))] = SHARP
            linear.bias[row] = 0.0
        if not labels:
            linear.bias[tokenizer.pad_id] = -SHARP / 2
    return model.eval()


def pipeline(max_len: int = 3001, labels: tuple[str, ...] = ()) -> Pipeline:
    return Pipeline(hearing_model(max_len, labels), tones_tokenizer(), features=FEATURES)


def said(text: str, *, pause: float = GAP, noise: float = 0.0, seed: int = 0) -> np.ndarray:
    """Samples in which each letter of a text sounds, with silence around it; `pause` seconds of it behind each word."""
    pieces: list[np.ndarray] = [silence(0.1)]
    for letter in text:
        moments = np.arange(round(STEP * RATE)) / RATE
        pieces += [0.5 * np.sin(2 * math.pi * frequency(letter) * moments), silence(pause if letter == " " else GAP)]
    samples = np.concatenate([*pieces, silence(0.1)])
    if noise:
        samples = samples + np.random.default_rng(seed).normal(0, noise, len(samples))
    return samples.astype(np.float32)


def write(path: Path, samples: np.ndarray) -> None:
    """Plain WAV of 16 bits."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((samples * 32767).round().clip(-32768, 32767).astype("<i2").tobytes())


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * RATE))


def moment(text: str, index: int) -> float:
    """When a letter of a text begins, in seconds, where all gaps are alike."""
    return 0.1 + index * (STEP + GAP)
