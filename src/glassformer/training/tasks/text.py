"""Language modelling: windows of one long text, each token predicted from those before it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from glassformer.data import IGNORED, TokenWindows, evaluation_windows
from glassformer.data.mixtures import BLOCK, MixedWindows, quotas
from glassformer.data.packing import PackedWindows, evaluation_documents
from glassformer.errors import ConfigError, DataError
from glassformer.evaluate import Score, evaluate
from glassformer.evaluate.perplexity import LOGITS_PER_BATCH, TOKENS_PER_BATCH
from glassformer.generate import Generation, Sampling, generate_text
from glassformer.models import Model
from glassformer.training.decide import Decisions, choose_model
from glassformer.training.recipe import DataRecipe, Recipe
from glassformer.training.tasks.running import Encoded, file_digests, source_of
from glassformer.training.tasks.task import Batch, Place, Task, Vocabularies, derived_seed

EVALUATION_TOKENS = 131_072  # of the validation text, while training; the end result is measured on all of it
SAMPLE_TOKENS = 60
SHOWN_CHARACTERS = 200  # of a window that a report names


class Text(Task):
    """Next-token prediction on plain text."""

    shapes = ("decoder",)
    preset = ("modern", "trains fastest to a given loss here, and transformers opens it as Qwen3")

    def __init__(self, data: DataRecipe) -> None:
        self.data = data
        groups = [(name,) for name in data.sources] if data.weights else [data.sources]
        self.sources = [source_of(names, data) for names in groups]
        self.notes = [note for source in self.sources for note in source.notes]
        self.n_bytes = sum(source.n_bytes for source in self.sources)
        if data.weights:
            shares = quotas(data.weights, len(data.sources)) / BLOCK
            self.notes.append(
                "mixed: " + ", ".join(f"{s:.1%} {name}" for s, name in zip(shares, data.sources, strict=True))
            )
        if any(source.digests is not None for source in self.sources):
            self.digests = file_digests(data.validation)
            for names, source in zip(groups, self.sources, strict=True):
                self.digests |= file_digests(names) if source.digests is None else source.digests

    def texts(self) -> Iterator[str]:
        return (text for source in self.sources for text in source.texts())

    def choose_tokenizer(self, decisions: Decisions) -> None:
        """That of the shards, where there are any, as their tokens mean nothing without it."""
        bound = next((source.tokenizer for source in self.sources if source.tokenizer is not None), None)
        if bound is not None and decisions.get("tokenizer.path") is None:
            for key in ("tokenizer.kind", "tokenizer.vocab_size"):
                if decisions.get(key) is not None:
                    raise ConfigError(
                        f"{key}={decisions.get(key)}: token shards come with their tokenizer; leave it out"
                    )
            decisions.choose("tokenizer.path", str(bound), "the tokenizer that the shards were made with")
        super().choose_tokenizer(decisions)

    def encode(self, vocabularies: Vocabularies) -> None:
        """Every source as one array of ids, or what stands for one."""
        self.vocabularies, self.tokenizer = vocabularies, vocabularies.target
        self.encoded = [source.encode(self.tokenizer) for source in self.sources]
        self.train = self.encoded[0].train
        held = self.held_back
        self.validation = joined([part.validation for part in held])
        self.validation_bytes = sum(part.validation_bytes for part in held)
        self.n_train = sum(len(part.train) for part in self.encoded)
        for name, size in (
            ("training", min(len(part.train) for part in self.encoded)),
            ("validation", len(self.validation)),
        ):
            if size < 2:
                raise DataError(f"the {name} text has {size} of the 2 tokens it needs at least; add text")
        prints = [part.fingerprint for part in self.encoded]
        self.fingerprint = prints[0] if len(prints) == 1 else hashlib.sha256("".join(prints).encode()).hexdigest()

    @property
    def held_back(self) -> Sequence[Encoded]:
        """What each source has held back, which is the same for all where it was given."""
        return self.encoded[:1] if self.data.validation else self.encoded

    def choose_sizes(self, decisions: Decisions) -> None:
        choose_model(decisions, self.n_train)

    def choose_batch(self, decisions: Decisions) -> None:
        asked = decisions.get("loop.batch_tokens")
        if asked is not None:
            raise ConfigError(
                f"loop.batch_tokens={asked} is for rows of many lengths, and windows of running text have one: "
                "set loop.batch_size instead"
            )
        max_len = int(decisions.get("model.max_len"))
        reason = f"about 2,048 tokens in a step of {max_len}-token windows"
        decisions.choose("loop.batch_size", max(4, 2048 // max_len), reason)

    def begin(self, recipe: Recipe) -> None:
        self.recipe = recipe
        length, packs = recipe.model.max_len, recipe.data.packing == "documents"
        laid = [self.laid_out(number, recipe) for number in range(len(self.sources))]
        self.windows = MixedWindows(laid, recipe.data.weights, recipe.seed) if recipe.data.weights else laid[0]
        if packs:
            bounds = np.cumsum([0, *(len(part.validation) for part in self.held_back)])[:-1].tolist()
            ends = [part.validation_ends + bound for part, bound in zip(self.held_back, bounds, strict=True)]
            self.inputs, self.targets = evaluation_documents(self.validation, np.concatenate(ends), length)
        else:
            self.inputs, self.targets = evaluation_windows(self.validation, length)

    def laid_out(self, number: int, recipe: Recipe) -> TokenWindows | PackedWindows:
        """The windows of one source, in an order of its own."""
        length, train = recipe.model.max_len, self.encoded[number].train
        seed = recipe.seed if number == 0 else derived_seed("source", recipe.seed, number)
        if recipe.data.packing == "documents":
            return PackedWindows(train, self.sources[number].train_ends(), length, seed, self.tokenizer.pad_id)
        return TokenWindows(train, length, seed)

    def batch(self, step: int) -> Batch:
        for source in self.sources:
            source.check()
        windows = torch.from_numpy(self.windows.batch(step, self.batch_size))
        if windows.dim() == 3:
            ids, targets, documents = windows.unbind(1)
            return Batch({"ids": ids, "documents": documents}, targets, int((targets != IGNORED).sum()), ids.numel())
        targets = windows[:, 1:]
        return Batch({"ids": windows[:, :-1]}, targets, targets.numel(), targets.numel())

    def rows_of(self, step: int) -> Sequence[Place]:
        numbers = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        rows = self.windows.rows_at(numbers)
        texts = [self.tokenizer.decode(row[0].tolist() if row.ndim == 2 else row.tolist()) for row in rows]
        places = self.windows.places_at(numbers)
        return [Place(where, text[:SHOWN_CHARACTERS]) for where, text in zip(places, texts, strict=True)]

    @property
    def batch_size(self) -> int:
        """Windows in one step."""
        assert self.recipe.loop.batch_size is not None
        return self.recipe.loop.batch_size

    def epoch(self, step: int) -> float:
        return self.windows.epoch(step, self.batch_size)

    def evaluate(self, model: Model, *, whole: bool) -> Score:
        rows = np.arange(len(self.inputs))
        if not (whole or self.measures_all):
            rows = np.linspace(0, len(rows) - 1, self.quick).astype(int)
        share = (self.targets[rows] != IGNORED).sum() / (self.targets != IGNORED).sum()
        return evaluate(model, self.inputs[rows], self.targets[rows], round(self.validation_bytes * share))

    @property
    def quick(self) -> int:
        """Windows that are measured while training."""
        return max(1, EVALUATION_TOKENS // self.inputs.shape[1])

    @property
    def measures_all(self) -> bool:
        return len(self.inputs) <= self.quick

    @property
    def at_once(self) -> int:
        """The most windows of one batch of an evaluation."""
        most = min(TOKENS_PER_BATCH, LOGITS_PER_BATCH // self.recipe.model.vocab_size)
        return max(1, most // self.inputs.shape[1])

    def evaluated_at_once(self) -> int:
        return min(len(self.inputs), self.at_once) * self.inputs.shape[1]

    def measured(self, *, whole: bool) -> tuple[int, int]:
        return (len(self.inputs) if whole else min(len(self.inputs), self.quick)) * self.inputs.shape[1], 0

    def sample(self, model: Model) -> str:
        prompt = self.recipe.loop.sample_prompt
        if prompt is None:
            beginning = self.validation[: max(1, min(16, self.recipe.model.max_len // 4))]
            prompt = self.tokenizer.decode(beginning.tolist())
        generation = Generation(max_new_tokens=SAMPLE_TOKENS, sampling=Sampling(temperature=0.8), seed=self.recipe.seed)
        written = generate_text(model, self.tokenizer, [prompt], generation=generation)  # type: ignore[arg-type]
        return prompt + written[0].text

    def next_commands(self, place: str) -> Iterable[str]:
        return (
            f"glassformer generate {place} -p 'Once upon a time'",
            f"glassformer explain {place} 'Once upon a time'",
            f"glassformer info {place}",
        )

    @property
    def generation(self) -> Mapping[str, Any]:
        return {"temperature": 0.8, "do_sample": True}


def joined(arrays: Sequence[NDArray[np.integer[Any]]]) -> NDArray[np.integer[Any]]:
    """Arrays one behind the other, without a copy of a single one."""
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
