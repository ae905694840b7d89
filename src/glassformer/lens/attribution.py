"""What made one score: the part that each component wrote into the stream, and the part of each token read."""

# T tokens, R rows that the head reads, D channels, K runs of other vectors

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from glassformer.errors import ConfigError
from glassformer.generate.loop import evaluating
from glassformer.lens.glass.trace import Trace
from glassformer.lens.recording import arguments, unchanged
from glassformer.models.vectors import VectorEmbedding
from glassformer.trace import watch

SUBLAYERS = ("attention", "cross_attention", "mlp")
GRADED = 8  # a point at t of a path stands at t to this power of the way: near the start norms turn fastest
FIRST, N_POINTS = 4, 6  # stretches into which a path is cut at first, and points on each
ENOUGH = 1e-4  # of the difference that a path is to add up to, after which it is not cut finer
AT_ONCE = 16_000_000  # scores worked out at a time along a path


@dataclass(frozen=True, eq=False)
class Score:
    """One number of what the model answered: `entry` of `row`, which is None where there is one answer for the text."""

    trace: Trace
    entry: int
    row: int | None

    def of(self, answers: Tensor) -> Tensor:
        """This score of some runs."""
        return answers[:, self.entry] if self.row is None else answers[:, self.row, self.entry]


@dataclass(frozen=True, eq=False)
class Component:
    """What one part of the model wrote. kind: "embedding", "head", "mlp" or "bias". vector: R D, in float64, as the head
    reads it, one row where it pools them. term: its part of the score."""

    name: str
    kind: str
    vector: Tensor
    term: float = 0.0


@dataclass(frozen=True)
class Attribution:
    """A score before any soft cap as the sum of its components' terms, and what rounding leaves over."""

    components: tuple[Component, ...]
    score: float

    @property
    def total(self) -> float:
        return float(np.sum([component.term for component in self.components]))

    @property
    def remainder(self) -> float:
        return self.score - self.total


def attribute(score: Score) -> Attribution:
    """Direct logit attribution: the head is a linear map, and with the divisors of its norms, and the slope of a bend before
    it, as they were in this run (frozen) the last vector is a sum of what each component wrote, so that the score is one too.
    """
    trace, entry = score.trace, score.entry
    weights, config = trace.replay.weights, trace.model.config
    scale = config.logit_scale if config.head == "tokens" else 1.0
    share = shares_of_rows(score)
    parts = [
        replace(part, vector=(share * part.vector).sum(0, keepdim=True)) for part in written(trace, rows_of(score))
    ]
    if "head.hidden.out" in trace.replay.graph:
        parts = frozen(trace, "head.norm", bent(trace, parts, score.row), rows_of(score))
    row = weights["head.linear.weight"][entry].cpu().double()
    found = [replace(part, term=scale * float((part.vector @ row).sum())) for part in parts]
    if "head.linear.bias" in weights:
        bias = weights["head.linear.bias"][entry].cpu().double()
        found.append(Component("head.linear.bias", "bias", bias.reshape(1, 1), scale * float(bias)))
    return Attribution(tuple(found), float(score.of(trace[uncapped(trace)])))


def uncapped(trace: Trace) -> str:
    """The scores before a soft cap bends them."""
    config = trace.model.config
    is_capped = config.head == "tokens" and config.logit_softcap is not None
    return trace.replay.graph["head.logits"].inputs["x"].name if is_capped else "head.logits"


def rows_of(score: Score) -> slice:
    """The tokens whose last vectors the head reads."""
    return slice(None) if score.row is None else slice(score.row, score.row + 1)


def shares_of_rows(score: Score) -> Tensor:
    """R 1, with what share each of them counts, or R D where each channel is taken from the token that has most of it."""
    if score.row is not None:
        return torch.ones(1, 1, dtype=torch.float64)
    trace = score.trace
    at = trace.replay.given[f"{trace.stack}.at"][0].cpu()
    if trace.model.config.pooling == "max":
        x = trace[trace.replay.graph["head.pooled"].inputs["x"].name][0].masked_fill((at < 0)[:, None], -torch.inf)
        return torch.nn.functional.one_hot(x.argmax(0), len(x)).T.double()
    counted = (at >= 0) if trace.model.config.pooling == "mean" else (at == 0)
    return (counted.double() / counted.sum())[:, None]


