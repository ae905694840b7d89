"""Every kind of model as the laws run it: the fields that make one, one way to call them all, and batches with padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from glassformer.models import Model

LABELS = ("good", "bad", "odd")
TWO_VOCABULARIES = {"shared_embedding": False, "encoder": {"vocab_size": 19}}
# Every width another than the decoder's, so that no two can be mistaken for each other.
OTHER_ENCODER = {
    "shared_embedding": False,
    "encoder": {
        "vocab_size": 19,
        "d_model": 20,
        "n_layers": 3,
        "n_heads": 2,
        "d_head": 8,
        "d_value": 7,
        "d_ff": 26,
        "norm": "layernorm",
        "norm_place": "post",
        "positions": "learned",
        "mlp": "gelu",
        "max_len": 40,
    },
}

KINDS: dict[str, dict[str, Any]] = {
    "decoder": {"shape": "decoder"},
    "encoder": {"shape": "encoder"},
    "labels": {"shape": "encoder", "head": "labels", "labels": LABELS},
    "labels of the first": {"shape": "encoder", "head": "labels", "labels": LABELS, "pooling": "first"},
    "labels of the largest": {"shape": "encoder", "head": "labels", "labels": LABELS, "pooling": "max"},
    "several labels": {"shape": "encoder", "head": "labels", "labels": LABELS, "several_labels": True},
    "tags": {"shape": "encoder", "head": "tags", "labels": LABELS},
    "pooled": {"shape": "encoder", "head": "pooled"},
    "pooled first": {"shape": "encoder", "head": "pooled", "pooling": "first"},
    "pooled largest": {"shape": "encoder", "head": "pooled", "pooling": "max"},
    "encoder-decoder": {"shape": "encoder_decoder"},
    "one matrix": {"shape": "encoder_decoder", "tied": True},
    "two vocabularies": {"shape": "encoder_decoder", **TWO_VOCABULARIES},
    "two vocabularies, tied": {"shape": "encoder_decoder", "tied": True, **TWO_VOCABULARIES},
    "another encoder": {"shape": "encoder_decoder", **OTHER_ENCODER},
}
VECTORS = {"size": 5, "strides": (2, 2)}
# Models whose encoder reads vectors: convolutions of every kind, a linear map, every head, CTC beside attention and alone.
HEARING: dict[str, dict[str, Any]] = {
    "vectors to labels": {"shape": "encoder", "head": "labels", "labels": LABELS, "vectors": VECTORS},
    "vectors to tokens": {"shape": "encoder", "vectors": VECTORS, "positions": "sinusoidal"},
    "vectors to tags": {
        "shape": "encoder",
        "head": "tags",
        "labels": LABELS,
        "vectors": {"size": 5},
        "positions": "learned",
        "embedding_norm": True,
    },
    "vectors to a vector": {
        "shape": "encoder",
        "head": "pooled",
        "vectors": {"size": 5, "strides": (1, 3), "activation": "silu"},
        "positions": "alibi",
    },
    "vectors to text": {"shape": "encoder_decoder", "vectors": VECTORS, "positions": "relative"},
    "vectors to text with CTC": {"shape": "encoder_decoder", "vectors": VECTORS, "ctc_blank": 0},
    "vectors of another encoder": {
        "shape": "encoder_decoder",
        **OTHER_ENCODER,
        "vectors": {"size": 6, "strides": (3,), "activation": "gelu_tanh"},
        "ctc_blank": 2,
    },
}
EVERY_KIND = KINDS | HEARING
OF_THE_TEXT = {"labels", "pooled"}  # heads that give one answer for a whole text


def call(model: Model, ids: Tensor, **given: Any) -> Tensor:
    """The model's answer. An encoder-decoder that was given no source reads one, the same for the same rows. An encoder of
    vectors reads a vector for each of the ids."""
    if model.config.vectors is not None and model.config.shape == "encoder":
        ids = vectors_of(model, ids)
    if model.config.shape == "encoder_decoder" and not {"source", "memory", "cache"} & given.keys():
        given["source"] = sources(model, len(ids))
    return model(ids, **given)


def sources(model: Model, rows: int, width: int = 6) -> Tensor:
    """Source ids, or vectors, for a batch: rows x width, no two rows alike."""
    if model.config.vectors is not None:
        return vectors_of(model, torch.arange(rows * width).view(rows, width) * 5 + 2)
    return (torch.arange(rows * width).view(rows, width) * 5 + 2) % model.config.source_side().vocab_size


def vectors_of(model: Model, ids: Tensor) -> Tensor:
    """A vector for each id, the same for the same one: ... F."""
    assert model.config.vectors is not None
    channels = torch.arange(1, model.config.vectors.size + 1)
    return ((ids[..., None] + 1) * channels * 0.7).sin().to(next(model.parameters()).dtype)


def padded(texts: Sequence[Tensor], side: str, width: int) -> tuple[Tensor, Tensor]:
    """Texts of different lengths as one batch: ids, and positions, -1 where there is padding."""
    ids, at = torch.full((len(texts), width), 7), torch.full((len(texts), width), -1)
    for row, text in enumerate(texts):
        start = width - len(text) if side == "left" else 0
        ids[row, start : start + len(text)] = text
        at[row, start : start + len(text)] = torch.arange(len(text))
    return ids, at


# What published families compute and models of our own seldom do, by what is odd about it.
PUBLISHED: dict[str, dict[str, Any]] = {
    "sines, then cosines": {"positions": "sinusoidal_halves"},
    "rows before position 0": {"positions": "learned", "position_offset": 2, "embedding_norm": True},
    "kinds of text": {
        "shape": "encoder",
        "token_types": 2,
        "embedding_norm": True,
        "norm": "layernorm",
        "norm_bias": True,
        "norm_place": "post",
        "positions": "learned",
        "head_hidden": "gelu",
        "head_bias": True,
    },
    "a layer before labels": {
        "shape": "encoder",
        "head": "labels",
        "labels": LABELS,
        "head_hidden": "tanh",
        "pooling": "first",
    },
    "the largest of each channel": {
        "shape": "encoder",
        "head": "labels",
        "labels": LABELS,
        "head_hidden": "relu",
        "pooling": "max",
    },
    "a vector of any length": {"shape": "encoder", "head": "pooled", "pooling": "max", "normalise": False},
    "norms on both sides": {
        "n_layers": 2,
        "norm_place": "both",
        "norm": "rmsnorm_from_one",
        "window": 2,
        "windowed_layers": (True, False),
        "local_rotary_base": 50.0,
        "rotary_scaling": {"kind": "linear", "factor": 2.0},
    },
    "norms on both sides of both": {
        "shape": "encoder_decoder",
        "norm_place": "both",
        "attention_bias": True,
        "attention_out_bias": False,
    },
    **{
        f"stretched by {kind}": {"rotary_scaling": {"kind": kind, "factor": 4.0, "original_max_len": 4}}
        for kind in ("yarn", "dynamic")
    },
}
