"""From a trace to its explanation: the whole walk, or one number and where it comes from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from glassformer.errors import ConfigError, nearest
from glassformer.lens.arithmetic import Numbers
from glassformer.lens.explain.drawing import Drawing
from glassformer.lens.explain.explanation import Explanation
from glassformer.lens.explain.followed import Followed, follow
from glassformer.lens.explain.pointing import point_at
from glassformer.lens.explain.sections import DEPTHS, Depth, Pen
from glassformer.lens.explain.walk import walk
from glassformer.lens.glass import Trace
from glassformer.lens.glass.checks import run_checks
from glassformer.lens.layout import printable
from glassformer.lens.words import stacks_in_words

MOST_DIGITS = 12  # float32 has seven, float64 sixteen
WHOLE = 12  # terms up to which a sum is written out: those of a model small enough for pencil and paper
LONGEST = 40  # characters of a text that titles show


@torch.inference_mode()
def explain(
    trace: Trace,
    *,
    side: str = "",
    layer: int = 0,
    head: int = 0,
    position: int | None = None,
    channel: int = 0,
    at: str = "",
    depth: Depth = "numbers",
    digits: int = 4,
    drawing: Drawing | None = None,
    n_tokens: int | None = None,
) -> Explanation:
    """Walk through a run, number by number, or, with ``at="decoder.blocks.0.attention.scores[1,2,0]"``, explain one.

    `layer`, `head`, `position` (the asking token; by default the last, or the first mask) and `channel` (of the model's
    width) choose the cells that are followed; each may count from the end. `side`: the stack to walk through, of an
    encoder-decoder by default both. `depth`: "symbols" and "shapes" show formulas alone. `drawing` chooses the draw at the
    end, for a model that goes on from a text; `n_tokens`: how many ids have a token. Raises ConfigError, with the valid
    range or the nearest name, for what does not exist.
    """
    if not 1 <= digits <= MOST_DIGITS:
        raise ConfigError(f"digits={digits} is out of range: expected 1 to {MOST_DIGITS}")
    if depth not in DEPTHS:
        raise ConfigError(f"depth={depth!r} is not one of {', '.join(DEPTHS)}{nearest(depth, DEPTHS)}")
    pen = Pen(depth, Numbers(digits, WHOLE))
    followed = tuple(
        follow(trace, side=side, layer=layer, head=head, position=position, channel=channel, n_tokens=n_tokens)
    )
    if at:
        section = point_at(trace, at, followed, pen)
        return Explanation(
            trace=trace,
            followed=followed,
            title=f"One number: {section.step}",
            model=tuple(stacks_in_words(trace.model.config)),
            notes=trace.notes,
            sections=(section,),
            checks=(),
            numbers=pen.numbers,
        )
    return Explanation(
        trace=trace,
        followed=followed,
        title=title_of(trace, followed[-1]),
        model=tuple(stacks_in_words(trace.model.config)),
        notes=(*trace.notes, *(introduction(trace, followed, digits) if depth == "numbers" else ())),
        sections=tuple(walk(trace, followed, drawing or Drawing(), pen)),
        checks=tuple(run_checks(trace)) if depth == "numbers" else (),
        numbers=pen.numbers,
    )


def title_of(trace: Trace, followed: Followed) -> str:
    """What is explained, in one line."""
    text = quote(trace.text)
    match trace.task:
        case "text":
            is_last = followed.position == len(followed.tokens) - 1
            read = text if is_last else quote("".join(followed.tokens.labels[: followed.position + 1]))
            return f"One prediction, number by number: what comes after {read}"
        case "transcribe":
            return f"One transcription, number by number: {text}"
        case "classify_vectors":
            return f"One answer, number by number: the label of {text}"
        case "translate":
            return f"One translation, number by number: {text}"
        case "fill":
            return f"One filling in, number by number: {text}"
        case "embed":
            return f"One vector, number by number: that of {text}"
        case _:
            return f"One answer, number by number: {'the tags' if trace.task == 'tag' else 'the label'} of {text}"


def introduction(trace: Trace, followed: Sequence[Followed], digits: int) -> Iterator[str]:
    """What is followed, and how to read the numbers."""
    for each in followed:
        where = f"Followed in the {each.stack}" if len(trace.tokens) > 1 else "Followed here"
        yield f"{where}: layer {each.layer}, head {each.head}, channel {each.channel}; {each.token(each.position)} asks."
    yield (
        f"Operands are shown rounded to {digits} digits; sums use full precision. Long sums show their first terms,"
        " the largest others with their [index], and the rest as one number. ✓: worked out again in float64 from the"
        " operands, the number agrees with the one that the model recorded; Δ is the difference. Where the model does"
        " not record a tensor (worked out), the whole tensor is computed, and the ✓ holds the cell's formula against it."
    )


def quote(text: str) -> str:
    """The text on one line in quotation marks, its end where it is long."""
    shown = text if len(text) <= LONGEST else f"…{text[-LONGEST:]}"
    return f'"{printable(shown)}"'