def written(trace: Trace, rows: slice) -> list[Component]:
    """All that was written into the stream that is answered from, each part as the head reads it."""
    stack, graph = trace.stack, trace.replay.graph
    here = f"{stack}.embedding"
    parts = [
        Component(f"{here}.{point}", "embedding", trace[f"{here}.{point}"][0, rows].expand(n_rows(trace, rows), -1))
        for point in ("token", "bigram", "kind", "position")
        if f"{here}.{point}" in graph
    ]
    parts = frozen(trace, f"{here}.norm", parts, rows)
    config = getattr(trace.model, stack).config
    for layer in range(config.n_layers):
        for sublayer in SUBLAYERS:
            place = f"{stack}.blocks.{layer}.{sublayer}"
            if f"{place}.out" in graph:
                added = list(sublayer_parts(trace, place, sublayer, config.d_value, rows))
                parts += frozen(trace, f"{place}_out_norm", added, rows)
                if config.norm_place == "post":
                    parts = frozen(trace, f"{place}_norm", parts, rows)
    return frozen(trace, f"{stack}.norm", parts, rows)


def n_rows(trace: Trace, rows: slice) -> int:
    """How many tokens those are."""
    return len(range(*rows.indices(len(trace.tokens[trace.stack]))))


def sublayer_parts(trace: Trace, place: str, sublayer: str, d_value: int, rows: slice) -> Iterator[Component]:
    """What each head, or the MLP, adds to the stream; the bias by itself."""
    weights = trace.replay.weights
    kind, projection, read = ("mlp", "down_proj", "act") if sublayer == "mlp" else ("head", "o_proj", "z")
    matrix = weights[f"{place}.{projection}.weight"].cpu().double()
    if kind == "mlp":
        yield Component(place, kind, trace[f"{place}.{read}"][0, rows] @ matrix.T)
    else:
        for head, z in enumerate(trace[f"{place}.{read}"][0]):
            columns = matrix[:, head * d_value : (head + 1) * d_value]
            yield Component(f"{place}.head[{head}]", kind, z[rows] @ columns.T)
    if f"{place}.{projection}.bias" in weights:
        bias = weights[f"{place}.{projection}.bias"].cpu().double()
        yield Component(f"{place}.{projection}.bias", "bias", bias.expand(n_rows(trace, rows), -1))


def frozen(trace: Trace, place: str, parts: list[Component], rows: slice) -> list[Component]:
    """The parts behind a norm whose divisor is the one of this run; its own bias is one more."""
    graph, weights = trace.replay.graph, trace.replay.weights
    if f"{place}.out" not in graph:
        return parts
    centres = f"{place}.mean" in graph
    divisor = trace[f"{place}.std" if centres else f"{place}.rms"][0, rows]
    gain = weights[f"{place}.weight"].cpu().double() if f"{place}.weight" in weights else 1.0
    if graph[f"{place}.out"].recipe.name == "norm.rmsnorm.from_one":
        gain = 1.0 + gain

    def scaled(x: Tensor) -> Tensor:
        return (x - x.mean(-1, keepdim=True) if centres else x) / divisor * gain

    found = [replace(part, vector=scaled(part.vector)) for part in parts]
    if f"{place}.bias" in weights:
        bias = weights[f"{place}.bias"].cpu().double()
        found.append(Component(f"{place}.bias", "bias", bias.expand(len(divisor), -1)))
    return found


def bent(trace: Trace, parts: list[Component], row: int | None) -> list[Component]:
    """The parts behind the layer before the head, whose bend lets through the share of each channel that it did in this run."""
    weights = trace.replay.weights
    matrix, bias = (weights[f"head.hidden.linear.{kind}"].cpu().double() for kind in ("weight", "bias"))
    before, behind = (trace[f"head.hidden.{point}"][0] for point in ("pre", "out"))
    if row is not None:
        before, behind = before[row : row + 1], behind[row : row + 1]
    share = torch.where(before == 0, 0.0, behind / before)
    found = [replace(part, vector=part.vector @ matrix.T * share) for part in parts]
    return [*found, Component("head.hidden.linear.bias", "bias", (bias * share).reshape(1, -1))]


