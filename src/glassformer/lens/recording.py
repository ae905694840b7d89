"""Runs a model with somebody watching, keeps what was seen beside what it was given, and runs it again from that."""

# b texts, T tokens of the target, S tokens of the source

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from glassformer.features import FeatureConfig
from glassformer.generate.loop import evaluating
from glassformer.lens.graph import Graph, graph
from glassformer.lens.hearing import sound_given
from glassformer.lens.replay import Replay
from glassformer.models import EncoderDecoder, Model
from glassformer.models.stack import Stack, in_common
from glassformer.models.vectors import VectorEmbedding, shortened
from glassformer.nn.positions import Rotary
from glassformer.trace import watch


def record(
    model: Model,
    ids: Tensor,
    *,
    targets: Tensor | None = None,
    smoothing: float = 0.0,
    points: str | Iterable[str] = "*",
    features: FeatureConfig | None = None,
    **read: Tensor | None,
) -> Replay:
    """One run of a model on ids (b T) with these `points` kept. `read`: the model's other arguments, and `source_at`.

    targets: b T, the right answers, -100 where there is none, where the loss is to be a part of it. ids: of an encoder of
    vectors these, b S F. features: how the `samples` (b N) became vectors, where they did.
    """
    replay = prepared(model, ids, targets=targets, smoothing=smoothing, features=features, **read)
    replay.points = run_again(model, replay.given, points)
    return replay


def prepared(
    model: Model,
    ids: Tensor,
    *,
    targets: Tensor | None = None,
    smoothing: float = 0.0,
    features: FeatureConfig | None = None,
    samples: Tensor | None = None,
    **read: Tensor | None,
) -> Replay:
    """The same before the run: what it is given and what it will compute, no point recorded."""
    given = given_to(model, ids, **read)
    if targets is not None:
        given["targets"] = targets
    if features is not None and samples is not None:
        given |= sound_given(samples, features)
    return Replay(model, graph_of(model, given, smoothing, features), {}, given)


def graph_of(
    model: Model, given: Mapping[str, Tensor], smoothing: float = 0.0, features: FeatureConfig | None = None
) -> Graph:
    """The graph of a run on what was given."""
    parts = {name.rpartition(".")[2] for name in given}
    return graph(
        model,
        packed="documents" in parts,
        prefix="prefix" in parts,
        turned=[name.removesuffix(".turn_at") for name in given if name.endswith(".turn_at")],
        targets="targets" in parts,
        smoothing=smoothing,
        padded=[name.removesuffix(".vectors_at") for name, at in given.items() if is_padded(name, at)],
        features=features if "sound.samples" in given else None,
    )


def is_padded(name: str, at: Tensor) -> bool:
    """Whether these are the positions of vectors of which some are padding."""
    return name.endswith(".vectors_at") and bool((at < 0).any())


def given_to(
    model: Model,
    ids: Tensor,
    *,
    at: Tensor | None = None,
    source: Tensor | None = None,
    source_at: Tensor | None = None,
    documents: Tensor | None = None,
    prefix: Tensor | None = None,
) -> dict[str, Tensor]:
    """What each stack of a model works from, by name."""
    if isinstance(model, EncoderDecoder):
        assert source is not None
        given = stack_given("encoder", model.encoder, source, source_at, None)
        return given | stack_given("decoder", model.decoder, ids, at, None)
    name = stack_of(model)
    given = stack_given(name, getattr(model, name), ids, at, documents)
    return given if prefix is None else given | {f"{name}.prefix": prefix}


def stack_of(model: Model) -> str:
    """The name of the stack that answers."""
    return "decoder" if hasattr(model, "decoder") else "encoder"


def stack_given(name: str, stack: Stack, ids: Tensor, at: Tensor | None, documents: Tensor | None) -> dict[str, Tensor]:
    """What a stack works from, by name; positions that nobody gave are those that it counts itself. ids: or vectors."""
    if isinstance(stack.embedding, VectorEmbedding):
        return vectors_given(name, stack, stack.embedding, ids, at)
    if at is None:
        at = stack.default_at(ids, documents, None)
    given = {f"{name}.ids": ids, f"{name}.at": at.expand_as(ids)}
    if documents is not None:
        given[f"{name}.documents"] = documents
    if stack.embedding.bigram is not None:
        given[f"{name}.rows"] = stack.embedding.pair(ids, at, None)
    if stack.embedding.kind is not None:
        given[f"{name}.kinds"] = torch.zeros_like(ids)
    return given | turning_given(name, stack, at.expand_as(ids))


def turning_given(name: str, stack: Stack, at: Tensor) -> dict[str, Tensor]:
    """What rotary positions work from beside the positions (b T), by name."""
    positions: nn.Module = stack.positions
    given: dict[str, Tensor] = {}
    if isinstance(positions, Rotary) and not torch.equal(in_common(at).expand_as(at), at):
        given[f"{name}.turn_at"] = in_common(at).expand_as(at)
    if isinstance(positions, Rotary) and positions.scaling is not None:
        given[f"{name}.positions.frequency"] = positions.frequencies(at.cpu())
    return given


