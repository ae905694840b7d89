"""What the loop does about a step that went wrong: numbers that are none, too little memory, losses that leap."""

from __future__ import annotations

import math
import statistics
from collections import deque

from torch import nn

from glassformer.errors import GlassformerError
from glassformer.training.checkpoint import State
from glassformer.training.tasks.task import Batch

MOST_SKIPPED_IN_A_ROW = 3
MOST_SKIPPED = 0.001  # of all steps, or as many as in a row where that is more
REMEMBERED, FEWEST, LEAP = 128, 32, 6.0  # losses that a leap is measured on, at least, in their standard deviations


def forget_gradients(model: nn.Module) -> None:
    """As if the step had not been begun."""
    for parameter in model.parameters():
        parameter.grad = None


def may_skip(state: State, steps: int) -> bool:
    """Whether one more step may be left out."""
    most = max(MOST_SKIPPED_IN_A_ROW, int(MOST_SKIPPED * steps))
    return state.skipped_in_a_row < MOST_SKIPPED_IN_A_ROW and state.skipped < most


def not_a_number(loss: float, norm: float, state: State, found: str) -> GlassformerError:
    """What to say when a step has no finite loss or gradient. `found` is a clause on where that comes from, or nothing."""
    what = "the gradient's norm" if math.isfinite(loss) else "the loss"
    skipped = f" ({state.skipped} steps were left out before)" if state.skipped else ""
    return GlassformerError(
        f"{what} became {norm if math.isfinite(loss) else loss} at step {state.step + 1:,}{skipped}; "
        f"the weights were not touched by it{found}; "
        "lower the rates under optimiser (lr, embedding_lr, head_lr, vector_lr) or set optimiser.grad_clip=1.0, "
        "and train into another --out-dir"
    )


class StartAgain(Exception):
    """All processes of a run are to end and start anew from the last checkpoint. The message says why."""


def more_portions(state: State, portions: int, batch: Batch, divides: bool) -> int:
    """How many portions to take the step in that found too little memory. Raises GlassformerError where none are left."""
    step = state.step + 1
    if not divides or portions >= getattr(batch, "most_portions", len(batch.targets)):
        way = "its rows are compared with each other" if not divides else "its portions are single rows already"
        raise GlassformerError(
            f"there is not enough memory for step {step:,}, and it cannot be divided further, since {way}; "
            "choose a smaller batch, --max-len or model"
        )
    return 2 * portions


class Losses:
    """The last losses, against which a leap stands out."""

    def __init__(self) -> None:
        self.last: deque[float] = deque(maxlen=REMEMBERED)

    def leap(self, loss: float) -> str:
        """A sentence where this loss is far above those before it, else nothing. The loss is remembered."""
        said = ""
        # Only a loss above all others can be a leap, so the standard deviation is rarely needed.
        if len(self.last) >= FEWEST and loss > max(self.last):
            mean, deviation = statistics.fmean(self.last), statistics.pstdev(self.last)
            if loss > mean + LEAP * max(deviation, 1e-3 * abs(mean)):
                times = (loss - mean) / max(deviation, 1e-12)
                said = (
                    f"the loss leapt to {loss:.3f}, {min(times, 1e6):,.0f} standard deviations above the {mean:.3f} of the "
                    f"last {len(self.last)} steps; if it does not come back, lower the rates or set optimiser.grad_clip"
                )
        self.last.append(loss)
        return said
