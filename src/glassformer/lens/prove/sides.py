"""Two ways to run a model, call by call: what each answers to every text, and the first tensor inside in which they part."""

# B rows, T tokens, S keys, H heads

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from glassformer.lens.numbers import DEPTH, rounding
from glassformer.lens.points import axes_of
from glassformer.lens.prove.finding import EXACT, Finding, allowed, distance, greatest, size, worst
from glassformer.models import Model
from glassformer.ops.masks import RULES
from glassformer.trace import Watcher, points_of, watch

OF_THE_TEXT = ("labels", "pooled")  # heads that give one answer for a whole text
STEPWISE = (
    "scores",
    "mask_rule",
    "masked",
    "pattern",
    "mean",
    "std",
    "rms",
)  # points that the fused kernels do not have
ROWS_OF_SCORES = ("scores", "mask_rule", "masked", "pattern")
SMALL = 1e-3  # tensors whose largest number is below are judged as if it were this


class Spot(NamedTuple):
    """Where one text stands in a call: its row and the columns of its tokens, and of the keys that they look at, in the
    order of the text (None where a sliding cache has another order). Likewise its source, if it has one."""

    number: int
    row: int
    columns: Tensor
    keys: Tensor | None
    source_columns: Tensor | None = None


@dataclass(frozen=True)
class Call:
    """One call of the model: its arguments, and the texts in it."""

    inputs: dict[str, Any]
    spots: tuple[Spot, ...]


Side = Callable[[], Iterable[Call]]  # every time anew, since a cache can be filled only once


@torch.inference_mode()
def answers(model: Model, side: Side) -> dict[int, Tensor]:
    """What the model says of each text, T ..., the pieces of a text put together."""
    found: dict[int, list[Tensor]] = {}
    for call in side():
        said = model(**call.inputs)
        for spot in call.spots:
            row = said[spot.row]
            found.setdefault(spot.number, []).append(row[None] if whole(model) else row[spot.columns])
    return {number: torch.cat(pieces) for number, pieces in found.items()}


def whole(model: Model) -> bool:
    """Whether the model gives one answer for a whole text."""
    return model.config.head in OF_THE_TEXT


def compare(model: Model, ours: Side, theirs: Side, *, exact: bool = False) -> Finding:
    """The answers of two sides, and where they differ the first tensor by name."""
    return compare_answers(model, answers(model, ours), answers(model, theirs), ours, theirs, exact=exact)


def compare_answers(
    model: Model,
    ours: dict[int, Tensor],
    theirs: dict[int, Tensor],
    our_side: Side,
    their_side: Side,
    *,
    exact: bool = False,
    ways: Sequence[tuple[list[str], list[str]]] | None = None,
) -> Finding:
    """The same for answers that are known already; the sides are run again only where they differ.

    `ways`: the points to watch on either side, one way after the other, where not all are watched on both.
    """
    differences = {number: distance(ours[number], theirs[number]) for number in theirs}
    largest = max(map(size, theirs.values()), default=0.0)
    tolerance, basis = (0.0, EXACT) if exact else allowed(model, largest)
    n, unit = sum(answer.numel() for answer in theirs.values()), unit_of(model)
    finding = Finding(greatest(list(differences.values())), tolerance, basis, n, unit)
    if finding.ok:
        return finding
    first = first_difference(model, our_side, their_side, worst(differences), exact=exact, ways=ways)
    return Finding(finding.difference, tolerance, basis, n, unit, first)


def unit_of(model: Model) -> str:
    """What the model's answers consist of."""
    return "numbers of vectors" if model.config.head == "pooled" else "logits"


def answer_point(model: Model) -> str:
    """The full name of the model's answer."""
    return "head.out" if model.config.head == "pooled" else "head.logits"


def fused_points(model: Model) -> list[str]:
    """The points that can be watched while the fused kernels run."""
    names = points_of(model)
    return [name for name in names if name.rpartition(".")[2] not in STEPWISE and not is_head_norm(name)]


def is_head_norm(name: str) -> bool:
    """Whether this is a point of a norm of queries or keys, which is fused with their rotation."""
    return name.split(".")[-2] in ("q_norm", "k_norm") if "." in name else False


def first_difference(
    model: Model,
    ours: Side,
    theirs: Side,
    number: int,
    *,
    exact: bool,
    ways: Sequence[tuple[list[str], list[str]]] | None = None,
) -> str:
    """The first tensor, in forward order, in which two sides part over a text, and the token where they do."""
    every, fused = points_of(model), fused_points(model)
    for our_points, their_points in ways or ((every, every), (fused, fused)):
        mine, other = (
            seen(model, side, number, points) for side, points in ((ours, our_points), (theirs, their_points))
        )
        for name in mine:
            if name in other:
                at = parting(name, mine[name], other[name], 0.0 if exact else DEPTH * rounding(model))
                if at is not None:
                    return f"{name}{at}"
    return f"{answer_point(model)}; watched, all tensors agree: the difference arises in kernels that run unwatched"


