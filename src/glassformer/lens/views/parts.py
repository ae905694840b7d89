"""What a view is made of beside the parts of an explanation: numbers at full precision, rounded only where they are shown."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from glassformer.errors import GlassformerError
from glassformer.lens.parts import Equation, Picture, Table

Kind = Literal["share", "signed", "size", "rule"]


@dataclass(frozen=True, slots=True)
class Heading:
    """The title of what follows."""

    title: str


class Bar(NamedTuple):
    """A share of one, drawn as a bar."""

    share: float


Cell = str | int | float | Bar | None


@dataclass(frozen=True, slots=True)
class Sentence:
    """Words with numbers between them."""

    pieces: tuple[str | int | float, ...]


def say(*pieces: str | int | float) -> Sentence:
    """``say("the largest is ", 0.25, " of ", 12)``."""
    return Sentence(pieces)


@dataclass(frozen=True, slots=True)
class Sheet:
    """Rows of words and numbers under a head."""

    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    title: str = ""


class Span(NamedTuple):
    """Words that stand under some columns of a grid, the first and the last of them named."""

    first: int
    last: int
    text: str


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Numbers as a map of shades, and as numbers where there are few. A cell that is not a number is hidden.

    kind: "share" from 0 up, "signed" around 0, "size" from the smallest up, "rule" for codes of which `legend` holds the
    names. span: the numbers at both ends of the colours, by default those of the values.
    """

    title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: NDArray[np.float64]  # rows columns
    kind: Kind = "size"
    legend: tuple[str, ...] = ()
    span: tuple[float, float] | None = None
    across: tuple[str, str] = ("", "")  # what rows and columns are
    counted: bool = False  # whether the number of each row stands before its name
    under: tuple[Span, ...] = ()  # words below the columns that they belong to, from left to right
    drawn: tuple[float, float] | None = None  # how wide and high a picture of it is, where its cells are many

    def __post_init__(self) -> None:
        if self.values.shape != (len(self.rows), len(self.columns)):
            raise GlassformerError(
                f"the grid {self.title!r} has {len(self.rows)} names of rows and {len(self.columns)} of columns for"
                f" values of shape {self.values.shape}"
            )

    @property
    def row_names(self) -> tuple[str, ...]:
        """The names of rows as they are shown."""
        if not self.counted:
            return self.rows
        width = len(str(max(len(self.rows) - 1, 0)))
        return tuple(f"{place:>{width}} {label}" for place, label in enumerate(self.rows))

    @property
    def ends(self) -> tuple[float, float]:
        """The numbers at both ends of the colours."""
        if self.span is not None:
            return self.span
        if self.kind == "rule":
            return 0.0, float(max(len(self.legend) - 1, 1))
        shown = self.values[np.isfinite(self.values)]
        if not shown.size:
            return 0.0, 1.0
        low, high = float(shown.min()), float(shown.max())
        match self.kind:
            case "signed":
                size = max(abs(low), abs(high))
                return -size, size
            case "share":
                return 0.0, high
            case _:
                return low, high

    def shades(self) -> NDArray[np.float64]:
        """Every cell as a share of the way from one end of the colours to the other; hidden cells stay nan."""
        low, high = self.ends
        if high <= low:
            return np.where(np.isnan(self.values), np.nan, 0.5 if self.kind == "signed" else 0.0)
        with np.errstate(over="ignore"):  # a span next to nothing: what lies outside it is clipped all the same
            return np.clip((self.values - low) / (high - low), 0.0, 1.0)


class Twig(NamedTuple):
    """A node of a tree. parent: its row in the tree. state: "kept", "pruned" or "finished"."""

    label: str
    parent: int | None
    depth: int
    state: str
    numbers: tuple[tuple[str, float], ...] = ()
    why: str = ""


@dataclass(frozen=True, slots=True)
class Tree:
    """Nodes, parents before children, under a root."""

    title: str
    root: str
    twigs: tuple[Twig, ...] = field(default=())


Part = str | Sentence | Equation | Table | Sheet | Picture | Grid | Tree | Heading  # a string is a sentence
