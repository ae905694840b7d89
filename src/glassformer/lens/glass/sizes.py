"""How large each tensor of a run will be, known before it is run, and which of them a budget has room for."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterable, Mapping, Sequence

import torch

from glassformer.errors import ConfigError, nearest
from glassformer.lens.graph import Graph
from glassformer.lens.recipes.recipe import Node
from glassformer.lens.recording import stack_of
from glassformer.models import Model
from glassformer.trace import points_of

MEGABYTE = 1_000_000
BUDGET_MB = 256.0  # what a trace keeps unless told otherwise
WEIGHTS_MB = 64.0  # weights that go into the file of a trace unless told otherwise
FLOATS_OF_LOGITS = 4  # bytes: heads answer in float32, whatever the weights are
BYTES_OF_RULES = 8


def shape_of(node: Node, model: Model, lengths: Mapping[str, int]) -> tuple[int, ...]:
    """The shape of a tensor without its batch axis. lengths: the tokens that each stack reads, and the vectors, if any."""
    first = node.name.split(".")[0]
    stack = first if first in lengths else stack_of(model)
    config = getattr(model, stack).config
    keys = lengths["encoder" if "cross_attention" in node.name or first == "ctc" else stack]
    sizes = {
        "i": lengths[stack],
        "j": keys,
        "h": config.n_heads,
        "g": config.n_kv_heads,
        "k": config.d_head,
        "v": config.d_value,
        "d": config.d_model,
        "f": config.d_ff,
        "c": config.n_heads * config.d_value,
        "n": len(config.labels) or config.vocab_size,
        "1": 1,
    }
    if f"{stack}.vectors" in lengths:
        sizes |= {"s": lengths[f"{stack}.vectors"], "e": config.vectors.size, "t": left_by(node.name, stack, lengths)}
    return tuple(sizes[letter] for letter in node.recipe.axes.split())


def left_by(name: str, stack: str, lengths: Mapping[str, int]) -> int:
    """How many vectors the convolution leaves that a tensor belongs to."""
    place = name.rpartition(".")[0]
    return lengths.get(place, lengths[stack])


def bytes_of(graph: Graph, model: Model, lengths: Mapping[str, int], texts: int = 1) -> dict[str, int]:
    """The bytes of every tensor that the model shows, in the order of the graph."""
    width = next(model.parameters()).element_size()
    kinds = {"mask_rule": BYTES_OF_RULES, "logits": FLOATS_OF_LOGITS}
    shown = set(points_of(model))
    return {
        name: texts * math.prod(shape_of(node, model, lengths)) * kinds.get(node.point, width)
        for name, node in graph.items()
        if node.tapped and name in shown
    }


def choose_points(sizes: Mapping[str, int], globs: str | Sequence[str], budget_mb: float) -> list[str]:
    """The points that are kept: all those asked for, or, where all are, as many as fit, the smallest first.

    Raises ConfigError for a name that there is not, and, saying what would fit, for more than the budget holds.
    """
    if not (budget_mb >= 0 and math.isfinite(budget_mb)):
        raise ConfigError(f"budget_mb={budget_mb} is out of range: expected 0 or more megabytes")
    asked = [globs] if isinstance(globs, str) else list(globs)
    budget = budget_mb * MEGABYTE
    if asked == ["*"]:
        return fitting(sizes, sizes, budget)
    wanted: set[str] = set()
    for glob in asked:
        found = fnmatch.filter(sizes, glob)
        if not found:
            raise ConfigError(f"no tensor is called {glob!r}{nearest(glob, sizes)}")
        wanted |= set(found)
    needed = sum(sizes[name] for name in wanted)
    if needed > budget:
        named = [name for name in sizes if name in wanted]
        fit = fitting(sizes, named, budget)
        what = f"{len(fit)} of them fit, the smallest" if fit else f"not even {min(named, key=sizes.__getitem__)} fits"
        raise ConfigError(
            f"{', '.join(asked)}: {len(wanted)} tensors have {megabytes(needed)} and the budget is {megabytes(budget)};"
            f" {what}; allow {math.ceil(needed / 1000) / 1000:g} MB, or ask for fewer points or a shorter text"
        )
    return [name for name in sizes if name in wanted]


def fitting(sizes: Mapping[str, int], names: Iterable[str], budget: float) -> list[str]:
    """As many of these as fit, the smallest first; in the order of `sizes`."""
    left, kept = budget, set[str]()
    for name in sorted(names, key=sizes.__getitem__):  # a stable sort: of equal ones the first in the model
        left -= sizes[name]
        if left < 0:
            break
        kept.add(name)
    return [name for name in sizes if name in kept]


def megabytes(size: float) -> str:
    """``1.5 MB``, ``12.3 kB``."""
    return f"{size / MEGABYTE:,.1f} MB" if size >= MEGABYTE / 10 else f"{size / 1000:,.1f} kB"


def lengths_of(given: Mapping[str, torch.Tensor]) -> dict[str, int]:
    """How many tokens each stack reads; of one that reads vectors how many these are (``encoder.vectors``), how many each
    convolution leaves, by its path, and how many are left in the end."""
    lengths = {name.removesuffix(".at"): at.shape[1] for name, at in given.items() if name.endswith(".at")}
    return lengths | {name: x.shape[1] for name, x in given.items() if name.endswith(".vectors")}
