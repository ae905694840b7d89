"""Lookups as matrix products, attention as masking, shapes through the stack, and completion by the likeliest word.

Source: "Transformers from Scratch", https://e2eml.school/transformers.html.
"""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from glassformer.models import Decoder, ModelConfig
from glassformer.nn.attention import Attention
from glassformer.nn.mlp import MLPS
from glassformer.nn.positions import Place, unturned
from glassformer.ops.masks import Look
from glassformer.trace import watch

COMMANDS = ["directories", "files", "me", "my", "photos", "please", "show"]
NEXT = {  # which word follows which, and how often
    "show": {"me": 1.0},
    "me": {"my": 1.0},
    "my": {"directories": 0.2, "files": 0.3, "photos": 0.5},
    "directories": {"please": 1.0},
    "files": {"please": 1.0},
    "photos": {"please": 1.0},
    "please": {"please": 1.0},
}


def test_one_hot_words_match_themselves_and_nothing_else():
    find_my_files = F.one_hot(torch.tensor([1, 2, 0]), 3)  # files, find, my
    assert torch.equal(find_my_files @ find_my_files.T, torch.eye(3, dtype=torch.long))


def test_a_product_with_one_hot_rows_is_the_embedding_of_their_ids(random_model):
    table = torch.arange(8.0).reshape(4, 2)
    stacked = F.one_hot(torch.tensor([0, 3, 2]), 4).float()
    assert (stacked @ table).tolist() == [[0.0, 1.0], [6.0, 7.0], [4.0, 5.0]]  # the first, the fourth and the third row
    model, ids = random_model(), torch.randint(23, (2, 7))
    with watch(model, "decoder.embedding.token") as seen:
        model(ids)
    embedding = model.decoder.embedding.token
    assert isinstance(embedding, nn.Embedding)
    assert torch.equal(F.one_hot(ids, 23).float() @ embedding.weight, seen["decoder.embedding.token"])


def markov_chain():
    """A decoder without layers: each word's vector is its one-hot row, and the head is a table of transitions."""
    config = ModelConfig(
        vocab_size=7, d_model=7, n_heads=1, d_head=2, n_layers=0, norm_place="post", positions="none", max_len=8
    )
    model = Decoder(config).requires_grad_(False)
    model.decoder.embedding.token.weight.copy_(torch.eye(7))
    chances = torch.tensor([[NEXT[word].get(other, 0.0) for other in COMMANDS] for word in COMMANDS])
    model.head.linear.weight.copy_(chances.clamp(min=1e-30).log().T)
    return model


def ids_of(text):
    return torch.tensor([[COMMANDS.index(word) for word in text.split()]])


def test_a_transition_model_is_a_lookup_and_its_rows_are_the_chances_of_the_next_word():
    chances = markov_chain()(ids_of("show me my")).softmax(-1)[0]
    assert_close(chances[2], torch.tensor([0.2, 0.3, 0, 0, 0.5, 0, 0]))
    assert_close(chances.sum(-1), torch.ones(3))


def test_greedy_completion_takes_the_likeliest_word_each_time():
    model, ids = markov_chain(), ids_of("show")
    while ids.shape[1] < 5:
        ids = torch.cat((ids, model(ids)[:, -1:].argmax(-1)), dim=1)
    assert [COMMANDS[index] for index in ids[0]] == ["show", "me", "my", "photos", "please"]


def test_pairs_of_words_vote_for_the_next_and_masking_makes_the_vote_clear():
    """Pairs of an earlier word and "ran": the eight words that both sentences share vote half and half."""
    votes = torch.full((10, 2), 0.5)  # for "down" and for "please"
    votes[8] = torch.tensor([1.0, 0.0])  # (battery, ran)
    votes[9] = torch.tensor([0.0, 1.0])  # (program, ran)
    table = MLPS["relu"](10, 10, bias=False).requires_grad_(False)
    table.up_proj.weight.copy_(torch.eye(10))
    table.down_proj.weight.zero_()
    table.down_proj.weight[:2] = votes.T
    battery, program = torch.ones(2, 10)
    battery[9], program[8] = 0, 0
    assert table(program)[:2].tolist() == [4.0, 5.0]
    assert table(battery)[:2].tolist() == [5.0, 4.0]
    knowing = torch.zeros(10)
    knowing[8:] = 1
    assert table(program * knowing)[:2].tolist() == [0.0, 1.0]
    assert table(battery * knowing)[:2].tolist() == [1.0, 0.0]


