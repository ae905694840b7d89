"""How long a step takes here: a few of them on a throw-away model."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import torch

from glassformer.models import build_model
from glassformer.training.loop import sum_gradients
from glassformer.training.optimisers import Optimisers
from glassformer.training.recipe import Recipe
from glassformer.training.recompute import recompute_blocks
from glassformer.training.tasks import Task
from glassformer.training.tasks.rows import EVALUATION_TOKENS, Rows


@dataclass(frozen=True)
class Timing:
    """Steps that were taken to see how long they take: seconds and tokens of each."""

    seconds: tuple[float, ...]
    tokens: tuple[int, ...]
    asking: float = 0.0  # seconds a token takes that is only read and predicted, without gradients

    @property
    def best(self) -> float:
        """Seconds of the fastest step: what the machine can do when nothing else asks for it."""
        return min(self.seconds)

    @property
    def usual(self) -> float:
        """Seconds of the median step, the first left out, which warms the machine up."""
        return statistics.median(self.seconds[1:] or self.seconds)

    @property
    def tokens_per_second(self) -> float:
        """Tokens of a mean step, at the pace of the median one."""
        return statistics.fmean(self.tokens) / self.usual


def timed(
    recipe: Recipe, task: Task, device: torch.device, steps: int, *, at_most: float | None = None, least: int = 2
) -> Timing:
    """Take `steps` steps of a recipe that `task` has begun, on a model that is thrown away.

    After `at_most` seconds no further step is begun, once `least` have been taken.
    """
    model = build_model(recipe.model, recipe.seed).to(device)
    if recipe.loop.recompute:
        recompute_blocks(model)
    optimisers = Optimisers(model, recipe.optimiser)
    model.train()
    seconds: list[float] = []
    tokens: list[int] = []
    with torch.random.fork_rng(devices=[]):
        for number in range(steps):
            if at_most is not None and number >= least and sum(seconds) > at_most:
                break
            began = time.perf_counter()
            batch = task.batch(number)
            sum_gradients(model, model, task, batch, recipe, recipe.loop.grad_accum).item()
            optimisers.step()
            seconds.append(time.perf_counter() - began)
            tokens.append(batch.n_tokens)
        batch = task.batch(0).to(device)
        began = time.perf_counter()
        with torch.no_grad():
            batch.answers(model.eval())
        asking = (time.perf_counter() - began) / max(1, batch.n_tokens)
    return Timing(tuple(seconds), tuple(tokens), asking)


def held_back(task: Task) -> tuple[int, int]:
    """Tokens that an evaluation on the way reads, and one at the end; none where the task does not say."""
    inputs, quick = getattr(task, "inputs", None), getattr(task, "quick", None)
    if inputs is not None and quick is not None:
        return min(len(inputs), quick) * inputs.shape[1], len(inputs) * inputs.shape[1]
    if isinstance(task, Rows):
        return min(task.held_back_tokens, EVALUATION_TOKENS), task.held_back_tokens
    return 0, 0
