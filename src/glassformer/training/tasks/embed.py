"""Sentence embeddings: the two sides of a pair are drawn together, those of other pairs apart (van den Oord et al. 2018)."""

# B pairs, D model

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from glassformer.errors import ConfigError
from glassformer.evaluate import retrieval_score
from glassformer.generate.reading import padded
from glassformer.models import Model
from glassformer.training.decide import Decisions
from glassformer.training.recipe import Recipe
from glassformer.training.tasks.rows import choose_shape
from glassformer.training.tasks.task import Batch
from glassformer.training.tasks.translate import LONGEST, Translate

TEMPERATURE = 0.05  # of the softmax over cosines (Gao et al. 2021)


class Embed(Translate):
    """Pairs of texts that mean the same. Each side is to find its other among all of the batch."""

    shapes = ("encoder",)
    objective = "recall@1"
    divides = False
    preset = ("modern", "trains fastest to a given loss here")

    def choose_sizes(self, decisions: Decisions) -> None:
        decisions.put("model.head", "pooled")
        lengths = self.lengths("train")
        choose_shape(decisions, int(lengths.sum()))
        self.choose_max_len(decisions, int(lengths.max()), LONGEST)

    def begin(self, recipe: Recipe) -> None:
        if recipe.loop.grad_accum != 1:
            raise ConfigError(
                "loop.grad_accum: each text is compared with the whole batch, which cannot be cut in portions"
            )
        super().begin(recipe)

    def collate(self, side: str, rows: Sequence[int], step: int | None = None) -> Batch:
        texts = [self.sources[side][row] for row in rows] + [self.targets[side][row] for row in rows]
        ids, at = padded(texts)
        return Batch({"ids": ids, "at": at}, torch.arange(len(rows)), len(rows), sum(map(len, texts)))

    def loss(self, answers: Tensor, batch: Batch, smoothing: float = 0.0) -> Tensor:
        """Cross-entropy of each side finding the other by cosine, the mean of both ways. answers: 2B D."""
        sources, targets = answers.chunk(2)
        cosines = (sources @ targets.T / TEMPERATURE).masked_fill(self.also_right(batch), -math.inf)
        both = F.cross_entropy(cosines, batch.targets, reduction="sum")
        return (both + F.cross_entropy(cosines.T, batch.targets, reduction="sum")) / 2

    def also_right(self, batch: Batch) -> Tensor:
        """Pairs that share their source or their target with another are no wrong answers to it. B B, boolean."""
        sources, targets = batch.inputs["ids"].chunk(2)
        same = (sources[:, None] == sources).all(-1) | (targets[:, None] == targets).all(-1)
        return same.fill_diagonal_(False)

    def answers(self, rows: Sequence[int], said: Tensor) -> dict[int, object]:
        return dict(zip(rows, torch.stack(said.chunk(2), 1).cpu(), strict=True))

    def measure(self, model: Model, answers: dict[int, object]) -> dict[str, float]:
        vectors = torch.stack([vector for vector in answers.values() if isinstance(vector, Tensor)]).numpy()
        return {"recall@1": retrieval_score(vectors[:, 0], vectors[:, 1], cutoffs=(1,)).recall[1].value}

    def rows_written(self, rows: Sequence[int]) -> Sequence[int]:
        return ()

    def write_some(self, model: Model, rows: int) -> int:
        return 0

    def bytes_of(self, rows: Sequence[int]) -> int:
        return 0

    def sample(self, model: Model) -> str:
        rows = self.kept["validation"][:32].tolist()
        with torch.inference_mode():
            batch = self.collate("validation", rows).to(next(model.parameters()).device)
            sources, targets = batch.answers(model.eval()).chunk(2)
        found = (sources @ targets.T).argmax(1).tolist()[:3]
        pairs = [self.pairs["validation"][row] for row in rows]
        return "\n".join(f"{pairs[i].source} -> {pairs[j].target}" for i, j in enumerate(found))

    def next_commands(self, place: str) -> Iterable[str]:
        return (f"glassformer embed {place} 'a text' 'another text'", f"glassformer info {place}")
