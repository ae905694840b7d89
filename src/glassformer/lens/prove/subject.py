"""What is proved: a model, some texts in its tokens, one training step, and the ways to put the texts before the model."""

# B rows, T tokens, S source tokens

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from glassformer.lens.prove.sides import Call, Side, Spot
from glassformer.models import Model
from glassformer.tokenizers import Tokenizer
from glassformer.training.loop import Judge
from glassformer.training.recipe import Recipe
from glassformer.training.tasks import Batch, Task
from glassformer.training.tasks.task import derived_seed

Edge = Literal["left", "right"]
MARGIN = 2  # columns of padding that even the longest row gets


class Text(NamedTuple):
    """A text in tokens, and its source where the model reads one."""

    ids: list[int]
    source: list[int]


@dataclass(frozen=True)
class Step:
    """One training step: what it works on, what counts as wrong, and its recipe. `where` says whose it is."""

    batch: Batch
    work: Judge
    recipe: Recipe
    where: str


@dataclass(frozen=True)
class Subject:
    """`sentences` are the texts to translate, where the model does so. `run`: the recipe and the task of the run folder
    that the model comes from, or the reason why there are none."""

    model: Model
    texts: list[Text]
    step: Step | None
    run: tuple[Recipe, Task] | str
    tokenizer: Tokenizer | None
    source_tokenizer: Tokenizer | None
    sentences: list[str]
    seed: int
    tell: Callable[[str], None]

    @property
    def shape(self) -> str:
        return self.model.config.shape

    @property
    def hears(self) -> bool:
        """Whether the encoder reads vectors: each id of its text then stands for one, drawn from the seed."""
        return self.model.config.vectors is not None

    def heard(self, ids: Tensor) -> Tensor:
        """The vectors that ids stand for: ... F. Ids as they are where the model reads these."""
        reads = self.model.config.vectors
        if reads is None:
            return ids
        table = torch.randn(self.model.config.vocab_size, reads.size, generator=self.draw(reads.size))
        return table.to(next(self.model.parameters()))[ids % len(table)]

    def places(self, count: int) -> Tensor:
        """The columns of so many tokens of the encoder's text; of vectors those that its convolutions leave."""
        reads = self.model.config.vectors
        for stride in () if reads is None else reads.strides:
            count = -(-count // stride)
        return torch.arange(count)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    @property
    def numbers(self) -> range:
        """The numbers of the texts."""
        return range(len(self.texts))

    def draw(self, *purpose: int) -> torch.Generator:
        """Random numbers that follow from the seed and a purpose."""
        return torch.Generator().manual_seed(derived_seed("prove", self.seed, *purpose))

    def alone(
        self, number: int, ids: Sequence[int] | None = None, spot: int | None = None, upto: int | None = None
    ) -> Call:
        """A text by itself, without positions or padding; with other `ids` if given. The tokens up to `upto` are looked at,
        as the text called `spot`."""
        text = self.texts[number]
        ids = text.ids if ids is None else ids
        columns = torch.arange(len(ids) if upto is None else upto)
        inputs: dict[str, Any] = {"ids": self.tensor([list(ids)])}
        source = None
        if self.shape == "encoder_decoder":
            inputs["source"] = self.heard(self.tensor([text.source]))
            source = self.places(len(text.source))
        elif self.hears:
            inputs["ids"], columns = self.heard(inputs["ids"]), self.places(len(columns))
        return Call(inputs, (Spot(number if spot is None else spot, 0, columns, columns, source),))

    def together(self, edge: Edge = "right", source_edge: Edge = "right") -> Call:
        """All texts in one batch, padded on an edge with tokens that must not matter."""
        ids, at, columns = self.padded([text.ids for text in self.texts], edge, self.model.config.vocab_size)
        inputs, sources = {"ids": ids, "at": at}, [None] * len(self.texts)
        if self.shape == "encoder_decoder":
            vocab_size = self.model.config.source_side().vocab_size
            source, source_at, sources = self.padded([text.source for text in self.texts], source_edge, vocab_size)
            inputs |= {"source": self.heard(source), "source_at": source_at}
            sources = [self.places(len(one)) for one in sources] if self.hears else sources
        elif self.hears:
            inputs["ids"] = self.heard(ids)
            columns = [self.places(len(one)) for one in columns]
        spots = zip(self.numbers, columns, sources, strict=True)
        return Call(inputs, tuple(Spot(row, row, place, place, source) for row, place, source in spots))

    def padded(self, rows: Sequence[Sequence[int]], edge: Edge, vocab_size: int) -> tuple[Tensor, Tensor, list[Any]]:
        """Ids and positions, B T, and the columns of each row's tokens."""
        width = max(map(len, rows)) + MARGIN
        ids = torch.randint(vocab_size, (len(rows), width), generator=self.draw(width, vocab_size))
        at, columns = torch.full((len(rows), width), -1), []
        for row, tokens in enumerate(rows):
            start = 0 if edge == "right" else width - len(tokens)
            places = torch.arange(start, start + len(tokens))
            ids[row, places], at[row, places] = torch.tensor(tokens), torch.arange(len(tokens))
            columns.append(places)
        return ids.to(self.device), at.to(self.device), columns

    def one_by_one(self) -> Iterator[Call]:
        """Every text by itself."""
        return (self.alone(number) for number in self.numbers)

    def batched(self, edge: Edge = "right", source_edge: Edge = "right") -> Side:
        """All texts in one call."""
        return lambda: [self.together(edge, source_edge)]

    def tensor(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """Rows of one length, on the model's device."""
        return torch.tensor(rows, device=self.device)