def test_a_layer_with_relu_makes_features_of_word_pairs():
    """Inputs battery, program, ran and the constant one; features (battery, ran) and (program, ran); votes down, please."""
    mlp = MLPS["relu"](4, 2, bias=False).requires_grad_(False)
    mlp.up_proj.weight.copy_(torch.tensor([[1.0, -1.0, 1.0, -1.0], [-1.0, 1.0, 1.0, -1.0]]))
    mlp.down_proj.weight.zero_()
    mlp.down_proj.weight[:2] = torch.eye(2)
    with watch(mlp) as seen:
        out = mlp(torch.tensor([[1.0, 0.0, 1.0, 1.0], [0.0, 1.0, 1.0, 1.0]]))
    assert seen["pre"].tolist() == [[1.0, -1.0], [-1.0, 1.0]]
    assert seen["act"].tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert out[:, :2].tolist() == [[1.0, 0.0], [0.0, 1.0]]  # down after battery, please after program


@pytest.mark.parametrize(("n", "d_model", "d_k", "d_v", "h"), [(12, 8, 3, 5, 4), (12, 512, 64, 64, 8), (1, 2, 7, 1, 3)])
def test_shapes_through_multi_head_attention(n, d_model, d_k, d_v, h):
    module = Attention(
        layer=0, d_model=d_model, n_heads=h, n_kv_heads=h, d_head=d_k, d_value=d_v, bias=False, out_bias=False
    )
    with watch(module) as seen:
        module(torch.randn(1, n, d_model), Place(Look(causal=True), unturned))
    assert seen["q"].shape == seen["k"].shape == (1, h, n, d_k)
    assert seen["v"].shape == seen["z"].shape == (1, h, n, d_v)
    assert seen["scores"].shape == seen["masked"].shape == seen["pattern"].shape == (1, h, n, n)
    assert module.o_proj.weight.T.shape == (h * d_v, d_model)
    assert seen["out"].shape == (1, n, d_model)
    assert module.scale == 1 / math.sqrt(d_k)


def test_shapes_through_the_stack(random_model):
    """n words of a vocabulary of N: n by d_model from the embedding on, through every layer, n by N at the end."""
    n, vocabulary, d_model = 12, 13, 16
    model = random_model(vocab_size=vocabulary, d_model=d_model, n_layers=3)
    with watch(model) as seen:
        logits = model(torch.randint(vocabulary, (1, n)))
    stream = [name for name in seen if name.split(".")[-1].startswith(("resid_", "out", "token"))]
    assert len(stream) == 3 * (3 + 2 + 2) + 3 + 3 * 2  # blocks, their norms and sublayers; ends; norms of q and k
    for name in stream:
        wanted = (1, n, 4, 6) if name.endswith(("q_norm.out", "k_norm.out")) else (1, n, d_model)
        assert seen[name].shape == wanted, name
    assert model.decoder.embedding.token.weight.shape == (vocabulary, d_model)
    assert model.head.linear.weight.T.shape == (d_model, vocabulary)
    assert logits.shape == (1, n, vocabulary)


def test_the_future_is_minus_infinity_before_the_softmax_and_nothing_after_it(random_model):
    model = random_model()
    with watch(model, ["*.0.attention.masked", "*.0.attention.pattern"]) as seen:
        model(torch.randint(23, (1, 6)))
    future = torch.ones(6, 6).triu(1).bool()
    masked, pattern = seen["decoder.blocks.0.attention.masked"], seen["decoder.blocks.0.attention.pattern"]
    assert (masked[..., future] == -math.inf).all()
    assert masked[..., ~future].isfinite().all()
    assert (pattern[..., future] == 0).all()
    assert (pattern[..., ~future] > 0).all()
    assert_close(pattern[:, :, 0, 0], torch.ones(1, 4))  # the first word can only look at itself


def test_a_skip_connection_hands_on_what_a_silent_attention_would_lose(random_model):
    model = random_model()
    for block in model.decoder.blocks:
        block.attention.o_proj.weight.zero_()
    with watch(model, "*.resid_*") as seen:
        model(torch.randint(23, (1, 6)))
    for layer in range(2):
        where = f"decoder.blocks.{layer}"
        assert torch.equal(seen[f"{where}.resid_mid"], seen[f"{where}.resid_pre"])
