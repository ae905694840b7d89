"""What a run is going to work on, without training: its recipe and task, laid out as training lays them out."""

from __future__ import annotations

from pathlib import Path

import torch

from glassformer.config import read_mapping, set_dotted
from glassformer.errors import CheckpointError, ConfigError
from glassformer.training.log import Silence
from glassformer.training.recipe import Recipe
from glassformer.training.resume import RECIPE, read_earlier
from glassformer.training.run import prepare
from glassformer.training.tasks import Task
from glassformer.training.wishes import check_wishes


def preview(path: Path) -> tuple[Recipe, Task]:
    """The complete recipe and the task of a run folder, or of a recipe that a run could begin with. Nothing is written.

    The batches of the task are those that training takes, step by step. Raises CheckpointError for a folder without a
    run, and whatever training would for the data and the recipe.
    """
    if path.is_dir():
        asked, folder = read_earlier(path, {}), path
        if asked is None:
            raise CheckpointError(f"{path}: has no {RECIPE}, so it is no run folder; name one, or a recipe")
    else:
        asked, folder = check_wishes(read_mapping(path)), None
        if not (asked.get("data") or {}).get("sources"):
            raise ConfigError(f"{path}: names no data.sources, and without data there is no batch")
        if (asked.get("loop") or {}).get("steps") is None:
            set_dotted(asked, "loop.steps", 1)  # batches do not depend on it, and finding it out takes time
    recipe, task = prepare(asked, folder, 1.0, torch.device("cpu"), Silence())
    task.begin(recipe)
    return recipe, task
