"""The shapes of transformers, each a short file over the same stack."""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import nn

from glassformer.models.config import ModelConfig
from glassformer.models.decoder import Decoder
from glassformer.models.encoder import Encoder
from glassformer.models.encoder_decoder import EncoderDecoder
from glassformer.models.presets import PRESETS, preset
from glassformer.nn.init import initialise

Model: TypeAlias = Decoder | Encoder | EncoderDecoder
MODELS: dict[str, type[Model]] = {"decoder": Decoder, "encoder": Encoder, "encoder_decoder": EncoderDecoder}

__all__ = [
    "MODELS",
    "PRESETS",
    "Decoder",
    "Encoder",
    "EncoderDecoder",
    "Model",
    "ModelConfig",
    "build_model",
    "count_parameters",
    "preset",
]


def build_model(config: ModelConfig, seed: int = 0) -> Model:
    """A new model with weights drawn from `seed`; the caller's random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = MODELS[config.shape](config)
        initialise(model, config.init, config.n_layers)
    return model


def count_parameters(model: nn.Module) -> int:
    """How many numbers the model has learned or will learn; a tied matrix counts once."""
    return sum(parameter.numel() for parameter in model.parameters())
