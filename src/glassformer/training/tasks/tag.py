"""Tagging: a label for each word of a sentence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glassformer.data import IGNORED
from glassformer.data.tagged import read_tagged, split_tagged
from glassformer.errors import DataError
from glassformer.generate.reading import padded
from glassformer.models import Model
from glassformer.training.decide import Decisions
from glassformer.training.recipe import DataRecipe
from glassformer.training.tasks.classify import LONGEST
from glassformer.training.tasks.rows import Rows, choose_shape
from glassformer.training.tasks.task import Batch, Vocabularies, fingerprint


class Tag(Rows):
    """A tag for each word, which the word's first token carries."""

    unit = "sentence"
    objective = "accuracy"

    def __init__(self, data: DataRecipe) -> None:
        corpus = read_tagged(data.sources, encoding=data.encoding)
        held_back = read_tagged(data.validation, encoding=data.encoding) if data.validation else None
        train, validation, note = split_tagged(corpus, data.validation_fraction, validation=held_back)
        self.rows = {"train": train, "validation": validation}
        self.unread = [*corpus.skipped, *(held_back.skipped if held_back else ())]
        self.notes = [*corpus.notes, *(held_back.notes if held_back else ()), note]
        self.labels = sorted({tag for row in train for tag in row.tags})
        for row in validation:
            unknown = [tag for tag in row.tags if tag not in self.labels]
            if unknown:
                known = ", ".join(self.labels[:8])
                raise DataError(f"{row.where}: tag {unknown[0]} does not occur in the training data, which has {known}")
        self.n_bytes = sum(len(" ".join(row.tokens).encode()) for row in train)

    def texts(self) -> Iterator[str]:
        return (" ".join(row.tokens) for row in self.rows["train"])

    def encode(self, vocabularies: Vocabularies) -> None:
        self.vocabularies, self.tokenizer = vocabularies, vocabularies.target
        self.ids: dict[str, list[list[int]]] = {}
        self.tags: dict[str, list[list[int]]] = {}
        for side, rows in self.rows.items():
            split = [self.tokenizer.encode_words(row.tokens) for row in rows]
            self.ids[side] = [[id for word in words for id in word] for words in split]
            self.tags[side] = [
                [t for word, tag in zip(words, row.tags, strict=True) for t in self.spread(word, tag)]
                for words, row in zip(split, rows, strict=True)
            ]
        both = (self.ids, self.tags)
        self.fingerprint = fingerprint(np.array(i, np.int64) for b in both for side in b.values() for i in side)

    def spread(self, word: Sequence[int], tag: str) -> list[int]:
        """The tag on the first token of a word, nothing on the others."""
        return [self.labels.index(tag), *[IGNORED] * (len(word) - 1)]

    def choose_sizes(self, decisions: Decisions) -> None:
        decisions.put("model.head", "tags")
        decisions.put("model.labels", self.labels)
        lengths = self.lengths("train")
        choose_shape(decisions, int(lengths.sum()))
        self.choose_max_len(decisions, int(lengths.max()), LONGEST)

    def lengths(self, side: str) -> NDArray[np.int64]:
        return np.array([len(ids) for ids in self.ids[side]], np.int64)[:, None]

    def where(self, side: str, row: int) -> str:
        return self.rows[side][row].where

    def text_of(self, side: str, row: int) -> str:
        return " ".join(self.rows[side][row].tokens)

    def collate(self, side: str, rows: Sequence[int], step: int | None = None) -> Batch:
        ids, at = padded([self.ids[side][row] for row in rows])
        targets, _ = padded([self.tags[side][row] for row in rows], fill=IGNORED)
        return Batch({"ids": ids, "at": at}, targets, int((targets != IGNORED).sum()), int((at >= 0).sum()))

    def answers(self, rows: Sequence[int], said: Tensor) -> dict[int, object]:
        picked = said.argmax(-1).tolist()
        return {row: picks[: len(self.ids["validation"][row])] for row, picks in zip(rows, picked, strict=True)}

    def measure(self, model: Model, answers: dict[int, object]) -> dict[str, float]:
        right = counted = 0
        for row, said in answers.items():
            assert isinstance(said, list)
            pairs = [(s, t) for s, t in zip(said, self.tags["validation"][row], strict=True) if t != IGNORED]
            right, counted = right + sum(s == t for s, t in pairs), counted + len(pairs)
        return {"accuracy": right / max(1, counted)}

    def sample(self, model: Model) -> str:
        rows = self.kept["validation"][:1].tolist()
        with torch.inference_mode():
            batch = self.collate("validation", rows).to(next(model.parameters()).device)
            (said,) = self.answers(rows, batch.answers(model.eval())).values()
        assert isinstance(said, list)
        carried = [s for s, t in zip(said, self.tags["validation"][rows[0]], strict=True) if t != IGNORED]
        words = self.rows["validation"][rows[0]].tokens
        return " ".join(f"{word}/{self.labels[tag]}" for word, tag in zip(words, carried, strict=True))

    def next_commands(self, place: str) -> Iterable[str]:
        return (f"glassformer classify {place} 'a text of your own'", f"glassformer info {place}")
