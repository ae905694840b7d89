"""A training run on the screen: a live bar on a terminal, plain lines in a pipe."""

from __future__ import annotations

import sys
import time
from typing import Any, TextIO

from glassformer import machine
from glassformer.training.decide import Choice
from glassformer.training.log import Screen

SECONDS_BETWEEN_LINES = 5.0  # in a pipe, so that a log of a long run stays readable


def screen_for(stream: TextIO) -> Screen:
    """The screen that suits where the output goes."""
    return TerminalScreen() if stream.isatty() else PlainScreen(stream)


class PlainScreen:
    """One line for each thing worth saying."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr
        self.steps = 0
        self._last = 0.0

    def say(self, text: str = "") -> None:
        """Print a line at once."""
        print(text, file=self.stream, flush=True)

    def note(self, text: str) -> None:
        self.say(text)

    def choices(self, choices: list[Choice]) -> None:
        width = max((len(choice.key) for choice in choices), default=0)
        values = [shown(choice.value) for choice in choices]
        value_width = max((len(value) for value in values), default=0)
        for choice, value in zip(choices, values, strict=True):
            self.say(f"  {choice.key:<{width}}  {value:<{value_width}}  {choice.reason}")

    def begin(self, step: int, steps: int) -> None:
        self.steps = steps

    def step(self, row: dict[str, Any]) -> None:
        now = time.monotonic()
        if now - self._last < SECONDS_BETWEEN_LINES and row["step"] < self.steps:
            return
        self._last = now
        self.say(f"step {row['step']:>6,}/{self.steps:,}  loss {row['loss']:.4f}  {pace(row)}")

    def evaluation(self, row: dict[str, Any]) -> None:
        self.say(evaluation_line(row))

    def sample(self, step: int, text: str) -> None:
        self.say(f"sample after step {step:,}: {text!r}")

    def end(self) -> None:
        return


class TerminalScreen(PlainScreen):
    """The same above a progress bar that lives at the foot of the terminal."""

    def __init__(self) -> None:
        super().__init__()
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.console = Console(stderr=True, highlight=False)
        self.progress = Progress(
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[loss]}"),
            TextColumn("{task.fields[pace]}"),
            TimeRemainingColumn(),
            console=self.console,
        )
        self._task: Any = None

    def say(self, text: str = "") -> None:
        self.console.print(text, markup=False, emoji=False, soft_wrap=True)

    def begin(self, step: int, steps: int) -> None:
        super().begin(step, steps)
        self._task = self.progress.add_task("", total=steps, completed=step, loss="", pace="")
        self.progress.start()

    def step(self, row: dict[str, Any]) -> None:
        pace_text = f"{row['tok_per_s']:,.0f} tokens/s · {machine.most_held() / 1e6:,.0f} MB"
        self.progress.update(self._task, completed=row["step"], loss=f"loss {row['loss']:.3f}", pace=pace_text)

    def end(self) -> None:
        self.progress.stop()


def evaluation_line(row: dict[str, Any]) -> str:
    """The result of an evaluation as one line."""
    best = "  best so far" if row.get("best") else ""
    words = {"bpb": "bits/byte"}
    known = ("step", "val_loss", "perplexity", "best")
    more = "".join(f"  {value:.3f} {words.get(name, name)}" for name, value in row.items() if name not in known)
    return (
        f"step {row['step']:>6,}  validation loss {row['val_loss']:.4f}  perplexity {row['perplexity']:.2f}{more}{best}"
    )


def pace(row: dict[str, Any]) -> str:
    """Rate, time left and memory of a row."""
    left = row["seconds_left"]
    return f"{row['tok_per_s']:,.0f} tokens/s  {clock(left)} left  {machine.most_held() / 1e6:,.0f} MB"


def clock(seconds: float) -> str:
    """``1:02:03``, ``2:03`` or ``4.5 s``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"


def shown(value: Any) -> str:
    """A value as a person writes it."""
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
