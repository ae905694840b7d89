"""Laws of the key/value cache: reading a text in pieces, through a cache, gives what reading it whole gives."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from glassformer.errors import ConfigError, GlassformerError
from glassformer.nn.block import BLOCKS
from glassformer.nn.cache import Cache
from glassformer.nn.mlp import MLPS
from glassformer.nn.norms import NORMS
from glassformer.nn.positions import POSITIONS

KV_HEADS = {"multi-head": 4, "grouped": 2, "multi-query": 1}
WINDOWS = {"full": None, "sliding": 4}
TOLERANCE = {"atol": 1e-5, "rtol": 1e-5}


@torch.no_grad()
def read(model, ids, cuts, cache, at=None):
    """The logits of `ids`, read through a cache in pieces of these lengths, as when text is generated."""
    pieces = ids.split(cuts, dim=1)
    places = [None] * len(pieces) if at is None else at.split(cuts, dim=1)
    return torch.cat([model(piece, at=place, cache=cache) for piece, place in zip(pieces, places, strict=True)], dim=1)


@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
@pytest.mark.parametrize("kv_heads", KV_HEADS.values(), ids=KV_HEADS)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("scheme", POSITIONS)
def test_decoding_with_a_cache_equals_recomputing(random_model, scheme, norm, kv_heads, window):
    model = random_model(positions=scheme, norm=norm, n_kv_heads=kv_heads, window=window)
    ids = torch.randint(23, (2, 14))
    whole = model(ids)
    for cuts in ([5] + [1] * 9, [3, 1, 4, 6], [14]):
        assert_close(read(model, ids, cuts, model.new_cache(2)), whole, **TOLERANCE)


@pytest.mark.parametrize(
    "fields",
    [
        *({"norm_place": place} for place in BLOCKS),
        *({"mlp": mlp} for mlp in MLPS),
        {"bigram": 600},
        {"bigram": 50},
        {"attention_softcap": 3.0},
        {"logit_softcap": 5.0, "logit_scale": 0.5},
        {"embedding_scale": True, "tied": True},
        {"qk_norm": False, "attention_bias": True, "mlp_bias": True, "head_bias": True},
        {"attention_scale": 1.0},
        {"rotary_scaling": {"kind": "llama3", "factor": 4, "original_max_len": 16}},
    ],
    ids=str,
)
@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
def test_decoding_with_a_cache_equals_recomputing_for_every_other_choice(random_model, fields, window):
    model = random_model(window=window, **fields)
    ids = torch.randint(23, (2, 12))
    cuts = [4, 1, 3, 1, 1, 2]
    assert_close(read(model, ids, cuts, model.new_cache(2)), model(ids), **TOLERANCE)


@given(
    scheme=st.sampled_from(sorted(POSITIONS)),
    window=st.none() | st.integers(1, 9),
    bigram=st.sampled_from([None, 40]),
    cuts=st.lists(st.integers(1, 7), min_size=1, max_size=8),
    seed=st.integers(0, 3),
)
def test_where_a_text_is_cut_does_not_matter(random_model, scheme, window, bigram, cuts, seed):
    length = sum(cuts)
    model = random_model(seed, positions=scheme, window=window, bigram=bigram, max_len=64, n_layers=1)
    ids = torch.randint(23, (1, length), generator=torch.Generator().manual_seed(seed))
    cache = model.new_cache(1)
    assert_close(read(model, ids, cuts, cache), model(ids), **TOLERANCE)
    assert cache.length == length


@pytest.mark.parametrize("bigram", [None, 40])
@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
@pytest.mark.parametrize("scheme", POSITIONS)
def test_rows_of_different_lengths_padded_on_the_left_decode_as_if_each_were_alone(
    random_model, scheme, window, bigram
):
    model = random_model(positions=scheme, window=window, bigram=bigram)
    lengths, longest, more = [1, 9, 6], 9, 7
    texts = [torch.randint(23, (1, length + more)) for length in lengths]
    ids = torch.full((3, longest), 22)
    at = torch.full((3, longest), -1)
    for row, (text, length) in enumerate(zip(texts, lengths, strict=True)):
        ids[row, longest - length :] = text[0, :length]
        at[row, longest - length :] = torch.arange(length)
    for cuts, ways in [([1] * more, "given"), ([1] * more, "counted"), ([3, 1, 3], "given"), ([7], "counted")]:
        cache = model.new_cache(3)
        first = read(model, ids, [4, 5], cache, at)
        new = torch.cat([text[:, length:] for text, length in zip(texts, lengths, strict=True)])
        new_at = torch.tensor(lengths)[:, None] + torch.arange(more)
        rest = read(model, new, cuts, cache, new_at if ways == "given" else None)
        for row, (text, length) in enumerate(zip(texts, lengths, strict=True)):
            alone = model(text)[0]
            assert_close(first[row, longest - length :], alone[:length], **TOLERANCE)
            assert_close(rest[row], alone[length:], **TOLERANCE)


@pytest.mark.parametrize("scheme", POSITIONS)
def test_rows_padded_on_the_right_decode_as_if_each_were_alone(random_model, scheme):
    model = random_model(positions=scheme, bigram=40)
    text = torch.randint(23, (1, 8))
    ids, at = torch.full((2, 6), 22), torch.tensor([[0, 1, 2, -1, -1, -1], [0, 1, 2, 3, 4, 5]])
    ids[0, :3], ids[1] = text[0, :3], text[0, :6]
    cache = model.new_cache(2)
    model(ids, at=at, cache=cache)
    alone = model(text)[0]
    for step in range(2):
        logits = model(torch.stack((text[0, 3 + step], text[0, 6 + step]))[:, None], cache=cache)
        assert_close(logits[0, 0], alone[3 + step], **TOLERANCE)
        assert_close(logits[1, 0], alone[6 + step], **TOLERANCE)


def test_a_sliding_cache_refuses_padding_that_would_push_real_tokens_out(random_model):
    model = random_model(window=3)
    with pytest.raises(GlassformerError, match="pad on the left"):
        model(torch.zeros(1, 4, dtype=torch.long), at=torch.tensor([[0, 1, -1, -1]]), cache=model.new_cache(1))


@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
@pytest.mark.parametrize("scheme", POSITIONS)
def test_reordering_the_cache_equals_reordering_the_texts(random_model, scheme, window):
    model = random_model(positions=scheme, window=window, bigram=40)
    past, new = torch.randint(23, (3, 7)), torch.randint(23, (3, 2))
    rows = torch.tensor([2, 0, 2])
    cache = model.new_cache(3)
    model(past, cache=cache)
    cache.reorder(rows)
    assert_close(model(new, cache=cache), model(torch.cat((past[rows], new), dim=1))[:, -2:], **TOLERANCE)


def test_rows_of_a_cache_may_become_fewer_or_more(random_model):
    model = random_model()
    past, new = torch.randint(23, (2, 5)), torch.randint(23, (3, 1))
    cache = model.new_cache(2)
    model(past, cache=cache)
    for rows in (torch.tensor([1]), torch.tensor([0, 0, 0])):
        cache.reorder(rows)
    expected = model(torch.cat((past[[1, 1, 1]], new), dim=1))[:, -1:]
    assert_close(model(new, cache=cache), expected, **TOLERANCE)


def test_a_full_cache_says_how_many_it_holds_and_keeps_what_it_has(random_model):
    model = random_model()
    ids = torch.randint(23, (1, 6))
    cache = model.new_cache(1, max_len=6)
    model(ids[:, :5], cache=cache)
    with pytest.raises(GlassformerError, match=r"the cache holds 6 tokens and 5 are in it: no room for 2 more"):
        model(ids[:, :2], cache=cache)
    assert_close(model(ids[:, 5:], cache=cache), model(ids)[:, 5:], **TOLERANCE)


def test_a_cache_smaller_than_the_window_is_full_rather_than_forgetful(random_model):
    model = random_model(window=9)
    ids = torch.randint(23, (1, 8))
    cache = model.new_cache(1, max_len=6)
    assert_close(read(model, ids[:, :6], [2, 4], cache), model(ids[:, :6]), **TOLERANCE)
    with pytest.raises(GlassformerError, match="the cache holds 6 tokens"):
        model(ids[:, 6:7], cache=cache)


def test_a_sliding_cache_stays_as_small_as_its_window(random_model):
    model = random_model(window=4)
    cache = model.new_cache(1, max_len=1000)
    shapes = {(tuple(layer.k.shape), tuple(layer.v.shape)) for layer in cache.layers}
    assert shapes == {((1, 4, 4, 6), (1, 4, 4, 5))}
    for token in torch.randint(23, (1, 40)).split(1, dim=1):
        model(token, cache=cache)
    assert {tuple(layer.k.shape) for layer in cache.layers} == {(1, 4, 4, 6)}
    assert cache.length == 40


@pytest.mark.parametrize("scheme", [name for name in POSITIONS if name in ("learned", "sinusoidal")])
def test_positions_that_the_model_has_no_code_for_are_refused(random_model, scheme):
    model = random_model(positions=scheme, max_len=4)
    with pytest.raises(ConfigError, match="5 tokens do not fit into max_len=4"):
        model(torch.zeros(1, 5, dtype=torch.long))
    cache = model.new_cache(1, max_len=9)
    model(torch.zeros(1, 4, dtype=torch.long), cache=cache)
    with pytest.raises(ConfigError, match="5 tokens do not fit into max_len=4"):
        model(torch.zeros(1, 1, dtype=torch.long), cache=cache)


def test_packed_documents_are_not_read_through_a_cache(random_model):
    model = random_model()
    with pytest.raises(ConfigError, match="packed documents"):
        model(torch.zeros(1, 2, dtype=torch.long), documents=torch.tensor([[0, 1]]), cache=model.new_cache(1))


def test_a_prefix_read_through_a_cache_is_seen_by_all_of_it(random_model):
    model = random_model()
    ids, prefix = torch.randint(23, (2, 9)), torch.tensor([4, 2])
    cache = model.new_cache(2)
    first = model(ids[:, :6], prefix=prefix, cache=cache)
    rest = [model(token, cache=cache) for token in ids[:, 6:].split(1, dim=1)]
    assert_close(torch.cat((first, *rest), dim=1), model(ids, prefix=prefix), **TOLERANCE)


@given(cuts=st.lists(st.integers(1, 6), min_size=1, max_size=10), window=st.integers(1, 7))
def test_a_ring_hands_out_the_newest_columns_and_their_positions(cuts, window):
    ring = Cache(n_layers=1, batch=1, n_kv_heads=1, d_head=1, d_value=1, max_len=100, window=window)
    ends = [0]
    for cut in cuts:
        ends.append(ends[-1] + cut)
    for start, end in pairwise(ends):
        at = torch.arange(start, end)[None]
        key_at = ring.advance(at, ragged=False)
        k, v = ring.extend(0, at[:, None, :, None].float(), -at[:, None, :, None].float())
        assert key_at[0].tolist() == k.flatten().int().tolist() == (-v).flatten().int().tolist()
        needed = set(range(max(0, start - window + 1), end))  # all that any of the new queries may look at
        assert needed <= set(key_at[0].tolist())
        assert ring.next_at.tolist() == [end]
