"""The one object that holds a whole way, from text to text: network, tokenizer and generation defaults."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from glassformer import tokenizers
from glassformer.checkpoints import load_model, save_model
from glassformer.config import set_dotted
from glassformer.data import read_documents
from glassformer.errors import CheckpointError
from glassformer.generate import Generation, TextCompletion, generate_text, stream_text
from glassformer.lens import Description, Explanation, describe, explain
from glassformer.models import Decoder
from glassformer.tokenizers import Token, Tokenizer
from glassformer.training import Screen, Silence, choose_device, train_run


@dataclass(frozen=True)
class Pipeline:
    """A model that can be asked. `generation`: the defaults of the model folder, in the words of generation_config.json."""

    model: Decoder
    tokenizer: Tokenizer
    generation: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def generate(self, prompt: str = "", **settings: Any) -> str:
        """What the model writes after `prompt`. Settings: those of `Generation`, and of `Sampling`, by name."""
        return self.generate_many([prompt], **settings)[0].text

    def generate_many(self, prompts: Iterable[str], **settings: Any) -> list[TextCompletion]:
        """Completions of many prompts at once, `num_samples` of each, every one as it would be alone."""
        return generate_text(self.model, self.tokenizer, list(prompts), generation=self.settings(settings))

    def stream(
        self, prompt: str = "", *, on_note: Callable[[str], None] | None = None, **settings: Any
    ) -> Iterator[str]:
        """The same text in pieces, as it becomes certain. `on_note` is told when the context is full."""
        generation = self.settings(settings)
        return stream_text(self.model, self.tokenizer, prompt, generation=generation, on_note=on_note)

    def explain(self, text: str, **where: Any) -> Explanation:
        """The arithmetic of one prediction; see `glassformer.lens.explain`."""
        return explain(self.model, self.tokenizer, text, **where)

    def tokens(self, text: str) -> list[Token]:
        """The pieces of a text with their bytes, ids and merges."""
        return self.tokenizer.tokens(text)

    def describe(self) -> Description:
        """Shapes, parameters and memory."""
        return describe(self.model, self.tokenizer)

    def save(self, folder: str | Path) -> None:
        """Write a model folder in the Hugging Face layout."""
        save_model(Path(folder), self.model, self.tokenizer, generation=self.generation)

    def settings(self, asked: Mapping[str, Any]) -> Generation:
        """The folder's defaults overridden by what is asked for. Raises ConfigError for an unknown or impossible setting."""
        values: dict[str, Any] = {}
        defaults = {name: self.generation[name] for name in SAMPLING if name in self.generation}
        for name, value in {**defaults, **asked}.items():
            set_dotted(values, f"sampling.{name}" if name in SAMPLING else name, value)
        return Generation.parse(values, "generation")


SAMPLING = (
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
)


def load(folder: str | Path, *, device: str = "cpu") -> Pipeline:
    """Open a model folder, or the best model of a run folder. Raises CheckpointError where there is none, ConfigError for a
    device that cannot be used."""
    path = model_folder(Path(folder))
    place = choose_device(device)
    loaded = load_model(path, device=place, dtype=torch.float32 if place.type == "cpu" else None)  # the fast type there
    if loaded.tokenizer is None:
        raise CheckpointError(f"{path}: has no tokenizer.json, without which no text can be read or written")
    return Pipeline(loaded.model, loaded.tokenizer, loaded.generation, loaded.notes)


def model_folder(folder: Path) -> Path:
    """Where the model of a run folder is: `best`, else `final`; any other folder is taken to be one itself."""
    for name in ("best", "final"):
        if (folder / name / "config.json").exists():
            return folder / name
    if (folder / "recipe.yaml").exists():
        raise CheckpointError(
            f"{folder}: this run has no model yet; let `glassformer train` reach its first evaluation"
        )
    return folder


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
