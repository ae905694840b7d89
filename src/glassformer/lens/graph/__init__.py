"""The graph of a model: every tensor with its recipe, where each input is found, in the order in which they are computed."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from glassformer.features import FeatureConfig
from glassformer.lens.graph.heads import ctc_nodes, head_nodes, outcome_nodes
from glassformer.lens.graph.reading import Reading
from glassformer.lens.graph.sound import sound_nodes
from glassformer.lens.graph.stacks import stack_nodes
from glassformer.lens.recipes.recipe import Node
from glassformer.models import EncoderDecoder, Model
from glassformer.models.stack import Stack

__all__ = ["Graph", "graph"]

Graph = Mapping[str, Node]

# What a model is given, by stack: "ids", "at" and, where there are any, "documents" and "prefix" of that stack, and for
# token pairs "rows" of their table, and "turn_at" where padding is turned as if it were text. "targets" are those of
# the whole model. A stack of vectors has "vectors" and "vectors_at" instead of "ids"; "at" counts what its convolutions leave,
# and `<convolution>.at` what each of them does.


def graph(
    model: Model,
    *,
    packed: bool = False,
    prefix: bool = False,
    turned: Collection[str] = (),
    targets: bool = False,
    smoothing: float = 0.0,
    padded: Collection[str] = (),
    features: FeatureConfig | None = None,
) -> Graph:
    """The nodes of a model in the order in which they are computed, by name.

    packed, prefix: whether it reads packed documents, or a prefix that all may see. turned: the stacks whose rotary
    positions are given apart, since padding is turned as if it were text. targets: whether the loss of each token is a
    part of it, with label `smoothing`. padded: the stacks that read vectors of which some are padding.
    features: how sound becomes vectors, where the run began with a sound.
    """
    nodes: list[Node] = [] if features is None else list(sound_nodes(features))
    memory = before = ""
    for name in ("encoder", "decoder"):
        stack = getattr(model, name, None)
        if isinstance(stack, Stack):
            reading = Reading(name, packed=packed, prefix=prefix, turned=name in turned, padded=name in padded)
            nodes += stack_nodes(stack, memory, reading)
            memory, before = nodes[-1].name, memory
    last_stack = "decoder" if hasattr(model, "decoder") else "encoder"
    nodes += head_nodes(model, memory, last_stack)
    nodes += outcome_nodes(model.config, targets=targets, smoothing=smoothing)
    if isinstance(model, EncoderDecoder) and model.ctc is not None:
        nodes += ctc_nodes(model.ctc, before)
    return {node.name: node for node in nodes}
