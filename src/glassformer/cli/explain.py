"""``glassformer explain``: the arithmetic of one prediction, cell by cell, checked as it is printed."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option


def explain(
    run: Annotated[Path, Argument(help="Run folder or model folder.")],
    text: Annotated[str, Argument(help="The text whose next token is explained.")] = "",
    layer: Annotated[int, Option("--layer", help="Layer to follow; -1 is the last.")] = 0,
    head: Annotated[int, Option("--head", help="Head to follow.")] = 0,
    position: Annotated[int, Option("--position", help="Token that asks; -1 is the last.")] = -1,
    channel: Annotated[int, Option("--channel", help="Channel of d_model to follow.")] = 0,
    digits: Annotated[int, Option("--digits", help="Digits that are shown; sums use full precision.")] = 4,
    format: Annotated[str | None, Option("--format", help="plain, ansi or md. [default: ansi on a terminal]")] = None,
    ascii: Annotated[bool, Option("--ascii", help="Only characters that every terminal has.")] = False,
    temperature: Annotated[float | None, Option("--temperature", help="Of the draw at the end.")] = None,
    top_k: Annotated[int | None, Option("--top-k", help="Of the draw at the end.")] = None,
    top_p: Annotated[float | None, Option("--top-p", help="Of the draw at the end.")] = None,
    seed: Annotated[int, Option("--seed", help="Of the draw at the end.")] = 0,
    list_points: Annotated[
        bool, Option("--list-points", help="List every tensor that can be watched, and stop.")
    ] = False,
) -> None:
    """Show how the model gets from a text to its next token, with the real numbers."""
    from glassformer.lens import points
    from glassformer.pipeline import load

    pipe = load(run)
    if list_points:
        for point in points(pipe.model):
            print(f"{point.name:<48} {' '.join(point.axes)}")
        return
    given = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    sampling = pipe.settings({name: value for name, value in given.items() if value is not None}).sampling
    explanation = pipe.explain(
        text,
        layer=layer,
        head=head,
        position=position,
        channel=channel,
        digits=digits,
        sampling=sampling,
        seed=seed,
    )
    colours = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    chosen: Any = format or ("ansi" if colours else "plain")  # any other name is refused there
    print(explanation.render(chosen, ascii=ascii))
