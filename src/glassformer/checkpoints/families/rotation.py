"""Rotary positions in the words of config.json: `rope_parameters`, or `rope_theta` and `rope_scaling` before it."""

from __future__ import annotations

from typing import Any

from glassformer.checkpoints.families.keys import Keys
from glassformer.models import ModelConfig

BASE = 10_000.0  # what every family takes where the file says nothing (Su et al. 2021)
LAWS = {"default": "none", "linear": "linear", "llama3": "llama3"}  # their word to ours


def write(config: ModelConfig) -> dict[str, Any]:
    """The keys of today's and, for older readers, yesterday's spelling; a law without a word there is left out."""
    law = config.rotary_scaling
    scaling: dict[str, Any] = {}
    if law is not None and law.kind in LAWS:
        scaling = {"rope_type": law.kind, "factor": law.factor}
    if law is not None and law.kind == "llama3":
        scaling |= {
            "low_freq_factor": law.low,
            "high_freq_factor": law.high,
            "original_max_position_embeddings": law.original_max_len,
        }
    return {
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rotary_base, **scaling},
        "rope_scaling": {**scaling, "rope_theta": config.rotary_base} if scaling else None,
        "rope_theta": config.rotary_base,
    }


def read(keys: Keys) -> dict[str, Any]:
    """`rotary_base` and `rotary_scaling`. Raises CheckpointError for a law that cannot be expressed here."""
    spellings = {
        key: keys.get(key) for key in ("rope_scaling", "rope_parameters")
    }  # where both speak, the first counts
    key = next((key for key, value in spellings.items() if value), "rope_parameters")
    values = spellings[key] or {}
    if not isinstance(values, dict):
        raise keys.cannot(key, values, "keys and values")
    rope = Keys(values, f"{keys.where}: {key}")
    base = rope.get("rope_theta", keys.get("rope_theta", BASE))
    part = rope.get("partial_rotary_factor", keys.get("partial_rotary_factor", 1.0))
    if part != 1.0:
        raise keys.cannot("partial_rotary_factor", part, "1.0, every channel of a head turned")
    law = rope.choose("rope_type", rope.get("type", "default"), LAWS)
    scaling = None if law == "none" else read_law(rope, law, keys.need("max_position_embeddings"))
    for unknown in rope.unread():
        raise rope.cannot(unknown, rope.get(unknown), f"no such key beside rope_type={law!r}")
    return {"rotary_base": base, "rotary_scaling": scaling}


def read_law(rope: Keys, law: str, max_len: Any) -> dict[str, Any]:
    """The fields of a `RotaryScaling`. Raises CheckpointError where the law lacks a number."""
    scaling = {"kind": law, "factor": rope.need("factor")}
    if law == "llama3":
        scaling |= {
            "low": rope.need("low_freq_factor"),
            "high": rope.need("high_freq_factor"),
            "original_max_len": rope.get("original_max_position_embeddings", max_len),
        }
    return scaling
