"""The memory of a run by part: exact where it follows from the shapes, the rest measured on one and two rows and carried on."""

# B rows of a portion, V vocabulary

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from glassformer.checkpoints.weights import unfilled
from glassformer.models import Model, build_model
from glassformer.nn.block import Block
from glassformer.training.checkpoint import Checkpoints, State
from glassformer.training.loop import precision
from glassformer.training.optimisers import Muon, Optimiser, Optimisers
from glassformer.training.recipe import Recipe
from glassformer.training.recompute import recompute_blocks
from glassformer.training.saving import WORTH_A_THREAD
from glassformer.training.tasks import Task
from glassformer.training.tasks.task import Batch

IN_BACKWARD = 4  # tensors as wide as the widest that a backward pass has beside each other
GAPS = (
    0.15  # of what is kept lies idle between tensors, in the C library's heap (measured against real runs: 0.1 to 0.3)
)
IN_FORWARD = 4  # tensors as wide as the widest that a forward pass without gradients has beside each other
READ = ("ids", "source")  # arguments of a model whose second axis counts tokens or vectors
LOOKED_AT = 10  # batches among which the largest counts, where rows differ in length


@dataclass(frozen=True)
class Step:
    """Bytes that a portion of so many rows takes beside weights and optimiser: what is kept from the forward to the backward
    pass, the answers over the vocabulary, the largest tensor that a pass without recomputing keeps of those that grow with
    the rows, and of the others."""

    kept: float
    logits: float
    largest: float
    fixed: float = 0.0
    again: float = 0.0  # of one block, where blocks are computed again in the backward pass

    @property
    def widest(self) -> float:
        """The largest tensor of all."""
        return max(self.largest, self.fixed)

    def carried(self, other: Step, share: float) -> Step:
        """On the line from this to another, `share` times the way."""
        mine, theirs = vars(self), vars(other)
        return Step(**{name: mine[name] + share * (theirs[name] - mine[name]) for name in mine})


@dataclass(frozen=True)
class Memory:
    """Bytes of each part. Not all are held at once: `peak` is the most that are."""

    process: int  # Python, libraries and the data, before there is a model
    weights: int
    gradients: int
    optimiser: int
    average: int
    activations: int  # kept from the forward to the backward pass, for one portion
    logits: int  # the answers over the vocabulary, for one portion
    passing: int  # what the backward pass and the optimiser need beside these, at the worst moment
    evaluating: int
    saving: int

    @property
    def standing(self) -> int:
        """Held all the time."""
        return self.process + self.weights + self.optimiser + self.average

    @property
    def stepping(self) -> int:
        """What the worst moment of a step takes beside that."""
        return self.gradients + self.activations + self.logits + self.passing

    @property
    def peak(self) -> int:
        """The most that is held at once: a checkpoint may be written while the next steps are taken."""
        return self.standing + max(self.stepping, self.evaluating) + self.saving


@dataclass(frozen=True)
class Standing:
    """Bytes that follow from the shapes: of weights, gradients, optimiser and average, of a checkpoint and its largest file."""

    parameters: int
    weights: int
    gradients: int
    optimiser: int
    optimiser_works: int  # what it needs while it works, beside the gradients
    average: int
    checkpoint: int
    largest_file: int


