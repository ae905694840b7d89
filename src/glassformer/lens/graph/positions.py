"""Nodes of positions: the code that is added to vectors, the speeds of rotary pairs, the bias of scores."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from glassformer.lens.recipes import attention as attending
from glassformer.lens.recipes import embedding
from glassformer.lens.recipes.recipe import Node, given, point, weight
from glassformer.models.stack import Stack
from glassformer.nn.positions import Relative

WAVES = {"sinusoidal": embedding.sinusoidal, "sinusoidal_halves": embedding.sinusoidal_halves}


def position_code(name: str, stack: Stack) -> Node:
    """What is added to the vector of each token for its position."""
    here, config = f"{name}.embedding.position", stack.config
    inputs = {"at": given(f"{name}.at")}
    if config.positions != "learned":
        return Node(here, WAVES[config.positions](), inputs, {"D": config.d_model})
    inputs["T"] = weight(f"{name}.positions.table.weight")
    constants = {"offset": config.position_offset} if config.position_offset else {}
    return Node(here, embedding.learned(shifted=bool(constants)), inputs, constants)


def position_nodes(name: str, stack: Stack) -> Iterator[Node]:
    """What positions do to all layers of a stack alike: the speeds of rotary pairs, the bias of scores."""
    here, config, positions = f"{name}.positions", stack.config, stack.positions
    at = {"at": given(f"{name}.at"), "key_at": given(f"{name}.at")}
    derived = partial(Node, tapped=False)
    if config.positions == "rotary":
        bases = {here: config.rotary_base if config.rotary_scaling is None else None}
        bases[f"{name}.local_positions"] = config.local_rotary_base
        for place, base in bases.items():
            if base is not None:
                constants = {"base": base, "K": config.d_head}
                yield derived(f"{place}.frequency", embedding.frequency(), {}, constants, batchless=True)
    elif config.positions == "alibi":
        constants = {"H": config.n_heads, "P": 2 ** (config.n_heads.bit_length() - 1)}
        yield derived(f"{here}.slope", attending.alibi_slope(), {}, constants, batchless=True)
        yield derived(f"{here}.bias", attending.alibi(), {"slope": point(f"{here}.slope"), **at})
    elif isinstance(positions, Relative):
        buckets = positions.n_buckets // 2 if positions.both_ways else positions.n_buckets
        constants = {"buckets": buckets, "exact": buckets // 2, "far": positions.max_distance}
        yield derived(f"{here}.bucket", attending.bucket(both_ways=positions.both_ways), at, constants)
        inputs = {"table": weight(f"{here}.table.weight"), "bucket": point(f"{here}.bucket")}
        yield derived(f"{here}.bias", attending.relative(), inputs)
