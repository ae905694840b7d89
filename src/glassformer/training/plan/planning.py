"""The plan of a run: what `train` would decide, what that takes of this machine, and what to change where it does not fit."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from glassformer import machine
from glassformer.files import nearest_existing
from glassformer.training.log import Screen
from glassformer.training.plan.budget import Budget, Spending
from glassformer.training.plan.disk import Disk, disk_of
from glassformer.training.plan.expectation import Expectation
from glassformer.training.plan.memory import Footprint, Memory, footprint, with_layers
from glassformer.training.plan.timing import Timing, timed
from glassformer.training.recipe import Recipe
from glassformer.training.run import make_ready
from glassformer.training.tasks import Task

STEPS = 10  # that are measured
LATER = 65_000_000  # bytes that libraries take once they compute and draw (measured: torch 2.13, matplotlib 3.10)
MOST_SECONDS = 60.0  # spent on them
ROOM = 0.9  # of the free memory may be planned with: what others take meanwhile is not known


@dataclass(frozen=True)
class Remedy:
    """A change that makes a run fit: what to set, what it comes to, and what it costs."""

    settings: Mapping[str, Any]
    peak: int
    fits: bool
    costs: str


@dataclass(frozen=True)
class Plan:
    """What a run takes. Bytes and seconds; None where this machine does not say, or nothing could be measured."""

    recipe: Recipe
    device: str
    parameters: int
    memory: Memory
    carried: bool  # whether the model was too large to be made, so that shallower ones were measured
    rows: int  # of a portion
    free: int | None  # memory for the run
    total: int | None
    disk: Disk
    disk_free: int | None
    timing: Timing | None
    tokens_per_step: int
    steps_per_epoch: float
    preparing: float  # seconds for reading, tokenizer and choices
    evaluating: float | None  # seconds of all evaluations on the way and at the end
    remedies: tuple[Remedy, ...] = ()
    spending: Spending | None = None  # of a budget
    expectation: Expectation | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def fits(self) -> bool:
        """Whether memory and disk suffice, as far as they are known."""
        in_memory = self.free is None or self.memory.peak <= self.free
        return in_memory and (self.disk_free is None or self.disk.total <= self.disk_free)

    @property
    def steps(self) -> int:
        """Steps of the run."""
        return self.recipe.loop.steps

    @property
    def epochs(self) -> float:
        """Passes through the data."""
        return self.steps / self.steps_per_epoch

    @property
    def stepping(self) -> float | None:
        """Seconds of all steps."""
        return None if self.timing is None else self.steps * self.timing.usual

    @property
    def seconds(self) -> float | None:
        """Seconds of the whole run."""
        return None if self.stepping is None else self.preparing + self.stepping + (self.evaluating or 0.0)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, for JSON."""
        memory, timing = self.memory, self.timing
        return {
            "recipe": self.recipe.model_dump(mode="json"),
            "device": self.device,
            "parameters": self.parameters,
            "fits": self.fits,
            "memory": asdict(memory)
            | {"peak": memory.peak, "free": self.free, "total": self.total}
            | {"rows": self.rows, "carried": self.carried},
            "disk": asdict(self.disk) | {"total": self.disk.total, "free": self.disk_free},
            "pace": None
            if timing is None
            else {
                "steps_measured": len(timing.seconds),
                "seconds_per_step": timing.usual,
                "fastest": timing.best,
                "tokens_per_second": timing.tokens_per_second,
            },
            "steps": self.steps,
            "tokens_per_step": self.tokens_per_step,
            "epochs": self.epochs,
            "seconds": {
                "preparing": self.preparing,
                "steps": self.stepping,
                "evaluations": self.evaluating,
                "whole": self.seconds,
                "per_epoch": None if timing is None else self.steps_per_epoch * timing.usual,
            },
            "remedies": [asdict(remedy) for remedy in self.remedies],
            "budget": None if self.spending is None else self.spending.to_dict(),
            "expectation": None if self.expectation is None else asdict(self.expectation),
            "notes": list(self.notes),
        }


def plan_run(
    wishes: Mapping[str, Any],
    folder: Path,
    *,
    minutes: float,
    screen: Screen,
    allow_changed: bool = False,
    budget: Budget | None = None,
) -> Plan:
    """What `train_run` would do with these wishes in `folder`, and what it would take. Writes nothing.

    Raises the children of GlassformerError that `train_run` would raise before its first step.
    """
    began = time.monotonic()
    recipe, task, device, _ = make_ready(
        wishes, folder.resolve(), minutes, screen, allow_changed=allow_changed, budget=budget
    )
    task.begin(recipe)
    preparing = time.monotonic() - began
    return look_ahead(recipe, task, folder, device, preparing, budget)


