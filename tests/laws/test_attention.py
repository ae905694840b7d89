"""Laws of attention: the fused kernel equals the readable definition, and masks hide what their rules say."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from glassformer.nn.attention import Attention
from glassformer.nn.positions import Place, unturned
from glassformer.ops import attention as ops
from glassformer.ops.masks import RULES, Look, later, look
from glassformer.trace import watch

TOLERANCE = {"atol": 1e-5, "rtol": 1e-5}


@st.composite
def problems(draw, *, square=False):
    """Queries, keys, values, mask, bias and scale of any sizes; rows that may look nowhere are among them."""
    batch, groups, per_group = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    queries = draw(st.integers(1, 7))
    keys = queries if square else draw(st.integers(1, 9))
    d_head, d_value = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    random = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    heads = groups * per_group
    q = 2 * torch.randn(batch, heads, queries, d_head, generator=random)
    k = 2 * torch.randn(batch, groups, keys, d_head, generator=random)
    v = torch.randn(batch, groups, keys, d_value, generator=random)
    rows = draw(st.sampled_from([1, batch]))
    mask = torch.rand(rows, 1, queries, keys, generator=random) < draw(st.sampled_from([0.0, 0.3, 0.8, 1.0]))
    bias = torch.randn(rows, heads, queries, keys, generator=random) if draw(st.booleans()) else None
    return q, k, v, mask, bias, draw(st.sampled_from([d_head**-0.5, 1.0, 1 / 30]))


def one_by_one(q, k, v, mask, bias, scale):
    """Attention as loops over batch, head and query, in float64: softmax over the visible keys, else zero."""
    batch, heads, queries, _ = q.shape
    mask = mask.expand(batch, 1, -1, -1)
    out = torch.zeros(batch, heads, queries, v.shape[-1], dtype=torch.float64)
    for b in range(batch):
        for h in range(heads):
            g = h * k.shape[1] // heads  # query heads share keys and values in order
            for i in range(queries):
                visible = mask[b, 0, i].nonzero().flatten()
                if len(visible) == 0:
                    continue
                score = k[b, g, visible].double() @ q[b, h, i].double() * scale
                if bias is not None:
                    score = score + bias.expand(batch, -1, -1, -1)[b, h, i, visible].double()
                out[b, h, i] = score.softmax(0) @ v[b, g, visible].double()
    return out.float()


@given(problems())
def test_the_fused_kernel_the_definition_and_plain_loops_agree(problem):
    q, k, v, mask, bias, scale = problem
    expected = one_by_one(q, k, v, mask, bias, scale)
    assert_close(ops.attend_slowly(q, k, v, mask, scale, bias), expected, **TOLERANCE)
    assert_close(ops.attend(q, k, v, scale=scale, mask=mask, bias=bias), expected, **TOLERANCE)


@given(problems(square=True), st.booleans())
def test_the_causal_flag_is_the_triangle(problem, masked):
    q, k, v, mask, bias, scale = problem
    triangle = torch.ones(mask.shape[-2:], dtype=torch.bool).tril()
    if not masked or bias is None:
        fused = ops.attend(q, k, v, scale=scale, causal=True, bias=bias)
        assert_close(fused, ops.attend_slowly(q, k, v, triangle, scale, bias), **TOLERANCE)
    else:
        fused = ops.attend(q, k, v, scale=scale, causal=True, bias=bias, mask=mask)
        assert_close(fused, ops.attend_slowly(q, k, v, triangle & mask, scale, bias), **TOLERANCE)


@pytest.mark.parametrize("with_bias", [False, True])
def test_a_query_that_may_look_nowhere_gets_zeros_and_harmless_gradients_on_both_ways(with_bias):
    q, k, v = (torch.randn(1, 2, 3, 4, requires_grad=True) for _ in range(3))
    bias = torch.randn(1, 2, 3, 3) if with_bias else None
    mask = torch.tensor([[1, 0, 0], [0, 0, 0], [1, 0, 1]], dtype=torch.bool)[None, None]
    ways = (
        ops.attend(q, k, v, scale=0.5, mask=mask, bias=bias),
        ops.attend_slowly(q, k, v, mask, 0.5, bias),
    )
    for z in ways:
        assert torch.equal(z[:, :, 1], torch.zeros(1, 2, 4))
        assert (z[:, :, [0, 2]] != 0).all()
        gradients = torch.autograd.grad(z.square().sum(), (q, k, v))
        assert all(gradient.isfinite().all() for gradient in gradients)
        assert torch.equal(gradients[0][:, :, 1], torch.zeros(1, 2, 4))


@given(problems(square=True))
def test_gradients_of_both_ways_agree(problem):
    q, k, v, mask, bias, scale = problem
    q, k, v = (x.double().requires_grad_() for x in (q, k, v))
    bias = None if bias is None else bias.double()
    fused = torch.autograd.grad(ops.attend(q, k, v, scale=scale, mask=mask, bias=bias).sin().sum(), (q, k, v))
    slow = torch.autograd.grad(ops.attend_slowly(q, k, v, mask, scale, bias).sin().sum(), (q, k, v))
    assert_close(fused, slow, atol=1e-8, rtol=1e-6)


@given(cap=st.floats(0.5, 50), problem=problems())
def test_the_soft_cap_bounds_scores_keeps_their_order_and_leaves_small_ones(cap, problem):
    q, k, _, _, _, scale = problem
    plain, capped = ops.scores(q, k, scale), ops.scores(q, k, scale, softcap=cap)
    assert (capped.abs() <= cap).all()
    assert_close(capped, cap * torch.tanh(plain / cap))
    assert_close(ops.scores(q, k, scale, softcap=1e6), plain, atol=1e-3, rtol=1e-3)
    bias = torch.full_like(plain, 100.0)
    assert_close(ops.scores(q, k, scale, bias=bias, softcap=cap), capped + 100.0)  # the bias is not capped


def test_softmax_is_one_over_what_is_seen():
    rows = ops.softmax(torch.tensor([[1.0, 2.0, 3.0], [1000.0, -math.inf, 1000.0], [-math.inf] * 3]))
    assert_close(rows.sum(-1), torch.tensor([1.0, 1.0, 0.0]))
    assert rows[1].tolist() == [0.5, 0.0, 0.5]


def attention(**fields):
    sizes = {"layer": 0, "d_model": 8, "n_heads": 4, "n_kv_heads": 2, "d_head": 6, "d_value": 5}
    return Attention(**{**sizes, "bias": True, "out_bias": True, **fields})


def test_grouped_heads_are_full_heads_that_repeat_their_keys_and_values():
    grouped, full = attention(n_kv_heads=2), attention(n_kv_heads=4)
    weights = grouped.state_dict()
    for name, width in (("k_proj", 6), ("v_proj", 5)):
        for kind in ("weight", "bias"):
            each = weights[f"{name}.{kind}"].unflatten(0, (2, width))
            weights[f"{name}.{kind}"] = each[[0, 0, 1, 1]].flatten(0, 1)
    full.load_state_dict(weights)
    x, place = torch.randn(2, 7, 8), Place(Look(causal=True), unturned)
    assert_close(grouped(x, place), full(x, place), **TOLERANCE)


@pytest.mark.parametrize("n_kv_heads", [1, 2, 4])
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("causal", [False, True])
def test_attention_in_steps_equals_attention_fused(n_kv_heads, with_bias, causal):
    module = attention(n_kv_heads=n_kv_heads)
    bias = torch.randn(1, 4, 7, 7) if with_bias else None
    for seen in (Look(causal=causal), look(*[torch.arange(7)[None]] * 2, causal=causal, window=3)):
        x, place = torch.randn(2, 7, 8), Place(seen, unturned, bias)
        fused = module(x, place)
        with watch(module, "pattern"):
            assert_close(module(x, place), fused, **TOLERANCE)


def test_a_very_high_soft_cap_is_none():
    capped, plain = attention(softcap=1e4), attention()
    plain.load_state_dict(capped.state_dict())
    x, place = torch.randn(2, 7, 8), Place(Look(causal=True), unturned)
    assert_close(capped(x, place), plain(x, place), **TOLERANCE)


def test_dropout_falls_on_the_pattern_and_keeps_its_mean_on_both_ways():
    module = attention(dropout=0.5).train()
    x = torch.randn(1, 5, 8).expand(4000, -1, -1)
    place = Place(Look(causal=True), unturned)
    module.eval()
    expected = module(x[:1], place)[0]
    module.train()
    torch.manual_seed(0)
    fused = module(x, place)
    with watch(module, "pattern"):
        slow = module(x, place)
    for way in (fused, slow):
        assert not torch.equal(way[0], way[1])
        assert_close(way.mean(0), expected, atol=0.05, rtol=0)


@st.composite
def layouts(draw):
    """Positions, documents, a window and a prefix for a few rows of tokens, some of them padding."""
    batch, keys = draw(st.integers(1, 3)), draw(st.integers(1, 7))
    queries = draw(st.integers(1, keys))
    key_at = torch.tensor(
        [draw(st.lists(st.integers(-1, 8), min_size=keys, max_size=keys)) for _ in range(batch)], dtype=torch.long
    )
    query_at = key_at[:, keys - queries :]
    documents = None
    if draw(st.booleans()):
        numbers = torch.tensor(
            [draw(st.lists(st.integers(0, 2), min_size=keys, max_size=keys)) for _ in range(batch)], dtype=torch.long
        )
        documents = (numbers[:, keys - queries :], numbers)
    prefix = draw(st.none() | st.lists(st.integers(0, 8), min_size=batch, max_size=batch))
    return {
        "query_at": query_at,
        "key_at": key_at,
        "causal": draw(st.booleans()),
        "window": draw(st.none() | st.integers(1, 9)),
        "documents": documents,
        "prefix": None if prefix is None else torch.tensor(prefix),
    }


def rules_that_hide(layout, row, query, key):
    """The names of the rules by which this query may not look at this key, from the words of the docstring."""
    i, j = layout["query_at"][row, query].item(), layout["key_at"][row, key].item()
    in_prefix = layout["prefix"] is not None and j < layout["prefix"][row].item()
    hiding = []
    if j < 0:
        hiding.append("padding")
    if layout["causal"] and j > i and not in_prefix:
        hiding.append("later position")
    if layout["window"] is not None and abs(i - j) >= layout["window"]:
        hiding.append("outside the window")
    if layout["documents"] is not None:
        of_query, of_key = layout["documents"]
        if of_query[row, query] != of_key[row, key]:
            hiding.append("another document")
    return hiding


@given(layouts())
def test_the_rule_of_each_cell_is_one_that_hides_it_and_agrees_with_the_mask(layout):
    seen = look(**layout)
    batch, queries = layout["query_at"].shape
    keys = layout["key_at"].shape[1]
    rule = seen.rule(queries, keys, torch.device("cpu")).expand(batch, 1, -1, -1)
    mask = seen.mask.expand(batch, 1, -1, -1)
    assert torch.equal(mask, rule == 0)
    assert torch.equal(seen.may_look(queries, keys, torch.device("cpu")).expand_as(mask), mask)
    for row in range(batch):
        for query in range(queries):
            for key in range(keys):
                hiding = rules_that_hide(layout, row, query, key)
                name = RULES[rule[row, 0, query, key]]
                assert name == (hiding[0] if hiding else "may look")


def test_a_flag_alone_means_the_same_as_the_triangle_written_out():
    flag, at = Look(causal=True), torch.arange(5)[None]
    assert flag.mask is None
    written = look(at, at, causal=True)
    assert torch.equal(flag.may_look(5, 5, at.device), written.mask)
    assert torch.equal(flag.rule(5, 5, at.device), written.rule(5, 5, at.device))
    assert torch.equal(Look().may_look(2, 3, at.device), torch.ones(1, 1, 2, 3, dtype=torch.bool))
    assert later(at, at)[0].tolist() == [[key > query for key in range(5)] for query in range(5)]
