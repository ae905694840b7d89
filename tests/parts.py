"""A model and its optimisers with random numbers everywhere, so that a checkpoint of them mixes nothing up unseen."""

from __future__ import annotations

from typing import Any

import torch

from glassformer.models import ModelConfig, build_model
from glassformer.training.checkpoint import flatten
from glassformer.training.optimisers import Optimisers
from glassformer.training.recipe import OptimiserRecipe


def random_parts(config: ModelConfig, seed: int = 0) -> tuple[Any, Optimisers]:
    """The same for the same seed."""
    model = build_model(config, seed)
    optimisers = Optimisers(model, OptimiserRecipe())
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in (*model.parameters(), *flatten(optimisers).values()):
            tensor.copy_(torch.rand(tensor.shape, generator=draw))
    return model, optimisers
