"""The walk through scores and mask: how well a query matches each key, and which keys it may look at at all."""

# T asking tokens, S tokens looked at, H heads, G key/value heads, K head width

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from glassformer.lens.parts import Check, Equation, Line, Picture, Section, Table
from glassformer.lens.scene import Scene
from glassformer.nn.positions import Relative, alibi_slopes, relative_bucket
from glassformer.ops.masks import RULES

RULE_SIGNS = ("•", "p", "-", "w", "d")  # how the picture of a mask shows each of RULES
PICTURED_TOKENS = 24  # the largest mask that is drawn


class Score(NamedTuple):
    """One cell of the scores on its way: how it came about, and the size of what was rounded in it."""

    value: float
    magnitude: float
    formula: tuple[str, ...]
    body: tuple[Line, ...]


class Bias(NamedTuple):
    """What a position scheme adds to a score, and where it comes from."""

    written: str
    value: float


def scores(scene: Scene) -> Section:
    """How well the asking token's query matches each key."""
    name, cell = scene.here("attention.scores"), (scene.head, scene.position, scene.key)
    score = add_bias(scene, cap(scene, match(scene)))
    row = scene.row(name, scene.head, scene.position)
    rows = tuple((str(i), scene.label(scene.ids[i]), scene.numbers.show(float(row[i]))) for i in scene.listed_keys)
    return scene.section(
        "SCORES",
        f"how well the query of token {scene.position} matches every key; worked out for {scene.token(scene.key)}.",
        formula=score.formula,
        name=name,
        cell=cell,
        body=[*score.body, Table(("j", "token", f"s[{scene.position},j]"), rows, "><>"), *unlisted(scene)],
        checks=[scene.check("s", name, cell, score.value, score.magnitude)],
    )


def match(scene: Scene) -> Score:
    """Query times key, scaled (Vaswani et al. 2017, equation 1)."""
    show, scale, i, j = scene.numbers.show, scene.attention.scale, scene.position, scene.key
    q = scene.row(scene.here("attention.q"), scene.head, i)
    k = scene.row(scene.here("attention.k"), scene.group, j)
    total = scene.numbers.products(q, k)
    value = total.total * scale
    is_usual = scene.config.attention_scale is None
    origin = f"scale = 1/√K = 1/√{scene.attention.d_head}" if is_usual else f"scale = {scale:g}, set in the config"
    body = (
        Equation(f"q[{i}]·k[{j}]", (*total.pieces, f"= {show(total.total)}")),
        Equation(f"s[{i},{j}]", (f"= {show(total.total)}×{show(scale)}", f"= {show(value)}")),
    )
    return Score(value, total.magnitude * scale, ("s[i,j] = q[i]·k[j]·scale", origin), body)


def cap(scene: Scene, score: Score) -> Score:
    """The soft cap, in models that have one (Gemma Team 2024)."""
    limit, show = scene.attention.softcap, scene.numbers.show
    if limit is None:
        return score
    value = limit * math.tanh(score.value / limit)
    line = Equation("capped", (f"= {limit:g}×tanh({show(score.value)}/{limit:g})", f"= {show(value)}"))
    return Score(value, score.magnitude, (*score.formula, "capped: c·tanh(s/c)"), (*score.body, line))


def add_bias(scene: Scene, score: Score) -> Score:
    """The position scheme's share, in schemes that have one."""
    bias = position_bias(scene)
    if bias is None:
        return score
    show, value = scene.numbers.show, score.value + bias.value
    lines = (
        Equation("bias", (bias.written, f"= {show(bias.value)}")),
        Equation("with it", (f"= {show(score.value)}", scene.numbers.plus(bias.value), f"= {show(value)}")),
    )
    formula = (*score.formula, "then + bias[i,j]")
    return Score(value, score.magnitude + abs(bias.value), formula, (*score.body, *lines))


def alibi_bias(scene: Scene) -> Bias:
    """A penalty for the distance, at the head's own slope (Press et al. 2022)."""
    slope = float(alibi_slopes(scene.attention.n_heads)[scene.head])
    distance = abs(scene.position - scene.key)
    return Bias(f"= -slope×distance = -{scene.numbers.show(slope)}×{distance}", -slope * distance)


