"""Several processes as one: what the loop asks of them, answered over a process group."""

# B rows of a step

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from glassformer.errors import ConfigError
from glassformer.models import Model, build_model, count_parameters
from glassformer.training.checkpoint import Checkpoints, tied_names
from glassformer.training.distributed.checkpoints import JoinedCheckpoints
from glassformer.training.distributed.launch import Seat
from glassformer.training.distributed.plans import refuse_plan
from glassformer.training.tasks.task import Batch
from glassformer.training.topology import Topology, own_part

if TYPE_CHECKING:
    from glassformer.training.loop import Judge
    from glassformer.training.recipe import Recipe
    from glassformer.training.tasks.task import Task

M = TypeVar("M", bound=nn.Module)
T = TypeVar("T")

TIMEOUT = 600.0  # seconds that the others may be late to a step
PATIENCE = timedelta(days=2)  # to whatever only one of them does: reading the data, writing a model
BUCKET = 1 << 26  # bytes of gradients that are summed at once
LARGE = 300_000_000  # parameters from which on the copies that `replicate` keeps of all cost more than they save
TIMEOUT_VARIABLE = "GLASSFORMER_TIMEOUT"  # seconds, instead of TIMEOUT


@dataclass(frozen=True)
class Share(Batch):
    """One process's rows of a step. Every process divides its rows into as many portions as the others do."""

    most_portions: int = 1

    def portions(self, n: int) -> Iterator[Batch]:
        n = min(n, self.most_portions)
        rows = {name: tensor.tensor_split(n) for name, tensor in self.inputs.items()}
        for number, targets in enumerate(self.targets.tensor_split(n)):
            inputs = {name: parts[number] for name, parts in rows.items()}
            yield replace(self, inputs=inputs, targets=targets)


@dataclass(frozen=True)
class Compared(Share):
    """One process's rows of a step whose rows are judged against all of it; they are not taken in portions."""

    whole: Batch | None = None  # all rows, of which `own` are this process's
    own: range = range(0)

    def portions(self, n: int) -> Iterator[Batch]:
        yield self

    def to(self, device: torch.device) -> Self:
        there = super().to(device)
        return there if self.whole is None else replace(there, whole=self.whole.to(device))


