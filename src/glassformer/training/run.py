"""A whole training run in its folder: from wishes to a recipe, from sources to `best` and `final`, resumable at any step."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from glassformer.config import set_dotted
from glassformer.errors import CheckpointError, ConfigError
from glassformer.evaluate import Score
from glassformer.files import explained, whole_file
from glassformer.tokenizers import load_tokenizer
from glassformer.training.decide import Decisions, choose_loop, choose_model, choose_tokenizer
from glassformer.training.log import Screen
from glassformer.training.machine import choose_device, set_threads
from glassformer.training.material import Material, make_tokenizer, read_and_split, tokenize
from glassformer.training.recipe import DataRecipe, Recipe, TokenizerRecipe
from glassformer.training.resume import RECIPE, read_earlier
from glassformer.training.sitting import Sitting
from glassformer.training.wishes import check_wishes


def train_run(wishes: Mapping[str, Any], folder: Path, *, minutes: float, screen: Screen) -> Score:
    """Train into `folder`, or go on with the run that stands there. Returns the score of the final model.

    `wishes`: any part of a Recipe as nested mappings; what is missing is decided. Raises the children of GlassformerError;
    Interrupted when stopped by Ctrl-C or SIGTERM, with the state saved.
    """
    asked = check_wishes(wishes)
    if not 0 < minutes < math.inf:
        raise ConfigError(f"minutes={minutes} is out of range: expected more than 0")
    folder = folder.resolve()
    if (folder / "final").exists():
        raise CheckpointError(f"{folder} holds a finished run; choose another --out-dir, or delete it to train anew")
    earlier = read_earlier(folder, asked)
    loop = (earlier or asked).get("loop") or {}
    device = choose_device(loop.get("device") or "auto")
    set_threads(loop.get("threads"))

    data = DataRecipe.parse((earlier or asked).get("data") or {}, "data")
    corpus, parts = read_and_split(data)
    for note in (*corpus.notes, parts.note):
        screen.note(note)
    if earlier:
        recipe = Recipe.parse(earlier, str(folder / RECIPE))
        material = tokenize(parts, load_tokenizer(folder / "tokenizer"))
    else:
        decisions = Decisions(copy.deepcopy(asked))
        set_dotted(decisions.wishes, "data", data.model_dump(mode="json"))
        choose_tokenizer(decisions, corpus.n_bytes)
        tokenizer_recipe = TokenizerRecipe.parse(decisions.get("tokenizer"), "tokenizer")
        material = tokenize(parts, make_tokenizer(tokenizer_recipe, parts))
        recipe = decide(decisions, tokenizer_recipe, material, minutes, device, screen)
        with explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
        material.tokenizer.save(folder / "tokenizer")
        with whole_file(folder / RECIPE) as path:
            path.write_text(recipe.yaml(), encoding="utf-8")
    return Sitting(recipe, material, folder, device, screen).train()


def decide(
    decisions: Decisions,
    tokenizer: TokenizerRecipe,
    material: Material,
    minutes: float,
    device: torch.device,
    screen: Screen,
) -> Recipe:
    """Fill the user's wishes up to a complete recipe, telling each choice."""
    vocab_size = material.tokenizer.vocab_size
    set_dotted(decisions.wishes, "tokenizer", tokenizer.model_dump(mode="json"))
    if tokenizer.path is not None:
        set_dotted(decisions.wishes, "tokenizer.kind", material.tokenizer.kind)
        set_dotted(decisions.wishes, "tokenizer.vocab_size", vocab_size)
    else:
        decisions.choose("tokenizer.vocab_size", vocab_size, "what the training text supports")
    config = choose_model(decisions, len(material.train), vocab_size)
    choose_loop(decisions, config, len(material.train), minutes, device)
    set_dotted(decisions.wishes, "model", config.model_dump(mode="json"))
    if decisions.choices:
        screen.note("decided for you (override by flag or --set KEY=VALUE):")
        screen.choices(decisions.choices)
    return Recipe.parse(decisions.wishes, "recipe")
