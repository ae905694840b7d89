"""The learning rate as a pure function of the step, so that a resumed run cannot disagree with an uninterrupted one."""

from __future__ import annotations

import math
from collections.abc import Callable

from glassformer.training.recipe import OptimiserRecipe


def rate(step: int, steps: int, recipe: OptimiserRecipe) -> float:
    """The share of the full rate at `step` (from 0) of `steps`: linear warm-up, then the schedule down to `min_lr`."""
    if step < recipe.warmup_steps:
        return (step + 1) / (recipe.warmup_steps + 1)
    if recipe.schedule == "noam":  # which knows no end
        return noam(step, recipe.warmup_steps)
    progress = (step - recipe.warmup_steps) / max(1, steps - recipe.warmup_steps)
    height = SCHEDULES[recipe.schedule](progress, recipe.decay_share)
    return recipe.min_lr + (1 - recipe.min_lr) * height


def noam(step: int, warmup_steps: int) -> float:
    """Down with the square root of the step, from where the warm-up ended (Vaswani et al. 2017, equation 3)."""
    return math.sqrt((warmup_steps + 1) / (step + 1))


def linear(progress: float, decay_share: float) -> float:
    """Straight down."""
    return 1 - progress


def cosine(progress: float, decay_share: float) -> float:
    """Half a cosine (Loshchilov and Hutter 2017)."""
    return 0.5 * (1 + math.cos(math.pi * progress))


def warmup_stable_decay(progress: float, decay_share: float) -> float:
    """Flat, then straight down in the last `decay_share` (Hu et al. 2024)."""
    return min(1.0, (1 - progress) / decay_share)


def constant(progress: float, decay_share: float) -> float:
    """Flat to the end."""
    return 1.0


SCHEDULES: dict[str, Callable[[float, float], float]] = {
    "linear": linear,
    "cosine": cosine,
    "wsd": warmup_stable_decay,
    "constant": constant,
}
