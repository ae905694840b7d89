"""The tensors of a model that can be seen, each with the names of its axes."""

from __future__ import annotations

from typing import NamedTuple

from torch import nn

from glassformer.trace import points_of

# B batch, T asking tokens, S tokens that are looked at (of the source in a cross-attention), D model, H heads,
# G key/value heads, K head width, V value width, F hidden width of the MLP, N vocabulary, L labels,
# 1 one number for the whole axis, U vectors before convolutions have shortened them, E channels of such a vector

AXES: dict[str, str] = {  # the end of a tensor's name -> its axes; the first that fits counts
    "cross_attention.k_norm.out": "B S G K",
    "cross_attention.k_norm.*": "B S G 1",
    "q_norm.out": "B T H K",
    "k_norm.out": "B T G K",
    "q_norm.*": "B T H 1",
    "k_norm.*": "B T G 1",
    "cross_attention.k_linear": "B S G K",
    "attention.q_linear": "B T H K",
    "attention.k_linear": "B T G K",
    "attention.q": "B H T K",
    "attention.k": "B G S K",
    "attention.v": "B G S V",
    "attention.scores": "B H T S",
    "attention.mask_rule": "1 1 T S",
    "attention.masked": "B H T S",
    "attention.pattern": "B H T S",
    "attention.z": "B H T V",
    "norm.out": "B T D",
    "norm.*": "B T 1",
    "mlp.out": "B T D",
    "mlp.*": "B T F",
    "head.pooled": "B D",
    "head.out": "B D",
    "embedding.position": "1 T D",
    "embedding.vectors": "B U E",
    "ctc.logits": "B S N",
    "*": "B T D",
}
LOGITS = {"tokens": "B T N", "labels": "B L", "tags": "B T L"}  # head -> axes of head.logits


class Point(NamedTuple):
    """A tensor that `watch` can see, and its axes."""

    name: str
    axes: tuple[str, ...]


def points(model: nn.Module) -> list[Point]:
    """Every tensor that `watch` can see in this model, in the order of its modules."""
    head = str(getattr(getattr(model, "config", None), "head", "tokens"))
    return [Point(name, axes_of(name, head)) for name in points_of(model)]


def axes_of(name: str, head: str = "tokens") -> tuple[str, ...]:
    """The axes of the tensor with this full name, in a model with this head."""
    if ".convolutions." in name:
        return ("B", "U", "D")
    if name.endswith("head.logits"):
        return tuple(LOGITS[head].split())
    return tuple(next(axes for end, axes in AXES.items() if is_end(end, name)).split())


def is_end(end: str, name: str) -> bool:
    """Whether a name ends like this; a last ``*`` stands for any one point of the module before it."""
    module, _, point = end.rpartition(".")
    path, _, last = name.rpartition(".")
    return path.endswith(module) and point in ("*", last)
