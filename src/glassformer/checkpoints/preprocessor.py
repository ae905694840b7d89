"""preprocessor_config.json of a model folder: Whisper's keys as transformers writes them, our own for the other kinds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from glassformer.checkpoints.json_files import read_json, write_json
from glassformer.errors import CheckpointError, ConfigError
from glassformer.features import FeatureConfig

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


def write_features(config: FeatureConfig, folder: Path) -> None:
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
    write_json(folder / PREPROCESSOR, values)


def read_features(folder: Path) -> FeatureConfig:
    """The config of a model folder, from preprocessor_config.json, or from the part of processor_config.json that newer
    versions of transformers write in its place. Raises CheckpointError with the file."""
    path = folder / PREPROCESSOR
    values = read_json(path) if path.exists() else None
    if values is None and (path.parent / PROCESSOR).exists():
        path = path.parent / PROCESSOR
        inner = read_json(path).get("feature_extractor")
        values = inner if isinstance(inner, dict) else None
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
