"""What the loop asks of the processes that train one model together, answered by a process that is alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from torch import Tensor, nn

if TYPE_CHECKING:
    from glassformer.models import Model
    from glassformer.training.checkpoint import Checkpoints
    from glassformer.training.loop import Judge
    from glassformer.training.recipe import Recipe
    from glassformer.training.tasks.task import Batch, Task

M = TypeVar("M", bound=nn.Module)
T = TypeVar("T")


class Topology(ABC):
    """How many processes train, which one this is, and how they come to one answer. Every process calls every method."""

    rank: int
    world: int

    @property
    def is_first(self) -> bool:
        """Whether this process writes what is written once: log, checkpoints' manifests, models."""
        return self.rank == 0

    @abstractmethod
    def share(self, batch: Batch, divides: bool = True) -> Batch:
        """This process's rows of the batch of a step. `n_targets` stays that of the whole step. `divides`: whether rows are
        judged one by one, rather than each against all of the step."""

    @abstractmethod
    def total(self, value: Tensor) -> Tensor:
        """The sum of a number over all processes."""

    @abstractmethod
    def any(self, flag: bool) -> bool:
        """Whether any process says so."""

    @abstractmethod
    def prepare(self, model: M, recipe: Recipe) -> M:
        """The model as these processes train it, sharded from outside or as it is."""

    @abstractmethod
    def gather(self, model: nn.Module) -> dict[str, Tensor]:
        """The whole weights by name on the first process, nothing elsewhere."""

    @abstractmethod
    def barrier(self) -> None:
        """Wait until all processes are here."""

    def rows(self, n: int) -> range:
        """Which of the `n` rows of a step are this process's."""
        return range(n)

    def loss(self, work: Judge, answers: Any, batch: Batch, smoothing: float = 0.0) -> Tensor:
        """This process's part of the mean loss over all targets of the step."""
        return work.loss(answers, batch, smoothing) / batch.n_targets

    @property
    def meets_within_steps(self) -> bool:
        """Whether a process that leaves a step half done leaves others waiting for it."""
        return False

    def every(self, value: T) -> list[T]:
        """What every process says, in their order."""
        return [value]

    @property
    def stream(self) -> tuple[int, ...]:
        """What the random numbers of a step depend on beside seed and step: nothing on one process."""
        return ()

    def refuse(self, recipe: Recipe, task: Task) -> None:
        """Raise ConfigError for a recipe that these processes cannot train."""
        return

    def sum_gradients(self, model: nn.Module) -> None:
        """Turn the gradients of each process's rows into those of the whole step, once all portions are done."""
        return

    def whole(self, model: Model) -> Model:
        """The model with all its weights, on every process, to be measured and to say something."""
        return model

    def whole_tensor(self, tensor: Tensor) -> Tensor:
        """All of a tensor of which this process may hold a part."""
        return tensor

    def of_first(self, value: T) -> T:
        """What the first process found, on all of them."""
        return value

    def gradient_norm(self, model: nn.Module) -> Tensor:
        """The norm of all gradients together, over all processes."""
        return nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])

    def checkpoints(self, folder: Path, keep: int) -> Checkpoints:
        """How checkpoints are written and read here."""
        from glassformer.training.checkpoint import Checkpoints

        return Checkpoints(folder, keep)


class Alone(Topology):
    """One process: every method gives back what it was given."""

    rank = 0
    world = 1

    def share(self, batch: Batch, divides: bool = True) -> Batch:
        return batch

    def total(self, value: Tensor) -> Tensor:
        return value

    def any(self, flag: bool) -> bool:
        return flag

    def prepare(self, model: M, recipe: Recipe) -> M:
        return model

    def gather(self, model: nn.Module) -> dict[str, Tensor]:
        return model.state_dict()

    def barrier(self) -> None:
        return


def own_part(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor: its part where it is sharded, else all of it."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor  # type: ignore[attr-defined]


ALONE = Alone()
