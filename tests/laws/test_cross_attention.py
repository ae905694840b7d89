"""Laws of the encoder-decoder: what a target sees of itself and of its source, through a cache and without, watched or not."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from glassformer.errors import ConfigError, GlassformerError
from glassformer.nn.attention import CrossAttention
from glassformer.nn.block import BLOCKS
from glassformer.nn.cache import Memory
from glassformer.nn.mlp import MLPS
from glassformer.nn.norms import NORMS
from glassformer.nn.positions import POSITIONS
from glassformer.ops.masks import RULES
from glassformer.trace import points_of, watch
from shapes import KINDS, padded, sources

KV_HEADS = {"multi-head": 4, "grouped": 2, "multi-query": 1}
TOLERANCE = {"atol": 1e-5, "rtol": 1e-5}
OTHERWISE = [
    *({"mlp": mlp} for mlp in MLPS),
    *(KINDS[kind] for kind in ("one matrix", "two vocabularies", "another encoder")),
    {"window": 3},
    {"bigram": 50},
    {"attention_softcap": 3.0},
    {"logit_softcap": 5.0, "logit_scale": 0.5},
    {"embedding_scale": True, "attention_scale": 1.0},
    {"qk_norm": False, "attention_bias": True, "mlp_bias": True, "head_bias": True, "norm_bias": True},
]


@pytest.fixture
def two_sided(random_model):
    """Builds an encoder-decoder."""
    return lambda **fields: random_model(**{"shape": "encoder_decoder", **fields})


def ragged(lengths, side="right"):
    """Sources of these lengths as one batch."""
    return padded([torch.randint(19, (length,)) for length in lengths], side, max(lengths))


@torch.no_grad()
def through(cache, model, ids, cuts, at=None):
    """The logits of `ids`, read through a cache in pieces of these lengths, as when text is generated."""
    places = [None] * len(cuts) if at is None else at.split(cuts, dim=1)
    pieces = zip(ids.split(cuts, dim=1), places, strict=True)
    return torch.cat([model(piece, at=place, cache=cache) for piece, place in pieces], dim=1)


@pytest.mark.parametrize("fields", [*({"positions": scheme} for scheme in POSITIONS), *OTHERWISE], ids=str)
def test_a_target_never_sees_ahead_and_always_all_of_its_source(two_sided, fields):
    model = two_sided(**fields)
    ids, source = torch.randint(23, (2, 7)), sources(model, 2, 5)
    before = model(ids, source=source)
    for column in range(7):
        changed = ids.clone()
        changed[:, column] = (changed[:, column] + 1) % 23
        after = model(changed, source=source)
        assert torch.equal(after[:, :column], before[:, :column])
        assert (after[:, column] != before[:, column]).any()
    for column in range(5):
        changed = source.clone()
        changed[:, column] = (changed[:, column] + 1) % 19
        assert (model(ids, source=changed) != before).any(-1).all(), column


def test_a_target_sees_its_own_source_alone(two_sided):
    model = two_sided()
    ids, source = torch.randint(23, (2, 7)), sources(model, 2)
    before = model(ids, source=source)
    changed = source.clone()
    changed[1] = (changed[1] + 1) % 23
    after = model(ids, source=changed)
    assert torch.equal(after[0], before[0])
    assert (after[1] != before[1]).any(-1).all()


@pytest.mark.parametrize("kv_heads", KV_HEADS.values(), ids=KV_HEADS)
@pytest.mark.parametrize("place", BLOCKS)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("scheme", POSITIONS)
def test_decoding_with_a_cache_equals_recomputing(two_sided, scheme, norm, place, kv_heads):
    model = two_sided(positions=scheme, norm=norm, norm_place=place, n_kv_heads=kv_heads)
    assert_cached_equals_recomputed(model)


@pytest.mark.parametrize("fields", OTHERWISE, ids=str)
def test_decoding_with_a_cache_equals_recomputing_for_every_other_choice(two_sided, fields):
    assert_cached_equals_recomputed(two_sided(**fields))


def assert_cached_equals_recomputed(model):
    """With sources of different lengths, for one row of each and for several."""
    source, source_at = ragged([6, 1, 4])
    memory, ids = model.read(source, source_at), torch.randint(23, (3, 9))
    whole = model(ids, source=source, source_at=source_at)
    for cuts in ([1] * 9, [4, 1, 3, 1]):
        assert_close(through(model.new_cache(3, memory=memory), model, ids, cuts), whole, **TOLERANCE)
    # Beams: row r belongs to source r // beams.
    beams = torch.randint(23, (6, 9))
    each = torch.arange(3).repeat_interleave(2)
    expected = model(beams, source=source[each], source_at=source_at[each])
    assert_close(model(beams, memory=memory), expected, **TOLERANCE)
    for cuts in ([1] * 9, [4, 1, 3, 1]):
        cache = model.new_cache(6, memory=memory, beams=2)
        assert_close(through(cache, model, beams, cuts), expected, **TOLERANCE)


@settings(max_examples=40)
@given(
    scheme=st.sampled_from(sorted(POSITIONS)),
    lengths=st.lists(st.integers(1, 7), min_size=1, max_size=4),
    side=st.sampled_from(["left", "right"]),
    beams=st.integers(1, 4),
    cuts=st.lists(st.integers(1, 4), min_size=1, max_size=5),
    data=st.data(),
)
def test_any_pieces_of_any_beams_of_any_sources_in_any_order(random_model, scheme, lengths, side, beams, cuts, data):
    model = random_model(shape="encoder_decoder", positions=scheme, n_layers=1)
    source, source_at = ragged(lengths, side)
    rows, total = len(lengths) * beams, sum(cuts)
    ids = torch.randint(23, (rows, total + 1))
    cache = model.new_cache(rows, memory=model.read(source, source_at), beams=beams)
    through(cache, model, ids[:, :total], cuts)
    # Some sources are finished, others change places; within each, rows are kept, dropped and doubled.
    kept = data.draw(st.lists(st.sampled_from(range(len(lengths))), min_size=1, unique=True))
    places = [group * beams + data.draw(st.integers(0, beams - 1)) for group in kept for _ in range(beams)]
    cache.reorder(torch.tensor(places))
    new = torch.randint(23, (len(places), 1))
    whole = torch.cat((ids[places, :total], new), dim=1)
    owners = [place // beams for place in places]
    expected = model(whole, source=source[owners], source_at=source_at[owners])[:, -1:]
    assert_close(model(new, cache=cache), expected, **TOLERANCE)
    assert len(cache.memory) == len(kept)


def test_targets_padded_on_the_left_decode_as_if_each_were_alone(two_sided):
    model = two_sided(positions="learned", bigram=40)
    lengths, longest, more = [1, 6, 4], 6, 3
    source, source_at = ragged([3, 7, 5])
    texts = [torch.randint(23, (length + more,)) for length in lengths]
    ids, at = padded([text[:length] for text, length in zip(texts, lengths, strict=True)], "left", longest)
    cache = model.new_cache(3, memory=model.read(source, source_at))
    first = through(cache, model, ids, [2, 4], at)
    rest = through(cache, model, torch.stack([text[-more:] for text in texts]), [1] * more)
    for row, (text, length) in enumerate(zip(texts, lengths, strict=True)):
        alone = model(text[None], source=source[row : row + 1], source_at=source_at[row : row + 1])[0]
        assert_close(first[row, longest - length :], alone[:length], **TOLERANCE)
        assert_close(rest[row], alone[length:], **TOLERANCE)


def test_a_source_is_read_once_and_each_layer_makes_its_keys_and_values_of_it_once(two_sided, monkeypatch):
    model = two_sided()
    calls, encoded = [], []
    project = CrossAttention.keys_and_values

    def counted(self, memory):
        calls.append((self.layer, tuple(memory.states.shape)))
        return project(self, memory)

    monkeypatch.setattr(CrossAttention, "keys_and_values", counted)
    model.encoder.register_forward_hook(lambda *_: encoded.append(1))
    source, source_at = ragged([6, 4])
    cache = model.new_cache(6, memory=model.read(source, source_at), beams=3)
    for step in range(5):
        model(torch.randint(23, (6, 1)), cache=cache)
        cache.reorder(torch.tensor([2, 0, 0, 4, 5, 3]))
        assert calls == [(0, (2, 6, 16)), (1, (2, 6, 16))], step  # of two sources, not of six rows
    assert {tuple(kept.k.shape) for kept in cache.remembered} == {(2, 4, 6, 6)}
    assert {tuple(kept.v.shape) for kept in cache.remembered} == {(2, 4, 6, 5)}
    cache.reorder(torch.tensor([4, 4, 5]))  # the first source is finished
    assert {tuple(kept.k.shape) for kept in cache.remembered} == {(1, 4, 6, 6)}
    model(torch.randint(23, (3, 1)), cache=cache)
    assert len(calls) == 2
    assert len(encoded) == 1


@pytest.mark.parametrize("way", ["source", "memory", "cache"])
def test_a_source_may_be_given_in_three_ways(two_sided, way):
    model = two_sided()
    (source, source_at), ids = ragged([6, 3]), torch.randint(23, (2, 5))
    memory = model.read(source, source_at)
    expected = model(ids, source=source, source_at=source_at)
    given = {
        "source": {"source": source, "source_at": source_at, "cache": model.new_cache(2)},
        "memory": {"memory": memory, "cache": model.new_cache(2)},
        "cache": {"cache": model.new_cache(2, memory=memory)},
    }[way]
    first = model(ids[:, :3], **given)
    rest = model(ids[:, 3:], cache=given["cache"])  # it lies in the cache from then on
    assert_close(torch.cat((first, rest), dim=1), expected, **TOLERANCE)
    given["cache"].reorder(torch.tensor([1, 0]))
    new = torch.randint(23, (2, 1))
    expected = model(torch.cat((ids[[1, 0]], new), dim=1), source=source[[1, 0]], source_at=source_at[[1, 0]])
    assert_close(model(new, cache=given["cache"]), expected[:, -1:], **TOLERANCE)


def test_what_cannot_be_looked_at_is_one_sentence(two_sided):
    model = two_sided()
    ids, source = torch.zeros(2, 3, dtype=torch.long), torch.zeros(2, 4, dtype=torch.long)
    with pytest.raises(ConfigError, match="was given no source to look at"):
        model(ids)
    with pytest.raises(ConfigError, match="was given no source to look at"):
        model(ids, cache=model.new_cache(2))
    memory = model.read(source)
    with pytest.raises(GlassformerError, match="5 rows are not 2 for each of 2 sources"):
        model.new_cache(5, memory=memory, beams=2)
    with pytest.raises(GlassformerError, match="3 rows cannot be shared evenly among 2 sources"):
        model(ids[[0, 0, 0]], memory=memory, cache=model.new_cache(3))
    cache = model.new_cache(2, memory=memory)
    with pytest.raises(ConfigError, match="the cache holds what was read of a source already"):
        model(ids, source=source, cache=cache)
    cache = model.new_cache(4, memory=memory, beams=2)
    with pytest.raises(GlassformerError, match="each 2 rows in a row must come from one source"):
        cache.reorder(torch.tensor([0, 2, 1, 3]))


def test_a_source_longer_than_the_encoder_has_positions_for_is_refused(two_sided):
    model = two_sided(encoder={"max_len": 4, "positions": "learned"})
    with pytest.raises(ConfigError, match="5 tokens do not fit into max_len=4"):
        model(torch.zeros(1, 9, dtype=torch.long), source=torch.zeros(1, 5, dtype=torch.long))


def test_a_source_that_is_nothing_but_padding_gives_numbers(two_sided):
    model = two_sided()
    logits = model(torch.zeros(2, 3, dtype=torch.long), memory=Memory(torch.randn(2, 4, 16), torch.full((2, 4), -1)))
    assert logits.isfinite().all()


def test_rows_of_a_memory_are_what_was_read_of_those_sources(two_sided):
    model = two_sided()
    source, source_at = ragged([6, 2, 4])
    memory = model.read(source, source_at)
    for rows in (torch.tensor([2, 0]), [2, 0]):
        some = memory.rows(rows)
        assert len(some) == 2
        assert torch.equal(some.states, memory.states[[2, 0]])
        assert torch.equal(some.at, source_at[[2, 0]])
    assert model.read(source).rows([1]).at is None


@pytest.mark.parametrize("fields", [{}, *({"positions": scheme} for scheme in POSITIONS), *OTHERWISE], ids=str)
def test_watching_changes_nothing_but_rounding(two_sided, fields):
    model = two_sided(**fields)
    source, source_at = ragged([6, 3])
    ids = torch.randint(23, (2, 5))
    unwatched = model(ids, source=source, source_at=source_at)
    with watch(model) as seen:
        assert_close(model(ids, source=source, source_at=source_at), unwatched, **TOLERANCE)
    assert set(seen) == set(points_of(model))
    assert all(len(seen.calls(name)) == 1 for name in seen)
    assert any(".cross_attention.pattern" in name for name in seen)


def test_what_is_seen_of_a_look_at_the_source_is_what_the_formulas_say(two_sided):
    model = two_sided(**KINDS["another encoder"])
    source, source_at = ragged([6, 3])
    with watch(model) as seen:
        model(torch.randint(23, (2, 5)), source=source, source_at=source_at)
    memory = seen["encoder.blocks.2.resid_post"]  # its norm stands behind each sum, so none is left for the end
    hidden = (source_at < 0)[:, None, None, :].expand(-1, -1, 5, -1)
    for layer in range(2):
        at = f"decoder.blocks.{layer}"
        look = {point: seen[f"{at}.cross_attention.{point}"] for point in CrossAttention.points}
        weights = model.decoder.blocks[layer].cross_attention
        q, k, v = look["q"], look["k"], look["v"]
        assert_close(seen[f"{at}.cross_attention.q_norm.out"].transpose(1, 2), q, **TOLERANCE)
        assert_close(seen[f"{at}.cross_attention.k_norm.out"].transpose(1, 2), k, **TOLERANCE)
        assert_close(v.transpose(1, 2).flatten(2), memory @ weights.v_proj.weight.T, **TOLERANCE)
        assert_close(look["scores"], q @ k.mT / 6**0.5, **TOLERANCE)
        assert torch.equal(look["mask_rule"], (RULES.index("padding") * hidden[:, :, :1].long()).expand(-1, -1, 5, -1))
        assert_close(look["pattern"], look["scores"].masked_fill(hidden, -torch.inf).softmax(-1))
        assert_close(look["z"], look["pattern"] @ v, **TOLERANCE)
        assert_close(look["out"], look["z"].transpose(1, 2).flatten(2) @ weights.o_proj.weight.T, **TOLERANCE)
        mid, cross, post = (seen[f"{at}.resid_{point}"] for point in ("mid", "cross", "post"))
        assert_close(cross, mid + look["out"], **TOLERANCE)
        assert_close(post, cross + seen[f"{at}.mlp.out"], **TOLERANCE)


@pytest.mark.parametrize("kv_heads", KV_HEADS.values(), ids=KV_HEADS)
@pytest.mark.parametrize("place", BLOCKS)
def test_editing_one_head_to_zero_equals_zeroing_its_weights(two_sided, kv_heads, place):
    model = two_sided(n_kv_heads=kv_heads, norm_place=place)
    ids, (source, source_at) = torch.randint(23, (2, 7)), ragged([6, 3])

    def silence(z):
        return torch.cat((z[:, :2], torch.zeros_like(z[:, 2:3]), z[:, 3:]), dim=1)

    with watch(model, "head.logits", edit={"decoder.blocks.1.cross_attention.z": silence}):
        edited = model(ids, source=source, source_at=source_at)
    unedited = model(ids, source=source, source_at=source_at)
    model.decoder.blocks[1].cross_attention.o_proj.weight[:, 2 * 5 : 3 * 5] = 0
    assert_close(edited, model(ids, source=source, source_at=source_at), **TOLERANCE)
    assert (edited - unedited).abs().max() > 1e-3


def test_an_edited_pattern_decides_what_is_copied_from_the_source(two_sided):
    model = two_sided(n_layers=1)

    def look_at_the_last(pattern):
        last = torch.zeros_like(pattern)
        last[..., -1] = 1
        return last

    with watch(model, "*.cross_attention.[vz]", edit={"*.cross_attention.pattern": look_at_the_last}) as seen:
        model(torch.randint(23, (2, 5)), source=sources(model, 2))
    v, z = (seen[f"decoder.blocks.0.cross_attention.{point}"] for point in "vz")
    assert_close(z, v[:, :, -1:].expand_as(z))


def test_watching_beams_decode_shows_the_same_source_at_every_step(two_sided):
    model = two_sided()
    source, source_at = ragged([6, 4])
    cache = model.new_cache(6, memory=model.read(source, source_at), beams=3)
    ids = torch.randint(23, (6, 4))
    with watch(model, ["*.0.attention.pattern", "*.0.cross_attention.*"]) as seen:
        for token in ids.split(1, dim=1):
            model(token, cache=cache)
    at = "decoder.blocks.0"
    assert [p.shape for p in seen.calls(f"{at}.attention.pattern")] == [(6, 4, 1, 1 + step) for step in range(4)]
    # All beams of a source ask side by side, as if they were more tokens.
    assert [p.shape for p in seen.calls(f"{at}.cross_attention.pattern")] == [(2, 4, 3, 6)] * 4
    assert all(torch.equal(k, seen[f"{at}.cross_attention.k"]) for k in seen.calls(f"{at}.cross_attention.k"))
    assert (seen[f"{at}.cross_attention.pattern"][1, :, :, 4:] == 0).all()
