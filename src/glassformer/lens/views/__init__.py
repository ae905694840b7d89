"""Views: ways of looking at a trace, by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from glassformer.errors import ConfigError, nearest
from glassformer.lens.glass.trace import Trace
from glassformer.lens.views.alignment import alignment
from glassformer.lens.views.attention import attention
from glassformer.lens.views.beam import beam
from glassformer.lens.views.diff import diff
from glassformer.lens.views.embeddings import embeddings
from glassformer.lens.views.lab import lab
from glassformer.lens.views.lens import lens
from glassformer.lens.views.mask import mask
from glassformer.lens.views.mlp import mlp
from glassformer.lens.views.residual import residual
from glassformer.lens.views.sampling import sampling
from glassformer.lens.views.tokens import tokens
from glassformer.lens.views.vectors import vectors
from glassformer.lens.views.view import Grid, Heading, Sentence, Sheet, Tree, View, say
from glassformer.lens.views.why import why

VIEWS: dict[str, Callable[..., View]] = {
    "tokens": tokens,
    "vectors": vectors,
    "alignment": alignment,
    "embeddings": embeddings,
    "attention": attention,
    "mask": mask,
    "residual": residual,
    "mlp": mlp,
    "lens": lens,
    "why": why,
    "sampling": sampling,
    "beam": beam,
    "diff": diff,
    "lab": lab,
}


def view(trace: Trace, name: str, **choices: Any) -> View:
    """One way of looking at a trace. Raises ConfigError for a view or a choice that there is not, with the nearest."""
    if name not in VIEWS:
        raise ConfigError(f"view={name!r} is not one of {', '.join(VIEWS)}{nearest(name, VIEWS)}")
    known = [parameter for parameter in inspect.signature(VIEWS[name]).parameters if parameter != "trace"]
    for choice in choices:
        if choice not in known:
            raise ConfigError(f"the view {name!r} knows no choice {choice!r}{nearest(choice, known)}")
    return VIEWS[name](trace, **choices)


__all__ = ["VIEWS", "Grid", "Heading", "Sentence", "Sheet", "Tree", "View", "say", "view"]