def look_ahead(
    recipe: Recipe, task: Task, folder: Path, device: torch.device, preparing: float, budget: Budget | None = None
) -> Plan:
    """The plan of a complete recipe whose data are in tokens."""
    process = machine.held() + LATER if device.type == "cpu" else 0
    free, total = memory_for(device, process)
    taken = footprint(recipe, task, device, None if free is None else free - process)
    memory = taken.memory(process)
    fits = free is None or memory.peak <= free
    timing = evaluating = None
    if fits:
        timing = timed(recipe, task, device, STEPS, at_most=MOST_SECONDS)
        evaluating = evaluations(recipe) * timing.evaluation(task) + timing.last_evaluation(task)
    spending = budget.spending if budget is not None else None
    return Plan(
        recipe=recipe,
        device=device.type,
        parameters=taken.standing.parameters,
        memory=memory,
        carried=taken.carried,
        rows=taken.rows,
        free=free,
        total=total,
        disk=disk_of(recipe, task, taken.standing),
        disk_free=machine.free_disk(nearest_existing(folder)),
        timing=timing,
        tokens_per_step=task.batch(0).n_tokens,
        steps_per_epoch=1 / max(task.epoch(1), 1e-9),
        preparing=preparing,
        evaluating=evaluating,
        remedies=() if fits else tuple(remedies(recipe, task, device, taken, process, free or 0)),
        spending=spending,
        expectation=spending.expectation if spending is not None else None,
        notes=tuple(notes(recipe, task)),
    )


def memory_for(device: torch.device, process: int) -> tuple[int | None, int | None]:
    """Bytes that a run may take in place of this process, and how many there are."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return int(ROOM * free), total
    found = machine.memory()
    return (None, None) if found is None else (int(ROOM * (found.free + process)), found.total)


def evaluations(recipe: Recipe) -> int:
    """How often a run is evaluated on the way."""
    return -(-recipe.loop.steps // recipe.loop.eval_every)


def remedies(
    recipe: Recipe, task: Task, device: torch.device, taken: Footprint, process: int, free: int
) -> Iterator[Remedy]:
    """Changes that make a run smaller, the cheapest first, up to the first that fits."""
    same = Remedy({}, taken.memory(process).peak, False, "the same result, in about the same time")
    found = divided(recipe, taken, process, free, same)
    if found is not None:
        yield found
        if found.fits:
            return
    if not recipe.loop.recompute:
        again = recipe.model_copy(update={"loop": recipe.loop.model_copy(update={"recompute": True})})
        less = footprint(again, task, device, free - process)
        peak = less.memory(process).peak
        twice = Remedy(
            {"loop.recompute": True}, peak, peak <= free, "blocks are computed twice: about a third more time"
        )
        found = twice if twice.fits else divided(recipe, less, process, free, twice) or twice
        yield found
        if found.fits:
            return
    yield from shallower(recipe, task, device, process, free)


def divided(recipe: Recipe, taken: Footprint, process: int, free: int, like: Remedy) -> Remedy | None:
    """A remedy with the fewest more portions that fit, or else with single rows; None where rows cannot be divided."""
    best = None
    for portions, rows in more_portions(recipe, taken):
        peak = taken.memory(process, rows).peak
        best = Remedy({**like.settings, "loop.grad_accum": portions}, peak, peak <= free, like.costs)
        if best.fits:
            break
    return best


def more_portions(recipe: Recipe, taken: Footprint) -> Iterator[tuple[int, int]]:
    """More portions than planned that a step divides into, with the rows of each, until they are single rows."""
    batch, planned = recipe.loop.batch_size, recipe.loop.grad_accum
    rows = taken.rows * planned if batch is None else batch
    if not taken.divides:
        return
    for portions in range(planned + 1, rows + 1):
        if rows % portions == 0 if batch is not None else portions & (portions - 1) == 0 or portions == rows:
            yield portions, -(-rows // portions)


def shallower(recipe: Recipe, task: Task, device: torch.device, process: int, free: int) -> Iterator[Remedy]:
    """The most layers of the same width that fit in single rows, or one."""
    most = recipe.model.n_layers
    low, high = 0, most
    peaks: dict[int, int] = {}
    while low < high - 1:
        middle = (low + high) // 2
        less = footprint(with_layers(recipe, middle), task, device, free - process)
        peaks[middle] = less.memory(process, 1 if task.divides else None).peak
        low, high = (middle, high) if peaks[middle] <= free else (low, middle)
    if low:
        costs = "another, smaller model"
        settings = {"model.n_layers": low} | ({"loop.grad_accum": len(task.batch(0).targets)} if task.divides else {})
        yield Remedy(settings, peaks[low], True, costs)


def notes(recipe: Recipe, task: Task) -> Iterator[str]:
    """What else is to be known of a plan."""
    if recipe.loop.compile == "yes":
        yield "steps were measured without compiling, which takes about a minute once and makes them faster"
    if task.skipped:
        yield f"{len(task.skipped):,} rows would be left out, the first {task.skipped[0].where} ({task.skipped[0].reason})"
