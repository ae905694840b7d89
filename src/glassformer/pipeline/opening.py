"""Where pipelines come from: model folders, run folders, and training."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from glassformer import tokenizers
from glassformer.checkpoints import load_model, model_folder
from glassformer.config import set_dotted
from glassformer.data import read_documents
from glassformer.errors import CheckpointError
from glassformer.pipeline.pipeline import Pipeline
from glassformer.tokenizers import Tokenizer
from glassformer.training import Screen, Silence, choose_device, train_run


def load(folder: str | Path, *, device: str = "cpu") -> Pipeline:
    """Open a model folder of any shape, or the best model of a run folder. Raises CheckpointError where there is none,
    ConfigError for a device that cannot be used."""
    path = model_folder(Path(folder))
    place = choose_device(device)
    loaded = load_model(path, device=place, dtype=torch.float32 if place.type == "cpu" else None)  # the fast type there
    if loaded.tokenizer is None:
        raise CheckpointError(f"{path}: has no tokenizer.json, without which no text can be read or written")
    return Pipeline(loaded.model, loaded.tokenizer, loaded.generation, loaded.notes, loaded.source_tokenizer)


def train_tokenizer(
    sources: str | Path | Iterable[str | Path], kind: str = "bpe", *, vocab_size: int | None = None, **options: Any
) -> Tokenizer:
    """A tokenizer trained on files; options are those of `glassformer.tokenizers.train_tokenizer`."""
    listed = [sources] if isinstance(sources, str | Path) else list(sources)
    texts = [document.text for document in read_documents(listed).documents]
    return tokenizers.train_tokenizer(kind, texts, vocab_size=vocab_size, **options)


def train(
    sources: str | Path | Iterable[str | Path],
    out_dir: str | Path,
    *,
    minutes: float = 5.0,
    screen: Screen | None = None,
    **wishes: Any,
) -> Pipeline:
    """Train on files and return the best model. Wishes: parts of a recipe by name, with dots as in recipe.yaml or nested:
    ``train("my.txt", "runs/mine", **{"model.n_layers": 2}, preset="fastest")``."""
    listed = [sources] if isinstance(sources, str | Path) else list(sources)
    values: dict[str, Any] = {}
    set_dotted(values, "data.sources", [str(source) for source in listed])
    for key, value in wishes.items():
        set_dotted(values, key, value)
    train_run(values, Path(out_dir), minutes=minutes, screen=screen or Silence())
    return load(out_dir)
