"""Every model verifies, and nothing that is wrong does: no recipe, no number of a run, no way of running it."""

from __future__ import annotations

import dataclasses
import itertools
import json

import pytest
import torch

from glassformer.lens.glass import verify
from glassformer.lens.glass.digests import Foreign
from glassformer.lens.glass.sizes import bytes_of, lengths_of
from glassformer.lens.glass.verify import agreements_of
from glassformer.lens.recording import record
from glassformer.models.presets import PRESETS
from glassformer.nn.mlp import MLPS
from glassformer.ops.masks import RULES
from shapes import EVERY_KIND, PUBLISHED, padded
from traces import SCHEMES, SHAPES, TINY, trace_ids

SHRUNK = {"vocab_size": 13, "max_len": 12, "d_model": 8, "n_layers": 1, "n_heads": 4, "d_head": 4, "dropout": 0.0}
PARTS = tuple(itertools.product(("layernorm", "rmsnorm"), ("relu", "swiglu"), (4, 2)))
OPTIONS = {
    "no positions": {"positions": "none"},
    "no layers": {"n_layers": 0},
    "caps": {"attention_softcap": 2.0, "logit_softcap": 3.0, "logit_scale": 0.5, "positions": "relative"},
    "a scale": {"attention_scale": 0.3, "embedding_scale": True, "positions": "alibi", "qk_norm": False},
    "pairs": {"bigram": 40},
    "few pairs": {"bigram": 400, "tied": True},
    "a window": {"window": 2, "n_layers": 2},
    "stretched": {"rotary_scaling": {"kind": "linear", "factor": 2.0}},
    "stretched as in Llama 3": {"rotary_scaling": {"kind": "llama3", "factor": 4.0, "original_max_len": 8}},
    "biases": {"norm_bias": True, "attention_bias": True, "mlp_bias": True, "head_bias": True},
    "no gains": {"norm_gain": False},
    "norms of heads": {"norm": "layernorm", "norm_bias": True, "norm_place": "post", "n_layers": 2},
    "five heads": {"positions": "alibi", "n_heads": 5, "n_kv_heads": 1},
    **{name: {"mlp": name} for name in MLPS},
    **PUBLISHED,
}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_with_all_its_parts_verifies(random_model, shape, scheme):
    places = set()
    for seed, (norm, mlp, groups) in enumerate(PARTS):
        place = "pre" if (seed + seed // 2 + seed // 4) % 2 else "post"
        fields = {"shape": shape, "positions": scheme, "norm": norm, "mlp": mlp, "n_kv_heads": groups}
        found = verify(trace_ids(random_model(seed, **TINY, **fields, norm_place=place)))
        assert found.ok, (norm, mlp, groups, found.render())
        places.add(place)
    assert places == {"pre", "post"}


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_verifies(random_model, name):
    fields = {key: value for key, value in PRESETS[name].items() if key not in ("d_ff", "bigram", "n_kv_heads")}
    fields |= {"n_kv_heads": 2} if "n_kv_heads" in PRESETS[name] else {}
    fields |= {"bigram": 40} if "bigram" in PRESETS[name] else {}
    found = verify(trace_ids(random_model(**{**fields, **SHRUNK})))
    assert found.ok, found.render()


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_every_kind_of_head_verifies(random_model, kind):
    found = verify(trace_ids(random_model(**{**TINY, **EVERY_KIND[kind]}), ids=(1, 0, 2, 1)))
    assert found.ok, found.render()


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_verifies(random_model, option):
    found = verify(trace_ids(random_model(**{**TINY, **OPTIONS[option]})))
    assert found.ok, found.render()


def test_a_single_token_verifies(random_model):
    assert verify(trace_ids(random_model(**TINY), ids=(4,))).ok


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_number_formats_verify(random_model, shape, dtype):
    found = verify(trace_ids(random_model(**{**TINY, "shape": shape}).to(dtype)))
    assert found.ok, found.render()


GIVEN = {
    "padding on the left": lambda model: given_padding("left"),
    "padding on the right": lambda model: given_padding("right"),
    "packed documents": lambda model: {"ids": torch.arange(12).view(2, 6), "documents": torch.tensor([[0, 0, 1, 1, 1, 2]] * 2)},
    "a prefix": lambda model: {"ids": torch.arange(12).view(2, 6), "prefix": torch.tensor([3, 1])},
}  # fmt: skip


def given_padding(side):
    ids, at = padded([torch.arange(3), torch.arange(5, 10)], side, 6)
    return {"ids": ids, "at": at}


@pytest.mark.parametrize("given", GIVEN)
@pytest.mark.parametrize("window", [None, 2])
@pytest.mark.parametrize("scheme", ["learned", "rotary", "alibi", "relative"])
def test_every_rule_that_hides_tokens_is_replayed(random_model, given, window, scheme):
    model = random_model(**{**TINY, "positions": scheme, "window": window})
    replay = record(model, **GIVEN[given](model))
    assert not [one for one in agreements_of(replay, no_file()) if not one.ok and one.name in replay.points]
    assert not [one for one in replay.compare() if not one.ok]
    named = {"padding": "padding", "packed": "another document", "prefix": "later position"}
    codes = set(replay.points["decoder.blocks.0.attention.mask_rule"].unique().tolist())
    assert RULES.index(next(rule for word, rule in named.items() if word in given)) in codes
    assert (RULES.index("outside the window") in codes) == (window is not None)


def test_padding_of_a_source_is_replayed(random_model):
    model = random_model(**{**TINY, "shape": "encoder_decoder"})
    source, source_at = padded([torch.arange(3), torch.arange(5, 10)], "right", 6)
    replay = record(model, torch.arange(8).view(2, 4), source=source, source_at=source_at)
    assert [one for one in replay.compare() if not one.ok] == []
    assert replay.points["decoder.blocks.0.cross_attention.mask_rule"].eq(RULES.index("padding")).any()


def agreement_of(replay, name):
    """As `verify` finds it."""
    return next(one for one in agreements_of(replay, no_file(), only={name}))


def no_file() -> Foreign:
    """Of a trace that was never written."""
    foreign = object.__new__(Foreign)
    foreign.digests = {}
    return foreign


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("place", ["pre", "post"])
def test_a_recipe_that_is_broken_by_one_part_in_ten_thousand_is_noticed(random_model, shape, place):
    fields = {"shape": shape, "norm_place": place, "positions": "relative" if place == "pre" else "sinusoidal"}
    trace = trace_ids(random_model(**TINY, **fields, norm="layernorm" if place == "post" else "rmsnorm"))
    whole, missed = trace.replay.graph, []
    for name, node in whole.items():
        correct = node.recipe.compute
        broken = dataclasses.replace(node.recipe, compute=lambda correct=correct, **v: correct(**v) * 1.0001)
        replay = dataclasses.replace(trace.replay, graph={**whole, name: dataclasses.replace(node, recipe=broken)})
        if agreement_of(replay, name).ok and bool(trace[name].ne(0).any()):
            missed.append(name)
    assert missed == []


def test_a_recipe_that_is_broken_in_its_place_makes_verify_fail(random_model, monkeypatch):
    from glassformer.lens.recipes import norms

    trace = trace_ids(random_model(**TINY))
    assert trace.verify().ok
    norms.norm_rms.cache_clear()
    monkeypatch.setattr(norms, "root_mean_square", lambda x, **constants: x.square().mean(-1, keepdim=True).sqrt())
    try:
        found = trace_ids(random_model(**TINY, norm_eps=0.1)).verify()
    finally:
        norms.norm_rms.cache_clear()
    assert not found.ok
    assert {one.recipe for one in found.failures} == {"norm.rms"}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_changed_number_of_a_run_is_noticed(random_model, shape):
    """The largest number of each tensor, by one part in ten thousand."""
    trace = trace_ids(random_model(**TINY, shape=shape))
    missed = []
    for name, tensor in trace.replay.points.items():
        changed = tensor.clone()
        changed = changed.contiguous()
        flat = changed.view(-1)
        place = flat.masked_fill(~flat.isfinite(), 0.0).abs().argmax()
        if name.endswith("mask_rule"):
            flat[place] = (flat[place] + 1) % len(RULES)
        else:
            flat[place] *= 1.0001
        if torch.equal(changed, tensor):
            continue
        replay = dataclasses.replace(trace.replay, points={**trace.replay.points, name: changed})
        touched = {name} | {other for other, node in replay.graph.items() if ("point", name) in node.inputs.values()}
        if all(one.ok for one in agreements_of(replay, no_file(), only=touched)):
            missed.append(name)
    assert missed == []


def test_no_number_passes_for_one_that_is_none(random_model):
    trace = trace_ids(random_model(**TINY))
    for odd in (float("nan"), float("inf")):
        points = dict(trace.replay.points)
        points["decoder.blocks.0.mlp.out"] = (
            points["decoder.blocks.0.mlp.out"].clone().index_fill_(1, torch.tensor(2), odd)
        )
        assert not verify(dataclasses.replace(trace, replay=dataclasses.replace(trace.replay, points=points))).ok


def test_a_cache_that_forgets_is_noticed(random_model, monkeypatch):
    from glassformer.nn.cache import Cache

    trace = trace_ids(random_model(**{**TINY, "n_layers": 2}))
    extend = Cache.extend
    monkeypatch.setattr("glassformer.models.stack.shortcut", lambda *of: None)
    monkeypatch.setattr(Cache, "extend", lambda self, layer, k, v: extend(self, layer, k, v * (1 + layer / 100)))
    failed = [check.label for check in trace.verify().checks if not check.ok]
    assert len(failed) == 1
    assert "cache" in failed[0]


def test_a_fused_path_that_differs_is_noticed(random_model, monkeypatch):
    from glassformer.ops import attention

    trace = trace_ids(random_model(**TINY))
    attend = attention.attend
    monkeypatch.setattr(attention, "attend", lambda *of, **more: attend(*of, **more) * 1.01)
    assert "readable steps against the fused path" in {check.label for check in trace.verify().checks if not check.ok}


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_sizes_are_known_before_the_run(random_model, kind):
    model = random_model(**{**TINY, **EVERY_KIND[kind], "bigram": 40 if "decoder" in kind else None})
    replay = trace_ids(model, ids=(1, 0, 2, 1)).replay
    expected = bytes_of(replay.graph, model, lengths_of(replay.given))
    assert {name: tensor.numel() * tensor.element_size() for name, tensor in replay.points.items()} == {
        name: expected[name] for name in replay.points
    }
    assert expected.keys() == replay.points.keys()


def test_what_is_printed_fits_on_the_screen_and_names_what_fails(random_model):
    trace = trace_ids(random_model(**TINY))
    said = trace.verify().render().splitlines()
    assert all(len(line) <= 80 for line in said)
    assert "recipes agree" in said[-2] + said[-1]
    points = dict(trace.replay.points) | {"head.logits": trace.replay.points["head.logits"] * 1.0001}
    found = verify(dataclasses.replace(trace, replay=dataclasses.replace(trace.replay, points=points)))
    text = found.render(ascii=True)
    assert "head.logits[" in text
    assert text.isascii()
    told = json.loads(found.json())
    assert not told["ok"]
    assert [one["name"] for one in told["failures"]] == ["head.logits"]
    assert told["agree"] == told["recipes"] - 1
