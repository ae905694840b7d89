"""preprocessor_config.json of a model folder: Whisper's keys as transformers writes them, our own for the other kinds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

from glassformer.errors import CheckpointError, ConfigError
from glassformer.features.config import FeatureConfig
from glassformer.files import whole_file

PREPROCESSOR, PROCESSOR = "preprocessor_config.json", "processor_config.json"
OURS, WHISPERS = "GlassformerFeatureExtractor", "WhisperFeatureExtractor"
TYPE = "feature_extractor_type"
FROM_WHISPER = {  # its key: ours
    "feature_size": "n_mels",
    "sampling_rate": "rate",
    "n_fft": "n_fft",
    "hop_length": "hop",
    "chunk_length": "chunk_seconds",
}
WHISPER_REST: dict[str, Any] = {  # what else changes the numbers, with the only value that is understood
    "dither": 0.0,
    "padding_value": 0.0,
    "do_normalize": False,
}


def save(config: FeatureConfig, folder: Path) -> None:
    """Write preprocessor_config.json; with kind "whisper" transformers' WhisperFeatureExtractor opens it. Raises DiskError."""
    if config.kind == "whisper":
        chunk = config.chunk_seconds or 0
        values: dict[str, Any] = {theirs: getattr(config, ours) for theirs, ours in FROM_WHISPER.items()}
        values |= {
            TYPE: WHISPERS,
            "dither": 0.0,
            "n_samples": chunk * config.rate,
            "nb_max_frames": chunk * config.rate // config.hop,
            "padding_side": "right",
            "padding_value": 0.0,
            "processor_class": "WhisperProcessor",
            "return_attention_mask": False,
        }
    else:
        values = {TYPE: OURS, **config.model_dump(mode="json")}
    with whole_file(Path(folder) / PREPROCESSOR) as path:
        path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def load(folder: Path) -> FeatureConfig:
    """The config of a model folder, from preprocessor_config.json, or from the part of processor_config.json that newer
    versions of transformers write in its place. Raises CheckpointError with the file."""
    path = Path(folder) / PREPROCESSOR
    values = read_object(path) if path.exists() else None
    if values is None and (path.parent / PROCESSOR).exists():
        path = path.parent / PROCESSOR
        inner = read_object(path).get("feature_extractor")
        values = cast("dict[str, Any]", inner) if isinstance(inner, dict) else None
    if values is None:
        raise CheckpointError(f"{path.parent}: has no {PREPROCESSOR}, which says how sound becomes vectors")
    values = dict(values)
    kind = values.pop(TYPE, None)
    try:
        if kind == OURS:
            return FeatureConfig.parse(values, str(path))
        if kind == WHISPERS:
            return FeatureConfig.parse(from_whisper(values, path), str(path))
    except ConfigError as error:
        raise CheckpointError(str(error)) from None
    raise CheckpointError(f"{path}: {TYPE} is {kind!r}, expected {WHISPERS!r} or {OURS!r}")


def from_whisper(values: dict[str, Any], path: Path) -> dict[str, Any]:
    """Our names for Whisper's; what follows from them (n_samples, mel_filters, ...) or tells nothing of numbers is left out."""
    for key, expected in WHISPER_REST.items():
        if values.get(key, expected) not in (expected, None):
            raise CheckpointError(f"{path}: {key} is {values[key]!r}, and only {expected!r} can be computed here")
    ours = {ours: values[theirs] for theirs, ours in FROM_WHISPER.items() if theirs in values}
    return {"kind": "whisper", **ours}


def read_object(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds. Raises CheckpointError with file and line."""
    try:
        values: object = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None
    except json.JSONDecodeError as error:
        raise CheckpointError(f"{path}:{error.lineno}: is not valid JSON ({error.msg})") from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: is not valid JSON in UTF-8 ({error})") from None
    if not isinstance(values, dict):
        raise CheckpointError(f"{path}: expected keys and values, found {type(values).__name__}")
    return cast("dict[str, Any]", values)
