"""Toy language models for searching: random probabilities after each text, of so few tokens that all texts can be tried."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

Story = tuple[int, ...]  # what stands in for a source


class ToyMemory:
    """Stories that have been read."""

    def __init__(self, stories: Sequence[Story]) -> None:
        self.stories = list(stories)

    def __len__(self) -> int:
        return len(self.stories)

    def rows(self, indices: Sequence[int]) -> ToyMemory:
        return ToyMemory([self.stories[i] for i in indices])


class ToyCache:
    """The texts that have been read, row by row."""

    def __init__(self, batch: int, memory: ToyMemory | None, beams: int) -> None:
        self.texts: list[tuple[int, ...]] = [()] * batch
        self.stories: list[Story] = (
            [story for story in memory.stories for _ in range(beams)] if memory else [()] * batch
        )
        self.beams = beams
        self.length = 0
        assert len(self.stories) == batch

    def reorder(self, rows: Tensor) -> None:
        self.texts = [self.texts[row] for row in rows]
        self.stories = [self.stories[row] for row in rows]
        groups = [self.stories[i : i + self.beams] for i in range(0, len(self.stories), self.beams)]
        assert all(len(set(group)) == 1 for group in groups)


class Toy:
    """A model whose logits are random numbers that text and story decide."""

    training = False

    def __init__(self, vocab_size: int, seed: int, max_len: int = 99) -> None:
        self.vocab_size, self.seed = vocab_size, seed
        self.config: Any = SimpleNamespace(vocab_size=vocab_size, max_len=max_len)
        self.reads = 0
        self._known: dict[tuple[tuple[int, ...], Story], Tensor] = {}

    def __repr__(self) -> str:
        return f"Toy({self.vocab_size}, {self.seed})"

    def logits(self, text: tuple[int, ...], story: Story = ()) -> Tensor:
        """The logits of the token after `text`: V."""
        key = (text, story)
        if key not in self._known:
            seed = hash((self.seed, *key)) % 2**40  # of numbers alone: the same in every process
            self._known[key] = torch.randn(self.vocab_size, generator=torch.Generator().manual_seed(seed)) * 2
        return self._known[key]

    def __call__(self, ids: Tensor, *, at: Tensor | None = None, cache: Any = None, memory: Any = None) -> Tensor:
        self.reads += 1
        real = torch.ones_like(ids, dtype=torch.bool) if at is None else at >= 0
        new = [tuple(row[there].tolist()) for row, there in zip(ids, real, strict=True)]
        if cache is None:
            stories = memory.stories if memory else [()] * len(new)
            texts = new
        else:
            assert memory is None
            cache.texts = texts = [before + after for before, after in zip(cache.texts, new, strict=True)]
            cache.length += ids.shape[1]
            stories = cache.stories
        logits = [self.logits(text, story) for text, story in zip(texts, stories, strict=True)]
        return torch.stack(logits)[:, None].expand(-1, ids.shape[1], -1)

    def new_cache(self, batch: int, max_len: int | None = None, *, memory: Any = None, beams: int = 1) -> ToyCache:
        return ToyCache(batch, memory, beams)

    @cached_property
    def _weights(self) -> list[Tensor]:
        return [torch.zeros(1)]

    def parameters(self) -> Iterator[Tensor]:
        return iter(self._weights)

    def train(self, mode: bool = True) -> Toy:
        return self


class Table(Toy):
    """A toy whose probabilities after each text (without the prompt) are given; after any other, eos (0) is certain."""

    def __init__(self, probabilities: Mapping[tuple[int, ...], Sequence[float]], vocab_size: int = 3) -> None:
        super().__init__(vocab_size, seed=0)
        self.probabilities = probabilities

    def logits(self, text: tuple[int, ...], story: Story = ()) -> Tensor:
        ends = [1.0] + [0.0] * (self.vocab_size - 1)
        return torch.tensor(self.probabilities.get(text[1:], ends)).log()
