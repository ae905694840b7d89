"""The film of a run: every so many steps its probes are traced and the sizes of gradients and updates measured, into one file.

Nothing of the run is changed by it: no weight, no gradient and no random number. Of several processes the first films; where
each holds a part of the model, the others bring theirs.
"""

# G groups of parameters

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from glassformer.checkpoints.film_file import MOST_BYTES, FilmHeader, FilmWriter
from glassformer.errors import ConfigError
from glassformer.files import DiskError
from glassformer.generate.context import evaluating
from glassformer.models import Model
from glassformer.training.film_frame import Values, fields_of, trace
from glassformer.training.loop import due
from glassformer.training.probes import Probe, read_probes
from glassformer.training.recipe import Recipe
from glassformer.training.tasks import Task
from glassformer.training.topology import ALONE, Topology

FILM = "film.glassfilm"
TIMED = 3  # frames after which the cost is told
GROUPS = ("embedding", "attention", "mlp", "norms", "head")


class Film:
    """The camera of one sitting: `step` films one step of the loop, where it is due."""

    def __init__(
        self,
        recipe: Recipe,
        model: Model,
        probes: list[Probe],
        path: Path,
        note: Callable[[str], None],
        topology: Topology = ALONE,
    ) -> None:
        assert recipe.film is not None
        self.topology = topology
        self.every, self.steps = recipe.film.every, recipe.loop.steps
        self.model, self.probes, self.note = model, probes, note
        self.groups = groups_of(model)
        about = {"task": recipe.task, "shape": recipe.model.shape, "every": self.every, "groups": [*self.groups]}
        told = [{"text": p.text, "tokens": [*p.tokens], "source": [*p.source], "wanted": [*p.wanted]} for p in probes]
        fields = tuple(fields_of(recipe.model, probes, len(self.groups)))
        self.writer = FilmWriter(path, FilmHeader({**about, "labels": [*recipe.model.labels], "probes": told}, fields))
        self.spent = 0.0  # seconds of this sitting
        self.began = time.perf_counter()
        self.timed: list[tuple[float, float]] = []  # when a frame was done, and what all had cost by then

    def begin(self, step: int) -> None:
        """Tell what it will cost, go on with the film that stands there, and film the beginning of a new run."""
        size, n_frames = self.writer.frame_bytes, 1 + math.ceil(self.steps / self.every)
        lengths = " and ".join(str(len(probe.tokens) + len(probe.source)) for probe in self.probes)
        self.note(
            f"filming {lengths} tokens every {self.every:,} steps: {n_frames:,} frames of {size:,} bytes, "
            f"{in_bytes(n_frames * size)}, into {self.writer.path}"
        )
        if self.topology.is_first:
            self.open(step)
        if not step:
            with self.on_the_clock():
                nothing = np.full(len(self.groups), math.nan)
                self.take(0, {"gradient": nothing, "update": nothing, "weight": self.sizes(self.weights())})

    def open(self, step: int) -> None:
        """Begin the file, or go on with it, if the disk permits."""
        try:
            fault = "" if step else self.writer.begin()
            fault = fault or (self.writer.resume(step) if step else "")
            if fault:
                self.note(f"{fault}; a new film begins at step {step:,}")
        except DiskError as error:
            self.note(f"film not begun: {error}")

    @contextmanager
    def step(self, step: int) -> Generator[None]:
        """Film the step that the block takes from gradients, not yet clipped, to new weights; `step` is its number."""
        if not due(step, self.every, self.steps):
            yield
            return
        with self.on_the_clock():
            gradient = self.sizes([[p.grad for p in group] for group in self.groups.values()])
            before = [[p.detach().clone() for p in group] for group in self.groups.values()]
        yield
        with self.on_the_clock():
            pairs = zip(self.weights(), before, strict=True)
            update = self.sizes([[a - b for a, b in zip(*group, strict=True)] for group in pairs])
            del before
            weight = self.sizes(self.weights())
            with np.errstate(divide="ignore", invalid="ignore"):
                self.take(step, {"gradient": gradient, "update": update / weight, "weight": weight})
        self.tell_the_pace()

    def weights(self) -> list[list[Tensor]]:
        """The parameters of each group."""
        return [[parameter.detach() for parameter in group] for group in self.groups.values()]

    def sizes(self, groups: Sequence[Sequence[Tensor | None]]) -> np.ndarray:
        """The length of each group of tensors as one vector; G. Tensors in parts are whole for a moment, one at a time."""
        kept = [[tensor for tensor in group if tensor is not None] or ZERO for group in groups]
        if self.topology.meets_within_steps:
            norms = [[self.topology.whole_tensor(tensor).norm() for tensor in group] for group in kept]
        else:
            norms = [torch._foreach_norm(group) for group in kept]
        return torch.stack([torch.stack(norm).float().norm() for norm in norms]).cpu().numpy()

    def take(self, step: int, values: Values) -> None:
        """Add a frame, if the disk permits."""
        model = self.topology.whole(self.model)
        if not self.topology.is_first:
            return
        with evaluating(cast("Any", model)), torch.inference_mode():
            for number, probe in enumerate(self.probes):
                values |= {f"probe{number}.{name}": value for name, value in trace(model, probe).items()}
        try:
            self.writer.append(step, values)
        except DiskError as error:
            self.note(f"frame of step {step:,} not saved: {error}")

    def keep(self) -> None:
        """Bring the frames to the disk, if it permits, before a checkpoint counts on them."""
        if not self.topology.is_first:
            return
        try:
            self.writer.keep()
        except DiskError as error:
            self.note(f"film not saved: {error}")

    @contextmanager
    def on_the_clock(self) -> Generator[None]:
        """Count the time of the block as the film's."""
        began = time.perf_counter()
        yield
        self.spent += time.perf_counter() - began

    def tell_the_pace(self) -> None:
        """After some frames, say what they cost."""
        if len(self.timed) > TIMED:
            return
        self.timed.append((time.perf_counter(), self.spent))
        if len(self.timed) > TIMED:
            (start, first), (end, last) = self.timed[0], self.timed[-1]
            each, share = (last - first) / TIMED, (last - first) / max(end - start, 1e-9)
            self.note(f"a frame of the film takes {1000 * each:.0f} ms, {100 * share:.1f} % of the time")

    def cost(self) -> str:
        """What this sitting's film has cost, in a sentence."""
        share, size = self.spent / (time.perf_counter() - self.began), self.writer.n_frames * self.writer.frame_bytes
        folder = self.writer.path.parent
        return (
            f"filmed {self.writer.n_frames:,} frames, {in_bytes(size)}, in {self.spent:.1f} s, {100 * share:.1f} % of "
            f"the time; see them with `glassformer film {folder}`"
        )


