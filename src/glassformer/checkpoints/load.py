"""Opening a model folder, ours or another tool's. Nothing that it brings along is run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from glassformer.checkpoints.chat_template import read_chat_template
from glassformer.checkpoints.families import Family, Keys
from glassformer.checkpoints.families.sentence_transformers import read_habits
from glassformer.checkpoints.families.whisper import WHISPER
from glassformer.checkpoints.generation_words import in_our_words, of_whisper, unkept, writing_of
from glassformer.checkpoints.json_files import read_json, refuse_pointer
from glassformer.checkpoints.preprocessor import PREPROCESSOR, PROCESSOR, read_features
from glassformer.checkpoints.recognise import CONFIG, family_of_folder, read_config
from glassformer.checkpoints.save import SOURCE, refuse_misfits
from glassformer.checkpoints.tensors import opened
from glassformer.checkpoints.weights import Progress, from_file, set_aside
from glassformer.errors import CheckpointError
from glassformer.features import FeatureConfig
from glassformer.models import Model, ModelConfig
from glassformer.tokenizers import Tokenizer
from glassformer.tokenizers.folders import open_source_tokenizer, open_tokenizer


@dataclass(frozen=True)
class Loaded:
    """What a model folder holds, and sentences about what was left out of it."""

    model: Model
    tokenizer: Tokenizer | None
    generation: dict[str, Any]
    family: str
    metadata: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    source_tokenizer: Tokenizer | None = None  # that of the sources, where they have a vocabulary of their own
    chat_template: str | None = None
    features: FeatureConfig | None = None  # how a wave becomes the vectors that the model reads


def load_model(
    folder: Path,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> Loaded:
    """The model of a folder, in evaluation mode, with its tokenizers where there are any.

    `dtype` None keeps the number type of the file. `progress` is told the bytes that were read and the bytes in all.
    `generation` holds the defaults of generation_config.json and the ids of special tokens; `metadata` what `save_model`
    remembered. Raises CheckpointError, naming the file, for what is missing, damaged, or cannot be expressed here, and
    TokenizerError for such a tokenizer.json; both before any weight is read.
    """
    values = read_config(folder)
    family = family_of_folder(values, folder / CONFIG)
    keys = Keys(values, str(folder / CONFIG), folder)
    generation, template = read_generation(folder, values), read_chat_template(folder)
    with opened(folder) as file:
        keys.tensors = file
        config = family.from_config(keys, remembered(file.metadata))
        generation |= read_habits(keys, config)
        tokenizer = tokenizer_of(folder)
        is_pair = config.shape == "encoder_decoder" and config.vectors is None
        source_tokenizer = source_tokenizer_of(folder) if is_pair else None
        features = features_of(folder, config, family)
        refuse_misfits(config, tokenizer, source_tokenizer, str(folder))
        if tokenizer is not None and config.shape == "encoder_decoder" and family.rules is not None:
            tokenizer.writing = writing_of(generation)
            keys.notes += unkept(generation)
        model = from_file(config, family, file, dtype, device, progress)
        metadata, aside = file.metadata, (*file.notes, *set_aside(model, family, file))
    said = (*notes(keys, family), *aside)
    return Loaded(model, tokenizer, generation, family.model_type, metadata, said, source_tokenizer, template, features)


def tokenizer_of(folder: Path) -> Tokenizer | None:
    """The tokenizer of a folder, None where there is none. Raises TokenizerError, CheckpointError for one not fetched."""
    for path in (folder / "tokenizer.json", folder / "tokenizer.model"):
        if path.is_file():
            with path.open("rb") as file:
                refuse_pointer(path, file.read(64))
    return open_tokenizer(folder)


def source_tokenizer_of(folder: Path) -> Tokenizer | None:
    """The tokenizer of the sources, where they have one of their own, in a folder inside or beside that of the targets."""
    return tokenizer_of(folder / SOURCE) or open_source_tokenizer(folder)


def features_of(folder: Path, config: ModelConfig, family: Family) -> FeatureConfig | None:
    """How a wave becomes the vectors of a model, None where it reads tokens or nobody says; Whisper's way follows from its size.

    Raises CheckpointError where the vectors would not fit the model.
    """
    if config.vectors is None:
        return None
    if (folder / PREPROCESSOR).exists() or (folder / PROCESSOR).exists():
        found = read_features(folder)
    elif family is WHISPER:
        found = FeatureConfig(kind="whisper", n_mels=config.vectors.size)
    else:
        return None
    if found.channels != config.vectors.size:
        raise CheckpointError(
            f"{folder / PREPROCESSOR}: makes vectors of {found.channels} numbers, the model reads {config.vectors.size}"
        )
    return found


def remembered(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The config that we wrote beside the weights, for the fields that a family has no words for."""
    config = metadata.get("config")
    return config if isinstance(config, dict) else {}


def read_generation(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults for generating, in our words; folders without the file keep some of them in config.json."""
    path = folder / "generation_config.json"
    found = read_json(path) if path.exists() else {}
    if config.get("model_type") == WHISPER.model_type:
        return of_whisper(found, config)
    return in_our_words(found, config, translates=config.get("is_encoder_decoder") is True)


def notes(keys: Keys, family: Family) -> list[str]:
    """Sentences about what of a config.json was not used."""
    unread = [key for key in keys.unread() if key not in family.idle]
    said = list(keys.notes)
    if "auto_map" in unread:
        unread.remove("auto_map")
        said.append("auto_map names code of the folder, which is never run here")
    if unread:
        said.append(f"{family.name} has no such keys and they were left out: {', '.join(unread)}")
    return [f"{keys.where}: {sentence}" for sentence in said]
