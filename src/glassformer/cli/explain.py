"""``glassformer explain``: the arithmetic of one run, cell by cell, checked as it is printed; one number; or one view."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from glassformer.cli.flags import Run, given, opened

if TYPE_CHECKING:
    from glassformer.lens import Explanation
    from glassformer.pipeline import Pipeline

WALK = "walk"


def explain(
    run: Run,
    text: Annotated[str, Argument(help="The text that the model reads, or the file of sound or vectors.")] = "",
    target: Annotated[
        str | None, Option("--target", help="What a translator is to have written. [default: what it does write]")
    ] = None,
    side: Annotated[
        str | None, Option("--side", help="encoder or decoder: the stack to walk through. [default: all there are]")
    ] = None,
    layer: Annotated[int | None, Option("--layer", help="Layer to follow; -1 is the last. [default: 0]")] = None,
    head: Annotated[int | None, Option("--head", help="Head to follow. [default: 0]")] = None,
    position: Annotated[
        int | None, Option("--position", help="Token that asks. [default: the last, or the first mask]")
    ] = None,
    channel: Annotated[int | None, Option("--channel", help="Channel of d_model to follow. [default: 0]")] = None,
    at: Annotated[
        str | None,
        Option("--at", metavar="POINT[INDEX]", help="Explain this number alone: decoder.embedding.token[0,0]."),
    ] = None,
    depth: Annotated[str | None, Option("--depth", help="symbols, shapes or numbers. [default: numbers]")] = None,
    view: Annotated[
        str, Option("--view", help="walk, attention, tokens, residual, ... [default: walk]", show_default=False)
    ] = WALK,
    top: Annotated[int | None, Option("--top", help="Rows that a view lists.")] = None,
    other: Annotated[
        Path | None, Option("--other", help="Run to compare with in --view diff, or to patch from in --view lab.")
    ] = None,
    choices: Annotated[
        list[str] | None,
        Option(
            "--set",
            metavar="NAME=VALUE",
            help="A choice of the view, repeatable: target=cat, ablate=decoder.blocks.0.mlp, steps=64.",
        ),
    ] = None,
    step: Annotated[bool, Option("--step", help="Wait for Enter after each section (on a terminal).")] = False,
    digits: Annotated[int, Option("--digits", help="Digits that are shown; sums use full precision.")] = 4,
    format: Annotated[
        str | None, Option("--format", help="plain, ansi, md, latex or json. [default: ansi on a terminal]")
    ] = None,
    ascii: Annotated[bool, Option("--ascii", help="Only characters that every terminal has.")] = False,
    temperature: Annotated[float | None, Option("--temperature", help="Of the draw at the end.")] = None,
    top_k: Annotated[int | None, Option("--top-k", help="Of the draw at the end.")] = None,
    top_p: Annotated[float | None, Option("--top-p", help="Of the draw at the end.")] = None,
    seed: Annotated[int | None, Option("--seed", help="Of the draw at the end. [default: 0]")] = None,
    out: Annotated[
        Path | None, Option("--out", "-o", "--output", help="Write this file: .md with pictures, .tex, .json, .txt.")
    ] = None,
    list_points: Annotated[bool, Option("--list-points", help="List every tensor and its recipe, and stop.")] = False,
) -> None:
    """Show how the model gets from a text to its answer, with the real numbers.

    The walk follows one layer, head, token and channel through every tensor: formula, operands, value, and whether it
    agrees with what the model computed. --at explains a single number, says what it is made of and where it is used.
    """
    from glassformer.errors import ConfigError

    if out is not None and out.is_dir():
        raise ConfigError(f"{out} is a folder: expected the name of a file")
    if at is not None and view != WALK:
        raise ConfigError(f"--at explains one number and --view {view} shows many: use one of them")
    pipe = opened(run)
    if list_points:
        list_all(pipe)
        return
    where = given(side=side, layer=layer, head=head, position=position, channel=channel)
    chosen = format or usual_format(out)
    stages = given(temperature=temperature, top_k=top_k, top_p=top_p)
    if view != WALK:
        where |= given(top=top) | named(choices or ())
        where |= stages | given(seed=seed)  # a view that has no use for one refuses it
        for flag, is_used in {"--depth": depth is not None, "--step": step}.items():
            if is_used:
                raise ConfigError(f"{flag} is for the walk, and --view {view} is none")
        if other is not None:
            where["other"] = opened(other).trace(text, target)
        show_view(pipe, text, target, view, where, chosen, digits, ascii, out)
        return
    for flag, value in {"--top": top, "--other": other, "--set": choices}.items():
        if value is not None:
            raise ConfigError(f"{flag} is for views (--view), and the walk is none")
    sampling = pipe.settings(stages).sampling
    explanation = pipe.explain(
        text, target=target, digits=digits, sampling=sampling, seed=seed or 0, **where, **given(at=at, depth=depth)
    )
    if out is not None:
        for path in explanation.write(out, chosen, ascii=ascii):  # type: ignore[arg-type]
            print(path, file=sys.stderr)
        return
    show(explanation, chosen, ascii, step)


def named(choices: Iterable[str]) -> dict[str, Any]:
    """``NAME=VALUE`` as a choice of a view: a whole number, a number, or words. Raises ConfigError."""
    from glassformer.errors import ConfigError

    found: dict[str, Any] = {}
    for choice in choices:
        name, sign, value = choice.partition("=")
        if not (name and sign):
            raise ConfigError(f"--set {choice}: expected NAME=VALUE")
        found[name] = value
        for kind in (float, int):
            with suppress(ValueError):
                found[name] = kind(value)
    return found


def usual_format(out: Path | None) -> str:
    """What the ending of a file means; colours for a terminal that wants them; otherwise plain text."""
    if out is not None:
        return {".md": "md", ".markdown": "md", ".tex": "latex", ".json": "json"}.get(out.suffix.lower(), "plain")
    return "ansi" if sys.stdout.isatty() and "NO_COLOR" not in os.environ else "plain"


def show(explanation: Explanation, format: Any, ascii: bool, step: bool) -> None:
    """The whole text, or a section at a time."""
    pages = explanation.pages(format, ascii=ascii)  # an unknown format is refused there
    waits = step and is_terminal()
    for number, page in enumerate(pages):
        if waits and number and not wants_more():
            return
        print(page, end="", flush=waits)


def is_terminal() -> bool:
    """Whether somebody sits there who can press keys."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def wants_more() -> bool:
    """Whether Enter was pressed; q, or the end of the input, stops."""
    try:
        return input("\nEnter goes on, q stops: ").strip().casefold() not in ("q", "quit")
    except EOFError:
        return False


