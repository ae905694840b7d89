"""Parity with torch's own transformer layers: same weights in, same numbers out, to 1e-6 in float32, 1e-12 in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from glassformer.models import EncoderDecoder, ModelConfig, build_model, preset
from glassformer.models.stack import build_block
from glassformer.nn.cache import Memory
from glassformer.nn.positions import Place, unturned
from glassformer.ops.masks import look

D, HEADS, F = 24, 4, 40
NEAR = {torch.float32: {"atol": 1e-6, "rtol": 1e-6}, torch.float64: {"atol": 1e-12, "rtol": 1e-12}}
# Before the norm numbers grow, and with them the rounding of float32: there float64 tells the same more sharply.
CHOICES = pytest.mark.parametrize(
    ("place", "dtype"), [("post", torch.float32), ("post", torch.float64), ("pre", torch.float64)], ids=str
)
ACTIVATIONS = pytest.mark.parametrize("activation", ["relu", "gelu"])
LENGTHS, SOURCE_LENGTHS = (7, 1, 4), (3, 9, 5)


def config(place, activation):
    return ModelConfig.parse(
        {
            "vocab_size": 29,
            "d_model": D,
            "n_heads": HEADS,
            "d_ff": F,
            "norm_place": place,
            "mlp": activation,
            "norm": "layernorm",
            "norm_bias": True,
            "norm_eps": 1e-5,
            "qk_norm": False,
            "positions": "none",
            "attention_bias": True,
            "mlp_bias": True,
        }
    )


def theirs(kind, place, activation, dtype):
    """A layer of torch's, every weight random, so that none holds only because it is still zero or one."""
    layer = kind(
        *(D, HEADS, F),
        dropout=0.0,
        activation=activation,
        norm_first=place == "pre",
        batch_first=True,
        layer_norm_eps=1e-5,
    )
    for name, weight in layer.named_parameters():
        weight.requires_grad_(False).normal_(std=0.3).add_(1.0 if "norm" in name and name.endswith("weight") else 0.0)
    return layer.to(dtype)


def copy_attention(ours, theirs):
    for projection, weight, bias in zip(
        (ours.q_proj, ours.k_proj, ours.v_proj),
        theirs.in_proj_weight.chunk(3),
        theirs.in_proj_bias.chunk(3),
        strict=True,
    ):
        projection.weight.copy_(weight)
        projection.bias.copy_(bias)
    ours.o_proj.load_state_dict(theirs.out_proj.state_dict())


def copy_layer(block, layer):
    """Their weights into our block: of an encoder layer, or of a decoder layer with its look at the memory."""
    block.requires_grad_(False)
    copy_attention(block.attention, layer.self_attn)
    block.mlp.up_proj.load_state_dict(layer.linear1.state_dict())
    block.mlp.down_proj.load_state_dict(layer.linear2.state_dict())
    norms = [block.attention_norm, block.mlp_norm]
    if block.cross_attention is not None:
        copy_attention(block.cross_attention, layer.multihead_attn)
        norms.insert(1, block.cross_attention_norm)
    for number, norm in enumerate(norms, start=1):
        norm.load_state_dict(getattr(layer, f"norm{number}").state_dict())
    return block


def positions(lengths):
    """Positions of texts of these lengths, padded with -1."""
    return torch.stack([torch.where(torch.arange(max(lengths)) < n, torch.arange(max(lengths)), -1) for n in lengths])


@CHOICES
@ACTIVATIONS
@pytest.mark.parametrize(
    "training", [False, True], ids=["evaluating", "training"]
)  # torch has a fast path for the first
@torch.no_grad()
def test_an_encoder_layer(place, activation, dtype, training):
    layer = theirs(nn.TransformerEncoderLayer, place, activation, dtype).train(training)
    block = copy_layer(build_block(config(place, activation), 0).to(dtype), layer).train(training)
    x, at = torch.randn(3, 7, D, dtype=dtype), positions(LENGTHS)
    unpadded = block(x, Place(look(torch.arange(7)[None], torch.arange(7)[None], causal=False), unturned))
    assert_close(unpadded, layer(x), **NEAR[dtype])
    padded = block(x, Place(look(at, at, causal=False), unturned))
    expected = layer(x, src_key_padding_mask=at < 0)
    assert_close(padded[at >= 0], expected[at >= 0], **NEAR[dtype])
    assert (padded - unpadded)[at >= 0].abs().max() > 1e-3