@dataclass(frozen=True, eq=False)
class Path:
    """Integrated gradients (Sundararajan et al. 2017): by stack, what each token's vector (T) adds to a score on the
    straight way from a baseline to it. start and end: the score there. steps: the points at which the gradient was taken."""

    tokens: Mapping[str, Tensor]
    start: float
    end: float
    steps: int

    @property
    def total(self) -> float:
        return float(sum(float(tokens.sum()) for tokens in self.tokens.values()))

    @property
    def error(self) -> float:
        """By how much the tokens miss the whole difference, which they would add up to with endless steps."""
        return self.end - self.start - self.total


def embedded(trace: Trace) -> dict[str, Tensor]:
    """The vector of each token as its stack looked it up, 1 T D, by stack; of vectors what their convolutions make of them."""
    return {stack: trace.replay.points[entrance(trace, stack)].detach().clone() for stack in trace.tokens}


def entrance(trace: Trace, stack: str) -> str:
    """The first tensor of a stack with a vector for each of its places."""
    embedding = getattr(trace.model, stack).embedding
    if not isinstance(embedding, VectorEmbedding):
        return f"{stack}.embedding.token"
    last = len(embedding.reads.strides) - 1
    return f"{stack}.embedding.convolutions.{last}.out" if last >= 0 else f"{stack}.embedding.mapped"


