"""Qwen3 (Qwen Team 2025): Llama with normalised queries and keys, a head width of its own and sliding windows."""

from __future__ import annotations

from typing import Any

from glassformer.checkpoints.families import llama
from glassformer.checkpoints.families.family import Family
from glassformer.checkpoints.families.keys import Keys
from glassformer.checkpoints.families.rules import rename
from glassformer.models import ModelConfig

FULL, SLIDING = "full_attention", "sliding_attention"

RULES = (
    *llama.RULES,
    *rename(
        "model.layers.{layer}.self_attn.",
        "decoder.blocks.{layer}.attention.",
        {"q_norm": "q_norm", "k_norm": "k_norm"},
    ),
)


def write(config: ModelConfig) -> dict[str, Any]:
    """The words of Qwen3's config.json for a model."""
    values = llama.write(config)
    del values["mlp_bias"]
    return values | {
        "layer_types": [SLIDING if config.window else FULL] * config.n_layers,
        "max_window_layers": 0 if config.window else config.n_layers,
        "sliding_window": config.window,
        "use_sliding_window": config.window is not None,
    }


def read(keys: Keys) -> dict[str, Any]:
    """The fields that Qwen3's config.json decides. Raises CheckpointError."""
    return {
        **llama.FIXED,
        "qk_norm": True,
        "d_model": keys.need("hidden_size"),
        "n_heads": keys.need("num_attention_heads"),
        "n_kv_heads": keys.need("num_key_value_heads"),
        "d_head": keys.need("head_dim"),
        "mlp_bias": False,
        "window": read_window(keys),
        **llama.read_sizes(keys),
    }


def read_window(keys: Keys) -> int | None:
    """The window of all layers, None where they see everything. Raises CheckpointError where layers differ in it."""
    n_layers, first = keys.need("num_hidden_layers"), keys.get("max_window_layers", 0)
    types, window = keys.get("layer_types"), keys.get("sliding_window")
    if not keys.get("use_sliding_window", False):
        window = None
    if types is None:  # files before transformers 4.53 say from which layer on the window holds
        if not isinstance(first, int) or not isinstance(n_layers, int):
            raise keys.cannot("max_window_layers", first, "a number of layers")
        types = [FULL] if window is None or first >= n_layers else [SLIDING] if first <= 0 else [FULL, SLIDING]
    if not isinstance(types, list):
        raise keys.cannot("layer_types", types, "one word for each layer")
    if all(kind == FULL for kind in types):
        return None
    if window is None or any(kind != SLIDING for kind in types):
        raise keys.cannot("layer_types", types, f"{FULL!r} or {SLIDING!r} for all layers alike")
    return window


QWEN3 = Family(
    name="Qwen3",
    model_type="qwen3",
    architecture="Qwen3ForCausalLM",
    write=write,
    read=read,
    rules=RULES,
    prefix="model.",
)
