"""A run that ends within a given time: the size whose expected loss is least, and the steps that are left for it."""

from __future__ import annotations

import copy
import math
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch

from glassformer.checkpoints.weights import unfilled
from glassformer.errors import ConfigError
from glassformer.models import Model, build_model
from glassformer.training.decide import Decisions
from glassformer.training.loop import sum_gradients
from glassformer.training.optimisers import Optimisers
from glassformer.training.plan.expectation import Expectation, Reached, expected, fitted_to, worth
from glassformer.training.plan.timing import Timing, timed
from glassformer.training.recipe import Recipe
from glassformer.training.schedule import rate
from glassformer.training.tasks import Task
from glassformer.training.tasks.text import Text

UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
OF_ROWS = ((2, 64), (2, 128), (3, 256))
LADDER = ((1, 64), (2, 64), (2, 128), (4, 128), (4, 192), (6, 256), (8, 384), (12, 512))  # layers and width
MARGIN = 0.08  # of the time is left alone: machines are not equally fast all the time
TRYING, TRIAL = (
    0.02,
    0.08,
)  # of the time, to measure the pace of one size, and to see where a small model gets on this text
EVALUATING = 0.1  # of the time at most goes into evaluations on the way, and ten of them at most
ENDING = 3.0  # seconds for plot, samples and saves
MOST_EVALUATIONS = 10
FEWEST_STEPS, TRIED_STEPS = 20, 5
FEWEST_TRIAL, MOST_TRIAL = 20, 300  # steps of the run that moves the curve
PASSES = 3  # through rows that a size must get at least to be chosen


@dataclass(frozen=True)
class Tried:
    """A size whose pace was measured: what is left for steps beside its evaluations, and what comes of it."""

    layers: int
    width: int
    numbers: int  # in its blocks
    seconds_per_step: float
    seconds: float  # for steps alone
    steps: int
    tokens: float
    epochs: float
    evaluations: int
    loss: float | None = None  # expected of it, up to what is the same for all sizes where nothing was tried

    @property
    def name(self) -> str:
        """``4 x 128``."""
        return f"{self.layers} x {self.width}"


@dataclass(frozen=True)
class Spending:
    """Where the time of a budget goes, in seconds, and what was tried for it."""

    budget: float
    preparing: float  # until the choice was made: reading, tokenizer, trying
    stepping: float
    evaluating: float
    tried: tuple[Tried, ...]
    chosen: str
    expectation: Expectation | None

    def promise(self) -> str:
        """What to expect of the run and why, in a sentence or two."""
        found = self.expectation
        if found is None:
            return (
                "what quality to expect is not known: that is told for running text, decoders and Muon, where there is time for "
                "a short trial"
            )
        return (
            f"to expect: {found}; for it sees {found.tokens_per_parameter:,.2g} tokens for each number in its blocks, "
            f"{found.epochs:.1f} times through the data, on a curve that a short trial has moved to this text (docs/plan.md)"
        )

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return asdict(self)


