"""How long a step takes here: a few of them on a throw-away model."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import torch

from glassformer.models import Model, build_model
from glassformer.training.loop import sum_gradients
from glassformer.training.optimisers import Optimisers
from glassformer.training.recipe import Recipe
from glassformer.training.recompute import recompute_blocks
from glassformer.training.tasks import Task

WRITTEN = 16  # rows for which texts are written, to see how long that takes


@dataclass(frozen=True)
class Timing:
    """Steps that were taken to see how long they take: seconds and tokens of each."""

    seconds: tuple[float, ...]
    tokens: tuple[int, ...]
    asking: float = 0.0  # seconds a token takes that is only read and predicted, without gradients
    writing: float = 0.0  # seconds a row takes for which a text is written, where an evaluation does that

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

    def evaluation(self, task: Task) -> float:
        """Seconds of an evaluation on the way."""
        return self.measuring(*task.measured(whole=False))

    def last_evaluation(self, task: Task) -> float:
        """Seconds of the one at the end, which is not needed where those on the way measure all."""
        return 0.0 if task.measures_all else self.measuring(*task.measured(whole=True))

    def measuring(self, tokens: int, rows: int) -> float:
        """Seconds to read so many tokens, and to write texts for so many rows."""
        return self.asking * tokens + self.writing * rows


def timed(
    recipe: Recipe,
    task: Task,
    device: torch.device,
    steps: int,
    *,
    at_most: float | None = None,
    least: int = 2,
    evaluating: bool = True,
) -> Timing:
    """Take `steps` steps of a recipe that `task` has begun, on a model that is thrown away, and then evaluate a little.

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
        asking, writing = evaluate_some(model, task, device) if evaluating else (0.0, 0.0)
    return Timing(tuple(seconds), tuple(tokens), asking, writing)


def evaluate_some(model: Model, task: Task, device: torch.device) -> tuple[float, float]:
    """Seconds a token takes that is only read, and a row for which a text is written."""
    batch = task.batch(0).to(device)
    began = time.perf_counter()
    with torch.no_grad():
        batch.answers(model.eval())
    asking = (time.perf_counter() - began) / max(1, batch.n_tokens)
    began = time.perf_counter()
    # A model that has learnt nothing writes on to the longest text that is allowed, as the slowest row of a batch does.
    n_written = task.write_some(model, WRITTEN)
    return asking, (time.perf_counter() - began) / n_written if n_written else 0.0
