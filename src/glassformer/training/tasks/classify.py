"""Classification: one label, or several, for a whole text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from glassformer.data.documents import counted
from glassformer.data.labelled import read_labelled, split_labelled
from glassformer.errors import ConfigError, DataError
from glassformer.generate.reading import padded, with_start
from glassformer.models import Model
from glassformer.tokenizers.roles import START
from glassformer.training.decide import Decisions
from glassformer.training.recipe import DataRecipe
from glassformer.training.tasks.rows import Rows, choose_shape
from glassformer.training.tasks.task import Batch, Vocabularies, fingerprint

LONGEST = 2048


class Classify(Rows):
    """Labels for whole texts."""

    specials = (START,)
    unit = "text"
    objective = "accuracy"

    def __init__(self, data: DataRecipe) -> None:
        keys = {
            "text_key": data.text_key,
            "label_key": data.label_key,
            "separator": data.label_separator,
            "encoding": data.encoding,
        }
        corpus = read_labelled(data.sources, **keys)
        held_back = read_labelled(data.validation, **keys) if data.validation else None
        train, validation, note = split_labelled(corpus, data.validation_fraction, validation=held_back)
        self.rows = {"train": train, "validation": validation}
        self.unread = [*corpus.skipped, *(held_back.skipped if held_back else ())]
        self.notes = [*corpus.notes, *(held_back.notes if held_back else ()), note]
        self.labels = sorted({label for row in train for label in row.labels})
        for row in validation:
            unknown = [label for label in row.labels if label not in self.labels]
            if unknown:
                known = ", ".join(self.labels[:8])
                raise DataError(
                    f"{row.where}: label {unknown[0]} does not occur in the training data, which has {known}"
                )
        self.n_bytes = sum(len(row.text.encode()) for row in train)

    def texts(self) -> Iterator[str]:
        return (row.text for row in self.rows["train"])

    def encode(self, vocabularies: Vocabularies) -> None:
        self.vocabularies, self.tokenizer = vocabularies, vocabularies.target
        self.ids = {side: with_start(self.tokenizer, [row.text for row in rows]) for side, rows in self.rows.items()}
        names = np.array([" ".join(row.labels) for side in self.rows.values() for row in side])
        self.fingerprint = fingerprint([*(np.array(i, np.int64) for side in self.ids.values() for i in side), names])

    def choose_sizes(self, decisions: Decisions) -> None:
        decisions.put("model.head", "labels")
        decisions.put("model.labels", self.labels)
        odd = next((row for rows in self.rows.values() for row in rows if len(row.labels) != 1), None)
        reason = "one in each row" if odd is None else "rows with none or several"
        several = decisions.choose("model.several_labels", odd is not None, reason)
        if odd is not None and not several:
            found = (
                f"{odd.where}: has {counted(len(odd.labels), 'label')}, and model.several_labels=false allows just one"
            )
            raise ConfigError(f"{found}; leave that out")
        if len(self.labels) < (1 if several else 2):
            found = f"every text has the label {self.labels[0]!r}" if self.labels else "no text has a label"
            raise DataError(f"{found}: there is nothing to tell apart; name another --label-key, or add texts")
        lengths = self.lengths("train")
        choose_shape(decisions, int(lengths.sum()))
        self.choose_max_len(decisions, int(lengths.max()), LONGEST)

    def lengths(self, side: str) -> NDArray[np.int64]:
        return np.array([len(ids) for ids in self.ids[side]], np.int64)[:, None]

    def where(self, side: str, row: int) -> str:
        return self.rows[side][row].where

    def text_of(self, side: str, row: int) -> str:
        return self.rows[side][row].text

    def collate(self, side: str, rows: Sequence[int], step: int | None = None) -> Batch:
        ids, at = padded([self.ids[side][row] for row in rows])
        chosen = [[self.labels.index(label) for label in self.rows[side][row].labels] for row in rows]
        if self.recipe.model.several_labels:
            targets = torch.zeros(len(rows), len(self.labels))
            for number, labels in enumerate(chosen):
                targets[number, labels] = 1.0
        else:
            targets = torch.tensor([labels[0] for labels in chosen])
        return Batch({"ids": ids, "at": at}, targets, len(rows), int((at >= 0).sum()))

    def loss(self, answers: Tensor, batch: Batch, smoothing: float = 0.0) -> Tensor:
        if self.recipe.model.several_labels:
            return F.binary_cross_entropy_with_logits(answers, batch.targets, reduction="none").mean(1).sum()
        return F.cross_entropy(answers, batch.targets, label_smoothing=smoothing, reduction="sum")

    def answers(self, rows: Sequence[int], said: Tensor) -> dict[int, object]:
        if self.recipe.model.several_labels:
            picked = [tuple(row.nonzero()[:, 0].tolist()) for row in said > 0]
        else:
            picked = [(label,) for label in said.argmax(-1).tolist()]
        return dict(zip(rows, picked, strict=True))

    def measure(self, model: Model, answers: dict[int, object]) -> dict[str, float]:
        rows = self.rows["validation"]
        wanted = {row: tuple(sorted(map(self.labels.index, rows[row].labels))) for row in answers}
        return {"accuracy": sum(answers[row] == wanted[row] for row in answers) / max(1, len(answers))}

    def sample(self, model: Model) -> str:
        rows = self.kept["validation"][:3].tolist()
        with torch.inference_mode():
            batch = self.collate("validation", rows).to(next(model.parameters()).device)
            said = self.answers(rows, batch.answers(model.eval()))
        lines = ((self.rows["validation"][row], said[row]) for row in rows)
        return "\n".join(
            f"{row.text} -> {self.named(picked)} (wanted: {', '.join(row.labels)})" for row, picked in lines
        )

    def named(self, picked: object) -> str:
        """The names of some labels."""
        assert isinstance(picked, tuple)
        return ", ".join(self.labels[label] for label in picked) or "none"

    def next_commands(self, place: str) -> Iterable[str]:
        return (f"glassformer classify {place} 'a text of your own'", f"glassformer info {place}")
