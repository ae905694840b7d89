"""The training loop: rates, loss, gradients, step; now and then an evaluation, a sample, a checkpoint."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from glassformer.errors import Interrupted, is_out_of_memory
from glassformer.evaluate import Score
from glassformer.models import Model
from glassformer.training.checkpoint import State, update_average
from glassformer.training.failures import Losses, forget_gradients, may_skip, more_portions, not_a_number
from glassformer.training.log import Log, Screen
from glassformer.training.optimisers import Optimisers
from glassformer.training.recipe import Recipe
from glassformer.training.schedule import rate
from glassformer.training.tasks.task import Batch, derived_seed
from glassformer.training.topology import ALONE, Topology, own_part

RISES_BEFORE_WARNING = 3


class Judge(Protocol):
    """What counts as wrong."""

    def loss(self, answers: Tensor, batch: Batch, smoothing: float = 0.0) -> Tensor: ...


class Work(Judge, Protocol):
    """What is trained on, and what counts as wrong; see `training.tasks`."""

    def batch(self, step: int) -> Batch: ...
    def epoch(self, step: int) -> float: ...


@dataclass
class Services:
    """What the loop uses and does not own."""

    evaluate: Callable[[], Score]
    sample: Callable[[], str]
    save_checkpoint: Callable[[State], bool]
    save_best: Callable[[Score], None]
    stop_requested: Callable[[], bool]
    log: Log
    screen: Screen
    filming: Callable[[int], AbstractContextManager[object]] = lambda step: (
        nullcontext()
    )  # around a step of that number
    save_wanted: Callable[[], bool] = lambda: False  # whether a save that failed is due again; polled after every step
    settle: Callable[[bool], bool] = lambda saved: (
        saved
    )  # whether the save that was begun stands, once it does or fails
    diagnose: Callable[[int, float, float], str] = lambda step, loss, norm: ""  # a clause on where the non-number arose
    begin_again: Callable[[State, str], None] = lambda state, said: (
        None
    )  # has all processes start anew from the last checkpoint
    alive: Callable[[], None] = lambda: None  # told after every step


def train_loop(
    model: Model,
    forward: Callable[..., Tensor],
    optimisers: Optimisers,
    work: Work,
    recipe: Recipe,
    state: State,
    average: dict[str, Tensor] | None,
    services: Services,
    topology: Topology = ALONE,
) -> None:
    """Train from `state.step` to the last step, or until it stops improving. `forward` is the model, compiled or not.

    Raises Interrupted after saving when a stop is requested; GlassformerError at a loss or gradient that is not a number,
    before it reaches the weights.
    """
    loop = recipe.loop
    recent: list[float] = []  # losses since the last evaluation
    losses = Losses()
    meter = Meter(state, loop.steps)
    services.screen.begin(state.step, loop.steps)
    model.train()
    while state.step < loop.steps:
        optimisers.set_rate(share := rate(state.step, loop.steps, recipe.optimiser))
        batch = topology.share(work.batch(state.step), getattr(work, "divides", True))
        loss, norm = gradients_of_step(model, forward, work, batch, recipe, state, services, topology)
        size = norm.item()
        if spoilt := topology.any(not (math.isfinite(loss) and math.isfinite(size))):
            leave_out(model, loss, size, state, recipe, services)
        else:
            with services.filming(state.step + 1):
                clip_gradients(model, recipe.optimiser.grad_clip, norm)
                optimisers.step()
            if average is not None and recipe.optimiser.ema is not None:
                update_average(average, model, recipe.optimiser.ema, state.step)
            state.skipped_in_a_row = 0
            recent.append(loss)
            if leap := losses.leap(loss):
                services.screen.note(f"step {state.step + 1:,}: {leap}")
        state.step += 1
        meter.tick(batch.n_tokens)
        services.alive()
        if due(state.step, loop.log_every, loop.steps) and not spoilt:
            row = {"step": state.step, "epoch": work.epoch(state.step), "loss": loss}
            row |= {"lr": share * recipe.optimiser.lr, "grad_norm": size, **meter.row()}
            services.log.write(row)
            services.screen.step(row)
        if due(state.step, loop.eval_every, loop.steps):
            report(services.evaluate(), sum(recent) / max(1, len(recent)), state, services)
            recent.clear()
            model.train()
        if loop.early_stop is not None and state.worse >= loop.early_stop:
            services.screen.note(
                f"stopped early: no better for {state.worse} evaluations; best was step {state.best_step:,}"
            )
            return
        if state.step % loop.sample_every == 0 and state.step < loop.steps:
            services.screen.sample(state.step, services.sample())
            model.train()
        stop, wanted = topology.any(services.stop_requested()), topology.any(services.save_wanted())
        if stop or wanted or (state.step % loop.save_every == 0 and state.step < loop.steps):
            saved = services.save_checkpoint(state)
            if stop:
                place = "there" if services.settle(saved) else "the last checkpoint that could be saved"
                raise Interrupted(
                    f"stopped after step {state.step:,} of {loop.steps:,}; the same command goes on from {place}"
                )


def gradients_of_step(
    model: nn.Module,
    forward: Callable[..., Tensor],
    work: Judge,
    batch: Batch,
    recipe: Recipe,
    state: State,
    services: Services,
    topology: Topology,
) -> tuple[float, Tensor]:
    """Leave the gradients of a step in the parameters; its loss over all processes and the norm of its gradients.

    Where memory runs out, in whichever process, all take the whole step again, from the same seed, in twice as many portions
    from then on; processes that wait for each other within a step start anew for that.
    """
    while True:
        torch.manual_seed(
            derived_seed("train", recipe.seed, state.step, *topology.stream)
        )  # dropout depends on the step alone
        portions = state.portions or recipe.loop.grad_accum
        loss = None
        try:
            loss = sum_gradients(model, forward, work, batch, recipe, portions, topology)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        # Behind the handler, since an exception holds on to the tensors of its frames.
        enough = loss is not None
        if not topology.meets_within_steps:
            enough = not topology.any(not enough)
        if loss is not None and enough:
            topology.sum_gradients(model)
            return topology.total(loss).item(), topology.gradient_norm(model)
        forget_gradients(model)
        state.portions = more_portions(state, portions, batch, getattr(work, "divides", True))
        said = (
            f"not enough memory at step {state.step + 1:,}: it is taken again, and from now on every step is, in "
            f"{state.portions} portions instead of {portions}; rows and their order stay the same"
        )
        if topology.meets_within_steps:
            services.begin_again(state, said)
        services.screen.note(said)
        services.log.write({"step": state.step + 1, "grad_accum": state.portions, "because": "not enough memory"})


def leave_out(model: nn.Module, loss: float, norm: float, state: State, recipe: Recipe, services: Services) -> None:
    """Do without a step that has no finite loss or gradient, where the recipe allows it; raise GlassformerError otherwise."""
    forget_gradients(model)
    if recipe.loop.non_finite == "stop" or not may_skip(state, recipe.loop.steps):
        raise not_a_number(loss, norm, state, services.diagnose(state.step, loss, norm))
    state.skipped += 1
    state.skipped_in_a_row += 1
    services.screen.note(f"step {state.step + 1:,} left out: its loss is {loss} and its gradient's norm {norm}")
    services.log.write({"step": state.step + 1, "skipped": state.skipped})


def accumulate_gradients(
    model: nn.Module, forward: Callable[..., Tensor], work: Judge, batch: Batch, recipe: Recipe
) -> float:
    """Leave the gradient of the mean loss over all of the step's targets in the parameters; returns that loss."""
    return sum_gradients(model, forward, work, batch, recipe, recipe.loop.grad_accum).item()


