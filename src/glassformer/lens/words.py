"""A model's config and a tokenizer in words."""

from __future__ import annotations

from collections.abc import Iterator

from glassformer.lens.layout import printable
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
    "reglu": "gated ReLU",
    "reglu2": "gated ReLU²",
    "rmsnorm_from_one": "RMSNorm (gain 1 + γ)",
    "sinusoidal_halves": "sinusoidal (sines, then cosines)",
}

LABELS_SHOWN = 6


def in_words(config: ModelConfig) -> str:
    """The config in one line: ``decoder, 4 layers, d_model 128, 4 heads of 32, rotary, RMSNorm before, SwiGLU 352``."""
    return f"{config.shape.replace('_', '-')}, {layers_in_words(config)}"


def stacks_in_words(config: ModelConfig) -> Iterator[str]:
    """The layers of each stack in one line."""
    if config.shape != "encoder_decoder":
        yield in_words(config)
        return
    yield "encoder-decoder, the decoder looks at what the encoder made of the source, in every layer"
    for side, stack in sides(config).items():
        yield f"{side}: {layers_in_words(stack)}"


def layers_in_words(config: ModelConfig) -> str:
    """The layers of one stack: ``4 layers, d_model 128, 4 heads of 32, rotary, RMSNorm before, SwiGLU 352``."""
    c = config
    heads = f"{c.n_heads} head{'s' if c.n_heads > 1 else ''} of {c.d_head}"
    if c.n_kv_heads != c.n_heads:
        heads += f" ({c.n_kv_heads} key/value)"
    if c.d_value != c.d_head:
        heads += f", values of {c.d_value}"
    place = {"pre": "before", "post": "after", "both": "before and after"}[c.norm_place]
    norm = f"{NAMES.get(c.norm, c.norm)} {place}"
    layers = f"{c.n_layers} layer{'' if c.n_layers == 1 else 's'}"
    positions, mlp = NAMES.get(c.positions, c.positions), NAMES.get(c.mlp, c.mlp)
    return f"{layers}, d_model {c.d_model}, {heads}, {positions}, {norm}, {mlp} {c.d_ff}"


def in_other_words(config: ModelConfig) -> Iterator[str]:
    """The rest of the config: sizes outside the blocks, what comes out, and whatever is not usual."""
    c = config
    if c.vectors is not None:
        yield from vectors_in_words(c)
    elif c.shape == "encoder_decoder":
        source = c.source_side()
        shared = "one embedding table for both" if c.shared_embedding else "an embedding table for each"
        yield f"vocabulary {source.vocab_size:,} of the source, {c.vocab_size:,} of the target, {shared}"
        yield f"context {source.max_len:,} tokens of the source, {c.max_len:,} of the target"
        yield output_in_words(c)
    else:
        yield f"vocabulary {c.vocab_size:,}, context {c.max_len:,} tokens; {output_in_words(c)}"
    unusual = {side: unusual_in_words(stack) for side, stack in sides(c).items()}
    if len(set(unusual.values())) == 1:
        unusual = {"": next(iter(unusual.values()))}
    for side, said in unusual.items():
        if said:
            yield f"{side} with {', '.join(said)}".lstrip()
    about_scores = {
        f"logits capped at {c.logit_softcap}": c.logit_softcap,
        f"logits times {c.logit_scale:g}": c.logit_scale != 1,
        "biases in the head": c.head_bias,
    }
    if c.head == "tokens" and any(about_scores.values()):
        yield "the output with " + ", ".join(text for text, is_so in about_scores.items() if is_so)


def vectors_in_words(config: ModelConfig) -> Iterator[str]:
    """What an encoder of vectors reads, how it shortens that, and what comes out."""
    c, reads = config, config.vectors
    assert reads is not None
    source = c.source_side() if c.shape == "encoder_decoder" else c
    if reads.strides:
        each = " and ".join(str(stride) for stride in reads.strides)
        many = f"{len(reads.strides)} convolutions" if len(reads.strides) > 1 else "a convolution"
        bend = NAMES.get(reads.activation, reads.activation)
        how = f"{many} of 3 vectors with {bend}, which keep{'s' * (len(reads.strides) == 1)} one result in {each}"
    else:
        how = "a linear map of each"
    yield f"the encoder reads vectors of {reads.size:,} numbers, through {how}"
    places = f"context {source.max_len:,} places"
    if c.shape == "encoder_decoder":
        yield f"{places} of the source, {c.max_len:,} tokens of the target; vocabulary {c.vocab_size:,}"
        ctc = "" if c.ctc_blank is None else f"; CTC hears the source too, with token {c.ctc_blank} for nothing"
        yield output_in_words(c) + ctc
    else:
        vocabulary = f"vocabulary {c.vocab_size:,}, " if c.head == "tokens" else ""
        yield f"{vocabulary}{places}; {output_in_words(c)}"


