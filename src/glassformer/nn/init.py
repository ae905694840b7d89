"""How weights begin. An initialisation is a function of the whole model; it draws from torch's current generator."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import cast

import torch
from torch import nn

from glassformer.nn.attention import Attention
from glassformer.nn.mlp import GatedMlp, Mlp

MAPS = (nn.Linear, nn.Conv1d)
WRITERS = ("o_proj", "down_proj")  # the projections that write into the residual stream


def gpt2(model: nn.Module, n_layers: int) -> None:
    """Normal of deviation 0.02, the writers into the residual stream shrunk by sqrt(2·layers) (Radford et al. 2019)."""
    for module in model.modules():
        if isinstance(module, (*MAPS, nn.Embedding)):
            nn.init.normal_(module.weight, std=0.02)
        zero_bias(module)
    for writer in writers(model):
        nn.init.normal_(writer.weight, std=0.02 / math.sqrt(2 * n_layers))


def modern(model: nn.Module, n_layers: int) -> None:
    """Matrices uniform with deviation 1/sqrt(fan-in), embeddings of deviation 1, and the writers into the residual stream
    zero, so that every block begins as the identity (Zhang et al. 2019)."""
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight)
        elif isinstance(module, MAPS):
            bound = math.sqrt(3 / module.weight[0].numel())
            nn.init.uniform_(module.weight, -bound, bound)
        zero_bias(module)
    for writer in writers(model):
        nn.init.zeros_(writer.weight)


def xavier(model: nn.Module, n_layers: int) -> None:
    """Matrices uniform by Glorot and Bengio (2010), embeddings normal of deviation 1/sqrt(d_model), biases zero. A matrix that
    is both embedding and head begins as the head does."""
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=module.embedding_dim**-0.5)
        elif isinstance(module, MAPS):
            nn.init.xavier_uniform_(module.weight)
        zero_bias(module)


def zero_bias(module: nn.Module) -> None:
    """Let a linear map begin without an offset."""
    if isinstance(module, MAPS) and isinstance(bias := getattr(module, "bias", None), nn.Parameter):
        nn.init.zeros_(bias)


def writers(model: nn.Module) -> list[nn.Linear]:
    """The projections of all attentions and MLPs that write into the residual stream."""
    return [
        projection
        for module in model.modules()
        if isinstance(module, Attention | Mlp | GatedMlp)
        for name in WRITERS
        if isinstance(projection := getattr(module, name, None), nn.Linear)
    ]


@torch.no_grad()
def initialise(model: nn.Module, scheme: str, n_layers: int) -> None:
    """Fill every weight of `model` by the named scheme."""
    INITS[scheme](model, n_layers)
    modules = cast("Iterator[tuple[str, nn.Module]]", model.named_modules())
    for name, module in modules:
        if name.endswith("bigram") and isinstance(module, nn.Embedding):
            nn.init.zeros_(module.weight)  # what a pair adds to its token is learnt; at random it would only be noise


INITS: dict[str, Callable[[nn.Module, int], None]] = {"gpt2": gpt2, "modern": modern, "xavier": xavier}
