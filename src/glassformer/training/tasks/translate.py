"""Translation: a source is read whole, its target written token by token after it."""

# S source tokens, T target tokens

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glassformer.data import IGNORED
from glassformer.data.pairs import Pair, read_pairs, split_pairs
from glassformer.evaluate import bleu
from glassformer.generate.beam import Beam
from glassformer.generate.reading import padded, with_end
from glassformer.generate.translate import translate
from glassformer.models import Model, ModelConfig
from glassformer.tokenizers import Tokenizer
from glassformer.tokenizers.roles import SEPARATOR, START
from glassformer.training.decide import Decisions
from glassformer.training.recipe import DataRecipe, Recipe
from glassformer.training.tasks.rows import Rows, choose_shape
from glassformer.training.tasks.task import Batch, Vocabularies, fingerprint

SHOWN = 3  # translations in a sample
SCORED = 200  # sentences whose translations are scored while training
LONGEST = 256


class Translate(Rows):
    """Pairs of texts, by an encoder-decoder, or by a decoder that reads the source before a separator."""

    specials = (START, SEPARATOR)
    shapes = ("encoder_decoder", "decoder")
    preset = ("small-seq2seq", "today's practice at a size for tens of thousands of pairs")
    unit = "pair"
    in_one_row = False  # whether source and target are read as one text, as a decoder does

    def __init__(self, data: DataRecipe) -> None:
        keys = {"source_key": data.source_key, "target_key": data.target_key, "encoding": data.encoding}
        corpus = read_pairs(data.sources, **keys)
        held_back = read_pairs(data.validation, **keys) if data.validation else None
        train, validation, note = split_pairs(corpus, data.validation_fraction, validation=held_back)
        self.pairs: dict[str, Sequence[Pair]] = {"train": train, "validation": validation}
        self.unread = [*corpus.skipped, *(held_back.skipped if held_back else ())]
        self.notes = [*corpus.notes, *(held_back.notes if held_back else ()), note]
        self.n_bytes = sum(len(pair.source.encode()) + len(pair.target.encode()) for pair in train)

    def texts(self) -> Iterator[str]:
        for pair in self.pairs["train"]:
            yield pair.source
            yield pair.target

    def source_texts(self) -> Iterator[str]:
        return (pair.source for pair in self.pairs["train"])

    def target_texts(self) -> Iterator[str]:
        return (pair.target for pair in self.pairs["train"])

    def encode(self, vocabularies: Vocabularies) -> None:
        self.vocabularies = vocabularies
        source, target = vocabularies.source, vocabularies.target
        self.sources = {side: with_end(source, [pair.source for pair in pairs]) for side, pairs in self.pairs.items()}
        self.targets = {side: with_end(target, [pair.target for pair in pairs]) for side, pairs in self.pairs.items()}
        rows = (row for both in (self.sources, self.targets) for side in both.values() for row in side)
        self.fingerprint = fingerprint(np.array(row, np.int64) for row in rows)

    @property
    def source_tokenizer(self) -> Tokenizer | None:
        return None if self.vocabularies.are_one else self.vocabularies.source

    def choose_sizes(self, decisions: Decisions) -> None:
        self.in_one_row = decisions.get("model.shape") == "decoder"
        if not self.vocabularies.are_one:
            decisions.choose("model.shared_embedding", False, "the two sides have vocabularies of their own")
            asked = decisions.get("model.encoder") or {}
            asked.setdefault("vocab_size", self.vocabularies.source.vocab_size)
            decisions.put("model.encoder", asked)
        lengths = self.lengths("train")
        choose_shape(decisions, int(lengths.sum()))
        self.choose_max_len(decisions, int(lengths.max()), LONGEST)

    def begin(self, recipe: Recipe) -> None:
        self.in_one_row = recipe.model.shape == "decoder"
        super().begin(recipe)

    def limits(self, config: ModelConfig) -> Sequence[int]:
        if config.shape == "encoder_decoder":
            return (config.source_side().max_len, config.max_len)
        return (config.max_len,)

    def lengths(self, side: str) -> NDArray[np.int64]:
        both = zip(self.sources[side], self.targets[side], strict=True)
        lengths = np.array([(len(source), len(target)) for source, target in both], np.int64).reshape(-1, 2)
        # In one row a separator stands in place of the source's end, and nothing need follow the target's.
        return lengths.sum(1, keepdims=True) - 1 if self.in_one_row else lengths

    def where(self, side: str, row: int) -> str:
        return self.pairs[side][row].where

    def text_of(self, side: str, row: int) -> str:
        return f"{self.pairs[side][row].source} -> {self.pairs[side][row].target}"

    def collate(self, side: str, rows: Sequence[int], step: int | None = None) -> Batch:
        sources = [self.sources[side][row] for row in rows]
        targets = [self.targets[side][row] for row in rows]
        n_targets = sum(map(len, targets))
        n_tokens = n_targets + sum(map(len, sources))
        if self.in_one_row:
            ids, wanted = self.after_the_source(sources, targets)
            return Batch({"ids": ids}, wanted, n_targets, n_tokens)
        # Behind the end of a target nothing counts, and before it nothing later is seen: no position need be marked.
        start = self.vocabularies.target.special_tokens[START]
        ids, _ = padded([[start, *target[:-1]] for target in targets])
        wanted, at = padded(targets)
        source, source_at = padded(sources)
        inputs = {"ids": ids, "source": source, "source_at": source_at}
        return Batch(inputs, wanted.masked_fill(at < 0, IGNORED), n_targets, n_tokens)

    def after_the_source(self, sources: list[list[int]], targets: list[list[int]]) -> tuple[Tensor, Tensor]:
        """Source, separator and target in one row, of which only the target is to be predicted."""
        separator = self.vocabularies.target.special_tokens[SEPARATOR]
        whole = [[*source[:-1], separator, *target] for source, target in zip(sources, targets, strict=True)]
        ids, _ = padded([row[:-1] for row in whole])
        wanted, at = padded([row[1:] for row in whole])
        read = torch.tensor([len(source) - 1 for source in sources])[:, None]
        return ids, wanted.masked_fill(at < read, IGNORED)

    def bytes_of(self, rows: Sequence[int]) -> int:
        return sum(len(self.pairs["validation"][row].target.encode()) for row in rows)

    def measure(self, model: Model, answers: dict[int, object]) -> dict[str, float]:
        pairs = [self.pairs["validation"][row] for row in self.rows_written(list(answers))]
        found = self.translated(model, [pair.source for pair in pairs])
        return {"bleu": bleu(found, [pair.target for pair in pairs]).value}

    def rows_written(self, rows: Sequence[int]) -> Sequence[int]:
        return rows[:SCORED]

    def write_some(self, model: Model, rows: int) -> int:
        chosen = self.rows_written(self.kept["validation"].tolist())[:rows]
        longest = max(len(self.targets["validation"][row]) for row in chosen)
        self.translated(model, [self.pairs["validation"][row].source for row in chosen], longest)
        return len(chosen)

    def answers(self, rows: Sequence[int], said: Tensor) -> dict[int, object]:
        return dict.fromkeys(rows, True)  # which rows were measured

    def sample(self, model: Model) -> str:
        rows = self.kept["validation"][:SHOWN].tolist()
        pairs = [self.pairs["validation"][row] for row in rows]
        asked = self.recipe.loop.sample_prompt
        if asked is not None:
            return f"{asked} -> {self.translated(model, [asked])[0]}"
        found = self.translated(model, [pair.source for pair in pairs])
        lines = zip(pairs, found, strict=True)
        return "\n".join(f"{pair.source} -> {said} (wanted: {pair.target})" for pair, said in lines)

    def translated(self, model: Model, texts: Sequence[str], most: int | None = None) -> list[str]:
        """Greedy translations, of at most so many tokens."""
        beam = Beam(num_beams=1, max_new_tokens=most or self.recipe.model.max_len)
        found = translate(model, self.vocabularies.source, self.vocabularies.target, texts, beam=beam)
        return [translation.text for translation in found]

    def next_commands(self, place: str) -> Iterable[str]:
        example = self.pairs["validation"][0].source.replace("'", "")
        return (f"glassformer translate {place} '{example}'", f"glassformer info {place}")

    @property
    def generation(self) -> Mapping[str, Any]:
        return {"num_beams": 5, "length_penalty": 1.0, "early_stopping": "likely"}
