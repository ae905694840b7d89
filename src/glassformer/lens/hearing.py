"""What an encoder of vectors hears: a sound file or vectors from one, with what leads from the samples to the vectors."""

# N samples, S vectors, F numbers of each

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from glassformer.errors import ConfigError, DataError
from glassformer.features import FeatureConfig, extract
from glassformer.generate.vectors import stride_of
from glassformer.models import ModelConfig
from glassformer.models.config import VectorInput
from glassformer.ops.framing import fewest_samples


@dataclass(frozen=True)
class Heard:
    """Vectors (S F, float32), and where they come from a wave its samples (N, as they were cut: at the rate of `features`,
    filled up with silence where that is done). `seconds` from one vector to the next, None where nobody knows. `origin` says
    of a sound which file, how long, at which rate, and its digest; `start` when in it the first sample is, in seconds."""

    name: str
    vectors: Tensor
    samples: Tensor | None = None
    features: FeatureConfig | None = None
    notes: tuple[str, ...] = ()
    origin: Mapping[str, Any] | None = None
    start: float = 0.0

    @property
    def seconds(self) -> float | None:
        """From one vector to the next."""
        return seconds_of(self.features)


def seconds_of(features: FeatureConfig | None) -> float | None:
    """From one vector to the next, None where nobody knows."""
    return None if features is None or features.kind == "vectors" else features.hop / features.rate


def seconds_of_trace(trace: Any) -> float | None:
    """From one vector of a trace to the next, None where nobody knows."""
    features = trace.settings.get("features")
    return seconds_of(None if features is None else FeatureConfig.parse(features, "features"))


def hear(source: str | Path | np.ndarray, reads: VectorInput, features: FeatureConfig | None) -> Heard:
    """The vectors of a sound file, of a file of vectors (.npy, .npz, .parquet), of samples (N) at the rate of `features`,
    or of vectors (S F) themselves. Raises DataError for a file that cannot be read, ConfigError for what does not fit.
    """
    if isinstance(source, np.ndarray):
        if source.ndim == 2:
            given = torch.from_numpy(np.array(source, np.float32))
            return fitting(of_vectors("vectors", given, features), reads)
        features = known(features, "samples")
        return fitting(of_samples("samples", np.asarray(source, np.float32), features, (), None), reads)
    from glassformer.data.utterances.corpus import ALL_VECTOR_EXTENSIONS

    path = Path(source)
    if path.suffix.lower() in ALL_VECTOR_EXTENSIONS:
        return fitting(of_vectors(path.name, vectors_in(path), features), reads)
    from glassformer.data.opening import missing
    from glassformer.data.sound import read_sound

    if not path.is_file():
        raise missing(path) if str(source) else ConfigError("this model reads sound or vectors: name a file")
    features = known(features, str(path))
    sound = read_sound(path, features.rate)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    origin = {"file": path.name, "rate": sound.rate, "seconds": sound.seconds, "sha256": digest}
    return fitting(of_samples(path.name, sound.samples, features, sound.notes, origin), reads)


def known(features: FeatureConfig | None, name: str) -> FeatureConfig:
    """How sound becomes vectors. Raises ConfigError where the model does not say."""
    if features is None or features.kind == "vectors":
        raise ConfigError(
            f"{name}: this model does not say how sound becomes vectors (its folder has no such preprocessor_config.json);"
            " give the vectors themselves, as .npy"
        )
    return features


def vectors_in(path: Path) -> Tensor:
    """The vectors of a file that holds one sequence. Raises DataError."""
    from glassformer.data.opening import missing
    from glassformer.data.utterances.corpus import Utterance
    from glassformer.data.utterances.vectors import read_vectors

    if not path.is_file():
        raise missing(path)
    return torch.from_numpy(read_vectors(Utterance(where=str(path), path=path, text="")))


def of_vectors(name: str, given: Tensor, features: FeatureConfig | None) -> Heard:
    """Vectors (S F) as the model reads them: with the deltas and the normalisation that its features say where it was made
    for vectors; where it was made for sound, or says nothing, they are taken for what its features would have made.

    Raises DataError where they are of another size than the features say, ConfigError for none at all.
    """
    if features is None or features.kind != "vectors" or given.ndim != 2 or not len(given):
        return Heard(name, given, None, features)
    try:
        return Heard(name, extract(given, features), None, features)
    except DataError as error:
        raise DataError(f"{name}: {error}") from None


def of_samples(
    name: str, samples: np.ndarray, features: FeatureConfig, notes: tuple[str, ...], origin: Mapping[str, Any] | None
) -> Heard:
    """The vectors of samples, and the samples as they were cut. Raises DataError for none at all."""
    if not len(samples):
        raise DataError(f"{name}: there is no sample in it")
    from glassformer.data.sound import heard_part

    start, end = heard_part(samples, features)
    wave = filled(torch.from_numpy(np.array(samples[start:end], np.float32)), features)
    return Heard(name, extract(wave, features), wave, features, notes, origin, start / features.rate)


def filled(wave: Tensor, features: FeatureConfig) -> Tensor:
    """The wave with the silence behind it that a chunk, or a single frame, calls for. wave: N."""
    needed = max(
        fewest_samples(features.n_fft, centred=features.centred), (features.chunk_seconds or 0) * features.rate
    )
    return F.pad(wave, (0, max(0, needed - len(wave))))


def fitting(heard: Heard, reads: VectorInput) -> Heard:
    """The same. Raises ConfigError where the model reads vectors of another size, DataError where there are none."""
    if heard.vectors.ndim != 2 or not len(heard.vectors):
        raise DataError(f"{heard.name}: expected vectors (frames and channels), found {tuple(heard.vectors.shape)}")
    if heard.vectors.shape[1] != reads.size:
        raise ConfigError(
            f"{heard.name}: its vectors have {heard.vectors.shape[1]} channels and the model reads {reads.size}"
        )
    return heard


def sound_given(samples: Tensor, features: FeatureConfig) -> dict[str, Tensor]:
    """What the recipes of a sound work from, by name: the samples (b N) and the constants of the features, each with an axis
    of one before it."""
    from glassformer.features.extraction import constants

    own = constants(features, torch.float32, torch.device("cpu"))  # pyright: ignore[reportArgumentType]  # frozen, so it has a hash
    given = {"sound.samples": samples, "sound.window": own.window[None], "sound.filters": own.filters[None]}
    if features.kind == "mfcc":
        given |= {"sound.cosines": own.cosines[None], "sound.lifter": own.lifter[None]}
    return given


def places(config: ModelConfig, count: int, seconds: float | None, start: float = 0.0) -> tuple[str, ...]:
    """What the places that the convolutions leave are called: by their times, the first being at `start`, or by numbers."""
    if seconds is None:
        return tuple(f"v{place * stride_of(config)}" for place in range(count))
    step = seconds * stride_of(config)
    digits = 2 if step >= 0.01 else 3
    return tuple(f"{start + place * step:.{digits}f}s" for place in range(count))


def reach_of(strides: tuple[int, ...]) -> int:
    """How many vectors one place hears: each convolution sees three of what the one before it left."""
    reach, step = 1, 1
    for stride in strides:
        reach, step = reach + 2 * step, step * stride
    return reach
