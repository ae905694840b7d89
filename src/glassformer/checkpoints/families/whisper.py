"""Whisper (Radford et al. 2022): two convolutions and an encoder for log-mel frames, a decoder for text, learned positions."""

from __future__ import annotations

from typing import Any

from glassformer.checkpoints.families.bart import ACTIVATIONS, DECODER_LAYER, ENCODER_LAYER, NAMES
from glassformer.checkpoints.families.family import Family, Layout
from glassformer.checkpoints.families.keys import Keys
from glassformer.checkpoints.families.rules import Rule, rename
from glassformer.models import ModelConfig

STRIDES = (1, 2)  # of the two convolutions
FIXED = {
    "shape": "encoder_decoder",
    "shared_embedding": False,
    "norm": "layernorm",
    "norm_place": "pre",
    "norm_eps": 1e-5,
    "norm_gain": True,
    "norm_bias": True,
    "qk_norm": False,
    "attention_bias": True,
    "attention_key_bias": False,
    "attention_out_bias": True,
    "mlp_bias": True,
    "head_bias": False,
    "positions": "learned",
}
WRITTEN, SCORED = "model.decoder.embed_tokens.weight", "proj_out.weight"

RULES = (
    *rename("model.encoder.layers.{layer}.", "encoder.blocks.{layer}.", ENCODER_LAYER),
    *rename("model.decoder.layers.{layer}.", "decoder.blocks.{layer}.", DECODER_LAYER),
    *rename(
        "model.encoder.",
        "encoder.",
        {"conv1": "embedding.convolutions.0.conv", "conv2": "embedding.convolutions.1.conv", "layer_norm": "norm"},
    ),
    *rename("model.decoder.", "decoder.", {"layer_norm": "norm"}),
    Rule("model.encoder.embed_positions.weight", ("encoder.positions.table.weight",)),
    Rule("model.decoder.embed_positions.weight", ("decoder.positions.table.weight",)),
    Rule(WRITTEN, ("decoder.embedding.token.weight",)),
    Rule(SCORED, ("head.linear.weight",)),
)

# What changes no number that a model computes: rates of training, settings of generating, and those of another architecture.
IDLE = frozenset(
    {
        "activation_dropout",
        "apply_spec_augment",
        "begin_suppress_tokens",
        "classifier_proj_size",
        "decoder_layerdrop",
        "encoder_layerdrop",
        "forced_decoder_ids",
        "init_std",
        "mask_feature_length",
        "mask_feature_min_masks",
        "mask_feature_prob",
        "mask_time_length",
        "mask_time_min_masks",
        "mask_time_prob",
        "max_length",
        "median_filter_width",
        "num_hidden_layers",
        "suppress_tokens",
        "use_weighted_layer_sum",
    }
)


def layout(config: ModelConfig) -> Layout:
    """The weight file: the matrix that scores tokens is that of their embeddings, where they are tied."""
    names = {SCORED: WRITTEN}
    return Layout(WHISPER.architecture, RULES, also=names if config.tied else {})


def write(config: ModelConfig) -> dict[str, Any]:
    """The words of Whisper's config.json for a model."""
    source = config.source_side()
    values: dict[str, Any] = {
        "activation_dropout": 0.0,
        "activation_function": NAMES.get(config.mlp, "gelu"),
        "attention_dropout": config.attention_dropout,
        "d_model": config.d_model,
        "dropout": config.dropout,
        "is_encoder_decoder": True,
        "max_source_positions": source.max_len,
        "max_target_positions": config.max_len,
        "num_hidden_layers": source.n_layers,
        "num_mel_bins": config.vectors.size if config.vectors else 0,
        "scale_embedding": False,
        "tie_word_embeddings": config.tied,
        "vocab_size": config.vocab_size,
    }
    for side, stack in (("encoder", source), ("decoder", config)):
        values |= {
            f"{side}_attention_heads": stack.n_heads,
            f"{side}_ffn_dim": stack.d_ff,
            f"{side}_layers": stack.n_layers,
        }
    return values


def read(keys: Keys) -> dict[str, Any]:
    """The fields that Whisper's config.json decides. Raises CheckpointError."""
    keys.only("scale_embedding", False)
    keys.only("is_decoder", False)
    keys.only("quantization_config")
    d_model = keys.need("d_model")
    sides: dict[str, dict[str, Any]] = {}
    for side, length in (("encoder", "max_source_positions"), ("decoder", "max_target_positions")):
        heads = keys.need(f"{side}_attention_heads")
        if isinstance(d_model, int) and isinstance(heads, int) and heads and d_model % heads:
            raise keys.cannot("d_model", d_model, f"a multiple of {side}_attention_heads={heads}")
        sides[side] = {
            "d_ff": keys.need(f"{side}_ffn_dim"),
            "max_len": keys.need(length),
            "n_heads": heads,
            "n_layers": keys.need(f"{side}_layers"),
        }
    return {
        **FIXED,
        **sides["decoder"],
        "attention_dropout": keys.get("attention_dropout", 0.0),
        "d_model": d_model,
        "dropout": keys.get("dropout", 0.0),
        "encoder": sides["encoder"] if sides["encoder"] != sides["decoder"] else None,
        "mlp": keys.choose("activation_function", "gelu", ACTIVATIONS),
        "tied": keys.get("tie_word_embeddings", True),
        "vectors": {"size": keys.need("num_mel_bins"), "strides": STRIDES, "activation": "gelu"},
        "vocab_size": keys.need("vocab_size"),
    }


WHISPER = Family(
    name="Whisper",
    model_type="whisper",
    architecture="WhisperForConditionalGeneration",
    write=write,
    read=read,
    rules=RULES,
    layout=layout,
    prefix="model.",
    idle=IDLE,
)