def sum_gradients(
    model: nn.Module,
    forward: Callable[..., Tensor],
    work: Judge,
    batch: Batch,
    recipe: Recipe,
    portions: int,
    topology: Topology = ALONE,
) -> Tensor:
    """The same in so many portions, with the loss as a tensor.

    Losses are summed and divided once by the targets of the whole step, so any number of portions gives the same.
    """
    device = next(model.parameters()).device
    total = torch.zeros((), device=device)
    for portion in batch.to(device).portions(portions):
        with precision(recipe.loop.dtype, device):
            answers = portion.answers(forward)
        loss = topology.loss(work, answers, portion, recipe.optimiser.label_smoothing)
        loss.backward()
        total += loss.detach()
    return total


def precision(dtype: str, device: torch.device) -> AbstractContextManager[object]:
    """bfloat16 where it was asked for, or where the device is built for it; on CPUs it costs time (measured: twice)."""
    if dtype == "bfloat16" or (dtype == "auto" and device.type == "cuda" and torch.cuda.is_bf16_supported()):
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()


def clip_gradients(model: nn.Module, largest: float | None, norm: Tensor) -> None:
    """Shrink all gradients together to norm `largest` where their `norm` is above it."""
    if largest is not None:
        gradients = [own_part(parameter.grad) for parameter in model.parameters() if parameter.grad is not None]
        torch._foreach_mul_(gradients, torch.clamp(largest / (norm + 1e-6), max=1.0))


