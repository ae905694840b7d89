"""Where pipelines come from: model folders, run folders, and training."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from glassformer import tokenizers
from glassformer.checkpoints.open import open_model
from glassformer.checkpoints.stored import FLOATS
from glassformer.config import set_dotted
from glassformer.data import read_documents
from glassformer.errors import CheckpointError, ConfigError, nearest
from glassformer.pipeline.pipeline import Pipeline
from glassformer.tokenizers import Tokenizer
from glassformer.training import Screen, Silence, choose_device, train_run


def load(
    target: str | Path,
    *,
    device: str = "cpu",
    dtype: str | torch.dtype | None = None,
    hub: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Pipeline:
    """Open a model folder of any shape, the best model of a run folder, a .gguf file, or a model of the Hugging Face hub.

    The hub is asked only where `target` is ``"hub:org/name"``, or ``"org/name"`` with `hub`. dtype: the precision of the
    weights, "float32", "bfloat16", "float16" or "float64"; by default float32 on a CPU, the file's own elsewhere. progress:
    is told the bytes that were read and the bytes in all. Raises CheckpointError where there is no model, ConfigError for a
    device or precision that cannot be used.
    """
    place = choose_device(device)
    kind = torch.float32 if dtype is None and place.type == "cpu" else precision(dtype)  # the fast type there
    loaded = open_model(target, device=place, dtype=kind, progress=progress, hub=hub)
    if loaded.tokenizer is None:
        raise CheckpointError(f"{target}: has no tokenizer, without which no text can be read or written")
    return Pipeline(
        loaded.model,
        loaded.tokenizer,
        loaded.generation,
        loaded.notes,
        loaded.source_tokenizer,
        loaded.chat_template,
        loaded.features,
    )


def precision(dtype: str | torch.dtype | None) -> torch.dtype | None:
    """The number type of a name. Raises ConfigError."""
    if dtype is None or dtype in PRECISIONS.values():
        return dtype  # type: ignore[return-value]
    name = str(dtype).removeprefix("torch.")
    if name not in PRECISIONS:
        raise ConfigError(f"dtype={name!r} is not one of {', '.join(PRECISIONS)}{nearest(name, PRECISIONS)}")
    return PRECISIONS[name]


PRECISIONS = {str(kind).removeprefix("torch."): kind for kind in FLOATS.values()}


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
    allow_changed: bool = False,
    **wishes: Any,
) -> Pipeline:
    """Train on files and return the best model; for the folder of a run that was stopped, go on with it.

    `allow_changed`: go on also where recipe, files or tokenizer are no longer those that the run began with. Wishes: parts of
    a recipe by name, with dots as in recipe.yaml or nested: ``train("my.txt", "runs/mine", **{"model.n_layers": 2},
    preset="fastest")``.
    """
    listed = [sources] if isinstance(sources, str | Path) else list(sources)
    values: dict[str, Any] = {}
    set_dotted(values, "data.sources", [str(source) for source in listed])
    for key, value in wishes.items():
        set_dotted(values, key, value)
    train_run(values, Path(out_dir), minutes=minutes, screen=screen or Silence(), allow_changed=allow_changed)
    return load(out_dir)