class Joined(Topology):
    """One of several processes. How they divide the work is settled when `prepare` knows the model and the recipe."""

    def __init__(self, seat: Seat) -> None:
        self.seat, self.rank, self.world = seat, seat.rank, seat.world
        self.kind = "replicate"
        self.partial: list[nn.Parameter] = []  # of which each process has its part of the gradient's sum

    @contextmanager
    def connected(self) -> Generator[Joined]:
        """Meet the other processes, and part from them when the block ends well."""
        backend = "gloo"
        if torch.cuda.is_available():
            torch.cuda.set_device(self.seat.local_rank % torch.cuda.device_count())
            backend = "cpu:gloo,cuda:nccl"
        if not dist.is_initialized():  # Ray has done it already
            dist.init_process_group(backend, timeout=timedelta(seconds=timeout()))
        # A thread may save while the loop goes on, so what they say to the other processes must not get mixed up.
        self.patient, self.saving = (new_group(PATIENCE) for _ in range(2))
        yield self
        self.barrier()
        dist.destroy_process_group()

    def refuse(self, recipe: Recipe, task: Task) -> None:
        kind = self.settle(recipe, None)
        if "-" in (*recipe.data.sources, *recipe.data.validation):
            raise ConfigError(
                "-: standard input can be read by one process alone; name a file, or train without --nproc"
            )
        if kind == "tensor":
            refuse_plan(recipe.model, self.world)

    def settle(self, recipe: Recipe, model: nn.Module | None) -> str:
        """How the work is divided: as asked, or by the model's size."""
        kind = recipe.loop.parallel
        if kind != "auto":
            return kind
        return "shard" if model is not None and count_parameters(model) >= LARGE else "replicate"

    @property
    def divides_rows(self) -> bool:
        """Whether each process has rows of its own."""
        return self.kind != "tensor"

    @property
    def stream(self) -> tuple[int, ...]:
        return (self.rank,) if self.divides_rows else ()

    @property
    def meets_within_steps(self) -> bool:
        return self.kind != "replicate"

    def rows(self, n: int) -> range:
        if not self.divides_rows:
            return range(n)
        least, more = divmod(n, self.world)
        begin = self.rank * least + min(self.rank, more)
        return range(begin, begin + least + (self.rank < more))

    def share(self, batch: Batch, divides: bool = True) -> Batch:
        if not self.divides_rows:
            return batch
        n, own = len(batch.targets), self.rows(len(batch.targets))
        n_targets: Any = batch.n_targets
        taken = own
        if not own:  # it computes along, since the others wait for it, and a loss over infinity has no gradient
            taken, n_targets = range(1), torch.inf
        begin, end = taken.start, taken.stop
        # Where a row is several texts, all first texts come first, then all second ones.
        inputs = {name: x.unflatten(0, (-1, n))[:, begin:end].flatten(0, 1) for name, x in batch.inputs.items()}
        values: dict[str, Any] = {**vars(batch), "inputs": inputs, "targets": batch.targets[begin:end]}
        if not divides:
            return Compared(**values, whole=batch, own=own)
        return Share(**values | {"n_targets": n_targets}, most_portions=max(1, n // self.world))

    def loss(self, work: Judge, answers: Any, batch: Batch, smoothing: float = 0.0) -> Tensor:
        if not isinstance(batch, Compared) or batch.whole is None:
            return super().loss(work, answers, batch, smoothing)
        own, n = batch.own, len(batch.whole.targets)
        mine = answers.unflatten(0, (-1, len(batch.targets)))  # texts of a row, rows, channels
        every = mine.new_zeros(len(mine), n, *mine.shape[2:])
        every[:, own.start : own.stop] = mine[:, : len(own)].detach()
        dist.all_reduce(every)
        # Each process judges all rows, and its gradient is that of its own answers; each tells its part of the value.
        every = torch.cat((every[:, : own.start], mine[:, : len(own)], every[:, own.stop :]), 1)
        loss = super().loss(work, every.flatten(0, 1), batch.whole, smoothing) + 0.0 * mine[:, len(own) :].sum()
        return loss - loss.detach() * (1 - 1 / self.world)

    def total(self, value: Tensor) -> Tensor:
        if self.divides_rows:
            value = value.clone()
            dist.all_reduce(value)
        return value

    def any(self, flag: bool) -> bool:
        found = torch.tensor(float(flag))
        dist.all_reduce(found, op=dist.ReduceOp.MAX)
        return bool(found)

    def prepare(self, model: M, recipe: Recipe) -> M:
        self.kind = self.settle(recipe, model)
        if self.kind == "replicate":
            return model
        # Loading them takes a second, which who does without need not wait for.
        from torch.distributed.device_mesh import init_device_mesh

        from glassformer.training.distributed.plans import apply_plan
        from glassformer.training.distributed.sharding import shard_blocks

        device = next(model.parameters()).device.type
        sizes = {name: self.world if name == MESH[self.kind] else 1 for name in ("dp_replicate", "dp_shard", "tp")}
        mesh = init_device_mesh(device, tuple(sizes.values()), mesh_dim_names=tuple(sizes))
        if self.kind == "shard":
            shard_blocks(model, mesh["dp_shard"])
        else:
            self.partial = apply_plan(model, mesh["tp"])
        return model

    def sum_gradients(self, model: nn.Module) -> None:
        if self.kind == "shard":
            return  # in the backward pass
        owners = list(model.parameters()) if self.kind == "replicate" else self.partial
        gradients = [own_part(p.grad) for p in owners if p.grad is not None]
        for bucket in buckets(gradients, BUCKET):
            flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
            dist.all_reduce(flat)
            for gradient, part in zip(bucket, flat.split([g.numel() for g in bucket]), strict=True):
                gradient.copy_(part.view_as(gradient))

    def gradient_norm(self, model: nn.Module) -> Tensor:
        if self.kind == "replicate":
            return super().gradient_norm(model)
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        parts = [own_part(gradient) for gradient in gradients if hasattr(gradient, "to_local")]
        norm = nn.utils.get_total_norm(parts).square()
        dist.all_reduce(norm)
        return (norm + nn.utils.get_total_norm([g for g in gradients if not hasattr(g, "to_local")]).square()).sqrt()

    def gather(self, model: nn.Module) -> dict[str, Tensor]:
        weights = self.gathered(model)
        return weights if self.is_first else {}

    def gathered(self, model: nn.Module) -> dict[str, Tensor]:
        """The whole weights by name, each once, on every process."""
        from glassformer.training.distributed.sharding import whole_value

        tied = tied_names(model)
        return {name: whole_value(value).detach() for name, value in model.state_dict().items() if name not in tied}

    def whole(self, model: Model) -> Model:
        if self.kind == "replicate":
            return model
        whole = build_model(model.config).to(next(model.parameters()).device)
        whole.load_state_dict(self.gathered(model), strict=False)
        return whole

    def whole_tensor(self, tensor: Tensor) -> Tensor:
        if self.kind == "replicate":
            return tensor
        from glassformer.training.distributed.sharding import whole_value

        return whole_value(tensor)

    def of_first(self, value: T, group: dist.ProcessGroup | None = None) -> T:
        found: list[Any] = [value]
        dist.broadcast_object_list(found, src=0, group=group or self.patient)
        return found[0]

    def barrier(self) -> None:
        dist.barrier(group=self.patient)

    def every(self, value: T, group: dist.ProcessGroup | None = None) -> list[T]:
        found: list[Any] = [None] * self.world
        dist.all_gather_object(found, value, group=group or self.patient)
        return found

    def checkpoints(self, folder: Path, keep: int) -> Checkpoints:
        return JoinedCheckpoints(folder, keep, self)


def new_group(timeout: timedelta) -> dist.ProcessGroup:
    """A further way for all processes to meet, which keeps apart from the others."""
    group = dist.new_group(backend="gloo", timeout=timeout)
    assert isinstance(group, dist.ProcessGroup)
    return group


def buckets(tensors: list[Tensor], most: int) -> Iterator[list[Tensor]]:
    """The tensors in their order, in groups of one type and of about `most` bytes."""
    bucket: list[Tensor] = []
    for tensor in tensors:
        if bucket and (tensor.dtype != bucket[0].dtype or sum(t.nbytes for t in bucket) + tensor.nbytes > most):
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket


def timeout() -> float:
    """Seconds to wait for the others within a step. Raises ConfigError."""
    asked = os.environ.get(TIMEOUT_VARIABLE, str(TIMEOUT))
    try:
        seconds = float(asked)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e9:
        raise ConfigError(f"{TIMEOUT_VARIABLE}={asked} is no number of seconds")
    return seconds


def lost(error: BaseException) -> bool:
    """Whether an error says that another process is gone or silent."""
    if isinstance(error, dist.DistError):
        return True
    said = str(error)
    return isinstance(error, RuntimeError) and any(sign in said for sign in SIGNS)


SIGNS = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Connection refused",
    "Broken pipe",
    "Timed out waiting",
    "Socket Timeout",
    "[enforce fail at",
    "gloo/transport",
    "NCCL",
)
MESH = {"replicate": "dp_replicate", "shard": "dp_shard", "tensor": "tp"}