def report(score: Score, loss: float, state: State, services: Services) -> None:
    """Log an evaluation, keep the best model, and say so when the text is being learnt by heart.

    `loss` is the mean training loss since the evaluation before. A score that is no number is said and not kept.
    """
    if not math.isfinite(score.loss):
        state.worse += 1
        services.screen.note(
            f"step {state.step:,}: the validation loss is {score.loss}; the best model stays as it was"
        )
        return
    found, best = (score.objective, score.loss), (state.best, state.best_loss)  # of equal objectives the lower loss
    improved = state.best is None or found < best
    if improved:
        state.best, state.best_loss, state.best_step, state.worse = score.objective, score.loss, state.step, 0
        services.save_best(score)
    else:
        state.worse += 1
    row = {"step": state.step, "val_loss": score.loss, "perplexity": score.perplexity}
    row |= {"bpb": score.bits_per_byte} if score.n_bytes else {}
    row |= score.metrics
    services.log.write(row)
    services.screen.evaluation({**row, "best": improved})
    if state.worse == RISES_BEFORE_WARNING and state.best_loss is not None and loss < state.best_loss:
        services.screen.note(
            f"overfitting: no better on what was held back since step {state.best_step:,} while the training loss "
            "falls; more text, a smaller model, --dropout 0.2 or fewer steps would help (the best model is kept)"
        )


def due(step: int, every: int, steps: int) -> bool:
    """Whether something that happens every so many steps, and at the end, happens now."""
    return step % every == 0 or step == steps


@dataclass
class Meter:
    """How fast it goes and how long it will take."""

    state: State
    steps: int

    def __post_init__(self) -> None:
        self._last = time.perf_counter()
        self._began_at = self.state.step
        self._spent = 0.0
        self._tokens = 0

    def tick(self, tokens: int) -> None:
        """Count the time since the last step as the last step's, which worked on so many tokens."""
        self._tokens += tokens
        now = time.perf_counter()
        self.state.seconds += now - self._last
        self._spent += now - self._last
        self._last = now

    def row(self) -> dict[str, float]:
        """Tokens per second of this sitting, seconds spent in all sittings, and seconds left at this pace."""
        per_step = self._spent / max(1, self.state.step - self._began_at)
        return {
            "tok_per_s": self._tokens / self._spent if self._spent else 0.0,
            "seconds": self.state.seconds,
            "seconds_left": per_step * (self.steps - self.state.step),
        }


@contextmanager
def averaged(model: nn.Module, average: dict[str, Tensor] | None) -> Generator[None]:
    """Lend the model its averaged weights while the block runs."""
    if average is None:
        yield
        return
    own = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    put(model, average)
    try:
        yield
    finally:
        put(model, own)


@torch.no_grad()
def put(model: nn.Module, values: dict[str, Tensor]) -> None:
    """Copy values into the parameters of those names."""
    for name, parameter in model.named_parameters():
        parameter.copy_(values[name])
