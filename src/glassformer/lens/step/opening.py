"""A run as it stood before one of its steps: recipe, data, weights and what the optimisers remember. Nothing is written."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from glassformer.data.documents import counted
from glassformer.errors import CheckpointError, ConfigError, Interrupted
from glassformer.evaluate import Score
from glassformer.models import Model, build_model
from glassformer.training import Recipe, Silence
from glassformer.training.checkpoint import Checkpoints, State, clone, damage, restore
from glassformer.training.log import Log
from glassformer.training.loop import Services, train_loop
from glassformer.training.optimisers import Optimisers
from glassformer.training.resume import RECIPE, read_earlier
from glassformer.training.run import prepare
from glassformer.training.start import start_from
from glassformer.training.tasks import Task

CPU = torch.device("cpu")
ALONE = ("embed",)  # tasks whose loss is not one of each token or text
OF_VECTORS = ("transcribe", "classify_vectors")  # tasks whose batches hold vectors


@dataclass
class Sat:
    """A run before a step, on the CPU. `notes` say how it came there."""

    recipe: Recipe
    task: Task
    model: Model
    optimisers: Optimisers
    average: dict[str, Tensor] | None
    state: State
    notes: list[str]


def open_run(run: Path, step: int | None) -> Sat:
    """The run of a folder after `step` steps, by default as its newest sound checkpoint holds it.

    Raises CheckpointError where there is no recipe, DataError where the data cannot be read, ConfigError for a step or a
    task that cannot be shown.
    """
    folder = run_folder(run)
    earlier = read_earlier(folder, {})
    assert earlier is not None
    if "-" in earlier["data"]["sources"]:
        raise CheckpointError(f"{folder}: its data came by standard input and are gone, so no batch can be made again")
    if earlier["task"] in ALONE:
        raise ConfigError(
            f"{folder}: was trained to {earlier['task']}, where each text is compared with the whole batch; a step can be"
            " seen through for the tasks text, translate, classify, tag and fill"
        )
    if earlier["task"] in OF_VECTORS:
        raise ConfigError(
            f"{folder}: was trained to {earlier['task']}, on vectors; a step can be seen through for the tasks text, translate,"
            " classify, tag and fill"
        )
    steps = int(earlier["loop"]["steps"])
    if step is not None and not 0 <= step < steps:
        raise ConfigError(f"step={step} does not exist: the run takes steps 0 to {steps - 1}")
    recipe, task = prepare(earlier, folder, 1.0, CPU, Silence())
    task.begin(recipe)
    return at_step(folder, recipe, task, step)


def run_folder(run: Path) -> Path:
    """The folder with the recipe: `run`, or the one that holds this model folder. Raises CheckpointError."""
    if (run / RECIPE).is_file():
        return run
    if run.name in ("best", "final") and (run.absolute().parent / RECIPE).is_file():
        return run.absolute().parent
    if not run.is_dir():
        raise CheckpointError(f"{run}: there is no such folder")
    raise CheckpointError(f"{run}: has no {RECIPE}, so it is no run folder; a step needs the run's recipe and data")


def at_step(folder: Path, recipe: Recipe, task: Task, step: int | None) -> Sat:
    """Weights and optimisers from the nearest checkpoint before the step, and the steps from there taken again."""
    notes: list[str] = []
    model = build_model(recipe.model, recipe.seed)
    optimisers = Optimisers(model, recipe.optimiser)
    found = sound(Checkpoints(folder / "checkpoints", recipe.loop.keep), step, notes)
    average = clone(model) if recipe.optimiser.ema is not None else None
    if found is not None:
        identity = hashlib.sha256((task.fingerprint + recipe.yaml()).encode()).hexdigest()
        state = restore(found, model, optimisers, average, identity)
        notes.append(f"The weights are those of the checkpoint after {counted(state.step, 'step')}.")
    else:
        state = State()
        if recipe.start_from is not None:
            start_from(model, Path(recipe.start_from), notes.append)
            average = None if average is None else clone(model)
        notes.append("The weights are those that the run began with.")
    sat = Sat(recipe, task, model, optimisers, average, state, notes)
    if step is not None and state.step < step:
        more = counted(step - state.step, "step")
        notes.append(f"From there the run was continued by {more}, exactly as it went before.")
        take(sat, step - state.step)
    return sat


def sound(checkpoints: Checkpoints, step: int | None, notes: list[str]) -> Path | None:
    """The newest undamaged checkpoint of at most so many steps; None where there is none."""
    for path in checkpoints.found():
        number = path.name.removeprefix("step-")
        if step is not None and number.isdigit() and int(number) > step:
            continue
        fault = damage(path)
        if fault is None:
            return path
        notes.append(f"{path.name} is damaged ({fault}) and was passed over.")
    return None


class Rows(Log):
    """A log that stays in memory."""

    def __init__(self) -> None:
        super().__init__(Path())
        self.kept: list[dict[str, Any]] = []

    def write(self, row: dict[str, Any]) -> None:
        self.kept.append(row)


def take(
    sat: Sat, steps: int = 1, around: Callable[[int], AbstractContextManager[object]] = lambda step: nullcontext()
) -> list[dict[str, Any]]:
    """Take steps by the training loop itself, which changes `sat`. Returns the rows that it would have logged.

    around: entered when the gradients are there and left when the weights are moved.
    """
    end = sat.state.step + steps
    log = Rows()
    services = Services(
        evaluate=lambda: Score(0.0, 1, 0),
        sample=str,
        save_checkpoint=lambda state: True,
        save_best=lambda score: None,
        stop_requested=lambda: sat.state.step >= end,
        log=log,
        screen=Silence(),
        filming=around,
    )
    recipe = sat.recipe.updated({"loop.log_every": 1, "loop.early_stop": None})
    with suppress(Interrupted), torch.random.fork_rng(devices=[]):
        train_loop(sat.model, sat.model, sat.optimisers, sat.task, recipe, sat.state, sat.average, services)
    return log.kept
