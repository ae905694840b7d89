"""Short waves, features of every kind in small, and traces of models that hear them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from glassformer.features import FeatureConfig
from glassformer.lens.glass import Trace, trace_text
from glassformer.tokenizers import Tokenizer, train_tokenizer
from glassformer.tokenizers.roles import START

RATE = 1000
SMALL: dict[str, Any] = {"rate": RATE, "n_mels": 6, "n_fft": 64, "window": 50, "hop": 20}
FEATURES: dict[str, dict[str, Any]] = {
    "log-mel": SMALL,
    "normalised": {**SMALL, "normalise": "utterance", "window_shape": "hamming", "scale": "htk"},
    "level": {**SMALL, "normalise": "level"},
    "so far": {**SMALL, "normalise": "running", "preemphasis": 0.97, "centred": False},
    "cepstra": {**SMALL, "kind": "mfcc", "n_mfcc": 4, "normalise": "utterance"},
    "cepstra with slopes": {**SMALL, "kind": "mfcc", "n_mfcc": 4, "deltas": 1, "normalise": "running"},
    "cepstra with both": {**SMALL, "kind": "mfcc", "n_mfcc": 3, "deltas": 2},
    "whisper": {"kind": "whisper", "n_mels": 6, "n_fft": 64, "window": 64, "hop": 800, "chunk_seconds": 1},
}


def features(name: str = "log-mel") -> FeatureConfig:
    """One of them."""
    return FeatureConfig.parse(FEATURES[name], name)


def wave(count: int = 400, rate: int = RATE, seed: int = 0) -> np.ndarray:
    """A tone that rises, with a little noise: N, float32."""
    at = np.arange(count) / rate
    noise = 0.01 * np.random.default_rng(seed).standard_normal(count)
    return (0.5 * np.sin(2 * np.pi * (60 + 300 * at) * at) + noise).astype(np.float32)


@functools.cache
def tokenizer() -> Tokenizer:
    """Letters, and what begins a target."""
    return train_tokenizer("characters", ["abcdefgh "], special_tokens=(START,))


def heard(make: Callable[..., Any], name: str = "log-mel", *, target: str | None = None, **fields: Any) -> Trace:
    """The trace of a model of these fields that hears a wave."""
    chosen = features(name)
    vectors = {"size": chosen.channels, "strides": (2, 2), **fields.pop("vectors", {})}
    usual = {"vocab_size": tokenizer().vocab_size, "vectors": vectors, "max_len": 24}
    model = make(**{**usual, **fields})
    return trace_text(model, tokenizer(), wave(rate=chosen.rate), target=target, features=chosen)
