"""Recipes of what an encoder of vectors reads: the vectors as given, convolutions over time, and the silence of padding."""

# b sequences, s vectors (or what a convolution reads), t what a convolution leaves of them, e channels read, d channels made

from __future__ import annotations

from functools import cache

import torch.nn.functional as F
from torch import Tensor

from glassformer.lens.recipes.expression import (
    Cases,
    Compare,
    Constant,
    Expression,
    Index,
    Number,
    Symbol,
    indices,
    symbols,
    total,
)
from glassformer.lens.recipes.mlp import BENDS
from glassformer.lens.recipes.recipe import Recipe

s, e, t, d = indices("s e t d")
V, x, W, b, at, pre = symbols("V x W b at pre")
STRIDE, LENGTH = Constant("stride"), Constant("S")


@cache
def as_given(*, padded: bool = False) -> Recipe:
    """The vectors themselves."""
    cell = V[s, e]
    silent = Compare(at[s], "<", Number(0))
    return Recipe(
        "embedding.vectors",
        "s e",
        {"V": "s e", "at": "s"} if padded else {"V": "s e"},
        Cases(silent, Number(0), cell) if padded else cell,
        lambda V, at=None: V if at is None else V.masked_fill((at < 0)[..., None], 0.0),
        "the vectors as they come: no table has to be looked up, for they are what a table would give"
        + (", and zeros where there is padding" if padded else ""),
    )


@cache
def silence(letter: str) -> Recipe:
    """Zeros where there is padding. letter: of the places."""
    place = Index(letter)
    return Recipe(
        "embedding.silence",
        f"{letter} d",
        {"x": f"{letter} d", "at": letter},
        Cases(Compare(at[place], "<", Number(0)), Number(0), x[place, d]),
        lambda x, at: x.masked_fill((at < 0)[..., None], 0.0),
        "the same, with zeros where there is padding, so that what follows hears silence there",
    )


@cache
def convolution() -> Recipe:
    """Three vectors around each kept place, every channel times its weight."""
    first = STRIDE * t  # the place in the middle of what is seen
    tap = [total(e, Symbol(name)[place, e] * W[d, e, Number(n)]) for n, (name, place) in enumerate(seen(first))]
    before = Cases(Compare(first, "<", Number(1), "none stands before"), Number(0), tap[0])
    after = Cases(Compare(first + 1, "<", LENGTH, "one stands after"), tap[2], Number(0))
    return Recipe(
        "convolution.pre",
        "t d",
        {"before": "s e", "here": "s e", "after": "s e", "W": "_ e _", "b": "_"},
        before + tap[1] + after + b[d],
        convolved,
        "how well three vectors in a row fit what each channel listens for: the one before, the one at this place, and the"
        " one after, each with weights of its own",
        "LeCun et al. 1989; Gulati et al. 2020, section 2.1",
        size=lambda before, here, after, W, b, **c: convolved(before.abs(), here, after, W.abs(), b.abs(), **c),
    )


def seen(middle: Expression) -> list[tuple[str, Expression]]:
    """The symbol and the place of each tap."""
    return [("before", middle - 1), ("here", middle), ("after", middle + 1)]


def convolved(before: Tensor, here: Tensor, after: Tensor, W: Tensor, b: Tensor, stride: float) -> Tensor:
    """A sum of three linear maps of shifted sequences, of which one in `stride` is kept. All three inputs are one tensor."""
    x = F.pad(before, (0, 0, 1, 1))  # b s+2 e: silence on either side
    n = before.shape[1]
    whole = sum(x[:, shift : shift + n] @ W[..., shift].mT for shift in range(W.shape[-1]))
    return (whole + b)[:, :: int(stride)]


@cache
def bent(name: str) -> Recipe:
    """What a convolution makes of what it hears."""
    formula, function, words, source = BENDS[name]
    return Recipe(
        f"convolution.out.{name}",
        "t d",
        {"pre": "t d"},
        formula(pre[t, d]),
        lambda pre: function(pre),
        f"how strongly each channel answers: {words}",
        source,
        size=lambda pre: pre.abs() if name != "relu2" else pre.square(),
    )


@cache
def vector_sum(*, positions: bool) -> Recipe:
    """What the first block reads, or the norm before it."""
    i = Index("i")
    mapped, position = symbols("mapped position")
    inputs = {"mapped": "i d"}
    if positions:
        inputs["position"] = "i d"
    return Recipe(
        "embedding.out",
        "i d",
        inputs,
        mapped[i, d] + position[i, d] if positions else mapped[i, d],
        lambda mapped, position=0.0: mapped + position,
        "what enters the first layer" + (": the vectors added" if positions else ""),
        size=lambda mapped, position=None: mapped.abs() + (0.0 if position is None else position.abs()),
    )
