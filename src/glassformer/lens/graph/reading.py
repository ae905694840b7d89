"""How a stack reads its text, as far as its graph depends on it."""

from __future__ import annotations

from typing import NamedTuple


class Reading(NamedTuple):
    """How the stack of this name reads: see `graph`."""

    name: str
    packed: bool
    prefix: bool
    turned: bool
    padded: bool = False  # whether some of the vectors that it reads are padding
