"""Nodes of an attention, to its own text or to a source."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from glassformer.lens.graph.layers import linear_node, norm_nodes
from glassformer.lens.graph.reading import Reading
from glassformer.lens.recipes import attention as attending
from glassformer.lens.recipes.recipe import Node, Source, given, point
from glassformer.models import ModelConfig
from glassformer.models.stack import Stack
from glassformer.nn.attention import Attention, CrossAttention
from glassformer.nn.positions import Positions, Rotary


def self_attention_nodes(here: str, module: Attention, stack: Stack, x: str, reading: Reading) -> Iterator[Node]:
    """An attention of a text to itself."""
    config, positions, (stack_name, packed, prefix, *_) = stack.config, stack.positions, reading
    window = config.window_of(module.layer)
    at = given(f"{stack_name}.at")
    turn_at = given(f"{stack_name}.turn_at") if reading.turned else at
    for symbol, letters in (("q", "i h k"), ("k", "j g k")):
        yield from projected(here, module, symbol, letters, x)
        raw = normed_name(here, module, symbol)
        says = f"the {WORDS[symbol]} of each token, in every head"
        if config.positions == "rotary":
            turn = positions if window is None else stack.local_positions or positions
            assert isinstance(turn, Rotary)
            constants: dict[str, float] = {"K": config.d_head}
            if turn.stretch != 1.0:
                constants["stretch"] = turn.stretch
            recipe = attending.turned(
                f"attention.{symbol}",
                letters,
                f"{says}, turned in pairs of channels by the token's position",
                stretched=turn.stretch != 1.0,
            )
            scheme = "positions" if turn is positions else "local_positions"
            inputs = {"x": point(raw), "at": turn_at, "θ": frequency_source(f"{stack_name}.{scheme}", turn)}
            yield Node(f"{here}.{symbol}", recipe, inputs, constants)
        else:
            yield Node(f"{here}.{symbol}", attending.split(f"attention.{symbol}", letters, says), {"x": point(raw)})
    yield value_node(here, module, x)
    yield from score_nodes(here, module, None if not has_bias(positions) else f"{stack_name}.positions.bias")
    rule = attending.mask_rule(
        causal=stack.causal,
        window=window is not None,
        packed=packed,
        prefix_seen=prefix and stack.causal,
    )
    inputs = {"at": at, "key_at": at}
    if packed:
        inputs |= {"documents": given(f"{stack_name}.documents"), "key_documents": given(f"{stack_name}.documents")}
    if prefix and stack.causal:
        inputs |= {"prefix": given(f"{stack_name}.prefix")}
    constants = {} if window is None else {"window": float(window)}
    yield Node(f"{here}.mask_rule", rule, inputs, constants)
    yield from weighing_nodes(here, module)


def cross_attention_nodes(
    here: str, module: CrossAttention, config: ModelConfig, x: str, memory: str, stack_name: str
) -> Iterator[Node]:
    """An attention of the target to the source."""
    for symbol, letters, reads in (("q", "i h k", x), ("k", "j g k", memory)):
        yield from projected(here, module, symbol, letters, reads)
        says = f"the {WORDS[symbol]} of each {'target' if symbol == 'q' else 'source'} token, in every head"
        recipe = attending.split(f"attention.{symbol}", letters, says)
        yield Node(f"{here}.{symbol}", recipe, {"x": point(normed_name(here, module, symbol))})
    yield value_node(here, module, memory)
    yield from score_nodes(here, module, None)
    inputs = {"at": given(f"{stack_name}.at"), "key_at": given("encoder.at")}
    yield Node(f"{here}.mask_rule", attending.mask_rule(causal=False), inputs)
    yield from weighing_nodes(here, module)


WORDS = {"q": "query", "k": "key"}


def projected(here: str, module: Attention, symbol: str, letters: str, x: str) -> Iterator[Node]:
    """The linear map of queries or keys cut into heads, and the norm of each head where there is one."""
    place, head_letter, channel = letters.split()
    linear_map = getattr(module, f"{symbol}_proj")
    yield linear_node(
        f"{here}.{symbol}_linear",
        linear_map,
        f"{here}.{symbol}_proj",
        x,
        f"the {WORDS[symbol]} that each token's vector makes, cut into heads",
        reads=f"{place} d",
        out=f"{place} {head_letter} {channel}",
        split=(head_letter, "K"),
        source="Vaswani et al. 2017, section 3.2.2",
        constants={"K": module.d_head},
    )
    norm = getattr(module, f"{symbol}_norm")
    if norm is not None:
        yield from norm_nodes(f"{here}.{symbol}_norm", norm, f"{here}.{symbol}_linear", letters)


def normed_name(here: str, module: Attention, symbol: str) -> str:
    """The queries or keys before positions turn them."""
    has_norm = getattr(module, f"{symbol}_norm") is not None
    return f"{here}.{symbol}_norm.out" if has_norm else f"{here}.{symbol}_linear"


def value_node(here: str, module: Attention, x: str) -> Node:
    """The values."""
    return linear_node(
        f"{here}.v",
        module.v_proj,
        f"{here}.v_proj",
        x,
        "what each token hands over to those that look at it, in every key/value head",
        reads="j d",
        out="g j v",
        split=("g", "V"),
        source="Vaswani et al. 2017, section 3.2.2",
        constants={"V": module.d_value},
    )


def frequency_source(scheme: str, positions: Rotary) -> Source:
    """The speeds of rotary pairs: worked out here, or, where they are stretched, the model's own."""
    name = f"{scheme}.frequency"
    return point(name) if positions.scaling is None else given(name)


