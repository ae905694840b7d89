"""Classification of sound or of sequences of vectors: one label for a whole utterance."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from glassformer.errors import DataError
from glassformer.models import Model
from glassformer.training.decide import Decisions
from glassformer.training.recipe import DataRecipe
from glassformer.training.tasks.task import Batch
from glassformer.training.tasks.utterances import Utterances

SHOWN = 3  # utterances in a sample


class ClassifyVectors(Utterances):
    """Labels for whole utterances, by an encoder."""

    shapes = ("encoder",)
    objective = "accuracy"
    wanted = "label"

    def __init__(self, data: DataRecipe) -> None:
        super().__init__(data)
        self.labels = sorted({row.text for row in self.rows["train"]})
        for row in self.rows["validation"]:
            if row.text not in self.labels:
                known = ", ".join(self.labels[:8])
                raise DataError(f"{row.where}: label {row.text} does not occur in the training data, which has {known}")
        if len(self.labels) < 2:
            raise DataError(
                f"every utterance has the label {self.labels[0]!r}: there is nothing to tell apart; name another"
                " --label-key, or add utterances"
            )

    def choose_sizes(self, decisions: Decisions) -> None:
        decisions.put("model.head", "labels")
        decisions.put("model.labels", self.labels)
        super().choose_sizes(decisions)

    def collate(self, side: str, rows: Sequence[int], step: int | None = None) -> Batch:
        vectors, at = self.vectors(side, rows, step)
        targets = torch.tensor([self.labels.index(self.rows[side][row].text) for row in rows])
        return Batch({"ids": vectors, "at": at}, targets, len(rows), int((at >= 0).sum()))

    def loss(self, answers: Tensor, batch: Batch, smoothing: float = 0.0) -> Tensor:
        return F.cross_entropy(answers, batch.targets, label_smoothing=smoothing, reduction="sum")

    def answers(self, rows: Sequence[int], said: Tensor) -> dict[int, object]:
        return dict(zip(rows, said.argmax(-1).tolist(), strict=True))

    def measure(self, model: Model, answers: dict[int, object]) -> dict[str, float]:
        rows = self.rows["validation"]
        right = sum(self.labels[int(str(label))] == rows[row].text for row, label in answers.items())
        return {"accuracy": right / max(1, len(answers))}

    def sample(self, model: Model) -> str:
        rows = self.kept["validation"][:: -(-len(self.kept["validation"]) // SHOWN)].tolist()
        with torch.inference_mode():
            batch = self.collate("validation", rows).to(next(model.parameters()).device)
            said = batch.answers(model.eval()).argmax(-1).tolist()
        lines = zip(rows, said, strict=True)
        return "\n".join(
            f"{self.where('validation', row)} -> {self.labels[label]} (wanted: {self.text_of('validation', row)})"
            for row, label in lines
        )

    def next_commands(self, place: str) -> Iterable[str]:
        example = shlex.quote(str(self.rows["validation"][0].path))
        return (f"glassformer classify {place} {example}", f"glassformer info {place}")
