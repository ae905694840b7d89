"""The disk that a run takes: checkpoints, best and final model, film."""

from __future__ import annotations

import math
from dataclasses import dataclass

from glassformer.checkpoints.film_file import FilmHeader
from glassformer.training.checkpoint import ROOM
from glassformer.training.film import GROUPS
from glassformer.training.film_frame import fields_of
from glassformer.training.plan.memory import Standing
from glassformer.training.probes import read_probes
from glassformer.training.recipe import Recipe
from glassformer.training.tasks import Task


@dataclass(frozen=True)
class Disk:
    """Bytes in the run folder: of a checkpoint, of which `kept` stay; of `best` and `final`; of the film."""

    checkpoint: int
    kept: int
    models: int
    film: int

    @property
    def total(self) -> int:
        """The most that is needed at once: a new checkpoint is whole before an old one goes, and asks for room besides."""
        saves = int((self.kept + ROOM) * self.checkpoint) if self.kept else 0
        return saves + self.models + self.film


def disk_of(recipe: Recipe, task: Task, standing: Standing) -> Disk:
    """What a recipe that `task` has begun leaves on the disk."""
    loop = recipe.loop
    saves = (loop.steps - 1) // loop.save_every
    film = 0
    if recipe.film is not None:
        fields = tuple(fields_of(recipe.model, read_probes(recipe, task), len(GROUPS)))
        film = (1 + math.ceil(loop.steps / recipe.film.every)) * FilmHeader({}, fields).dtype.itemsize
    # `best` is whole beside the one that it takes the place of, and so is `final` beside `best`.
    return Disk(standing.checkpoint, min(loop.keep, saves), 3 * standing.weights, film)