@CHOICES
@ACTIVATIONS
@torch.no_grad()
def test_a_decoder_layer(place, activation, dtype):
    layer = theirs(nn.TransformerDecoderLayer, place, activation, dtype)
    block = copy_layer(build_block(config(place, activation), 0, d_memory=D).to(dtype), layer)
    x, at = torch.randn(3, 7, D, dtype=dtype), positions(LENGTHS)
    source, source_at = torch.randn(3, 9, D, dtype=dtype), positions(SOURCE_LENGTHS)
    triangle = torch.ones(7, 7, dtype=torch.bool).triu(1)
    here = torch.arange(7)[None]
    unpadded = block(x, Place(look(here, here, causal=True), unturned), None, Memory(source))
    assert_close(unpadded, layer(x, source, tgt_mask=triangle), **NEAR[dtype])
    padded = block(x, Place(look(at, at, causal=True), unturned), None, Memory(source, source_at))
    hidden = {"tgt_key_padding_mask": at < 0, "memory_key_padding_mask": source_at < 0}
    expected = layer(x, source, tgt_mask=triangle, **hidden)
    assert_close(padded[at >= 0], expected[at >= 0], **NEAR[dtype])
    assert (padded - unpadded)[at >= 0].abs().max() > 1e-3


@pytest.mark.parametrize("place", ["post", "pre"])
@torch.no_grad()
def test_a_whole_transformer(place):
    """The paper's, small: scaled embeddings with sinusoids, two stacks, and the one matrix as the last linear map."""
    sizes = {"d_model": D, "n_heads": HEADS, "d_ff": F, "n_layers": 3, "norm_place": place, "dropout": 0.0}
    model = build_model(ModelConfig.parse({**preset("vaswani-base"), **sizes, "vocab_size": 29})).double().eval()
    assert isinstance(model, EncoderDecoder)
    stacks = []
    for stack, kind in (
        (model.encoder, nn.TransformerEncoderLayer),
        (model.decoder, nn.TransformerDecoderLayer),
    ):
        layers = [theirs(kind, place, "relu", torch.float64) for _ in stack.blocks]
        for block, layer in zip(stack.blocks, layers, strict=True):
            copy_layer(block, layer)
        stacks.append(layers)
    source_at, at = positions(SOURCE_LENGTHS), positions(LENGTHS)
    source, ids = torch.randint(29, source_at.shape), torch.randint(29, at.shape)

    def embedded(ids):
        channel = torch.arange(0, D, 2)
        angle = torch.arange(ids.shape[1])[:, None] / 10_000 ** (channel / D)
        code = torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(-2)
        return model.encoder.embedding.token.weight[ids] * math.sqrt(D) + code

    memory = embedded(source)
    for layer in stacks[0]:
        memory = layer(memory, src_key_padding_mask=source_at < 0)
    if place == "pre":
        memory = nn.functional.layer_norm(memory, (D,))
    x, triangle = embedded(ids), torch.ones(7, 7, dtype=torch.bool).triu(1)
    for layer in stacks[1]:
        hidden = {"tgt_key_padding_mask": at < 0, "memory_key_padding_mask": source_at < 0}
        x = layer(x, memory, tgt_mask=triangle, **hidden)
    if place == "pre":
        x = nn.functional.layer_norm(x, (D,))
    logits = x @ model.encoder.embedding.token.weight.T
    found = model(ids, at=at, source=source, source_at=source_at)
    assert_close(found[at >= 0], logits[at >= 0].float(), atol=1e-5, rtol=1e-6)  # sinusoids are float32 here