@dataclass(frozen=True)
class Footprint:
    """From which the memory of a step in portions of any number of rows follows. `line`: a step of one row and one of two;
    where rows depend on each other, a step of all of them, twice."""

    standing: Standing
    line: tuple[Step, Step]
    rows: int  # of the largest portion that was planned
    divides: bool
    carried: bool  # whether the line was carried on from shallower models
    rows_evaluated: int  # at once
    asked_more: float  # times as many targets as a step has of each row
    beside: bool  # whether checkpoints are written beside the training

    def step(self, rows: int) -> Step:
        """A step of so many rows."""
        return self.line[0].carried(self.line[1], rows - 1) if self.divides else self.line[0]

    def memory(self, process: int, rows: int | None = None) -> Memory:
        """The parts where a portion has so many rows, default those that were planned."""
        still, step = self.standing, self.step(rows or self.rows)
        asked = self.step(self.rows_evaluated) if self.divides else step
        held = still.gradients + step.kept + step.logits
        # The backward pass begins with the gradient of the answers, and has a few tensors as wide as a layer's widest beside
        # each other; the optimiser begins when what was kept is gone.
        widest = max(step.logits, IN_BACKWARD * step.widest + step.again)
        works = still.gradients + still.optimiser_works - held
        passing = max(widest + GAPS * (step.kept + step.logits), works)
        return Memory(
            process=process,
            weights=still.weights,
            gradients=still.gradients,
            optimiser=still.optimiser,
            average=still.average,
            activations=int(step.kept),
            logits=int(step.logits),
            passing=int(passing),
            evaluating=int(self.asked_more * asked.logits + IN_FORWARD * asked.widest),
            saving=still.largest_file + (still.checkpoint if self.beside else 0),
        )


def nbytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of some tensors."""
    return sum(tensor.nbytes for tensor in tensors)


def works(part: Optimiser) -> int:
    """Bytes that an optimiser takes while it moves its parameters: nothing in AdamW's kernel, which changes them in place;
    in Muon's a step for each matrix, and three stacks of those of one shape."""
    if not isinstance(part, Muon):
        return 0
    stacks: dict[tuple[int, ...], int] = defaultdict(int)
    for matrix in part.parameters:
        stacks[tuple(sorted(matrix.shape))] += matrix.nbytes
    return sum(stacks.values()) + 3 * max(stacks.values(), default=0)


class Unfilled(TorchFunctionMode):
    """While it lasts tensors without memory are not filled with zeros, for which torch would import its compiler."""

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        if func is torch.zeros_like:
            return torch.empty(args[0].shape, dtype=args[0].dtype, device=args[0].device)
        return (torch.empty if func is torch.zeros else func)(*args, **(kwargs or {}))


def standing_of(recipe: Recipe) -> Standing:
    """What the shapes say, of a model that takes no memory."""
    model = unfilled(recipe.model)
    with Unfilled():
        optimisers = Optimisers(model, recipe.optimiser)
    average: dict[str, Tensor] | None = {**dict(model.named_parameters())} if recipe.optimiser.ema is not None else None
    snapshot = Checkpoints(Path(), 1).snapshot(model, optimisers, average, State(), "")
    parameters = list(model.parameters())
    return Standing(
        parameters=sum(parameter.numel() for parameter in parameters),
        weights=nbytes(parameters) + nbytes(model.buffers()),
        gradients=nbytes(parameter for parameter in parameters if parameter.requires_grad),
        optimiser=nbytes(value for part in optimisers.parts for some in part.state for value in some.values()),
        optimiser_works=sum(works(part) for part in optimisers.parts),
        average=0 if average is None else nbytes(average.values()),
        checkpoint=snapshot.n_bytes,
        largest_file=max(nbytes(some.values()) for some in snapshot.tensors.values()),
    )


