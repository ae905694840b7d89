"""What was heard and when: the words with their moments, by CTC's likeliest way through the places or by cross-attention."""

# T target tokens, P places that the encoder leaves, V vocabulary, L layers, H heads

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from glassformer.errors import ConfigError
from glassformer.generate.ctc import align
from glassformer.generate.vectors import stride_of
from glassformer.lens.glass.heard import ctc_logits
from glassformer.lens.glass.trace import Trace
from glassformer.lens.hearing import seconds_of_trace
from glassformer.lens.looking import array, attention_of
from glassformer.lens.numbers import Array
from glassformer.lens.views.parts import Span

BLANKS = " \u2423\u2581\u0120"  # how labels show the space before a word


class Spoken(NamedTuple):
    """A token of what was said, the first and the last place where it is, and how sure of it the model is there."""

    label: str
    first: int
    last: int
    share: float


def refuse_texts(trace: Trace, view: str) -> None:
    """Raise ConfigError for a model that reads no vectors."""
    if "encoder.vectors" not in trace.replay.given:
        raise ConfigError(f"the view {view!r} is for models that read sound or vectors, and this one reads text")


def posteriors(trace: Trace) -> Array | None:
    """What CTC says at each place, as probabilities: P V; None where the model has no such head."""
    name = ctc_logits(trace)
    if not name or trace.settings.get("blank") is None:
        return None
    return trace[name][0].softmax(-1).numpy(force=True)


def spoken_by_ctc(trace: Trace, found: Array) -> list[Spoken]:
    """Where each token is said along the likeliest way; none where the places are too few for them."""
    with np.errstate(divide="ignore"):
        rows = align(np.log(found), trace.settings["said"], int(trace.settings["blank"]))
    return [Spoken(trace.vocabulary[one.id], one.first, one.last, one.probability) for one in rows or []]


def crossing(trace: Trace, layer: int | None, head: int | None) -> Array | None:
    """How the target's tokens share their attention among the places, the mean of the layers and heads that are not chosen:
    T P; None where nothing crosses."""
    if trace.model.config.shape != "encoder_decoder":
        return None
    layers = range(trace.model.config.n_layers) if layer is None else [layer]
    patterns = np.stack([array(trace, f"{attention_of('cross', one)}.pattern") for one in layers])  # L H T P
    return patterns.mean((0, 1)) if head is None else patterns[:, head].mean(0)


def spoken_by_attention(trace: Trace, pattern: Array) -> list[Spoken]:
    """Where each token that was written looks most: the row of the token before it, which writes it."""
    said = trace.settings.get("said", ())
    found: list[Spoken] = []
    for row, id in enumerate(trace.replay.given["targets"][0].tolist()):
        if id in said:
            place = int(pattern[row].argmax())
            found.append(Spoken(trace.vocabulary[id], place, place, float(pattern[row, place])))
    return found


def words_of(spoken: list[Spoken]) -> list[Spoken]:
    """Tokens put together to words: one begins where its label does with a space."""
    found: list[Spoken] = []
    begins = True
    for one in spoken:
        text = one.label.strip(BLANKS)
        if not text:
            begins = True
            continue
        if begins or one.label[:1] in BLANKS:
            found.append(Spoken(text, one.first, one.last, one.share))
        else:
            before = found[-1]
            found[-1] = Spoken(before.label + text, before.first, one.last, min(before.share, one.share))
        begins = one.label[-1:] in BLANKS
    return found


def spans(words: list[Spoken], stride: int, count: int) -> tuple[Span, ...]:
    """Words under the columns of places, or of the vectors of which `stride` make a place."""
    return tuple(Span(w.first * stride, min((w.last + 1) * stride, count) - 1, w.label) for w in words)


def moment(trace: Trace, vectors: float) -> float:
    """When a vector begins: in seconds, or its number where nobody knows these."""
    step = seconds_of_trace(trace)
    return vectors if step is None else float(trace.settings.get("start", 0.0)) + vectors * step


def seconds_of_place(trace: Trace, place: float) -> float:
    """When a place begins, likewise; none begins behind the last vector."""
    count = trace.replay.given["encoder.vectors"].shape[1]
    return moment(trace, min(place * stride_of(trace.model.config), count))


def unit(trace: Trace) -> str:
    """What moments are counted in."""
    return "vectors" if seconds_of_trace(trace) is None else "seconds"
