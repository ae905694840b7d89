"""What the loop asks of a kind of training: batches, a loss, a score, a sample. One file beside this one for each kind."""

# B rows, T tokens

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glassformer.data.examples import Skipped
from glassformer.evaluate import Score
from glassformer.models import Model
from glassformer.ops.losses import cross_entropy
from glassformer.tokenizers import Tokenizer
from glassformer.training.decide import Decisions, choose_tokenizer
from glassformer.training.recipe import DataRecipe, Recipe


@dataclass(frozen=True)
class Batch:
    """What one step works on: the model's arguments by name, and what it should answer. All tensors begin with the rows."""

    inputs: dict[str, Tensor]
    targets: Tensor
    n_targets: int  # by which the summed loss is divided
    n_tokens: int  # read and predicted, which the pace counts
    options: Mapping[str, bool] = field(default_factory=dict)  # arguments of the model that are no tensors

    def answers(self, model: Callable[..., Any]) -> Any:
        """What a model says to it."""
        return model(**self.inputs, **self.options)

    def portions(self, n: int) -> Iterator[Batch]:
        """The same rows in up to n parts, each still told the targets of the whole."""
        rows = [tensor.chunk(n) for tensor in self.inputs.values()]
        for number, targets in enumerate(self.targets.chunk(n)):
            inputs = {name: parts[number] for name, parts in zip(self.inputs, rows, strict=True)}
            yield replace(self, inputs=inputs, targets=targets)

    def to(self, device: torch.device) -> Self:
        """The same on a device."""
        inputs = {name: tensor.to(device) for name, tensor in self.inputs.items()}
        return replace(self, inputs=inputs, targets=self.targets.to(device))


@dataclass(frozen=True)
class Vocabularies:
    """The tokenizer of what a model reads and of what it writes; nearly always one and the same."""

    source: Tokenizer
    target: Tokenizer

    @property
    def are_one(self) -> bool:
        """Whether both sides share their ids."""
        return self.source is self.target


@dataclass(frozen=True)
class Place:
    """Where a row of a batch comes from, and what it says, cut short."""

    where: str
    text: str


class Task(ABC):
    """One kind of training. Made with the data it reads; `encode` turns it into tokens, `begin` tells it the recipe."""

    specials: ClassVar[tuple[str, ...]] = ()  # tokens that it needs beside padding and end of text
    shapes: ClassVar[tuple[str, ...]] = ("encoder",)  # of the models it can train, the usual one first
    preset: ClassVar[tuple[str, str]] = ("modern", "trains fastest to a given loss here")

    notes: list[str]  # sentences about the data
    n_bytes: int  # of training text
    vocabularies: Vocabularies  # those it was encoded with
    fingerprint: str  # of rows, split and tokenizer
    skipped: Sequence[Skipped] = ()  # rows that cannot be used, and why
    digests: Mapping[str, str] | None = None  # of the sources by name, where the task knows them; else files are hashed
    divides: ClassVar[bool] = True  # whether a batch may be taken in portions

    @abstractmethod
    def __init__(self, data: DataRecipe) -> None: ...

    @abstractmethod
    def texts(self) -> Iterator[str]:
        """The training text, for a tokenizer that serves both sides."""

    def source_texts(self) -> Iterator[str]:
        """The training text of the source side alone."""
        return self.texts()

    def target_texts(self) -> Iterator[str]:
        """The training text of the target side alone."""
        return self.texts()

    @abstractmethod
    def encode(self, vocabularies: Vocabularies) -> None:
        """Turn the rows into tokens, and keep the `vocabularies`."""

    def choose_tokenizer(self, decisions: Decisions) -> None:
        """Decide how text becomes tokens, where nobody asked for it."""
        choose_tokenizer(decisions, self.n_bytes)

    @abstractmethod
    def choose_sizes(self, decisions: Decisions) -> None:
        """Decide the fields of the model that nobody asked for."""

    @abstractmethod
    def choose_batch(self, decisions: Decisions) -> None:
        """Decide how much one step works on."""

    most_epochs: ClassVar[int] = 30
    rates: ClassVar[Mapping[str, float]] = {}  # by key of the recipe, where the usual ones do not suit it

    @abstractmethod
    def begin(self, recipe: Recipe) -> None:
        """Lay out batches and evaluation for a complete recipe."""

    @abstractmethod
    def batch(self, step: int) -> Batch:
        """What step number `step` works on, a pure function of the recipe and the step."""

    def rows_of(self, step: int) -> Sequence[Place]:
        """Where each row of the batch of step number `step` comes from, in the order of its rows; empty where unknown."""
        return ()

    @abstractmethod
    def epoch(self, step: int) -> float:
        """How many times the training rows have been passed through before `step`."""

    def loss(self, answers: Tensor, batch: Batch, smoothing: float = 0.0) -> Tensor:
        """The loss of the model's answers, summed over the targets."""
        return cross_entropy(answers, batch.targets, smoothing)

    @abstractmethod
    def evaluate(self, model: Model, *, whole: bool) -> Score:
        """The score on what was held back, on all of it or on a share that is quick to measure."""

    @property
    @abstractmethod
    def measures_all(self) -> bool:
        """Whether so little was held back that every evaluation measures all of it."""

    @abstractmethod
    def evaluated_at_once(self) -> int:
        """Tokens or vectors of the largest batch of an evaluation, padding included."""

    @abstractmethod
    def measured(self, *, whole: bool) -> tuple[int, int]:
        """What `evaluate` works on: tokens or vectors that are read, and rows of which a text is written."""

    def write_some(self, model: Model, rows: int) -> int:
        """Write texts of up to so many rows held back at once, as an evaluation does. Returns of how many; of none where an
        evaluation writes nothing."""
        return 0

    @abstractmethod
    def sample(self, model: Model) -> str:
        """Something the model says now, for a person to judge."""

    def next_commands(self, place: str) -> Iterable[str]:
        """What the user may type next."""
        return (f"glassformer info {place}",)

    @property
    def generation(self) -> Mapping[str, Any]:
        """Defaults for generation_config.json."""
        return {}

    @property
    def source_tokenizer(self) -> Tokenizer | None:
        """The tokenizer of the source where it is not that of the target."""
        return None


def fingerprint(arrays: Iterable[NDArray[Any]]) -> str:
    """sha256 over some arrays and their bounds."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.shape}{array.dtype}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def derived_seed(*purpose: object) -> int:
    """A seed that follows from what it is for rather than from what came before."""
    return int.from_bytes(hashlib.sha256(" ".join(map(str, purpose)).encode()).digest()[:7], "big")
