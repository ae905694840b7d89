"""Named model shapes. A preset fixes what it is known for; sizes and everything else can still be overridden."""

from __future__ import annotations

from typing import Any

from glassformer.errors import ConfigError, nearest

LAYERNORM = {"norm": "layernorm", "norm_eps": 1e-5, "norm_bias": True, "qk_norm": False}
BIASES = {"attention_bias": True, "mlp_bias": True}

VASWANI = {
    **LAYERNORM,
    **BIASES,
    "d_model": 512,
    "n_layers": 6,
    "n_heads": 8,
    "d_ff": 2048,
    "max_len": 512,
    "norm_place": "post",
    "positions": "sinusoidal",
    "mlp": "relu",
    "embedding_scale": True,
    "tied": True,
    "dropout": 0.1,
    "init": "xavier",
}

PRESETS: dict[str, dict[str, Any]] = {
    # Qwen3's shape: what trains fastest to a given loss here while a public family can still express it.
    "modern": {},
    # Small enough that a dot product fits on a line.
    "tiny": {"d_model": 16, "n_layers": 2, "n_heads": 2, "max_len": 64},
    "small": {"d_model": 256, "n_layers": 6, "n_heads": 8, "max_len": 256},
    # Whatever trains fastest, expressible by a public family or not.
    "fastest": {"n_layers": 2, "bigram": 16_384},
    # Radford et al. 2019, the smallest of the four.
    "gpt2": {
        **LAYERNORM,
        **BIASES,
        "d_model": 768,
        "n_layers": 12,
        "n_heads": 12,
        "max_len": 1024,
        "positions": "learned",
        "mlp": "gelu_tanh",
        "tied": True,
        "init": "gpt2",
    },
    # Touvron et al. 2023 and Llama 3: grouped heads, RMSNorm, rotary, SwiGLU.
    "llama": {
        "d_model": 512,
        "n_layers": 8,
        "n_heads": 8,
        "n_kv_heads": 2,
        "max_len": 1024,
        "norm_eps": 1e-5,
        "qk_norm": False,
        "init": "gpt2",
    },
    # Vaswani et al. 2017, table 3, base: the decoder without its memory.
    "vaswani-decoder": VASWANI,
    # The same paper's whole transformer: six layers on each side, one matrix for both embeddings and the head.
    "vaswani-base": {**VASWANI, "shape": "encoder_decoder"},
    # Today's practice, small enough for tens of thousands of sentence pairs.
    "small-seq2seq": {
        "shape": "encoder_decoder",
        "d_model": 256,
        "n_layers": 3,
        "n_heads": 4,
        "max_len": 128,
        "tied": True,
        "dropout": 0.1,
        "init": "xavier",
    },
    # Minutes to hours of speech: the encoder reads vectors, whose number and strides follow from the data.
    "small-speech": {
        "d_model": 128,
        "n_layers": 3,
        "n_heads": 4,
        "max_len": 512,
        "dropout": 0.1,
    },
    # Turc et al. 2019, the smallest: two layers that see the whole text.
    "bert-tiny": {
        **LAYERNORM,
        **BIASES,
        "shape": "encoder",
        "d_model": 128,
        "n_layers": 2,
        "n_heads": 2,
        "max_len": 512,
        "norm_place": "post",
        "positions": "learned",
        "mlp": "gelu",
        "head_bias": True,
        "tied": True,
        "dropout": 0.1,
        "init": "gpt2",
    },
    # Small enough to follow every number by hand: vectors of 4, two heads of 3, six layers on each side.
    "hand-sized": {
        **VASWANI,
        "shape": "encoder_decoder",
        "d_model": 4,
        "n_heads": 2,
        "d_head": 3,
        "d_ff": 8,
        "max_len": 16,
        "tied": False,
        "shared_embedding": False,
        "dropout": 0.0,
        # In vectors this short twelve random layers leave nothing of their input: blocks must begin as the identity.
        "init": "modern",
    },
}


def preset(name: str) -> dict[str, Any]:
    """The fields that a preset sets. Raises ConfigError with the nearest name."""
    if name not in PRESETS:
        raise ConfigError(f"unknown preset {name!r}{nearest(name, PRESETS)}")
    return dict(PRESETS[name])
