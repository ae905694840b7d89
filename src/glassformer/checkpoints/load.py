"""Opening a model folder, ours or another tool's. Nothing in it is unpickled or run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from glassformer.checkpoints.families import FAMILIES, Family, Keys
from glassformer.checkpoints.json_files import read_json
from glassformer.checkpoints.save import SOURCE, refuse_misfits
from glassformer.checkpoints.tensors import opened
from glassformer.checkpoints.weights import from_file
from glassformer.errors import CheckpointError, nearest
from glassformer.models import Model
from glassformer.tokenizers import Tokenizer, load_tokenizer


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


TOKEN_IDS = ("bos_token_id", "decoder_start_token_id", "eos_token_id", "pad_token_id")


def load_model(folder: Path, *, dtype: torch.dtype | None = None, device: torch.device | str = "cpu") -> Loaded:
    """The model of a folder, in evaluation mode, with its tokenizers where there are any.

    `dtype` None keeps the number type of the file. `generation` holds the defaults of generation_config.json and the ids
    of special tokens; `metadata` what `save_model` remembered. Raises CheckpointError, naming the file, for what is
    missing, damaged, or cannot be expressed here, and TokenizerError for such a tokenizer.json.
    """
    values = read_config(folder)
    family = family_named(values.get("model_type"), folder / "config.json")
    keys = Keys(values, str(folder / "config.json"))
    with opened(folder) as file:
        config = family.from_config(keys, remembered(file.metadata))
        model = from_file(config, family, file, dtype, device)
        metadata = file.metadata
    tokenizer = tokenizer_of(folder)
    source_tokenizer = tokenizer_of(folder / SOURCE) if config.shape == "encoder_decoder" else None
    refuse_misfits(config, tokenizer, source_tokenizer, str(folder))
    generation = read_generation(folder, values)
    said = tuple(notes(keys, family))
    return Loaded(model, tokenizer, generation, family.model_type, metadata, said, source_tokenizer)


def tokenizer_of(folder: Path) -> Tokenizer | None:
    """The tokenizer of a folder, None where there is none. Raises TokenizerError."""
    return load_tokenizer(folder) if (folder / "tokenizer.json").exists() else None


def read_config(folder: Path) -> dict[str, Any]:
    """The config.json of a folder. Raises CheckpointError, with the way out where there is one."""
    if not folder.is_dir():
        if folder.exists():
            raise CheckpointError(
                f"{folder}: is a file, expected a model folder (with config.json and model.safetensors)"
            )
        raise CheckpointError(f"{folder}: there is no such folder{nearest(folder.name, folders_beside(folder))}")
    if not (folder / "config.json").exists():
        inner = next((name for name in ("final", "best") if (folder / name / "config.json").exists()), None)
        hint = f"; the model of this run is in {folder / inner}" if inner else ", so it is no model folder"
        raise CheckpointError(f"{folder}: has no config.json{hint}")
    return read_json(folder / "config.json")


def folders_beside(folder: Path) -> list[str]:
    """The names of the folders where this one was expected."""
    parent = folder.absolute().parent
    return [path.name for path in parent.iterdir() if path.is_dir()] if parent.is_dir() else []


def family_named(model_type: Any, where: Path) -> Family:
    """The family of a `model_type`. Raises CheckpointError with the nearest or all known ones."""
    if not isinstance(model_type, str):
        raise CheckpointError(f"{where}: expected a 'model_type' (one of {', '.join(FAMILIES)}), found {model_type!r}")
    if model_type not in FAMILIES:
        raise CheckpointError(f"{where}: model_type {model_type!r} is not known here{nearest(model_type, FAMILIES)}")
    return FAMILIES[model_type]


def remembered(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The config that we wrote beside the weights, for the fields that a family has no words for."""
    config = metadata.get("config")
    return config if isinstance(config, dict) else {}


def read_generation(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults for generating; folders without the file keep their token ids in config.json."""
    ids = {key: config[key] for key in TOKEN_IDS if key in config}
    path = folder / "generation_config.json"
    found = {key: value for key, value in (read_json(path) if path.exists() else {}).items() if value is not None}
    if found.get("do_sample") is False:
        found["temperature"] = 0.0  # how those who say so mean "always the likeliest"
    if found.get("top_k") == 0:
        del found["top_k"]  # their way to say "all"
    return ids | found


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