def footprint(recipe: Recipe, task: Task, device: torch.device, room: int | None) -> Footprint:
    """What a recipe that `task` has begun takes, measured on a model that is thrown away.

    Where that model would not fit into `room` bytes, models of one and of two layers are measured, and what a layer takes is
    added for the others.
    """
    still = standing_of(recipe)
    batch = largest_batch(task)
    rows = -(-len(batch.targets) // recipe.loop.grad_accum) if task.divides else len(batch.targets)
    least = still.weights + still.gradients + still.optimiser + still.average
    carried = room is not None and 2 * least > room
    if not carried:
        line = line_of(recipe, task, device, batch)
    else:
        one, two = (line_of(with_layers(recipe, n), task, device, batch) for n in (1, 2))
        line = tuple(a.carried(b, recipe.model.n_layers - 1) for a, b in zip(one, two, strict=True))
    per_row = max(1, sum(batch.inputs[name].shape[1] for name in READ if name in batch.inputs))
    asked = batch.inputs.get("asked")
    mode, worth = recipe.loop.async_save, still.checkpoint >= WORTH_A_THREAD
    return Footprint(
        standing=still,
        line=(line[0], line[1]),
        rows=rows,
        divides=task.divides,
        carried=carried,
        rows_evaluated=max(1, task.evaluated_at_once() // per_row),
        asked_more=1.0 if asked is None else per_row / asked.shape[1],
        beside=mode == "yes" or (mode == "auto" and worth),
    )


def with_layers(recipe: Recipe, n: int) -> Recipe:
    """The recipe of a shallower model."""
    values = recipe.model.model_dump(mode="json") | {"n_layers": n, "windowed_layers": None}
    return recipe.model_copy(update={"model": type(recipe.model).parse(values, "model")})


def line_of(recipe: Recipe, task: Task, device: torch.device, batch: Batch) -> tuple[Step, Step]:
    """A step of one row of a batch and one of two; of all of them, twice, where they cannot be divided."""
    model = build_model(recipe.model, recipe.seed).to(device)
    parts = [first_rows(batch, min(n, len(batch.targets))) for n in (1, 2)] if task.divides else [batch]
    with torch.random.fork_rng(devices=[]):
        line = as_line([measure(model, task, recipe, part) for part in parts])
        if not recipe.loop.recompute:
            return line
        blocks = max(1, sum(isinstance(module, Block) for module in model.modules()))
        recompute_blocks(model)
        less = as_line([measure(model, task, recipe, part) for part in parts])
        one, two = (
            replace(now, largest=plain.largest, fixed=plain.fixed, again=plain.kept / blocks)
            for now, plain in zip(less, line, strict=True)
        )
    return one, two


def as_line(found: list[Found]) -> tuple[Step, Step]:
    """What was found of one row and of two, or of one batch, as two steps.

    The largest tensor of many rows is the largest of those that are twice as large with two rows as with one, and need not be
    the largest with two: that may be one that does not grow.
    """
    one, two = found[0], found[-1]
    if one is two:
        step = Step(sum(one.kept), one.logits, max(one.kept, default=0))
        return step, step
    largest = fixed = 0
    left = Counter(two.kept)
    for size in sorted(one.kept, reverse=True):
        if left[2 * size]:
            left[2 * size] -= 1
            largest = max(largest, size)
        else:
            fixed = max(fixed, size)
    return Step(sum(one.kept), one.logits, largest, fixed), Step(sum(two.kept), two.logits, 2 * largest, fixed)


def largest_batch(task: Task) -> Batch:
    """The batch with the most numbers in it among the first few."""
    batches = (task.batch(number) for number in range(LOOKED_AT))
    return max(batches, key=lambda batch: sum(tensor.numel() for tensor in batch.inputs.values()))


def first_rows(batch: Batch, rows: int) -> Batch:
    """A batch of the first rows of another."""
    inputs = {name: tensor[:rows] for name, tensor in batch.inputs.items()}
    return replace(batch, inputs=inputs, targets=batch.targets[:rows])


@dataclass(frozen=True)
class Found:
    """Bytes of each tensor that a forward pass keeps for the backward pass, in its order, and of the answers."""

    kept: tuple[int, ...]
    logits: int


def measure(model: Model, task: Task, recipe: Recipe, batch: Batch) -> Found:
    """Take the forward pass of a batch, and count what it keeps for the backward pass."""
    device = next(model.parameters()).device
    batch = batch.to(device)
    own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    found: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    model.train()
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        with precision(recipe.loop.dtype, device):
            answers = batch.answers(model)
        loss = task.loss(answers, batch, recipe.optimiser.label_smoothing)
    said = {leaf.untyped_storage().data_ptr(): leaf.nbytes for leaf in tree_leaves(answers) if isinstance(leaf, Tensor)}
    del loss
    return Found(tuple(size for place, size in found.items() if place not in said), sum(said.values()))
