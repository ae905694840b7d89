"""What a model says of how a wave becomes its vectors, checked at birth. The arithmetic is in `ops/mel.py`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, Self, cast

from pydantic import Field, model_validator

from glassformer.config import Config
from glassformer.errors import ConfigError
from glassformer.ops.framing import n_frames
from glassformer.ops.mel_scale import mel_edges

WINDOW_SECONDS, HOP_SECONDS = 0.025, 0.010  # what speech is commonly cut into (The HTK Book, section 3.1.5)
WHISPER = {"rate": 16000, "n_fft": 400, "hop": 160, "chunk_seconds": 30, "high_hz": 8000.0}
WHISPER_FIXED: dict[str, object] = {  # what is not written in Whisper's files because it is never otherwise
    "window_shape": "hann",
    "scale": "slaney",
    "equal_area": True,
    "centred": True,
    "low_hz": 0.0,
    "high_hz": 8000.0,
    "preemphasis": 0.0,
    "deltas": 0,
    "normalise": "none",
    "trim_db": None,
}


OF_CEPSTRA = ("n_mfcc", "lifter")
OF_VECTORS = ("kind", "size", "deltas", "normalise")  # all that counts where there is no wave


class FeatureConfig(Config):
    """How a wave of `rate` samples a second becomes vectors of `channels` numbers.

    Lengths that are not given follow from the rate: a window of 25 ms, a hop of 10 ms, a Fourier transform of the next power
    of two (Whisper's own lengths where `kind` is "whisper"), and bands up to half of the rate.
    """

    kind: Literal["log-mel", "whisper", "mfcc", "vectors"] = Field(
        default="log-mel",
        description="log-mel: natural logarithm of the power in mel bands; whisper: bands exactly as Whisper reads them; "
        "mfcc: cepstral coefficients; vectors: they come as they are, from files",
    )
    rate: int = Field(default=16000, ge=1000, le=768_000, description="samples a second")
    n_mels: int = Field(default=80, ge=1, le=1024)
    n_fft: int = Field(default=512, ge=2, le=1 << 20, description="samples that the Fourier transform takes")
    window: int = Field(default=400, ge=2, description="samples of a frame that count")
    hop: int = Field(default=160, ge=1, description="samples from one frame to the next")
    window_shape: Literal["hann", "hamming", "blackman", "rectangular"] = "hann"
    centred: bool = Field(default=True, description="frames have their middles at multiples of the hop, ends mirrored")
    scale: Literal["slaney", "htk"] = "slaney"
    equal_area: bool = Field(
        default=True, description="bands count alike for even noise; otherwise their peaks are one"
    )
    low_hz: float = Field(default=0.0, ge=0)
    high_hz: float = Field(default=8000.0, gt=0)
    n_mfcc: int = Field(default=13, ge=1)
    lifter: int = Field(default=22, ge=0, description="mfcc: 0 for none")
    deltas: int = Field(
        default=0, ge=0, le=2, description="1 adds how fast each number changes, 2 also how fast that does"
    )
    preemphasis: float = Field(default=0.0, ge=0, lt=1)
    normalise: Literal["none", "level", "utterance", "running"] = Field(
        default="none",
        description="level: all numbers of an utterance together to mean 0 and variance 1; utterance: each channel; "
        "running: each channel by what came so far",
    )
    trim_db: float | None = Field(
        default=None,
        gt=0,
        le=120,
        description="cut off what is so much quieter than the loudest before and behind what is heard at once; none by default",
    )
    chunk_seconds: int | None = Field(
        default=None, ge=1, le=3600, description="whisper: shorter waves are filled up with silence to this length"
    )
    size: int | None = Field(default=None, ge=1, description="vectors: how many numbers each has")

    @model_validator(mode="before")
    @classmethod
    def fill_lengths(cls, values: Any) -> Any:
        """Write out what follows from the kind and the rate; what is no mapping or no number is left to be refused."""
        if not isinstance(values, dict):
            return values
        given = {key: value for key, value in cast("dict[str, Any]", values).items() if value is not None}
        if given.get("kind") == "whisper":
            given = {**WHISPER, **given}
            return {**given, "window": given.get("window", given["n_fft"])}
        try:
            rate = int(given.get("rate", 16000))
            window = int(given.get("window", round(rate * WINDOW_SECONDS)))
        except (TypeError, ValueError, OverflowError):
            return values
        follows: dict[str, Any] = {"hop": round(rate * HOP_SECONDS), "high_hz": rate / 2}
        return {**follows, "window": window, "n_fft": 1 << max(1, (window - 1).bit_length()), **given}

    @model_validator(mode="after")
    def fits_together(self) -> Self:
        """Raise ConfigError for what contradicts itself."""
        if self.kind == "vectors":
            if self.size is None:
                raise ConfigError("kind=vectors needs size, how many numbers each vector has")
            waves = [name for name in type(self).model_fields if name not in OF_VECTORS]
            self.leaves_alone(waves, "is for sound, and kind=vectors takes vectors from files")
            return self
        if self.kind != "mfcc":
            self.leaves_alone(OF_CEPSTRA, f"is for kind=mfcc; kind={self.kind} has n_mels={self.n_mels} bands")
        if self.size is not None:
            raise ConfigError(f"size={self.size} is for kind=vectors; kind={self.kind} makes {self.channels} numbers")
        if self.window > self.n_fft:
            raise ConfigError(f"window={self.window} is longer than n_fft={self.n_fft}, which takes it in")
        if self.high_hz > self.rate / 2:
            raise ConfigError(f"high_hz={self.high_hz:g} is above half of rate={self.rate}, where no frequency is")
        if self.low_hz >= self.high_hz:
            raise ConfigError(f"low_hz={self.low_hz:g} is not below high_hz={self.high_hz:g}")
        if self.kind == "mfcc" and self.n_mfcc > self.n_mels:
            raise ConfigError(f"n_mfcc={self.n_mfcc} is more than n_mels={self.n_mels}, of which they are made")
        if self.kind == "whisper":
            self.is_whispers()
        elif self.chunk_seconds is not None:
            raise ConfigError(
                f"chunk_seconds={self.chunk_seconds} is for kind=whisper; kind={self.kind} takes any length"
            )
        self.has_no_empty_band()
        return self

    def leaves_alone(self, names: Iterable[str], why: str) -> None:
        """Raise ConfigError for a field that has another value than its default, which would count for nothing."""
        for name in names:
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ConfigError(f"{name}={getattr(self, name)} {why}; leave it out")

    def is_whispers(self) -> None:
        """Raise ConfigError for what Whisper cannot be told."""
        fixed = {**WHISPER_FIXED, "window": self.n_fft}
        for name, value in fixed.items():
            if getattr(self, name) != value:
                raise ConfigError(f"{name}={getattr(self, name)} where kind=whisper always has {value}")

    def has_no_empty_band(self) -> None:
        """Raise ConfigError where a band lies between two frequencies, so that it would always be silent."""
        step = self.rate / self.n_fft
        edges = mel_edges(self.n_mels, self.low_hz, self.high_hz, self.scale)
        for band, (low, high) in enumerate(zip(edges, edges[2:], strict=False)):
            if (low // step + 1) * step >= high:
                raise ConfigError(
                    f"n_mels={self.n_mels} is too many for n_fft={self.n_fft} at rate={self.rate}: band {band} lies between "
                    f"two of its frequencies, {step:g} Hz apart; take fewer bands or a larger n_fft"
                )

    @property
    def channels(self) -> int:
        """How many numbers each vector has: F."""
        own = {"vectors": self.size or 0, "mfcc": self.n_mfcc}.get(self.kind, self.n_mels)
        return own * (1 + self.deltas)

    def frames(self, n_samples: int) -> int:
        """How many vectors `extract` makes of a wave of so many samples; of vectors, as many as there are."""
        if n_samples < 1 or self.kind == "vectors":
            return max(0, n_samples)
        if self.kind == "whisper":
            return max(n_samples, (self.chunk_seconds or 0) * self.rate) // self.hop
        return n_frames(n_samples, self.n_fft, self.hop, centred=self.centred)
