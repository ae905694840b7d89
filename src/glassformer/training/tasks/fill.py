"""Masked-language modelling: some tokens are hidden, and the model says what they were from both sides (Devlin et al. 2019)."""

# B windows, T tokens, K tokens asked for

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from glassformer.data import IGNORED
from glassformer.evaluate import Score
from glassformer.generate.fill import mask_id
from glassformer.models import Model
from glassformer.ops.losses import cross_entropy
from glassformer.tokenizers.roles import MASK, START
from glassformer.training.decide import Decisions
from glassformer.training.recipe import Recipe
from glassformer.training.tasks.task import Batch, Task, Vocabularies, derived_seed
from glassformer.training.tasks.text import Text

WINDOWS_AT_ONCE = 64  # in one batch of an evaluation
HIDDEN = 0.15  # share of the tokens that are asked for
MASKED, SWAPPED = 0.8, 0.1  # of those: shown as the mask, shown as a random token; the rest are shown as they are


class Fill(Text):
    """Masked tokens of plain text."""

    shapes = ("encoder",)
    preset = Task.preset  # no public family has this shape
    specials = (START, MASK)

    def encode(self, vocabularies: Vocabularies) -> None:
        super().encode(vocabularies)
        self.mask_id = mask_id(self.tokenizer)
        special = self.tokenizer.special_ids
        self.ordinary = torch.tensor([id for id in range(self.tokenizer.vocab_size) if id not in special])

    def choose_sizes(self, decisions: Decisions) -> None:
        decisions.put("model.head", "tokens")
        super().choose_sizes(decisions)

    def begin(self, recipe: Recipe) -> None:
        super().begin(recipe)
        # What is hidden in evaluation is the same at every step, so that scores can be compared.
        real = torch.from_numpy(self.targets) != IGNORED
        seed = derived_seed("hide", recipe.seed, "evaluation")
        self.shown, self.wanted = self.hide(torch.from_numpy(self.inputs), seed, real)
        self.at = torch.where(real, torch.arange(real.shape[1]), -1)

    def batch(self, step: int) -> Batch:
        windows = torch.from_numpy(self.windows.batch(step, self.batch_size)[:, :-1])
        shown, wanted = self.hide(windows, derived_seed("hide", self.recipe.seed, step))
        asked = (wanted != IGNORED).nonzero()[:, 1].view(len(windows), -1)  # B K: full windows are asked equally much
        return Batch({"ids": shown, "asked": asked}, wanted.gather(1, asked), asked.numel(), windows.numel())

    def hide(self, ids: Tensor, seed: int, real: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Hide a share of the tokens of each window, at least one. Returns what is shown and what is asked for (IGNORED
        where nothing is), B T both.

        real: B T, False where there is padding, of which nothing is asked.
        """
        draw = torch.Generator().manual_seed(seed)
        rank = torch.rand(ids.shape, generator=draw)
        sizes = torch.full((len(ids),), ids.shape[1]) if real is None else real.sum(1)
        if real is not None:
            rank = rank.masked_fill(~real, 1.0)
        asked = rank.argsort(1).argsort(1) < (sizes * HIDDEN).round().clamp(min=1)[:, None]
        how = torch.rand(ids.shape, generator=draw)
        swapped = self.ordinary[torch.randint(len(self.ordinary), ids.shape, generator=draw)]
        shown = torch.where(asked & (how < MASKED), self.mask_id, ids)
        shown = torch.where(asked & (how >= MASKED) & (how < MASKED + SWAPPED), swapped, shown)
        return shown, ids.masked_fill(~asked, IGNORED)

    @torch.inference_mode()
    def evaluate(self, model: Model, *, whole: bool) -> Score:
        device = next(model.parameters()).device
        was_training = model.training
        model.eval()
        rows = np.arange(len(self.shown))
        if not (whole or self.measures_all):
            rows = np.linspace(0, len(rows) - 1, self.quick).astype(int)
        total, right, n_targets = 0.0, 0, 0
        for portion in np.array_split(rows, -(-len(rows) // self.at_once)):
            wanted, at = self.wanted[portion].to(device), self.at[portion].to(device)
            logits = model(self.shown[portion].to(device), at=at if (at < 0).any() else None)
            total += cross_entropy(logits, wanted).item()
            right += int((logits.argmax(-1) == wanted).sum())
            n_targets += int((wanted != IGNORED).sum())
        model.train(was_training)
        return Score(total / n_targets, n_targets, 0, {"accuracy": right / n_targets})

    @property
    def at_once(self) -> int:
        return WINDOWS_AT_ONCE

    @torch.inference_mode()
    def sample(self, model: Model) -> str:
        model.eval()
        real = self.at[0] >= 0
        original, asked = self.shown[0, real], self.wanted[0, real] != IGNORED
        said = model(original[None].to(next(model.parameters()).device))[0].argmax(-1).cpu()
        shown = torch.where(asked, self.mask_id, original)
        filled = torch.where(asked, said, original)
        return f"{self.tokenizer.decode(shown.tolist())} -> {self.tokenizer.decode(filled.tolist())}"

    def next_commands(self, place: str) -> Iterable[str]:
        return (f"glassformer fill {place} 'a text with a {MASK} in it'", f"glassformer info {place}")

    @property
    def generation(self) -> Mapping[str, Any]:
        return {}
