"""What loss to expect of a size and an amount of text: a curve fitted to runs that were made, moved to the text at hand."""

# N numbers in the blocks of a model, D tokens that it is trained on, U of these that differ

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

# Readings after the first that are worth anything, in all. The paper has 15.4, for large models and texts; small models on little
# text learn it by heart: 1.1 where one of 2 x 64 read tiny Shakespeare 2.9 and 5 times (docs/plan.md).
REPEATS = 1.0


@dataclass(frozen=True)
class Curve:
    """loss = floor + a · N^-alpha + b · D^-beta, in nats a token, N and D in millions (Hoffmann et al. 2022, equation 2).

    `floor` is another for every text and vocabulary: only what a run has reached says where it lies.
    """

    a: float
    b: float
    alpha: float
    beta: float
    floor: float = 0.0

    def __call__(self, numbers: float, tokens: float) -> float:
        """The loss that a model of so many numbers in its blocks reaches on so many tokens of text that differ."""
        return self.floor + self.a * (numbers / 1e6) ** -self.alpha + self.b * (max(tokens, 1.0) / 1e6) ** -self.beta

    def through(self, reached: Reached) -> Curve:
        """The same curve, raised or lowered so that it goes through what a run has reached."""
        return replace(self, floor=self.floor + reached.loss - self(reached.numbers, reached.tokens))


@dataclass(frozen=True)
class Reached:
    """The loss of a run that was made, of a model of so many numbers in its blocks on so many tokens."""

    numbers: float
    tokens: float
    loss: float


def worth(tokens: float, unique: float) -> float:
    """New tokens that so many are worth, where only `unique` of them differ (Muennighoff et al. 2023, equation 5)."""
    repeated = max(0.0, tokens / unique - 1)
    return min(tokens, unique) + unique * REPEATS * (1 - math.exp(-repeated / REPEATS))


@dataclass(frozen=True)
class Expectation:
    """The loss of a token that a run is expected to reach on text held back. `off`: how far the curve was from the runs that
    it was fitted to at most, and half of what lies between it and other curves that fit them nearly as well."""

    loss: float
    off: float
    bits_per_byte: float
    tokens_per_parameter: float
    epochs: float
    sizes: tuple[tuple[str, float], ...]  # every size that was looked at with the loss expected of it

    def __str__(self) -> str:
        low, high = math.exp(min(700.0, self.loss - self.off)), math.exp(min(700.0, self.loss + self.off))
        return (
            f"a loss of {self.loss:.2f} ± {self.off:.2f} a token on text held back (perplexity {low:,.0f} to {high:,.0f}, "
            f"{self.bits_per_byte:.2f} bits per byte)"
        )


def expected(
    reached: Reached, numbers: int, tokens: float, unique: float, bytes_per_token: float, sizes: Mapping[str, float]
) -> Expectation:
    """What a model reaches on so many tokens, of which `unique` differ, where a short run has `reached` something."""
    fitted = fitted_to(bytes_per_token)
    curves = (fitted.curve, *fitted.others)
    losses = [curve.through(reached)(numbers, worth(tokens, unique)) for curve in curves]
    return Expectation(
        loss=losses[0],
        off=fitted.residual + (max(losses) - min(losses)) / 2,
        bits_per_byte=losses[0] / math.log(2) / bytes_per_token,
        tokens_per_parameter=tokens / max(1, numbers),
        epochs=tokens / max(1.0, unique),
        sizes=tuple(sizes.items()),
    )


@dataclass(frozen=True)
class Fitted:
    """A curve, others that fit nearly as well, and how far the farthest of the runs that it was fitted to lies from it."""

    curve: Curve
    others: tuple[Curve, ...]
    residual: float


# a and b by least squares on the runs listed in docs/plan.md, with the exponent for size of Hoffmann et al. 2022 (approach 3).
# That for text is theirs too for pieces of words, of which the runs cannot tell it from others; of characters they can.
PIECES = Fitted(
    Curve(a=0.213, b=1.13, alpha=0.34, beta=0.28),
    (Curve(a=0.212, b=1.784, alpha=0.34, beta=0.2), Curve(a=0.214, b=0.452, alpha=0.34, beta=0.5)),
    residual=0.08,
)
CHARACTERS = Fitted(
    Curve(a=0.152, b=0.346, alpha=0.34, beta=0.5),
    (Curve(a=0.156, b=0.551, alpha=0.34, beta=0.37), Curve(a=0.148, b=0.253, alpha=0.34, beta=0.6)),
    residual=0.03,
)
LONGEST_CHARACTER = 1.5  # bytes of a token on the average


def fitted_to(bytes_per_token: float) -> Fitted:
    """The curve for tokens of this kind."""
    return CHARACTERS if bytes_per_token < LONGEST_CHARACTER else PIECES
