"""The walk through one prediction: its steps in order, each a function from the scene to a section."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from glassformer.lens.parts import Section
from glassformer.lens.scene import Scene
from glassformer.lens.walk import attention, embedding, head, mlp, norm, projections, residual, scores

Step = Callable[[Scene], Section | None]

WALK: dict[str, Step] = {  # in the order in which the model computes; a step that a model does not have gives None
    "tokens": embedding.tokens,
    "embedding": embedding.token_vector,
    "pair": embedding.pair_vector,
    "position": embedding.position,
    "embedding_sum": embedding.embedding_sum,
    "layers_below": residual.layers_below,
    "norm_before_attention": norm.before_attention,
    "query": projections.query,
    "key": projections.key,
    "value": projections.value,
    "scores": scores.scores,
    "mask": scores.mask,
    "softmax": attention.softmax,
    "weighted_sum": attention.weighted_sum,
    "attention_output": attention.output,
    "residual_after_attention": residual.after_attention,
    "norm_after_attention": norm.after_attention,
    "norm_before_mlp": norm.before_mlp,
    "mlp_hidden": mlp.hidden,
    "mlp_activation": mlp.activation,
    "mlp_output": mlp.output,
    "residual_after_mlp": residual.after_mlp,
    "norm_after_mlp": norm.after_mlp,
    "layers_above": residual.layers_above,
    "last_norm": norm.final,
    "logits": head.logits,
    "probabilities": head.probabilities,
    "sampling": head.sampling,
    "drawing": head.drawing,
}


def walk(scene: Scene) -> Iterator[Section]:
    """The sections of every step that this model has."""
    for name, step in WALK.items():
        section = step(scene)
        if section is not None:
            yield replace(section, step=name)
