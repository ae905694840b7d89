"""One cell of a tensor from its formula, with the sizes of what was rounded on the way to it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from glassformer.lens.recipes.expression import (
    FUNCTIONS,
    Add,
    Cases,
    Cell,
    Divide,
    Expression,
    Function,
    Multiply,
    Negative,
    Over,
    Power,
    Values,
    evaluate,
)
from glassformer.lens.replay import Replay


class Measured(NamedTuple):
    """Values, and how much was rounded to get them: times a format's relative rounding, what it can have lost."""

    value: Tensor
    size: Tensor


@dataclass(frozen=True)
class Measure:
    """Works out formulas with their sizes. A cell of a tensor that was recorded, of a weight or of what the model was given
    is as it is; one that was worked out carries what its own formula rounds."""

    replay: Replay | None
    name: str  # of the tensor whose formula it is

    def __call__(self, e: Expression, values: Values) -> Measured:
        """The value and the size of a formula at the cell that `values` follow."""
        value, size = self.parts(e, values)
        return Measured(value, size if isinstance(e, Cell) else at_least(value, size))

    def parts(self, e: Expression, values: Values) -> tuple[Tensor, Tensor]:
        """The same, without the rounding of the result itself."""
        match e:
            case Cell():
                return self.cell(e, values)
            case Add(parts):
                return added([self(part, values) for part in parts])
            case Negative(body):
                value, size = self(body, values)
                return -value, size
            case Multiply(parts):
                measured = [self(part, values) for part in parts]
                result, size = measured[0]
                for value, more in measured[1:]:
                    result, size = result * value, size * value.abs() + result.abs() * more
                return result, size
            case Divide(above, below):
                (value, size), (share, more) = self(above, values), self(below, values)
                return value / share, (size + (value / share).abs() * more) / share.abs()
            case Power(body, power):
                value, size = self(body, values)
                return value**power, power * value.abs() ** (power - 1) * size
            case Function(name, body):
                value, size = self(body, values)
                size = SLOPES.get(name, flat)(value.double()) * size
                return FUNCTIONS[name](value.double()), size.clamp(min=1.0) if name in OF_ONE else size
            case Over(how, axis, body):
                value, size = self(body, values.along(axis))
                if how == "Σ":
                    return value.double().sum(-1), at_least(value, size).sum(-1)
                return value.amax(-1), size.amax(-1)
            case Cases():
                return self.case(e, values)
            case _:
                value = evaluate(e, values).double()
                return value, torch.zeros_like(value)

    def case(self, e: Cases, values: Values) -> tuple[Tensor, Tensor]:
        """The branch that holds, cell by cell."""
        holds = evaluate(e.condition, values)
        if holds.numel() == 1:
            return self(e.then if bool(holds) else e.otherwise, values)
        one, other = self(e.then, values), self(e.otherwise, values)
        return torch.where(holds, one.value, other.value), torch.where(holds, one.size, other.size)

    def cell(self, e: Cell, values: Values) -> tuple[Tensor, Tensor]:
        """A cell of an input."""
        value = evaluate(e, values).double()
        source = None if self.replay is None else self.replay.graph[self.name].inputs[e.symbol]
        if self.replay is None or source is None or source.kind != "point" or source.name in self.replay.points:
            return value, torch.zeros_like(value)
        if source.name.startswith("sound."):  # worked out in float64 from the samples, whatever rounded the vectors
            return value, torch.zeros_like(value)
        node = self.replay.graph[source.name]
        letters = node.recipe.axes.split()
        index = [evaluate(part, values) for part in e.index]
        inner = self.replay.values(source.name, (0,) * len(letters))
        at: Mapping[str, Tensor] = dict(zip(letters, index, strict=True))
        inside = Values(inner.tensors, inner.constants, inner.sizes, {**inner.at, **at})
        size = Measure(self.replay, source.name)(node.recipe.formula, inside).size
        return value, size.expand_as(value)


def added(terms: list[Measured]) -> tuple[Tensor, Tensor]:
    """A sum of a few terms: each was rounded, and so is every sum on the way."""
    value, size = terms[0]
    for term, more in terms[1:]:
        value, size = value + term, at_least(value, size) + at_least(term, more)
    return value, size


def at_least(value: Tensor, size: Tensor) -> Tensor:
    """What was rounded is no smaller than what came out. Infinities are exact."""
    return torch.maximum(size.nan_to_num(posinf=0.0), value.abs().nan_to_num(posinf=0.0))


def flat(x: Tensor) -> Tensor:
    """No slope: the function gives whole numbers."""
    return torch.zeros_like(x)


def steep(x: Tensor) -> Tensor:
    """A slope of at most 1."""
    return torch.ones_like(x)


OF_ONE = ("sin", "cos", "Φ")  # functions that are computed from numbers near 1, even where the result is small
SLOPES: dict[str, Callable[[Tensor], Tensor]] = {  # how much of an error in their argument functions hand on
    "√": lambda x: 0.5 / x.sqrt().clamp(min=1e-30),
    "exp": torch.exp,
    "log": lambda x: 1 / x.abs().clamp(min=1e-30),
    "tanh": lambda x: 1 - x.tanh().square(),
    "sin": lambda x: torch.full_like(x, 0.2),  # float32 keeps 6e-8 of an angle, a tenth of what sums may lose
    "cos": lambda x: torch.full_like(x, 0.2),
    "abs": steep,
    "σ": lambda x: x.sigmoid() * (1 - x.sigmoid()),
    "Φ": lambda x: (-x.square() / 2).exp() / math.sqrt(2 * math.pi),
    "max0": steep,
}
