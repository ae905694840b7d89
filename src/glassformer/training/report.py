"""What was wrong with a step that gave no number: it is taken again while every tensor is watched, and written down."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from glassformer.errors import GlassformerError, is_out_of_memory
from glassformer.files import DiskError, whole_file
from glassformer.trace import points_of, watch
from glassformer.training.failures import forget_gradients
from glassformer.training.loop import Judge, precision
from glassformer.training.recipe import Recipe
from glassformer.training.tasks.task import Batch, Place, derived_seed
from glassformer.training.topology import ALONE, Topology

FAILURE, READABLE = "failure.json", "failure.txt"
MINUS_INFINITY = "masked"  # the point whose -inf is meant: what may not be looked at
MOST_ROWS = 256  # taken one by one to find which of them does it


@dataclass
class Found:
    """The first tensors that hold a number that is none, by where they were born; None where none does."""

    weight: str | None = None
    activation: str | None = None
    loss: bool = False
    gradient: str | None = None  # of an activation, in the order in which they are computed: backwards
    weight_gradient: str | None = None
    rows: list[int] = field(default_factory=list)  # that do it by themselves
    note: str = ""
    processes: list[int] = field(default_factory=list)  # that found it

    @property
    def clause(self) -> str:
        """The earliest of them, in words; empty where the step went well this time."""
        if self.weight is not None:
            return f"the weight {self.weight}"
        if self.activation is not None:
            return self.activation
        if self.loss:
            return "the loss itself, of finite answers"
        if self.gradient is not None:
            return f"the gradient of {self.gradient}"
        return f"the gradient of the weight {self.weight_gradient}" if self.weight_gradient is not None else ""


def write_report(
    folder: Path,
    model: nn.Module,
    work: Judge,
    batch: Batch,
    places: Iterable[Place],
    recipe: Recipe,
    step: int,
    loss: float,
    norm: float,
    portions: int | None = None,
    topology: Topology = ALONE,
) -> str:
    """Take step number `step`, counted from 0, again, and write what is found. Returns a clause for the error message.

    Each process takes its own rows of the `batch`, with the random numbers that it had and a `model` that is whole; the first
    writes what they found together.
    """
    places = list(places)
    found = together(topology.every(look(model, work, batch, recipe, step, portions, topology)), model)
    return topology.of_first(written(folder, found, places, step, loss, norm, topology) if topology.is_first else "")


def written(
    folder: Path, found: Found, places: list[Place], step: int, loss: float, norm: float, topology: Topology
) -> str:
    """Write down what was found."""
    content: dict[str, Any] = {
        "step": step + 1,
        "loss": spelt(loss),
        "gradient_norm": spelt(norm),
        "first": found.clause or None,
        "found": {key: value for key, value in asdict(found).items() if key not in ("rows", "note", "processes")},
        "note": found.note or None,
        "rows": [{"row": row, **asdict(place), "alone_too": row in found.rows} for row, place in enumerate(places)],
    }
    if topology.world > 1:
        content |= {"processes": topology.world, "found_by": found.processes}
    try:
        for name, text in ((FAILURE, json.dumps(content, indent=1, ensure_ascii=False)), (READABLE, readable(content))):
            with whole_file(folder / name) as draft:
                draft.write_text(text + "\n", encoding="utf-8")
        place = f"; see {folder / READABLE}"
    except DiskError as error:
        place = f"; no report was written ({error})"
    return f"; it begins in {found.clause}{place}" if found.clause else f"; taken again, the step went well{place}"


def look(
    model: nn.Module, work: Judge, batch: Batch, recipe: Recipe, step: int, portions: int | None, topology: Topology
) -> Found:
    """What this process finds in its own rows, which bear the numbers that they have in the whole batch."""
    own, stream = topology.rows(len(batch.targets)), topology.stream
    if getattr(work, "divides", True):
        batch = topology.share(batch)
    else:  # each row is judged against all, so all processes take all of them
        own, stream = range(len(batch.targets)), ()
    try:
        found = find(model, work, batch, recipe, step, portions, stream)
    except (RuntimeError, MemoryError, GlassformerError) as error:
        short = "not enough memory" if is_out_of_memory(error) else str(error).splitlines()[0]
        found = Found(note=f"the step could not be taken again ({short})")
    finally:
        forget_gradients(model)
    found.rows = [own[row] for row in found.rows if row < len(own)]
    found.processes = [topology.rank] if found.clause else []
    return found


def together(founds: list[Found], model: nn.Module) -> Found:
    """What several processes found, as if one had: of each kind the first."""
    points, names = points_of(model), [name for name, _ in model.named_parameters()]

    def first(kind: str, order: list[str]) -> str | None:
        found = [name for some in founds if (name := getattr(some, kind)) is not None]
        return min(found, key=order.index, default=None)

    return Found(
        weight=first("weight", names),
        activation=first("activation", points),
        loss=any(found.loss for found in founds),
        gradient=first("gradient", points[::-1]),
        weight_gradient=first("weight_gradient", names),
        rows=sorted({row for found in founds for row in found.rows}),
        note="; ".join(sorted({found.note for found in founds if found.note})),
        processes=[rank for found in founds for rank in found.processes],
    )


def find(
    model: nn.Module,
    work: Judge,
    batch: Batch,
    recipe: Recipe,
    step: int,
    portions: int | None = None,
    stream: tuple[int, ...] = (),
) -> Found:
    """What is no number in a step. Leaves gradients behind, and weights as they are."""
    found = Found(weight=first_bad((name, p.detach()) for name, p in model.named_parameters()))
    device = next(model.parameters()).device
    model.train()

    def backwards(portion: Batch, edits: dict[str, Callable[[Tensor], Tensor]]) -> Tensor:
        with watch(model, (), edits), precision(recipe.loop.dtype, device):
            answers = portion.answers(model)
        loss = work.loss(answers, portion, recipe.optimiser.label_smoothing) / portion.n_targets
        loss.backward()
        return loss.detach()

    torch.manual_seed(derived_seed("train", recipe.seed, step, *stream))
    forget_gradients(model)
    eyes = {name: eye(name, found) for name in points_of(model)}
    for portion in batch.to(device).portions(portions or recipe.loop.grad_accum):
        found.loss |= not backwards(portion, eyes).isfinite().item()
    found.weight_gradient = bad_gradient(model)
    n_rows = len(batch.targets)
    if found.weight is not None or not (found.loss or found.gradient or found.weight_gradient) or n_rows > MOST_ROWS:
        return found
    inputs_by_row = all(len(tensor) == n_rows for tensor in batch.inputs.values())
    for row, portion in enumerate(one_by_one(batch.to(device)) if inputs_by_row else ()):
        forget_gradients(model)
        if not backwards(portion, {}).isfinite() or bad_gradient(model) is not None:
            found.rows.append(row)
    return found


def one_by_one(batch: Batch) -> Iterator[Batch]:
    """Every row by itself."""
    for row in range(len(batch.targets)):
        inputs = {name: tensor[row : row + 1] for name, tensor in batch.inputs.items()}
        yield replace(batch, inputs=inputs, targets=batch.targets[row : row + 1])


def eye(name: str, found: Found) -> Callable[[Tensor], Tensor]:
    """Looks at the tensor of a point as it is born and at its gradient later, and changes neither."""

    def look(value: Tensor) -> Tensor:
        if not value.is_floating_point():
            return value
        if found.activation is None and not sound(value.detach(), name):
            found.activation = name
        if value.requires_grad:
            value.register_hook(look_back)
        return value

    def look_back(gradient: Tensor) -> None:
        if found.gradient is None and not gradient.isfinite().all():
            found.gradient = name

    return look


def sound(value: Tensor, name: str) -> bool:
    """Whether all numbers of an activation are numbers, but for infinities that are meant."""
    if name.rpartition(".")[2] == MINUS_INFINITY:
        return not (value.isnan() | value.isposinf()).any().item()
    return bool(value.isfinite().all())


def first_bad(tensors: Iterable[tuple[str, Tensor]]) -> str | None:
    """The name of the first that holds a number that is none."""
    return next((name for name, value in tensors if not value.isfinite().all()), None)


def bad_gradient(model: nn.Module) -> str | None:
    """The same of the gradients of the weights."""
    return first_bad((name, p.grad) for name, p in model.named_parameters() if p.grad is not None)


def spelt(number: float) -> float | str:
    """A number as JSON can hold it."""
    return number if math.isfinite(number) else str(number)


def readable(content: dict[str, Any]) -> str:
    """The report for a person."""
    found = content["found"]
    lines = [
        f"Step {content['step']:,} gave no number: loss {content['loss']}, norm of the gradient {content['gradient_norm']}.",
        "The weights were not touched by it, and the checkpoints are those of earlier steps.",
        "",
        f"It begins in {content['first']}." if content["first"] else (content["note"] or "Taken again, it went well."),
    ]
    names = {
        "weight": "first weight with NaN or infinity",
        "activation": "first activation, from input to output",
        "gradient": "first gradient of an activation, from output to input",
        "weight_gradient": "first gradient of a weight, in the order of the model",
    }
    lines += [f"{told:>54}: {found[key] or 'none'}" for key, told in names.items()]
    if "found_by" in content:
        who = ", ".join(map(str, content["found_by"])) or "none"
        lines += ["", f"Of the {content['processes']} processes, counted from 0, that took it again, {who} found it."]
    lines += ["", f"The {len(content['rows'])} rows of its batch (* marks those that do it by themselves):", ""]
    for row in content["rows"]:
        text = " ".join(str(row["text"]).split())
        lines.append(
            f"{'*' if row['alone_too'] else ' '} {row['row']:>4}  {row['where']}" + (f": {text}" if text else "")
        )
    return "\n".join(lines)
