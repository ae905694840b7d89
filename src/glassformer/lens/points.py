"""The tensors of a model that can be seen, each with the names of its axes."""

from __future__ import annotations

from typing import NamedTuple

from torch import nn

from glassformer.trace import points_of

# B batch, T asking tokens, S tokens that are looked at, D model, H heads, G key/value heads, K head width, V value width,
# F hidden width of the MLP, N vocabulary, 1 one number for the whole axis

AXES: dict[str, str] = {  # the end of a tensor's name -> its axes; the first that fits counts
    "q_norm.out": "B T H K",
    "k_norm.out": "B T G K",
    "q_norm.*": "B T H 1",
    "k_norm.*": "B T G 1",
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
    "head.logits": "B T N",
    "embedding.position": "1 T D",
    "*": "B T D",
}


class Point(NamedTuple):
    """A tensor that `watch` can see, and its axes."""

    name: str
    axes: tuple[str, ...]


def points(model: nn.Module) -> list[Point]:
    """Every tensor that `watch` can see in this model, in the order of its modules."""
    return [Point(name, axes_of(name)) for name in points_of(model)]


def axes_of(name: str) -> tuple[str, ...]:
    """The axes of the tensor with this full name."""
    return tuple(next(axes for end, axes in AXES.items() if is_end(end, name)).split())


def is_end(end: str, name: str) -> bool:
    """Whether a name ends like this; a last ``*`` stands for any one point of the module before it."""
    module, _, point = end.rpartition(".")
    path, _, last = name.rpartition(".")
    return path.endswith(module) and point in ("*", last)
