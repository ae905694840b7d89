"""``glassformer info``: what a model is made of and what it costs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from typer import Argument, Option


def info(
    run: Annotated[Path, Argument(help="Run folder or model folder.")],
    as_json: Annotated[bool, Option("--json", help="Print JSON.")] = False,
) -> None:
    """Shapes, parameters by part, and memory for weights, cache and training."""
    from glassformer.pipeline import load

    description = load(run).describe()
    print(json.dumps(description.to_dict(), indent=2) if as_json else description)
