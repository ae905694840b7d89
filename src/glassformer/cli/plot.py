"""``glassformer plot``: what a model hears or looks at, as a picture: the vectors over time, the alignment, any view."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option

from glassformer.cli.explain import show_view, usual_format
from glassformer.cli.flags import Run, given, opened


def plot(
    run: Run,
    text: Annotated[str, Argument(help="The file of sound or vectors that the model reads, or the text.")],
    view: Annotated[
        str | None,
        Option("--view", help="vectors, alignment, attention, ... [default: vectors of sound, attention of text]"),
    ] = None,
    out: Annotated[
        Path | None,
        Option(
            "--out", "-o", "--output", help="Write this file: .png, .svg, .html, .md, .json or .txt. [default: print]"
        ),
    ] = None,
    target: Annotated[
        str | None, Option("--target", help="The words that are aligned. [default: those that the model finds]")
    ] = None,
    side: Annotated[str | None, Option("--side", help="encoder, decoder or cross, for views that have sides.")] = None,
    layer: Annotated[int | None, Option("--layer", help="One layer; -1 is the last. [default: all]")] = None,
    head: Annotated[int | None, Option("--head", help="One head. [default: all]")] = None,
    digits: Annotated[int, Option("--digits", help="Digits that are shown.")] = 4,
    ascii: Annotated[bool, Option("--ascii", help="Only characters that every terminal has.")] = False,
) -> None:
    """Draw one view of a run, on the terminal or into a file: the log-mel of a sound with its words under it, the alignment
    of words and time, attention, and the others that `glassformer explain --view` knows."""
    from glassformer.errors import ConfigError

    if out is not None and out.is_dir():
        raise ConfigError(f"{out} is a folder: expected the name of a file")
    pipe = opened(run)
    usual = "attention" if pipe.model.config.vectors is None else "vectors"
    choices: dict[str, Any] = given(side=side, layer=layer, head=head)
    show_view(pipe, text, target, view or usual, choices, usual_format(out), digits, ascii, out)