def has_bias(positions: Positions) -> bool:
    """Whether the scheme adds to scores."""
    return type(positions).bias is not Positions.bias


def score_nodes(here: str, module: Attention, bias: str | None) -> Iterator[Node]:
    """From queries and keys to scores: fit, scale, cap, bias. The last of them is the tensor that the model shows."""
    shared = module.n_heads != module.n_kv_heads
    names = ["scaled", *(["capped"] if module.softcap is not None else []), *(["biased"] if bias else [])]
    named = {step: "scores" if step == names[-1] else step for step in names}
    groups = {"R": module.n_heads / module.n_kv_heads}
    inputs = {"q": point(f"{here}.q"), "k": point(f"{here}.k")}
    yield Node(f"{here}.match", attending.match(shared=shared), inputs, groups, tapped=False)
    usual = abs(module.scale * module.d_head**0.5 - 1) < 1e-9
    recipe = attending.scaled(f"attention.{named['scaled']}", usual=usual)
    is_last = named["scaled"] == "scores"
    match = {"match": point(f"{here}.match")}
    yield Node(f"{here}.{named['scaled']}", recipe, match, {"scale": module.scale}, tapped=is_last)
    before = f"{here}.{named['scaled']}"
    if module.softcap is not None:
        is_last = named["capped"] == "scores"
        recipe = attending.capped(f"attention.{named['capped']}")
        inputs, before = {"scaled": point(before)}, f"{here}.{named['capped']}"
        yield Node(before, recipe, inputs, {"cap": module.softcap}, tapped=is_last)
    if bias:
        inputs = {"scaled": point(before), "bias": point(bias)}
        yield Node(f"{here}.scores", attending.biased(), inputs)


def weighing_nodes(here: str, module: Attention) -> Iterator[Node]:
    """From scores to what attention adds to the stream."""
    shared = module.n_heads != module.n_kv_heads
    derived = partial(Node, tapped=False)
    masked, exp = point(f"{here}.masked"), point(f"{here}.exp")
    scores = {"scores": point(f"{here}.scores"), "rule": point(f"{here}.mask_rule")}
    yield Node(f"{here}.masked", attending.masked(), scores)
    yield derived(f"{here}.top", attending.softmax_top(), {"masked": masked})
    yield derived(f"{here}.exp", attending.softmax_exp(), {"masked": masked, "top": point(f"{here}.top")})
    yield derived(f"{here}.sum", attending.softmax_sum(), {"exp": exp})
    shares = {"exp": exp, "sum": point(f"{here}.sum"), "masked": masked}
    yield Node(f"{here}.pattern", attending.pattern(), shares)
    inputs = {"pattern": point(f"{here}.pattern"), "v": point(f"{here}.v")}
    yield Node(f"{here}.z", attending.weighted_sum(shared=shared), inputs, {"R": module.n_heads / module.n_kv_heads})
    yield derived(f"{here}.joined", attending.joined(), {"z": point(f"{here}.z")}, {"V": module.d_value})
    yield linear_node(
        f"{here}.out",
        module.o_proj,
        f"{here}.o_proj",
        f"{here}.joined",
        "what attention adds to the residual stream: the heads' findings, mixed by W",
        reads="i c",
        out="i d",
        source="Vaswani et al. 2017, section 3.2.2",
    )