def output_in_words(config: ModelConfig) -> str:
    """What comes out of the model, and by which matrix."""
    if config.head == "tokens":
        return "the output shares the embedding table" if config.tied else "the output has its own matrix"
    of_the_text = POOLED[config.pooling]
    if config.head == "pooled":
        return f"the output is {of_the_text}" + (", of length 1" if config.normalise else "")
    shown = ", ".join(printable(label) for label in config.labels[:LABELS_SHOWN])
    more = len(config.labels) - LABELS_SHOWN
    which = f"of {len(config.labels)} labels ({shown}{f', and {more} more' if more > 0 else ''})"
    if config.head == "tags":
        return f"the output is one {which} for each token"
    return f"the output is {'any' if config.several_labels else 'one'} {which}, from {of_the_text}"


def sides(config: ModelConfig) -> dict[str, ModelConfig]:
    """The config of each stack by its name in the model."""
    if config.shape == "encoder_decoder":
        return {"encoder": config.source_side(), "decoder": config}
    return {config.shape: config}


def unusual_in_words(config: ModelConfig) -> tuple[str, ...]:
    """What is not usual about a stack."""
    c = config
    unusual = {
        "norms of queries and keys": c.qk_norm,
        "norms without gain": not c.norm_gain,
        f"a window of {c.window} tokens{windowed_in_words(c)}": c.window,
        f"rotary base {c.local_rotary_base or 0:,g} in layers with a window": c.local_rotary_base,
        f"rotary angles stretched by {c.rotary_scaling.kind if c.rotary_scaling else ''}": c.rotary_scaling,
        "a norm of the embeddings": c.embedding_norm,
        f"vectors for {c.token_types} kinds of text": c.token_types,
        f"a {c.head_hidden} layer before the head": c.head_hidden,
        f"attention scores capped at {c.attention_softcap}": c.attention_softcap,
        f"attention scale {c.attention_scale}": c.attention_scale,
        "embeddings times √d_model": c.embedding_scale,
        f"a table of {c.bigram or 0:,} token pairs": c.bigram,
        f"dropout {c.dropout:g} in training": c.dropout,
        f"dropout {c.attention_dropout:g} of attention patterns in training": c.attention_dropout,
        "biases in attention": c.attention_bias and c.attention_out_bias and c.attention_key_bias,
        "biases in attention but for keys": c.attention_bias and c.attention_out_bias and not c.attention_key_bias,
        "biases of queries, keys and values": c.attention_bias and c.attention_key_bias and not c.attention_out_bias,
        "biases of queries and values": c.attention_bias and not c.attention_key_bias and not c.attention_out_bias,
        "biases of keys": c.attention_key_bias and not c.attention_bias,
        "biases behind attention": c.attention_out_bias and not c.attention_bias,
        "biases in the MLP": c.mlp_bias,
    }
    return tuple(text for text, is_so in unusual.items() if is_so)


def windowed_in_words(config: ModelConfig) -> str:
    """In how many layers there is a window, where it is not all of them."""
    layers = config.windowed_layers
    return "" if layers is None else f" in {sum(layers)} of {len(layers)} layers"


POOLED = {
    "mean": "the mean of its vectors",
    "first": "the vector of its first token",
    "max": "the largest value of each of its channels",
}


def tokenizer_in_words(tokenizer: Tokenizer) -> str:
    """Kind and size: ``bpe tokenizer, 1,024 tokens, of which <|pad|>, <|endoftext|> are special``."""
    special = ", ".join(sorted(tokenizer.special_tokens, key=tokenizer.special_tokens.__getitem__))
    ending = f", of which {special} are special" if special else ""
    return f"{tokenizer.kind} tokenizer, {tokenizer.vocab_size:,} tokens{ending}"
