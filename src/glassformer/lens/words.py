"""A model's config and a tokenizer in words."""

from __future__ import annotations

from collections.abc import Iterator

from glassformer.models import ModelConfig
from glassformer.tokenizers import Tokenizer

NAMES = {  # rows of the tables in nn -> as people write them
    "rmsnorm": "RMSNorm",
    "layernorm": "LayerNorm",
    "alibi": "ALiBi",
    "none": "no positions",
    "relu": "ReLU",
    "relu2": "ReLU²",
    "gelu": "GELU",
    "gelu_tanh": "GELU (tanh)",
    "silu": "SiLU",
    "swiglu": "SwiGLU",
    "geglu": "GEGLU",
    "geglu_tanh": "GEGLU (tanh)",
    "reglu2": "gated ReLU²",
}


def in_words(config: ModelConfig) -> str:
    """The config in one line: ``decoder, 4 layers, d_model 128, 4 heads of 32, rotary, RMSNorm before, SwiGLU 352``."""
    c = config
    heads = f"{c.n_heads} head{'s' if c.n_heads > 1 else ''} of {c.d_head}"
    if c.n_kv_heads != c.n_heads:
        heads += f" ({c.n_kv_heads} key/value)"
    if c.d_value != c.d_head:
        heads += f", values of {c.d_value}"
    place = {"pre": "before", "post": "after"}[c.norm_place]
    norm = f"{NAMES.get(c.norm, c.norm)} {place}"
    layers = f"{c.n_layers} layer{'' if c.n_layers == 1 else 's'}"
    positions, mlp = NAMES.get(c.positions, c.positions), NAMES.get(c.mlp, c.mlp)
    return f"{c.shape}, {layers}, d_model {c.d_model}, {heads}, {positions}, {norm}, {mlp} {c.d_ff}"


def in_other_words(config: ModelConfig) -> Iterator[str]:
    """The rest of the config: sizes outside the blocks, and whatever is not usual."""
    c = config
    tied = "shares the embedding table" if c.tied else "has its own matrix"
    yield f"vocabulary {c.vocab_size:,}, context {c.max_len:,} tokens; the output {tied}"
    unusual = {
        "norms of queries and keys": c.qk_norm,
        "norms without gain": not c.norm_gain,
        f"a window of {c.window} tokens": c.window,
        f"attention scores capped at {c.attention_softcap}": c.attention_softcap,
        f"attention scale {c.attention_scale}": c.attention_scale,
        f"logits capped at {c.logit_softcap}": c.logit_softcap,
        f"logits times {c.logit_scale:g}": c.logit_scale != 1,
        "embeddings times √d_model": c.embedding_scale,
        f"a table of {c.bigram or 0:,} token pairs": c.bigram,
        f"dropout {c.dropout:g} in training": c.dropout,
        "biases in attention": c.attention_bias,
        "biases in the MLP": c.mlp_bias,
        "biases in the head": c.head_bias,
    }
    if any(unusual.values()):
        yield "with " + ", ".join(text for text, is_so in unusual.items() if is_so)


def tokenizer_in_words(tokenizer: Tokenizer) -> str:
    """Kind and size: ``bpe tokenizer, 1,024 tokens, of which <|pad|>, <|endoftext|> are special``."""
    special = ", ".join(sorted(tokenizer.special_tokens, key=tokenizer.special_tokens.__getitem__))
    ending = f", of which {special} are special" if special else ""
    return f"{tokenizer.kind} tokenizer, {tokenizer.vocab_size:,} tokens{ending}"