@dataclass
class Budget:
    """So many seconds from `began` (on the clock of `time.monotonic`) to the end of the run."""

    seconds: float
    began: float
    spending: Spending | None = None
    chosen: Tried | None = None

    @property
    def left(self) -> float:
        """Seconds that remain, but for the margin."""
        return (1 - MARGIN) * self.seconds - (time.monotonic() - self.began)

    def choose_evaluations(self, decisions: Decisions, steps: int) -> None:
        """As many as there is time for."""
        if self.chosen is not None:
            many = self.chosen.evaluations
            reason = f"{many} evaluations, a tenth of the time at most"
            decisions.choose("loop.eval_every", max(1, -(-steps // many)), reason)


def seconds_in(text: str) -> float:
    """``90s``, ``20m``, ``1h30m``, or a plain number of minutes. Raises ConfigError."""
    plain = text.strip().lower()
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd])", plain)
    if parts and "".join(number + unit for number, unit in parts) == plain:
        seconds = sum(float(number) * UNITS[unit] for number, unit in parts)
    elif re.fullmatch(r"\d+(?:\.\d+)?", plain):
        seconds = 60 * float(plain)
    else:
        raise ConfigError(f"--budget {text}: expected a time, such as 90s, 20m or 1h30m")
    if not seconds:
        raise ConfigError(f"--budget {text}: is no time at all")
    return seconds


def spend(
    budget: Budget, decisions: Decisions, task: Task, device: torch.device, trial: Callable[[Decisions], Recipe]
) -> float:
    """Choose the size for a budget, and return the minutes that are left for steps.

    `trial` makes a recipe of decisions so far, which `task` has begun then. Raises ConfigError where the steps are given too,
    or where no time is left for any.
    """
    asked = decisions.get("loop.steps")
    if asked is not None:
        raise ConfigError(f"loop.steps={asked} says how long to train, and so does --budget; leave one of them out")
    looked: list[Look] = []
    reached: Reached | None = None
    known = decisions.get("task") == "text" and decisions.get("optimiser.name") in (None, "muon")
    for layers, width in sizes(decisions, task):
        look = look_at(trial(of_size(decisions, layers, width)), task, device, budget)
        looked.append(look)
        if reached is None and known:
            reached = short_trial(look, task, device, TRIAL * budget.seconds)
        tried = [outcome(one, budget, known, reached) for one in looked]
        if passed_the_best(tried):
            break
    tried = [outcome(one, budget, known, reached) for one in looked]
    chosen = best(tried)
    if chosen.steps < FEWEST_STEPS:
        raise ConfigError(
            f"--budget: of {budget.seconds:.0f} seconds {max(0.0, chosen.seconds):.0f} are left for training, in which a model "
            f"of {chosen.name} takes {chosen.steps} of the {FEWEST_STEPS} steps that it needs at least; give more time"
        )
    reason = why(chosen, tried, budget)
    decisions.choose("model.n_layers", chosen.layers, reason)
    decisions.choose("model.d_model", chosen.width, reason)
    look = looked[tried.index(chosen)]
    promised = None
    if reached is not None:
        every = {one.name: one.loss for one in tried if one.loss is not None}
        promised = expected(reached, chosen.numbers, chosen.tokens, look.unique, look.bytes_per_token, every)
    budget.spending = Spending(
        budget=budget.seconds,
        preparing=time.monotonic() - budget.began,
        stepping=chosen.steps * chosen.seconds_per_step,
        evaluating=chosen.evaluations * look.quick + look.whole,
        tried=tuple(tried),
        chosen=chosen.name,
        expectation=promised,
    )
    budget.chosen = chosen
    return float(f"{chosen.seconds / 60:.3g}")


@dataclass(frozen=True)
class Look:
    """A size as it was looked at: its recipe and pace, seconds of an evaluation on the way and at the end, and its data."""

    recipe: Recipe
    timing: Timing
    numbers: int
    quick: float
    whole: float
    per_epoch: float
    most_epochs: int
    unique: float  # tokens to train on
    bytes_per_token: float


def look_at(recipe: Recipe, task: Task, device: torch.device, budget: Budget) -> Look:
    """Take a few steps of a size."""
    timing = timed(recipe, task, device, TRIED_STEPS, at_most=TRYING * budget.seconds)
    config = recipe.model
    in_blocks = sum(p.numel() for name, p in unfilled(config).named_parameters() if ".blocks." in name)
    text = task if recipe.task == "text" and isinstance(task, Text) else None
    return Look(
        recipe=recipe,
        timing=timing,
        numbers=in_blocks,
        quick=timing.evaluation(task),
        whole=timing.last_evaluation(task),
        per_epoch=1 / max(task.epoch(1), 1e-9),
        most_epochs=task.most_epochs,
        unique=0.0 if text is None else float(text.n_train),
        bytes_per_token=0.0 if text is None else text.validation_bytes / max(1, len(text.validation)),
    )


def sizes(decisions: Decisions, task: Task) -> Iterator[tuple[int, int]]:
    """Layers and widths to look at, the smallest first; what was asked for is never another."""
    layers, width = decisions.get("model.n_layers"), decisions.get("model.d_model")
    ladder = LADDER if isinstance(task, Text) else OF_ROWS
    yield from dict.fromkeys((int(layers or n), int(width or d)) for n, d in ladder)


def of_size(decisions: Decisions, layers: int, width: int) -> Decisions:
    """The decisions with a size."""
    tried = Decisions(copy.deepcopy(decisions.wishes))
    tried.put("model.n_layers", layers)
    tried.put("model.d_model", width)
    return tried


def outcome(look: Look, budget: Budget, known: bool, reached: Reached | None) -> Tried:
    """What comes of a size in the time that is left now."""
    timing = look.timing
    evaluations = max(1, min(MOST_EVALUATIONS, int(EVALUATING * budget.seconds / max(look.quick, 1e-9))))
    seconds = budget.left - look.whole - ENDING - evaluations * look.quick
    most = max(100, int(look.most_epochs * look.per_epoch))
    steps = max(0, min(most, int(seconds / timing.usual)))
    tokens = steps * sum(timing.tokens) / len(timing.tokens)
    loss = None
    if known:
        curve = fitted_to(look.bytes_per_token).curve
        curve = curve if reached is None else curve.through(reached)
        loss = curve(look.numbers, worth(tokens, look.unique)) if steps else math.inf
    config = look.recipe.model
    return Tried(
        layers=config.n_layers,
        width=config.d_model,
        numbers=look.numbers,
        seconds_per_step=timing.usual,
        seconds=seconds,
        steps=steps,
        tokens=tokens,
        epochs=steps / look.per_epoch,
        evaluations=evaluations,
        loss=loss,
    )


def passed_the_best(tried: list[Tried]) -> bool:
    """Whether larger sizes cannot be better: the last has no time, or two in a row are worse than one before, since the pace
    of a single size may have been measured at a bad moment."""
    last = tried[-1]
    if last.steps < FEWEST_STEPS:
        return len(tried) > 1
    if last.loss is None:
        return last.epochs < PASSES
    return len(tried) > 2 and min(tried, key=lambda one: one.loss or 0.0) not in tried[-2:]


def best(tried: list[Tried]) -> Tried:
    """The size of the least expected loss; where none is known, the largest that passes through the data often enough. One
    that has no time for the fewest steps is chosen only where the smallest has none either."""
    able = [one for one in tried if one.steps >= FEWEST_STEPS] or tried[:1]
    if all(one.loss is not None for one in able):
        return min(able, key=lambda one: one.loss or 0.0)
    enough = [one for one in able if one.epochs >= PASSES]
    return enough[-1] if enough else able[0]


def why(chosen: Tried, tried: list[Tried], budget: Budget) -> str:
    """The reason for a size, against the sizes beside it."""
    if chosen.loss is None:
        return f"the largest looked at that passes {PASSES} times through the data in {budget.seconds:.0f} s"
    others = [one for one in tried if abs(tried.index(one) - tried.index(chosen)) == 1]
    worse = " and ".join(f"{(one.loss or 0.0) - chosen.loss:+.2f} with {one.name}" for one in others)
    return f"the least loss expected in {budget.seconds:.0f} s" + (f" ({worse})" if worse else "")


def short_trial(look: Look, task: Task, device: torch.device, seconds: float) -> Reached | None:
    """What a short run of a small model reaches on this text, where there is time for one that says something."""
    steps = min(MOST_TRIAL, int(seconds / look.timing.usual))
    if steps < FEWEST_TRIAL:
        return None
    model = short_run(look.recipe, task, device, steps)
    tokens = steps * sum(look.timing.tokens) / len(look.timing.tokens)
    return Reached(look.numbers, worth(tokens, look.unique), task.evaluate(model, whole=False).loss)


def short_run(recipe: Recipe, task: Task, device: torch.device, steps: int) -> Model:
    """The model of a run of so many steps with the whole schedule, and nothing around it."""
    model = build_model(recipe.model, recipe.seed).to(device)
    optimisers = Optimisers(model, recipe.optimiser)
    schedule = recipe.optimiser.model_copy(update={"warmup_steps": max(1, steps // 50)})
    model.train()
    with torch.random.fork_rng(devices=[]):
        for step in range(steps):
            optimisers.set_rate(rate(step, steps, schedule))
            sum_gradients(model, model, task, task.batch(step), recipe, recipe.loop.grad_accum)
            optimisers.step()
    return model