def show_view(
    pipe: Pipeline,
    text: str,
    target: str | None,
    name: str,
    choices: dict[str, Any],
    format: Any,
    digits: int,
    ascii: bool,
    out: Path | None,
) -> None:
    """One of the views of a trace, printed or written."""
    from glassformer.errors import ConfigError, nearest
    from glassformer.files import whole_file
    from glassformer.lens.views import VIEWS
    from glassformer.lens.views import view as look

    if name not in VIEWS:
        names = [WALK, *VIEWS]
        raise ConfigError(f"view={name!r} is not one of {', '.join(names)}{nearest(name, names)}")
    shown = look(pipe.trace(text, target), name, **choices)
    if out is None:
        print(shown.render(format, ascii=ascii, digits=digits), end="")
        return
    match out.suffix.lower():
        case ".png":
            data = shown.png(digits=digits)
        case ".svg":
            data = shown.svg(digits=digits).encode()
        case ".html":
            data = shown.html(digits=digits).encode()
        case _:
            data = shown.render(format, ascii=ascii, digits=digits).encode()
    with whole_file(out) as unfinished:
        unfinished.write_bytes(data)
    print(out, file=sys.stderr)


def list_all(pipe: Pipeline) -> None:
    """Every tensor of the model in the order of computing: name, letters of its axes, recipe."""
    from glassformer.lens.graph import graph

    nodes = list(graph(pipe.model, targets=pipe.task in ("text", "translate")).values())
    width = max(len(node.name) for node in nodes)
    print_lines(
        f"{node.name:<{width}}  {node.recipe.axes.replace(' ', ''):<4} {node.recipe.name}{'' if node.tapped else ' *'}"
        for node in nodes
    )
    print("* worked out from the others: the model does not show it")


def print_lines(lines: Iterable[str]) -> None:
    """A line each."""
    for line in lines:
        print(line.rstrip())
