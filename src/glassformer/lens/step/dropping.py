"""Which numbers dropout keeps in a step: drawn as training draws them, kept as tensors, and put into the graph as nodes."""

# B texts, T tokens, S keys, D model, H heads

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from glassformer.lens.graph import Graph
from glassformer.lens.recipes.expression import Index, Symbol
from glassformer.lens.recipes.recipe import Node, Recipe, given, point
from glassformer.models import Model
from glassformer.models.stack import Stack
from glassformer.nn.attention import Attention
from glassformer.nn.block import Block
from glassformer.nn.positions import Place
from glassformer.ops import attention as ops
from glassformer.training.recipe import Recipe as TrainingRecipe
from glassformer.training.tasks import Batch

Factors = dict[str, list[Tensor]]


@torch.no_grad()
def draw_factors(model: Model, batch: Batch, recipe: TrainingRecipe) -> dict[str, Tensor]:
    """What each tensor that dropout goes over is multiplied by, 0 or 1/(1-p), by the tensor's name.

    The random state must be the one that the step begins with. The model is used up: its dropout is replaced.
    """
    factors: Factors = {}
    model.train()
    for name, module in model.named_modules():
        if isinstance(module, Stack) and module.dropout.p > 0:
            watch_stack(name, module, factors)
        elif isinstance(module, Block) and module.dropout.p > 0:
            watch_block(name, module, factors)
        elif isinstance(module, Attention) and module.dropout > 0:
            watch_attention(name, module, factors)
    if not has_dropout(model):
        return {}
    for portion in batch.portions(recipe.loop.grad_accum):
        portion.answers(model)
    return {name: torch.cat(parts) for name, parts in factors.items()}


def has_dropout(model: Model) -> bool:
    """Whether anything is dropped in training."""
    return any(
        (isinstance(module, Stack | Block) and module.dropout.p > 0)
        or (isinstance(module, Attention) and module.dropout > 0)
        for module in model.modules()
    )


def watch_stack(name: str, stack: Stack, factors: Factors) -> None:
    """Keep the factors of what enters the first block."""
    drop = stack.dropout.forward

    def forward(x: Tensor) -> Tensor:
        factor = drop(torch.ones_like(x))
        factors.setdefault(f"{name}.embedding.out", []).append(factor)
        return x * factor

    stack.dropout.forward = forward


def watch_block(name: str, block: Block, factors: Factors) -> None:
    """Keep the factors of what each sublayer adds; they come in the order in which the block calls them."""
    add = block.dropout.add
    names = ["attention", *(["cross_attention"] if block.cross_attention is not None else []), "mlp"]
    sublayers = itertools.cycle(names)

    def adding(x: Tensor, y: Tensor) -> Tensor:
        factor = add(torch.zeros_like(x), torch.ones_like(y))
        factors.setdefault(f"{name}.{next(sublayers)}.out", []).append(factor)
        return x + y * factor

    block.dropout.add = adding


def watch_attention(name: str, attention: Attention, factors: Factors) -> None:
    """Keep the factors of an attention pattern."""

    def mix(q: Tensor, k: Tensor, v: Tensor, place: Place) -> Tensor:
        scores = ops.scores(q, k, attention.scale, place.bias, attention.softcap)
        rule = place.look.rule(scores.shape[2], scores.shape[3], scores.device)
        pattern = ops.softmax(scores.masked_fill(rule.ne(0), -torch.inf))
        factor = F.dropout(torch.ones_like(pattern), attention.dropout)
        factors.setdefault(f"{name}.pattern", []).append(factor)
        return (pattern * factor) @ ops.spread(v, attention.n_heads)

    attention.mix = mix


def with_dropout(graph: Graph, factors: Mapping[str, Tensor]) -> Graph:
    """The graph of a step that drops: behind each tensor with factors a node that multiplies by them, which all read."""
    return {node.name: node for node in nodes(graph, factors)}


def nodes(graph: Graph, factors: Mapping[str, Tensor]) -> Iterator[Node]:
    """The same, node by node."""
    renamed = {name: f"{name}_dropped" for name in factors}
    for name, node in graph.items():
        inputs = {
            symbol: point(renamed[source.name]) if source.kind == "point" and source.name in renamed else source
            for symbol, source in node.inputs.items()
        }
        yield replace(node, inputs=inputs)
        if name in renamed:
            sources = {"x": point(name), "kept": given(factor_name(name))}
            yield Node(renamed[name], dropped(node.recipe.axes), sources, tapped=False)


def factor_name(name: str) -> str:
    """What the factors of a tensor are called among what was given."""
    return f"{name}_kept"


@cache
def dropped(axes: str) -> Recipe:
    """A tensor after dropout."""
    index = tuple(Index(letter) for letter in axes.split())
    return Recipe(
        "dropout",
        axes,
        {"x": axes, "kept": axes},
        Symbol("x")[index] * Symbol("kept")[index],
        lambda x, kept: x * kept,
        "the numbers that dropout keeps, divided by their share; the others are 0",
        "Srivastava et al. 2014",
    )