ZERO = [torch.zeros(1)]


def open_film(
    recipe: Recipe,
    task: Task,
    model: Model,
    path: Path,
    step: int,
    note: Callable[[str], None],
    topology: Topology = ALONE,
) -> Film | None:
    """The film of a run that goes on from `step`, None where the recipe asks for none. Raises ConfigError."""
    if recipe.film is None:
        return None
    film = Film(recipe, model, read_probes(recipe, task), path, note, topology)
    film.begin(step)
    return film


def check_film(recipe: Recipe, task: Task) -> None:
    """Raise ConfigError for probes that cannot be filmed, before anything is written."""
    if recipe.film is None:
        return
    size = sum(
        np.dtype(kind).itemsize * math.prod(shape)
        for _, kind, shape in fields_of(recipe.model, read_probes(recipe, task), len(GROUPS))
    )
    if size > MOST_BYTES:
        raise ConfigError(f"film.probes: a frame would take {in_bytes(size)}; shorter or fewer probes would do")


def in_bytes(n: int) -> str:
    """An amount of bytes for the eye: ``31.2 kB``."""
    return f"{n / 1e6:,.1f} MB" if n >= 1e6 else f"{n / 1e3:,.1f} kB"


def groups_of(model: nn.Module) -> dict[str, list[nn.Parameter]]:
    """Every parameter once, in the groups that have any; tables of positions count as embeddings."""
    groups: dict[str, list[nn.Parameter]] = {name: [] for name in GROUPS}
    for name, parameter in model.named_parameters():
        module = name.rpartition(".")[0]
        if module.endswith("norm"):
            group = "norms"
        elif name.startswith("head."):
            group = "head"
        else:
            group = "mlp" if ".mlp." in name else "attention" if "attention." in name else "embedding"
        groups[group].append(parameter)
    return {name: group for name, group in groups.items() if group}