def baseline_of(trace: Trace, kind: str, vectors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Where a path begins: no vector at all, or the mean of all tokens' vectors."""
    if kind not in BASELINES:
        raise ConfigError(f"baseline={kind!r} is not one of {', '.join(BASELINES)}")
    return {stack: BASELINES[kind](getattr(trace.model, stack).embedding, x) for stack, x in vectors.items()}


def mean_vector(embedding: Any, x: Tensor) -> Tensor:
    """The mean row of the table, for every token; of vectors the mean over the places."""
    if isinstance(embedding, VectorEmbedding):
        return x.mean(1, keepdim=True).expand_as(x)
    mean = embedding.token.weight.detach().mean(0)
    return (mean if embedding.scale is None else mean * embedding.scale).to(x).expand_as(x)


BASELINES = {"zero": lambda embedding, x: torch.zeros_like(x), "mean": mean_vector}


def scored(score: Score, vectors: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """The score of K runs, whose tokens have other vectors (K T D, by stack), and its gradient by them."""
    trace = score.trace
    n_runs = len(next(iter(vectors.values())))
    with torch.inference_mode(False), torch.enable_grad():
        leaves = {stack: x.detach().clone().requires_grad_() for stack, x in vectors.items()}
        given = {name: in_rows(name, x, n_runs) for name, x in trace.replay.given.items()}
        ids, extra = arguments(trace.model, given)
        edits = {entrance(trace, stack): partial(instead, leaf) for stack, leaf in leaves.items()}
        model: Any = trace.model
        with evaluating(model), watch(model, [], edit={"*": unchanged, **edits}):
            found = score.of(model(ids, **extra))
        gradients = torch.autograd.grad(found.sum(), list(leaves.values()))
    return found.detach().cpu().double(), {
        stack: gradient.cpu().double() for stack, gradient in zip(leaves, gradients, strict=True)
    }


def in_rows(name: str, x: Tensor, n: int) -> Tensor:
    """What a run was given, for n runs at once."""
    return x.clone() if name.endswith(".frequency") else x.clone().expand(n, *x.shape[1:])


def instead(leaf: Tensor, x: Tensor) -> Tensor:
    """An edit that puts another tensor in its place."""
    return leaf


def gradient_times_input(score: Score) -> dict[str, Tensor]:
    """By stack, the gradient of a score by each token's vector times that vector, summed over channels: T."""
    vectors = embedded(score.trace)
    _, gradients = scored(score, vectors)
    return {stack: (gradients[stack] * x.cpu().double()).sum(-1)[0] for stack, x in vectors.items()}


@dataclass(frozen=True, eq=False)
class Stretch:
    """A part of a path, from `start` to `end`: what the tokens' vectors add to the score on it, by stack, and the score at
    its ends, which says how well the points on it caught the gradient."""

    start: float
    end: float
    scores: tuple[float, float]
    tokens: Mapping[str, Tensor]

    @property
    def error(self) -> float:
        return self.scores[1] - self.scores[0] - float(sum(float(x.sum()) for x in self.tokens.values()))


def integrated_gradients(score: Score, *, steps: int = 256, baseline: str = "zero") -> Path:
    """The gradient along the way from the baseline to the tokens' vectors, at points of Gauss and Legendre.

    Stretches of the way that miss the difference of the score at their ends are halved, until all add up to within
    ENOUGH of it or the gradient was taken at `steps` points. Positions and pairs of tokens stay as they are. Raises
    ConfigError for too few steps or an unknown baseline.
    """
    least = FIRST * N_POINTS
    if steps < least:
        raise ConfigError(f"steps={steps} is out of range: expected {least} or more")
    ends = embedded(score.trace)
    starts = baseline_of(score.trace, baseline, ends)
    edges = np.linspace(0, 1, FIRST + 1).tolist()
    done = stretches(score, starts, ends, list(pairwise(edges)))
    taken, goal = least, ENOUGH * max(1.0, abs(done[-1].scores[1] - done[0].scores[0]))
    while (left := (steps - taken) // (2 * N_POINTS)) and sum(abs(one.error) for one in done) > goal:
        worst = sorted(done, key=lambda one: -abs(one.error))
        split = [one for one in worst[:left] if abs(one.error) > goal / len(done)]
        if not split:
            break
        halves = [pair for one in split for pair in pairwise((one.start, (one.start + one.end) / 2, one.end))]
        kept = [one for one in done if one not in split]
        done = sorted([*kept, *stretches(score, starts, ends, halves)], key=lambda one: one.start)
        taken += len(halves) * N_POINTS
    tokens = {stack: torch.stack([one.tokens[stack] for one in done]).sum(0) for stack in ends}
    return Path(tokens, done[0].scores[0], done[-1].scores[1], taken)


def stretches(
    score: Score, starts: Mapping[str, Tensor], ends: Mapping[str, Tensor], spans: Sequence[tuple[float, float]]
) -> list[Stretch]:
    """Some parts of a path, told by how far along it they begin and end, worked out together."""
    points, weights = np.polynomial.legendre.leggauss(N_POINTS)
    places = np.array([[a, *((b - a) * (points + 1) / 2 + a), b] for a, b in spans]).ravel()
    found, parts = along(score, starts, ends, torch.from_numpy(places))
    found, done = found.reshape(len(spans), -1), []
    for n, (a, b) in enumerate(spans):
        inner = slice(n * (N_POINTS + 2) + 1, (n + 1) * (N_POINTS + 2) - 1)
        weight = torch.from_numpy((b - a) / 2 * weights * GRADED * places[inner] ** (GRADED - 1))
        tokens = {stack: (weight[:, None] * part[inner]).sum(0) for stack, part in parts.items()}
        done.append(Stretch(a, b, (float(found[n, 0]), float(found[n, -1])), tokens))
    return done


def along(
    score: Score, starts: Mapping[str, Tensor], ends: Mapping[str, Tensor], places: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """At K places of a path, the score (K) and its slope along the way by each token's vector (K T, by stack)."""
    n_tokens = sum(x.shape[1] for x in ends.values())
    width = max(len(score.trace.vocabulary), score.trace.model.config.d_model)
    found: list[Tensor] = []
    parts: dict[str, list[Tensor]] = {stack: [] for stack in ends}
    for some in places.split(max(1, AT_ONCE // (n_tokens * width))):
        share = (some**GRADED)[:, None, None]
        vectors = {stack: starts[stack] + share.to(x) * (x - starts[stack]) for stack, x in ends.items()}
        scores, gradients = scored(score, vectors)
        found.append(scores)
        for stack, gradient in gradients.items():
            parts[stack].append((gradient * (ends[stack] - starts[stack]).cpu().double()).sum(-1))
    return torch.cat(found), {stack: torch.cat(some) for stack, some in parts.items()}
