"""Training: the recipe, the choices made for the user, the optimisers, the loop, and the run folder."""

from __future__ import annotations

from glassformer.training.log import Screen, Silence
from glassformer.training.machine import choose_device
from glassformer.training.recipe import Recipe
from glassformer.training.run import train_run
from glassformer.training.screen import screen_for
from glassformer.training.wishes import check_wishes

__all__ = ["Recipe", "Screen", "Silence", "check_wishes", "choose_device", "screen_for", "train_run"]