def relative_bias(scene: Scene) -> Bias:
    """A learned number for the head and the bucket of the distance (Raffel et al. 2020)."""
    positions = scene.model.decoder.positions
    assert isinstance(positions, Relative)
    offset = torch.tensor(scene.key - scene.position)
    bucket = int(relative_bucket(offset, positions.n_buckets, positions.max_distance, positions.both_ways))
    written = f"= table[{bucket},{scene.head}] (bucket of distance {-int(offset)}, head)"
    return Bias(written, float(positions.table.weight[bucket, scene.head]))


BIASES: dict[str, Callable[[Scene], Bias]] = {"alibi": alibi_bias, "relative": relative_bias}


def position_bias(scene: Scene) -> Bias | None:
    """What the position scheme adds to the score followed; a scheme without a row above is asked for the number alone."""
    if scene.config.positions in BIASES:
        return BIASES[scene.config.positions](scene)
    device = next(scene.model.parameters()).device
    query_at, key_at = (torch.tensor([[at]], device=device) for at in (scene.position, scene.key))
    bias = scene.model.decoder.positions.bias(query_at, key_at)
    return None if bias is None else Bias(f"= {scene.config.positions}", float(bias[0, scene.head, 0, 0]))


def mask(scene: Scene) -> Section:
    """Which rule hides which token from which."""
    name, cell = scene.here("attention.masked"), (scene.head, scene.position, scene.key)
    rules = scene.taps[scene.here("attention.mask_rule")][0, 0].cpu()  # T S
    differing = float((rules != expected_rules(len(scene.ids), scene.config.window)).sum())
    picture = [Picture(tuple(draw_mask(scene, rules)))] if len(scene.ids) <= PICTURED_TOKENS else []
    return scene.section(
        "MASK",
        "a token may look at itself and at what came before; a score that is hidden becomes -∞.",
        formula=["masked[i,j] = s[i,j] where i may look at j", "else -∞"],
        name=name,
        cell=cell,
        body=[*picture, *tell_rules(scene, rules[scene.position])],
        checks=[
            scene.check("masked", name, cell, scene.cell(scene.here("attention.scores"), *cell)),
            Check(f"the rules of all {rules.numel():,} cells, worked out from the positions", differing, 0.0),
        ],
    )


def expected_rules(count: int, window: int | None) -> Tensor:
    """The rule of each cell for one text from position 0, as integers T S: causal first, then the window."""
    distance = torch.arange(count)[:, None] - torch.arange(count)
    rules = torch.where(distance < 0, RULES.index("later position"), 0)
    if window is not None:
        rules = torch.where((distance >= window) & (rules == 0), RULES.index("outside the window"), rules)
    return rules


def draw_mask(scene: Scene, rules: Tensor) -> Iterator[str]:
    """The mask as a square of signs, a row for each asking token, and what the signs mean."""
    for i, row in enumerate(rules.tolist()):
        yield f"{i:>4}  {' '.join(RULE_SIGNS[rule] for rule in row)}{'  ← asks' if i == scene.position else ''}"
    yield "      " + ", ".join(f"{RULE_SIGNS[rule]} {RULES[rule]}" for rule in sorted(set(rules.flatten().tolist())))


def tell_rules(scene: Scene, row: Tensor) -> Iterator[str]:
    """What the asking token may look at, and a sentence for each rule that hides something from it."""
    yield f"Token {scene.position} may look at {int(row.eq(0).sum()):,} of {len(row):,} tokens."
    for rule in sorted(set(row.tolist()) - {0}):
        which = row.eq(rule).nonzero()[:, 0].tolist()
        span = f"Token {which[0]} is" if len(which) == 1 else f"Tokens {which[0]} to {which[-1]} are"
        yield f"{span} hidden: {RULES[rule]}."


def unlisted(scene: Scene) -> Iterator[str]:
    """A sentence about the tokens that a table of this head leaves out."""
    listed, missing = len(scene.listed_keys), len(scene.ids) - len(scene.listed_keys)
    if missing:
        yield f"(the {listed} tokens that are looked at most; {missing:,} others are not listed)"
