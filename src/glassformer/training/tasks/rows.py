"""What the tasks share whose data come in rows of their own lengths: batches of a token budget, and rows left out."""

# N rows, k sides of a row

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from glassformer.data.batches import LengthBatches
from glassformer.data.examples import Skipped
from glassformer.errors import ConfigError, DataError
from glassformer.evaluate import Score
from glassformer.models import Model, ModelConfig
from glassformer.training.decide import Decisions, heads_for
from glassformer.training.recipe import Recipe
from glassformer.training.tasks.task import Batch, Place, Task

EVALUATION_TOKENS = 65_536  # of the rows held back, while training; the end result is measured on all of them
LEAST_CONTEXT = 64  # tokens, so that a model of short rows reads a somewhat longer one too
SHOWN_CHARACTERS = 200  # of a row that a report names
TOKENS_AT_ONCE = 8192  # in one batch of an evaluation


class Rows(Task):
    """A task whose examples stand in rows; `train` and `validation` hold them, whatever a row is."""

    most_epochs = 20
    rates: ClassVar[Mapping[str, float]] = {"optimiser.lr": 0.02, "optimiser.embedding_lr": 0.01}
    unit: ClassVar[str] = "row"
    unread: Sequence[Skipped]  # rows of the files that cannot be used, whatever the model
    objective: ClassVar[str] = "loss"  # what the best model is best in; a metric counts from 0 to 1

    @abstractmethod
    def lengths(self, side: str) -> NDArray[np.int64]:
        """The tokens of each row of "train" or "validation": N k."""

    @abstractmethod
    def where(self, side: str, row: int) -> str:
        """File and line of a row."""

    @abstractmethod
    def collate(self, side: str, rows: Sequence[int], step: int | None = None) -> Batch:
        """Some rows as one batch. `step` seeds whatever is random in it, None where nothing may be."""

    def limits(self, config: ModelConfig) -> Sequence[int]:
        """The most tokens that each side of a row may have."""
        return (config.max_len,)

    def too_long(self, of: int, length: int, limit: int) -> str:
        """Why a row is left out whose side number `of` is longer than it may be."""
        return f"{length:,} tokens long, more than max_len={limit:,}"

    def unfit(self, side: str, config: ModelConfig) -> Mapping[int, str]:
        """The rows that cannot be used for another reason than their length, and why."""
        return {}

    def none_fits(self, side: str, n_rows: int, config: ModelConfig, skipped: Sequence[Skipped]) -> str:
        """The sentence for a side of which nothing is left."""
        return f"none of the {n_rows:,} {side} {self.unit}s fits into max_len={config.max_len:,}; choose a larger --max-len"

    def choose_batch(self, decisions: Decisions) -> None:
        asked = decisions.get("loop.batch_size")
        if asked is not None:
            raise ConfigError(
                f"loop.batch_size={asked} counts windows of running text, and {self.unit}s differ in length: "
                "set loop.batch_tokens instead"
            )
        reason = "rows of similar length together, so that little of a step is padding"
        tokens = int(min(4096, max(256, self.lengths("train").sum() // 8)))
        decisions.choose("loop.batch_tokens", tokens, reason)

    def choose_max_len(self, decisions: Decisions, longest: int, most: int) -> None:
        """A context that fits every row, or all but the longest few, and what users may ask later besides."""
        reason = f"the longest row has {longest:,} tokens"
        decisions.choose("model.max_len", min(max(longest, LEAST_CONTEXT), most), reason)

    def begin(self, recipe: Recipe) -> None:
        self.recipe = recipe
        assert recipe.loop.batch_tokens is not None
        skipped = list(self.unread)
        self.kept: dict[str, NDArray[np.int64]] = {}
        for side in ("train", "validation"):
            lengths = self.lengths(side)
            beyond = lengths - np.array(self.limits(recipe.model))
            fits: NDArray[np.bool_] = np.all(beyond <= 0, axis=1)
            for row in np.flatnonzero(~fits).tolist():
                longer = int(beyond[row].argmax())
                length, limit = int(lengths[row, longer]), int((lengths - beyond)[row, longer])
                skipped.append(Skipped(self.where(side, row), self.too_long(longer, length, limit)))
            for row, reason in self.unfit(side, recipe.model).items():
                if fits[row]:
                    skipped.append(Skipped(self.where(side, row), reason))
                fits[row] = False
            self.kept[side] = np.flatnonzero(fits)
            if not fits.any():
                raise DataError(self.none_fits(side, len(lengths), recipe.model, skipped))
        self.skipped = skipped
        self.batches = LengthBatches(self.lengths("train")[self.kept["train"]], recipe.loop.batch_tokens, recipe.seed)

    def batch(self, step: int) -> Batch:
        rows = self.kept["train"][self.batches.batch(step)]
        return self.collate("train", rows.tolist(), step)

    def rows_of(self, step: int) -> Sequence[Place]:
        rows = self.kept["train"][self.batches.batch(step)].tolist()
        return [Place(self.where("train", row), self.text_of("train", row)[:SHOWN_CHARACTERS]) for row in rows]

    def text_of(self, side: str, row: int) -> str:
        """What a row says, for a person; empty where its place must do."""
        return ""

    def epoch(self, step: int) -> float:
        return self.batches.epoch(step)

    @torch.inference_mode()
    def evaluate(self, model: Model, *, whole: bool) -> Score:
        device = next(model.parameters()).device
        rows = self.rows_measured(whole=whole)
        lengths = self.lengths("validation")[rows]
        batches = LengthBatches(lengths, TOKENS_AT_ONCE, 0)
        was_training = model.training
        model.eval()
        total, n_targets = 0.0, 0
        answers: dict[int, object] = {}
        for number in range(batches.per_epoch):
            chosen = rows[batches.batch(number)].tolist()
            batch = self.collate("validation", chosen).to(device)
            said = batch.answers(model)
            total += self.loss(said, batch).item()
            n_targets += batch.n_targets
            answers |= self.answers(chosen, said)
        metrics = self.measure(model, answers)
        model.train(was_training)
        errors = self.errors(metrics)
        return Score(total / max(1, n_targets), n_targets, self.bytes_of(rows.tolist()), metrics, errors)

    def rows_measured(self, *, whole: bool) -> NDArray[np.int64]:
        """The rows that an evaluation reads."""
        step = 1 if whole or self.measures_all else -(-self.held_back_tokens // EVALUATION_TOKENS)
        return self.kept["validation"][::step]

    def rows_written(self, rows: Sequence[int]) -> Sequence[int]:
        """Those of the rows that an evaluation reads for which a text is written too, to be scored."""
        return ()

    def evaluated_at_once(self) -> int:
        lengths = self.lengths("validation")[self.kept["validation"]]
        return min(max(TOKENS_AT_ONCE, int(lengths.max(0).sum())), int(lengths.sum()))

    def measured(self, *, whole: bool) -> tuple[int, int]:
        rows = self.rows_measured(whole=whole)
        return int(self.lengths("validation")[rows].sum()), len(self.rows_written(rows.tolist()))

    def errors(self, metrics: Mapping[str, float]) -> float | None:
        """What the best model has least of; None where that is the loss."""
        return 1 - metrics[self.objective] if self.objective in metrics else None

    @property
    def held_back_tokens(self) -> int:
        """Tokens of all rows held back."""
        return int(self.lengths("validation")[self.kept["validation"]].sum())

    @property
    def measures_all(self) -> bool:
        return self.held_back_tokens <= EVALUATION_TOKENS

    def answers(self, rows: Sequence[int], said: torch.Tensor) -> dict[int, object]:
        """What `measure` wants to know of the model's answers to some rows."""
        return {}

    def measure(self, model: Model, answers: dict[int, object]) -> dict[str, float]:
        """Numbers beside the loss, by name."""
        return {}

    def bytes_of(self, rows: Sequence[int]) -> int:
        """The UTF-8 bytes that the targets of some rows stand for, where bits per byte make sense; else 0."""
        return 0


SIZES = (  # training tokens from which on a size pays within an hour on two cores, layers, d_model, heads
    (200_000, 3, 256, 4),
    (5_000, 2, 128, 4),
    (0, 2, 64, 4),
)


def choose_shape(decisions: Decisions, n_tokens: int) -> None:
    """Layers, width and heads from the amount of data."""
    layers, d_model, heads = next(size for least, *size in SIZES if n_tokens >= least)
    reason = f"{n_tokens:,} training tokens"
    decisions.choose("model.n_layers", layers, reason)
    if decisions.get("model.d_model") is not None:
        heads = heads_for(int(decisions.get("model.d_model")), 64)
    elif decisions.get("model.n_heads") is not None:
        d_model = 32 * int(decisions.get("model.n_heads"))
    decisions.choose("model.d_model", d_model, reason)
    decisions.choose("model.n_heads", heads, "heads of 64 channels or about that")
