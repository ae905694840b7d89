"""The walk through queries, keys and values: three linear maps of a token's vector, normalised and turned by position."""

# D model, H heads, G key/value heads, K head width, V value width

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

from glassformer.lens.parts import Check, Equation, Line, Section
from glassformer.lens.scene import Scene, bias_of, exact, size_of_angle
from glassformer.lens.walk.norm import Site, norm_steps
from glassformer.nn.norms import LayerNorm, RMSNorm
from glassformer.nn.positions import Rotary
from glassformer.ops import rotary

CHANNEL = 0  # of the head's width, the one that is followed


@dataclass(frozen=True, slots=True)
class Projection:
    """One of the three maps: its symbol, whose vector it takes, and which of its heads is followed."""

    symbol: str
    at: int
    head: int
    linear: nn.Linear
    width: int
    norm: nn.Module | None = None
    is_turned: bool = False

    @property
    def raw(self) -> str:
        """What the numbers are called before they are normalised or turned."""
        return f"{self.symbol}'" if self.norm is not None or self.is_turned else self.symbol

    @property
    def normalised(self) -> str:
        """What they are called before they are turned."""
        return self.raw if self.norm is None else f"{self.symbol}_norm"


class Vector(NamedTuple):
    """A head's vector (K, float64) on its way: how it came about, and the size of what was rounded in its first cell."""

    values: Tensor
    magnitude: float
    formula: tuple[str, ...]
    body: tuple[Line, ...]
    checks: tuple[Check, ...] = ()


def query(scene: Scene) -> Section:
    """The asking token's query."""
    attention, at = scene.attention, scene.position
    projection = Projection(
        "q", at, scene.head, attention.q_proj, attention.d_head, attention.q_norm, is_turned=turns(scene)
    )
    return project(scene, projection, "QUERY", f"what {scene.token(at)} looks for, in head {scene.head}.")


def key(scene: Scene) -> Section:
    """The key of the token looked at most."""
    attention, at = scene.attention, scene.key
    projection = Projection(
        "k", at, scene.group, attention.k_proj, attention.d_head, attention.k_norm, is_turned=turns(scene)
    )
    says = f"how {scene.token(at)}, at which head {scene.head} looks most, can be found{shared(scene)}."
    return project(scene, projection, "KEY", says)


def value(scene: Scene) -> Section:
    """The value of the token looked at most."""
    attention, at = scene.attention, scene.key
    projection = Projection("v", at, scene.group, attention.v_proj, attention.d_value)
    says = f"what {scene.token(at)} hands over to those that look at it{shared(scene)}."
    return project(scene, projection, "VALUE", says)


def turns(scene: Scene) -> bool:
    """Whether positions enter by turning queries and keys."""
    return isinstance(scene.model.decoder.positions, Rotary)


def shared(scene: Scene) -> str:
    """Which key/value head the followed head uses, where several heads share one."""
    sharers = scene.attention.n_heads // scene.attention.n_kv_heads
    return "" if sharers == 1 else f" (key/value head {scene.group}, which {sharers} heads share)"


def project(scene: Scene, projection: Projection, title: str, says: str) -> Section:
    """A linear map, then norm and rotation where the model has them."""
    vector = linear(scene, projection)
    if projection.norm is not None:
        vector = normalise(scene, projection, vector)
    if projection.is_turned:
        vector = turn(scene, projection, vector)
    name, cell = scene.here(f"attention.{projection.symbol}"), (projection.head, projection.at, CHANNEL)
    recorded = scene.row(name, projection.head, projection.at)
    check = scene.check(projection.symbol, name, cell, float(vector.values[CHANNEL]), vector.magnitude)
    return scene.section(
        title,
        says,
        formula=vector.formula,
        name=name,
        cell=cell,
        body=[*vector.body, f"{projection.symbol} = {scene.numbers.vector(recorded)}"],
        checks=[*vector.checks, check],
    )


def linear(scene: Scene, projection: Projection) -> Vector:
    """The head's rows of the weights, each multiplied with the token's vector."""
    first = projection.head * projection.width
    rows = slice(first, first + projection.width)
    weight, x = exact(projection.linear.weight[rows]), attention_input(scene, projection.at)  # K D and D
    values = weight @ x
    if projection.linear.bias is not None:
        values = values + exact(projection.linear.bias[rows])
    total = scene.numbers.products(x, weight[CHANNEL], bias_of(projection.linear, first + CHANNEL))
    ending = "" if projection.linear.bias is None else " + b[k]"
    formula = f"{projection.raw}[k] = Σ x[d]·W_{projection.symbol}[k,d]{ending}"
    equation = Equation(f"{projection.raw}[{CHANNEL}]", (*total.pieces, f"= {scene.numbers.show(total.total)}"))
    return Vector(values, total.magnitude, (formula,), (equation,))


def normalise(scene: Scene, projection: Projection, before: Vector) -> Vector:
    """The norm of queries and keys, over the head's width (Dehghani et al. 2023)."""
    assert isinstance(projection.norm, LayerNorm | RMSNorm)
    site = Site(
        projection.norm,
        scene.here(f"attention.{projection.symbol}_norm"),
        before.values,
        (projection.at, projection.head),
        CHANNEL,
        projection.raw,
        projection.normalised,
        before.magnitude,
    )
    steps = norm_steps(scene, site)
    recorded = scene.row(site.out, projection.at, projection.head)
    formula = tuple(clause.replace("/D", "/K") for clause in steps.formula)
    written = f"{projection.raw} = {scene.numbers.vector(before.values)}"
    return Vector(
        recorded,
        abs(float(recorded[CHANNEL])),
        (*before.formula, *formula),
        (*before.body, written, *steps.body),
        steps.checks,
    )


def turn(scene: Scene, projection: Projection, before: Vector) -> Vector:
    """Rotary positions (Su et al. 2021): a channel and its partner half a head away, turned by position × frequency."""
    show, symbol, old = scene.numbers.show, projection.symbol, projection.normalised
    speed = speed_of_turn(scene)
    angle = projection.at * speed
    cos, sin = math.cos(angle), math.sin(angle)
    partner = CHANNEL + projection.width // 2
    a, b = float(before.values[CHANNEL]), float(before.values[partner])
    values = before.values.clone()
    values[CHANNEL] = a * cos - b * sin
    body = (
        Equation("angle", (f"= {projection.at}×{show(speed)}", f"= {show(angle)}")),
        Equation(
            f"{symbol}[{CHANNEL}]",
            (
                f"= {old}[{CHANNEL}]·cos(angle) - {old}[{partner}]·sin(angle)",
                f"= {show(a)}×{show(cos)} {scene.numbers.minus(b)}×{show(sin)}",
                f"= {show(float(values[CHANNEL]))}",
            ),
        ),
    )
    formula = f"{symbol} = {old} turned in pairs (i, i+K/2) by position·frequency[i]"
    magnitude = before.magnitude + (abs(a) + abs(b)) * size_of_angle(angle)
    return Vector(values, magnitude, (*before.formula, formula), (*before.body, *body), before.checks)


def speed_of_turn(scene: Scene) -> float:
    """Radians per position of the channel followed."""
    positions = scene.model.decoder.positions
    assert isinstance(positions, Rotary)
    frequency = rotary.frequencies(positions.d_head, positions.base)
    return float((positions.scaling(frequency) if positions.scaling else frequency)[CHANNEL])


def attention_input(scene: Scene, at: int) -> Tensor:
    """The vector that attention reads of a token: D, float64."""
    point = "attention_norm.out" if scene.config.norm_place == "pre" else "resid_pre"
    return scene.row(scene.here(point), at)
