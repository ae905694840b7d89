"""Nodes of an encoder that reads vectors: what it is given, its convolutions or linear map, positions, and their sum."""

from __future__ import annotations

from collections.abc import Iterator

from glassformer.lens.graph.layers import linear_node, norm_nodes
from glassformer.lens.graph.positions import position_code
from glassformer.lens.recipes import residual, vectors
from glassformer.lens.recipes.recipe import Node, given, point, weight
from glassformer.models.stack import Stack
from glassformer.models.vectors import VectorEmbedding


def vector_nodes(name: str, stack: Stack, *, padded: bool) -> Iterator[Node]:
    """From the vectors to what the first block reads. padded: whether some of them are padding."""
    here, layer = f"{name}.embedding", stack.embedding
    assert isinstance(layer, VectorEmbedding)
    inputs = {"V": given(f"{name}.vectors")}
    if padded:
        inputs["at"] = given(f"{name}.vectors_at")
    last = f"{here}.vectors"
    yield Node(last, vectors.as_given(padded=padded), inputs)
    if layer.linear is not None:
        says = "each vector in as many channels as the model has"
        yield linear_node(f"{here}.mapped", layer.linear, f"{here}.linear", last, says, reads="i e", out="i d")
        last = f"{here}.mapped"
    for number, stride in enumerate(layer.reads.strides):
        place = f"{here}.convolutions.{number}"
        read = {symbol: point(last) for symbol in ("before", "here", "after")}
        learned = {"W": weight(f"{place}.conv.weight"), "b": weight(f"{place}.conv.bias")}
        constants: dict[str, float] = {"stride": float(stride), "S": -1}  # the length is that of x
        yield Node(f"{place}.pre", vectors.convolution(), {**read, **learned}, constants)
        yield Node(f"{place}.out", vectors.bent(layer.reads.activation), {"pre": point(f"{place}.pre")})
        last = f"{place}.out"
        if padded:
            inputs = {"x": point(last), "at": given(f"{place}.at")}
            yield Node(f"{place}.silent", vectors.silence("t"), inputs, tapped=False)
            last = f"{place}.silent"
    terms = {"mapped": point(last)}
    if stack.positions.adds:
        terms["position"] = point(f"{here}.position")
        yield position_code(name, stack)
    recipe = vectors.vector_sum(positions=stack.positions.adds)
    if layer.norm is None:
        yield Node(f"{here}.out", recipe, terms)
        return
    yield Node(f"{here}.sum", recipe, terms)
    yield from norm_nodes(f"{here}.norm", layer.norm, f"{here}.sum")
    yield Node(f"{here}.out", residual.carried(), {"before": point(f"{here}.norm.out")})