def vectors_given(
    name: str, stack: Stack, layer: VectorEmbedding, vectors: Tensor, at: Tensor | None
) -> dict[str, Tensor]:
    """What a stack of vectors (b S F) works from, by name: their positions, and those that each convolution leaves."""
    if at is None:
        at = torch.arange(vectors.shape[1])[None]
    at = at.expand(vectors.shape[:2])
    given = {f"{name}.vectors": vectors, f"{name}.vectors_at": at}
    for number, stride in enumerate(layer.reads.strides):
        at = shortened(at, stride)
        given[f"{name}.embedding.convolutions.{number}.at"] = at
    return given | {f"{name}.at": at} | turning_given(name, stack, at)


def arguments(model: Model, given: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """The ids and the other arguments with which a model is called, from what it was given by name.

    Positions that the model would count itself are left to it, for it may go another way where it is told them.
    """
    device = next(model.parameters()).device
    name = stack_of(model)
    extra = {part: given[f"{name}.{part}"] for part in ("documents", "prefix") if f"{name}.{part}" in given}
    if isinstance(model, EncoderDecoder):
        extra["source"] = read_by("encoder", given)
        if not is_counted("encoder", model.encoder, given):
            extra["source_at"] = positions_of("encoder", given)
    if not is_counted(name, getattr(model, name), given):
        extra["at"] = positions_of(name, given)
    return read_by(name, given).to(device), {key: value.to(device) for key, value in extra.items()}


def read_by(name: str, given: Mapping[str, Tensor]) -> Tensor:
    """The ids (b T), or the vectors (b S F), that a stack read."""
    return given[f"{name}.ids"] if f"{name}.ids" in given else given[f"{name}.vectors"]


def positions_of(name: str, given: Mapping[str, Tensor]) -> Tensor:
    """The positions of what a stack read: of vectors those before any convolution."""
    return given[f"{name}.vectors_at"] if f"{name}.vectors_at" in given else given[f"{name}.at"]


def is_counted(name: str, stack: Stack, given: Mapping[str, Tensor]) -> bool:
    """Whether the positions are those that the stack counts itself."""
    if f"{name}.ids" not in given:
        at = given[f"{name}.vectors_at"]
        return torch.equal(torch.arange(at.shape[1], device=at.device).expand_as(at), at)
    ids = given[f"{name}.ids"]
    counted = stack.default_at(ids, given.get(f"{name}.documents"), None)
    return torch.equal(counted.expand_as(ids), given[f"{name}.at"].to(counted))


@torch.inference_mode()
def run_again(
    model: Model,
    given: Mapping[str, Tensor],
    points: str | Iterable[str] = "*",
    tell: Mapping[str, Callable[[Tensor], None]] | None = None,
) -> dict[str, Tensor]:
    """These points of one run on what was given. `tell` is shown the value of each point that it names as it comes by.

    Every module takes its readable steps, whichever points are asked for, so that a later run for others gives numbers
    of the very same run.
    """
    ids, extra = arguments(model, given)
    names = [points] if isinstance(points, str) else list(points)
    edits = {"*": unchanged, **{name: partial(shown, told) for name, told in (tell or {}).items()}}
    reading: Any = model
    with evaluating(reading), watch(model, names, edit=edits) as seen:
        reading(ids, **extra, **both_heads(model))
        return {name: seen[name] for name in seen}


def both_heads(model: Model) -> dict[str, bool]:
    """What asks a model with a second head, CTC's, for the answers of both; nothing for others."""
    return {"both": True} if getattr(model, "ctc", None) is not None else {}


class Enough(Exception):
    """All that was asked for has come by."""


@torch.inference_mode()
def fetch(model: Model, given: Mapping[str, Tensor], names: Sequence[str]) -> dict[str, Tensor]:
    """These points of the same run, which goes no further than the last of them."""
    found: dict[str, Tensor] = {}

    def keep(name: str, x: Tensor) -> None:
        found[name] = x
        if len(found) == len(set(names)):
            raise Enough

    with suppress(Enough):
        run_again(model, given, (), tell={name: partial(keep, name) for name in names})
    return found


@torch.inference_mode()
def answer(model: Model, given: Mapping[str, Tensor]) -> Tensor:
    """What the model says of it by its usual ways, with nobody watching."""
    ids, extra = arguments(model, given)
    reading: Any = model
    with evaluating(reading):
        return reading(ids, **extra)


@torch.inference_mode()
def answer_of_ctc(model: Model, given: Mapping[str, Tensor]) -> Tensor:
    """What the second head says of it, with nobody watching: b S' V."""
    ids, extra = arguments(model, given)
    reading: Any = model
    with evaluating(reading):
        return reading(ids, **extra, both=True)[1]


def unchanged(x: Tensor) -> Tensor:
    """An edit that changes nothing; a module whose points are edited takes its readable steps."""
    return x


def shown(tell: Callable[[Tensor], None], x: Tensor) -> Tensor:
    """The same, after somebody was shown the value."""
    tell(x)
    return x
