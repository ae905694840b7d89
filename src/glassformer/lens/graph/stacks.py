"""Nodes of a stack: embedding, blocks, and the last norm."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from glassformer.lens.graph.attentions import cross_attention_nodes, self_attention_nodes
from glassformer.lens.graph.layers import mlp_nodes, norm_nodes
from glassformer.lens.graph.positions import position_code, position_nodes
from glassformer.lens.graph.reading import Reading
from glassformer.lens.graph.vectors import vector_nodes
from glassformer.lens.recipes import embedding, residual
from glassformer.lens.recipes.recipe import Node, given, point, weight
from glassformer.models import ModelConfig
from glassformer.models.stack import Embedding, Stack
from glassformer.models.vectors import VectorEmbedding
from glassformer.nn.attention import Attention, CrossAttention
from glassformer.nn.block import Block


def stack_nodes(stack: Stack, memory: str, reading: Reading) -> Iterator[Node]:
    """A stack from its tokens to its last norm. memory: the tensor that cross-attentions look at."""
    name = reading.name
    if isinstance(stack.embedding, VectorEmbedding):
        yield from vector_nodes(name, stack, padded=reading.padded)
    else:
        yield from embedding_nodes(name, stack, stack.embedding)
    yield from position_nodes(name, stack)
    last = f"{name}.embedding.out"
    for layer, block in enumerate(stack.blocks):
        assert isinstance(block, Block)
        place = f"{name}.blocks.{layer}"
        yield from block_nodes(place, block, stack, last, memory, reading)
        last = f"{place}.resid_post"
    yield from norm_nodes(f"{name}.norm", stack.norm, last)


def embedding_nodes(name: str, stack: Stack, layer: Embedding) -> Iterator[Node]:
    """The vectors of tokens, pairs and positions, and their sum."""
    here, config = f"{name}.embedding", stack.config
    terms = {"token": point(f"{here}.token")}
    yield Node(
        f"{here}.token",
        embedding.lookup(scaled=layer.scale is not None),
        {"ids": given(f"{name}.ids"), "E": weight(f"{here}.token.weight")},
        {"D": config.d_model} if layer.scale is not None else {},
    )
    if layer.bigram is not None:
        terms["pair"] = point(f"{here}.bigram")
        table = {"rows": given(f"{name}.rows"), "P": weight(f"{here}.bigram.weight")}
        yield Node(f"{here}.bigram", embedding.pairs(), table)
    if layer.kind is not None:
        terms["kind"] = point(f"{here}.kind")
        table = {"kinds": given(f"{name}.kinds"), "S": weight(f"{here}.kind.weight")}
        yield Node(f"{here}.kind", embedding.which_text(), table)
    if stack.positions.adds:
        terms["position"] = point(f"{here}.position")
        yield position_code(name, stack)
    recipe = embedding.embedding_sum(
        bigram=layer.bigram is not None, kinds=layer.kind is not None, positions=stack.positions.adds
    )
    if layer.norm is None:
        yield Node(f"{here}.out", recipe, terms)
        return
    yield Node(f"{here}.sum", recipe, terms)
    yield from norm_nodes(f"{here}.norm", layer.norm, f"{here}.sum")
    yield Node(f"{here}.out", residual.carried(), {"before": point(f"{here}.norm.out")})


def block_nodes(place: str, block: Block, stack: Stack, before: str, memory: str, reading: Reading) -> Iterator[Node]:
    """A block: each sublayer with its norm before or after, and the residual sums."""
    norm_place = stack.config.norm_place
    yield Node(f"{place}.resid_pre", residual.carried(), {"before": point(before)})
    sublayers: list[tuple[str, str]] = [("attention", "resid_mid")]
    if block.cross_attention is not None:
        sublayers.append(("cross_attention", "resid_cross"))
    sublayers.append(("mlp", "resid_post"))
    stream = f"{place}.resid_pre"
    for sublayer, after in sublayers:
        module, norm = getattr(block, sublayer), getattr(block, f"{sublayer}_norm")
        here, norm_here = f"{place}.{sublayer}", f"{place}.{sublayer}_norm"
        reads = stream
        if norm_place != "post":
            yield from norm_nodes(norm_here, norm, stream)
            reads = stream if isinstance(norm, nn.Identity) else f"{norm_here}.out"
        if isinstance(module, CrossAttention):
            yield from cross_attention_nodes(here, module, stack.config, reads, memory, reading.name)
        elif isinstance(module, Attention):
            yield from self_attention_nodes(here, module, stack, reads, reading)
        else:
            yield from mlp_nodes(here, module, stack.config.mlp, reads)
        if norm_place == "both":
            yield from norm_nodes(f"{here}_out_norm", getattr(block, f"{sublayer}_out_norm"), f"{here}.out")
        added = {"before": point(stream), "added": point(added_by(here, stack.config))}
        if norm_place != "post":
            yield Node(f"{place}.{after}", residual.residual_sum(), added)
        else:
            yield Node(f"{here}_sum", residual.residual_sum(), added, tapped=False)
            yield from norm_nodes(norm_here, norm, f"{here}_sum")
            yield Node(f"{place}.{after}", residual.carried(), {"before": point(f"{norm_here}.out")})
        stream = f"{place}.{after}"


def added_by(here: str, config: ModelConfig) -> str:
    """The tensor that a sublayer adds to the stream: what it gives, or what a norm behind it makes of that."""
    return f"{here}_out_norm.out" if config.norm_place == "both" else f"{here}.out"
