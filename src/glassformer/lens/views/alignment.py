"""The view of alignment: which moments each written token looks at, and what CTC hears at each moment, over one time axis."""

# T target tokens, P places that the encoder leaves, V vocabulary

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from glassformer.errors import ConfigError
from glassformer.generate.ctc import occupancy
from glassformer.lens.glass.trace import Trace
from glassformer.lens.layout import shorten
from glassformer.lens.looking import array, attention_of, pick
from glassformer.lens.numbers import Array
from glassformer.lens.views.heard import (
    Spoken,
    crossing,
    posteriors,
    refuse_texts,
    seconds_of_place,
    spans,
    spoken_by_attention,
    spoken_by_ctc,
    unit,
    words_of,
)
from glassformer.lens.views.parts import Grid, Heading, Part, Sheet, say
from glassformer.lens.views.view import View

WIDE, ROW = 880.0, 18.0  # of a picture: in all, and each row
MOST_ROWS = 24  # tokens whose probabilities are shown beside the blank
SURE = 0.05  # a token that is nowhere so likely has no row, unless it was said


def alignment(trace: Trace, *, layer: int | None = None, head: int | None = None) -> View:
    """Cross-attention of the written tokens over time, the mean of all layers and heads, and with `layer` each head of it, with
    `head` that one; and what CTC says at each place, with the words under it."""
    refuse_texts(trace, "alignment")
    config = trace.model.config
    layer = None if layer is None else pick("layer", layer, config.n_layers)
    head = None if head is None else pick("head", head, config.n_heads)
    arrays: dict[str, Array] = {}
    parts: list[Part] = list(trace.notes)
    found, pattern = posteriors(trace), crossing(trace, layer, head)
    if found is None and pattern is None:
        raise ConfigError("nothing is aligned here: the model has neither cross-attention nor CTC")
    words = words_of(spoken_by_ctc(trace, found)) if found is not None and trace.settings.get("said") else []
    if pattern is not None:
        if not words:
            words = words_of(spoken_by_attention(trace, pattern))
        parts += crossed(trace, pattern, layer, head, words, arrays)
    if found is not None:
        parts += by_place(trace, found, words, arrays)
    parts += said_when(trace, found, arrays)
    return View("alignment", f"Alignment: {trace.text}", tuple(parts), arrays)


def columns(trace: Trace) -> tuple[str, ...]:
    """The moments of the places."""
    return trace.tokens["encoder"].labels


def timed(trace: Trace, title: str, rows: tuple[str, ...], values: Array, words: list[Spoken]) -> Grid:
    """Shares over time, from nothing to the largest, with words under them."""
    count = len(columns(trace))
    return Grid(
        title,
        rows,
        columns(trace),
        values,
        "share",
        across=("tokens", "time"),
        under=spans(words, 1, count),
        drawn=(WIDE, ROW * len(rows)),
    )


def crossed(
    trace: Trace, pattern: Array, layer: int | None, head: int | None, words: list[Spoken], arrays: dict[str, Array]
) -> Iterator[Part]:
    """Where each token that is written looks."""
    rows = tuple(f"{shorten(label, 10)}→{shorten(written, 10)}" for label, written in written_after(trace))
    heads = "all heads" if head is None else f"head {head}"
    where = "of all layers" if layer is None else f"of layer {layer}"
    arrays["cross-attention"] = pattern
    yield Heading("Cross-attention: the moments that each token looks at while it writes the next")
    yield timed(trace, f"Mean of {heads} {where}", rows, pattern, words)
    arrays["forwards"] = share = np.array(forwards(pattern))
    arrays["peak"] = peak = np.array(pattern.max(-1).mean())
    yield say(
        "From one token to the next the moment that is looked at most goes on, or stays, in ",
        float(share),
        " of all steps; a token gives its own moment ",
        float(peak),
        " of its attention in the mean.",
    )
    if layer is not None and head is None:
        name = f"{attention_of('cross', layer)}.pattern"
        arrays[name] = each = array(trace, name)
        for number, one in enumerate(each):
            yield timed(trace, f"{name}[{number}]", rows, one, words)


def written_after(trace: Trace) -> list[tuple[str, str]]:
    """Each token of the target, and what is to be written after it."""
    labels = trace.tokens["decoder"].labels
    targets = trace.replay.given["targets"][0].tolist()
    return [(label, trace.vocabulary[id] if id >= 0 else "") for label, id in zip(labels, targets, strict=True)]


def forwards(pattern: Array) -> float:
    """The share of steps in which the largest of a row does not lie before that of the row above."""
    most = pattern.argmax(-1)
    return float((np.diff(most) >= 0).mean()) if len(most) > 1 else 1.0


def by_place(trace: Trace, found: Array, words: list[Spoken], arrays: dict[str, Array]) -> Iterator[Part]:
    """Where CTC spells each token that was said, and what it says at each place: these tokens, others, and the blank."""
    blank = int(trace.settings["blank"])
    said = list(dict.fromkeys(trace.settings.get("said", ())))
    order = np.argsort(-found.max(0), kind="stable").tolist()
    others = [n for n in order if n not in {*said, blank} and found[:, n].max() >= SURE]
    shown = [*[*said, *others][:MOST_ROWS], blank]
    arrays["ctc.probability"] = found
    yield Heading("CTC: what is being said at each moment")
    with np.errstate(divide="ignore"):
        spelled = occupancy(np.log(found), trace.settings.get("said", ()), blank)
    if spelled is not None and len(spelled):
        arrays["ctc.occupancy"] = spelled
        letters = tuple(shorten(trace.vocabulary[id], 12) for id in trace.settings["said"])
        yield timed(
            trace, "Which token of the text is being said, summed over all ways to say it", letters, spelled, words
        )
    rows = tuple("blank" if n == blank else shorten(trace.vocabulary[n], 12) for n in shown)
    yield timed(trace, "Probability of each token, and of none (the blank)", rows, found[:, shown].T, words)
    if len(said) + len(others) > MOST_ROWS:
        yield say("The ", len(said) + len(others) - MOST_ROWS, " other tokens have no row.")


def said_when(trace: Trace, found: Array | None, arrays: dict[str, Array]) -> Iterator[Part]:
    """Every token that was said, with its moments."""
    if found is None or not trace.settings.get("said"):
        return
    spoken = spoken_by_ctc(trace, found)
    if not spoken:
        yield "There are fewer places than CTC needs for these words: one for each token, and one between equal ones."
        return
    times = np.array([[seconds_of_place(trace, one.first), seconds_of_place(trace, one.last + 1)] for one in spoken])
    arrays |= {"tokens.times": times, "tokens.probability": np.array([one.share for one in spoken])}
    rows = tuple((one.label, float(times[n, 0]), float(times[n, 1]), one.share) for n, one in enumerate(spoken))
    head = ("token", f"from ({unit(trace)})", "to", "probability")
    yield Sheet(head, rows, "Where CTC's likeliest way says each token")
