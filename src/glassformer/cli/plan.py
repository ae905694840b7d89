"""``glassformer plan``: what a run would take of this machine, before it runs; nothing is written."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from glassformer.cli import train

if TYPE_CHECKING:
    from glassformer.lens.parts import Line
    from glassformer.training.plan.budget import Budget, Spending
    from glassformer.training.plan.planning import Plan, Remedy

NOT_OF_A_PLAN = ("print_config", "nproc", "allow_changed", "dry_run")


def plan(**flags: Any) -> None:
    """Parameters, memory, disk and time of a run on this machine, and what to change to fit. Takes what `train` takes.

    The choices of `train` are made, ten steps are measured on a model that is thrown away, and nothing is written.
    Leaves with 0 if the run fits, else with 1.
    """
    train.train(**flags, dry_run=True)


plan.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
    [p for name, p in inspect.signature(train.train, eval_str=True).parameters.items() if name not in NOT_OF_A_PLAN],
    return_annotation=None,
)
plan.__annotations__ = {
    name: parameter.annotation for name, parameter in inspect.signature(plan).parameters.items()
} | {"return": None}


def tell(
    wishes: dict[str, Any], folder: Path, minutes: float, budget: Budget | None, as_json: bool, allow_changed: bool
) -> None:
    """Make the plan of a run and print it. Leaves with FAILED where it does not fit."""
    from typer import Exit

    from glassformer.errors import FAILED
    from glassformer.training import screen_for
    from glassformer.training.plan.planning import plan_run

    with TemporaryDirectory(prefix="glassformer-") as elsewhere:
        if train.is_spoken_demo(wishes):  # what a run would speak into its folder
            there = (folder / train.SPOKEN / "train.csv").exists()
            wishes = train.spoken_demo(wishes, folder if there else Path(elsewhere))
        screen = screen_for(sys.stderr)
        made = plan_run(wishes, folder, minutes=minutes, screen=screen, allow_changed=allow_changed, budget=budget)
    print(json.dumps(made.to_dict(), indent=2) if as_json else rendered(made), end="\n" if as_json else "")
    if not made.fits:
        raise Exit(FAILED)


def rendered(made: Plan) -> str:
    """A plan within 80 columns."""
    from glassformer.lens.arithmetic import Numbers
    from glassformer.lens.layout import Page

    page = Page(80, Numbers(4), False)
    return "\n".join(row.text.rstrip() for line in lines(made) for row in page.line(line)) + "\n"


def lines(made: Plan) -> Iterator[Line]:
    """The parts of a plan."""
    from glassformer.lens.parts import Table

    loop, model = made.recipe.loop, made.recipe.model
    portions = f" in {loop.grad_accum} portions" if loop.grad_accum > 1 else ""
    yield (
        f"{made.parameters:,} parameters ({model.shape}, {model.n_layers} layers of {model.d_model}), {made.steps:,} steps of "
        f"{made.tokens_per_step:,} tokens{portions} on {made.device}"
    )
    yield ""
    yield Table(("memory", "", ""), tuple(memory_rows(made)), "<><")
    yield ""
    yield Table(("disk", "", ""), tuple(disk_rows(made)), "<><")
    yield ""
    yield Table(("time", "", ""), tuple(time_rows(made)), "<><")
    if made.spending is not None:
        yield from budget_lines(made.spending)
    for note in made.notes:
        yield ""
        yield note
    yield ""
    yield from verdict(made)


def memory_rows(made: Plan) -> Iterator[tuple[str, str, str]]:
    """Each part of the memory, and how it was found."""
    from glassformer.lens.describe import in_bytes

    m = made.memory
    how = f"{made.rows} rows; " + ("carried on from one and two layers" if made.carried else "carried on from two")
    parts = {
        "Python, libraries, data": (m.process, "measured"),
        "weights": (m.weights, "exact"),
        "optimiser": (m.optimiser, f"exact: {made.recipe.optimiser.name}"),
        "average": (m.average, "exact"),
        "gradients": (m.gradients, "exact"),
        "activations": (m.activations, how),
        "answers (logits)": (m.logits, how),
        "passing": (m.passing, "estimated: gradients on their way, optimiser"),
        "evaluating": (m.evaluating, "estimated, in place of the four above"),
        "saving": (m.saving, "copies while a checkpoint is written"),
    }
    for name, (size, told) in parts.items():
        if size:
            yield name, in_bytes(size), told
    free = "unknown here" if made.free is None else f"{in_bytes(made.free)} may be taken here"
    yield "at most at once", in_bytes(m.peak), free


def disk_rows(made: Plan) -> Iterator[tuple[str, str, str]]:
    """What will stand in the run folder."""
    from glassformer.lens.describe import in_bytes

    disk, loop = made.disk, made.recipe.loop
    kept = (
        f"{disk.kept} kept, one every {loop.save_every:,} steps" if disk.kept else "none: the run ends before the first"
    )
    yield "a checkpoint", in_bytes(disk.checkpoint), kept
    yield "best and final", in_bytes(disk.models), "with room for one that takes the other's place"
    if disk.film:
        yield "film", in_bytes(disk.film), ""
    free = "unknown here" if made.disk_free is None else f"{in_bytes(made.disk_free)} free"
    yield "at most at once", in_bytes(disk.total), free


def time_rows(made: Plan) -> Iterator[tuple[str, str, str]]:
    """Pace and durations."""
    from glassformer.training.screen import clock

    timing = made.timing
    if timing is None:
        yield "steps", "", "not measured, since it does not fit"
        return
    assert made.seconds is not None
    n = len(timing.seconds)
    yield (
        "a step",
        f"{1000 * timing.usual:,.0f} ms",
        f"the median of {n}; the fastest took {1000 * timing.best:,.0f} ms",
    )
    yield "pace", f"{timing.tokens_per_second:,.0f} tokens/s", "without compiling"
    yield "reading and choosing", clock(made.preparing), "measured"
    yield "steps", clock(made.stepping or 0.0), f"{made.epochs:.1f} times through the data"
    yield "once through the data", clock(made.steps_per_epoch * timing.usual), f"{made.steps_per_epoch:,.0f} steps"
    yield "evaluations", clock(made.evaluating or 0.0), "from the pace of one batch, read and written"
    yield "in all", clock(made.seconds), "about"


def budget_lines(spent: Spending) -> Iterator[Line]:
    """What was tried for a budget, and what is expected of it."""
    from glassformer.lens.parts import Table

    yield ""
    yield Table(
        ("size", "in blocks", "ms a step", "steps", "passes", "expected loss"),
        tuple(
            (
                f"{one.name}{' *' if one.name == spent.chosen else ''}",
                f"{one.numbers:,}",
                f"{1000 * one.seconds_per_step:,.0f}",
                f"{one.steps:,}",
                f"{one.epochs:.1f}",
                "" if one.loss is None or spent.expectation is None else f"{one.loss:.2f}",
            )
            for one in spent.tried
        ),
        "<>>>>>",
    )
    yield ""
    said = spent.promise()
    yield f"{said[0].upper()}{said[1:]}."


def verdict(made: Plan) -> Iterator[Line]:
    """Whether it fits, and if not, what would."""
    from glassformer.lens.describe import in_bytes

    if made.fits:
        yield "It fits." if made.free is not None else "Whether it fits is not known: this system does not say."
        return
    if made.free is not None and made.memory.peak > made.free:
        yield f"It does not fit into memory: {in_bytes(made.memory.peak)} are needed, {in_bytes(made.free)} may be taken."
        for remedy in made.remedies:
            yield f"- {in_words(remedy)}"
        if not any(remedy.fits for remedy in made.remedies):
            yield "Nothing of this is enough: a machine with more memory, or several processes (loop.parallel=shard)."
    if made.disk_free is not None and made.disk.total > made.disk_free:
        yield (
            f"It does not fit onto the disk: {in_bytes(made.disk.total)} are needed, {in_bytes(made.disk_free)} are free; "
            "--keep 1, or another --out-dir."
        )


def in_words(remedy: Remedy) -> str:
    """A remedy as a line."""
    from glassformer.lens.describe import in_bytes

    flags = " ".join(f"--set {key}={str(value).lower()}" for key, value in remedy.settings.items())
    comes_to = f"{in_bytes(remedy.peak)}, {'fits' if remedy.fits else 'too much still'}"
    return f"{flags}: {comes_to} ({remedy.costs})"
