"""``glassformer verify``: every recipe of a trace replayed, and the facts that a run must obey."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Exit, Option

from glassformer.cli.flags import AsJson, opened


def verify(
    file: Annotated[
        Path,
        Argument(help="A .glass file, as `glassformer trace` writes it; or a run, with the text.", metavar="FILE|RUN"),
    ],
    text: Annotated[
        str | None, Argument(help="What the run reads: a text, or a file of sound or vectors.", show_default=False)
    ] = None,
    run: Annotated[
        Path | None, Option("--model", help="The run that it was made with, where the file holds no weights.")
    ] = None,
    ascii: Annotated[bool, Option("--ascii", help="Only characters that every terminal has.")] = False,
    as_json: AsJson = False,
) -> None:
    """Prove the numbers of a trace: work every tensor out again from those before it.

    Leaves with 0 if every recipe agrees and every check holds, else with 1.
    """
    from glassformer.errors import FAILED, ConfigError
    from glassformer.lens.glass import open_glass

    if text is not None and (run is not None or file.suffix == ".glass"):
        raise ConfigError(f"{text!r}: a .glass file holds what was read; give a text with a run alone")
    model = opened(run).model if run is not None else None
    trace = open_glass(file, model) if text is None else opened(file).trace(text)
    found = trace.verify()
    print(found.json() if as_json else found.render(ascii=ascii))
    if not found.ok:
        raise Exit(FAILED)