def parting(name: str, ours: Tensor, theirs: Tensor, tolerance: float) -> str | None:
    """Where two tensors part, as a clause, or None; tolerance is relative to their largest number."""
    if ours.shape != theirs.shape:
        return f", whose shapes are {tuple(ours.shape)} and {tuple(theirs.shape)}"
    if not ours.numel():
        return None
    ours, theirs = ours.double(), theirs.double()
    apart = torch.where(ours == theirs, 0.0, (ours - theirs).abs())
    if name.endswith((".scores", ".masked")):
        apart = apart.nan_to_num(0.0)  # cells that one side hides; the rules are compared by themselves
    beyond = ~(apart <= tolerance * max(size(theirs), SMALL))
    if not bool(beyond.any()):
        return None
    if ours.dim() < 2:
        return ""
    return f", token {int(beyond.flatten(1).any(1).nonzero()[0])}"


@torch.inference_mode()
def seen(model: Model, side: Side, number: int, points: Sequence[str]) -> dict[str, Tensor]:
    """The tensors of one text by name, in forward order, each T ... with the padding left out."""
    found: dict[str, list[Tensor]] = {}
    for call in side():
        with watch(model, points) as watcher:
            model(**call.inputs)
        for spot in call.spots:
            if spot.number == number:
                for name in watcher:
                    cells = of_text(model, name, watcher, spot)
                    if cells is not None:
                        found.setdefault(name, []).append(cells)
    return {name: put_together(model, name, pieces) for name, pieces in found.items()}


def sibling(name: str) -> str:
    """The rule that hides cells of the same attention."""
    return f"{name.rpartition('.')[0]}.mask_rule"


def put_together(model: Model, name: str, pieces: list[Tensor]) -> Tensor:
    """The pieces of a text one after the other; of what belongs to its source the last, since each call has all of it."""
    if is_of_source(model, name) or (whole(model) and name.startswith("head.")):
        return pieces[-1]
    if name.rpartition(".")[2] in ROWS_OF_SCORES:
        most = max(piece.shape[-1] for piece in pieces)
        absent = math.nan if name.endswith((".scores", ".masked")) else 0.0
        pieces = [torch.nn.functional.pad(piece, (0, most - piece.shape[-1]), value=absent) for piece in pieces]
    return torch.cat(pieces)


def is_of_source(model: Model, name: str) -> bool:
    """Whether a tensor belongs to the source of an encoder-decoder alone."""
    if model.config.shape != "encoder_decoder":
        return False
    path, _, point = name.rpartition(".")
    crosses = path.endswith("cross_attention") and point in ("k_linear", "k", "v")
    return name.startswith("encoder.") or crosses or path.endswith("cross_attention.k_norm")


def of_text(model: Model, name: str, watcher: Watcher, spot: Spot) -> Tensor | None:
    """The cells of one text in a tensor, its tokens first. None where they cannot be found."""
    point, value = name.rpartition(".")[2], watcher[name]
    if point in ("scores", "masked"):
        if sibling(name) not in watcher:
            return None
        value = value.masked_fill(watcher[sibling(name)].ne(0), math.nan)
    elif point == "mask_rule":
        value = value.eq(0).float()
    value = value.float()
    axes = axes_of(name, model.config.head)[1:]
    if "U" in axes or name.startswith(
        "ctc."
    ):  # vectors before convolutions have shortened them; what no answer rests on
        return None
    value = value[spot.row if value.shape[0] > 1 else 0]
    of_source, crosses = is_of_source(model, name), ".cross_attention." in name
    first = None
    for dim, axis in enumerate(axes):
        if axis not in "TS":
            continue
        if axis == "T":
            columns = spot.source_columns if of_source else spot.columns
        elif of_source or crosses:
            columns = spot.source_columns
        else:
            columns = spot.columns if point in ("k", "v") else spot.keys
        if columns is None:
            return None
        columns = columns.to(value.device)
        value = value.index_select(dim, columns[columns < value.shape[dim]])
        first = dim if first is None else first
    return value if first is None else value.movedim(first, 0)


@torch.inference_mode()
def hidden_cells(model: Model, side: Side, names: Iterator[str] | Sequence[str]) -> dict[str, tuple[int, int]]:
    """Of each mask by name how many cells it hides, but for those outside a window, and how many it has."""
    found: dict[str, tuple[int, int]] = {}
    wanted, outside = list(names), RULES.index("outside the window")
    for call in side():
        with watch(model, wanted) as watcher:
            model(**call.inputs)
        for name in wanted:
            rule = watcher[name]
            hidden, cells = found.get(name, (0, 0))
            found[name] = (hidden + int(((rule != 0) & (rule != outside)).sum()), cells + rule.numel())
    return found
