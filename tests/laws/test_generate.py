"""What must hold for every sampling setting, every batch and every way to cut a stream into pieces."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from glassformer.generate import Generation, generate_ids, generate_text, stream_text
from glassformer.generate.sampling import STAGES, Sampling, choose, count_tokens, draw, uniform
from glassformer.generate.stopping import StopStrings
from glassformer.models import Decoder, ModelConfig, build_model
from glassformer.nn.positions import POSITIONS
from glassformer.tokenizers import TOKENIZERS, Tokenizer, train_tokenizer

VOCAB, MAX_LEN = 11, 8

unhurried = settings(deadline=None)  # the first call of a torch operation may take long

units = st.floats(0, 1, exclude_max=True)
shares = st.floats(0.01, 1)
# Few distinct values, so that equal logits are common.
all_logits = st.lists(st.integers(-12, 12).map(lambda n: n / 4), min_size=1, max_size=40).map(torch.tensor)
samplings = st.builds(
    Sampling,
    temperature=st.just(0.0) | st.floats(0.05, 5),
    top_k=st.none() | st.integers(1, 50),
    top_p=st.none() | shares,
    min_p=st.none() | shares,
    repetition_penalty=st.just(1.0) | st.floats(0.5, 2),
    presence_penalty=st.just(0.0) | st.floats(-2, 2),
    frequency_penalty=st.just(0.0) | st.floats(-2, 2),
)


def apply(stage: str, logits: torch.Tensor, setting: float) -> torch.Tensor:
    """One stage alone, with nothing seen."""
    return STAGES[stage](logits.double(), setting, torch.zeros(len(logits)))


def kept_by(stage: str, logits: torch.Tensor, setting: float) -> set[int]:
    return set(apply(stage, logits, setting).isfinite().nonzero()[:, 0].tolist())


# Sampling


@unhurried
@given(all_logits, samplings, st.data())
def test_a_batch_chooses_the_token_that_each_draw_explains(logits, sampling, data):
    rows = data.draw(st.integers(1, 4))
    batch = torch.stack([logits.roll(row) for row in range(rows)])
    seen = data.draw(st.lists(st.lists(st.integers(0, len(logits) - 1)), min_size=rows, max_size=rows))
    numbers = data.draw(st.lists(units, min_size=rows, max_size=rows))
    counts = torch.stack([count_tokens(ids, len(logits)) for ids in seen])
    one_by_one = [draw(batch[row], sampling, seen[row], numbers[row]).token for row in range(rows)]
    assert choose(batch, sampling, counts, numbers) == one_by_one


@unhurried
@given(all_logits, samplings, units)
def test_a_draw_can_be_checked_by_hand(logits, sampling, u):
    drawn = draw(logits, sampling, [], u, keep_probabilities=True)
    assert drawn.below <= u < drawn.above
    assert drawn.probability == pytest.approx(drawn.above - drawn.below, abs=1e-12)
    assert drawn.probabilities is not None
    assert drawn.probability == drawn.probabilities[drawn.token] > 0
    assert drawn.probabilities.sum() == pytest.approx(1)


@unhurried
@given(all_logits, units)
def test_the_defaults_draw_from_the_softmax_of_the_logits(logits, u):
    drawn = draw(logits, Sampling(), [0], u, keep_probabilities=True)
    assert drawn.stages == ()
    assert drawn.probabilities is not None
    assert torch.allclose(drawn.probabilities, logits.double().softmax(-1))


@unhurried
@given(all_logits, st.integers(1, 50))
def test_top_k_keeps_k_of_the_largest_and_of_equal_ones_the_lowest_ids(logits, k):
    ranked = sorted(range(len(logits)), key=lambda i: (-float(logits[i]), i))
    assert kept_by("top_k", logits, k) == set(ranked[:k])


@unhurried
@given(all_logits, shares)
def test_top_p_keeps_the_fewest_tokens_that_hold_p(logits, p):
    probabilities = logits.double().softmax(-1)
    kept = kept_by("top_p", logits, p)
    masses = sorted((float(probabilities[i]) for i in kept), reverse=True)
    assert sum(masses) >= p - 1e-9
    assert sum(masses[:-1]) < p + 1e-9
    ranked = sorted(range(len(logits)), key=lambda i: (-float(logits[i]), i))
    assert kept == set(ranked[: len(kept)])


@unhurried
@given(all_logits, shares)
def test_min_p_keeps_what_is_at_least_that_share_of_the_likeliest(logits, share):
    probabilities = logits.double().softmax(-1)
    kept = kept_by("min_p", logits, share)
    for i, probability in enumerate((probabilities / probabilities.max()).tolist()):
        if abs(probability - share) > 1e-9:
            assert (i in kept) == (probability > share)


@unhurried
@given(all_logits, samplings)
def test_what_a_stage_keeps_it_leaves_in_order(logits, sampling):
    """No stage but a penalty changes which of two surviving tokens is likelier."""
    for name in ("temperature", "top_k", "top_p", "min_p"):
        setting = getattr(sampling, name)
        if setting is not None:
            after = apply(name, logits, setting)
            alive = after.isfinite()
            assert alive.any()
            assert torch.equal(after[alive].argsort(stable=True), logits[alive].argsort(stable=True))


@unhurried
@given(all_logits, st.lists(st.integers(0, 39), max_size=10), st.floats(1, 2), st.floats(0, 2), st.floats(0, 2))
def test_penalties_only_lower_and_only_what_was_seen(logits, seen, repetition, presence, frequency):
    counts = count_tokens([i for i in seen if i < len(logits)], len(logits))
    before = logits.double()
    for name, setting in (
        ("repetition_penalty", repetition),
        ("presence_penalty", presence),
        ("frequency_penalty", frequency),
    ):
        after = STAGES[name](before, setting, counts)
        assert (after <= before).all()
        assert torch.equal(after[counts == 0], before[counts == 0])


@unhurried
@given(st.integers(), st.integers(0), st.integers(0))
def test_the_number_of_a_token_lies_in_the_unit_interval(seed, sample, step):
    assert 0 <= uniform(seed, sample, step) < 1
    assert uniform(seed, sample, step) == uniform(seed, sample, step)


# The loop, over random models whose context is much shorter than what they write

SHAPES = [*({"positions": scheme} for scheme in POSITIONS), {"window": 3}, {"bigram": 64}, {"n_kv_heads": 1}]


@cache
def small_model(**shape: Any) -> Decoder:
    config = {"vocab_size": VOCAB, "max_len": MAX_LEN, "d_model": 16, "n_layers": 2, "n_heads": 2, **shape}
    model = build_model(ModelConfig.parse(config), seed=1).eval()
    with torch.no_grad():
        model.head.linear.weight.normal_(generator=torch.Generator().manual_seed(1))  # opinions worth drawing from
    return model


def define(model: Decoder, prompt: list[int], steps: int, sampling: Sampling, seed: int, sample: int) -> list[int]:
    """The definition of the loop: one row, no cache, no padding, the window as a formula."""
    tokens, start = list(prompt), 0
    for step in range(steps):
        if len(tokens) - start > MAX_LEN:
            start = len(tokens) - (MAX_LEN - MAX_LEN // 4)
        with torch.inference_mode():
            logits = model(torch.tensor([tokens[start:]]))[0, -1]
        tokens.append(draw(logits, sampling, tokens, uniform(seed, sample, step)).token)
    return tokens[len(prompt) :]


prompts = st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=2 * MAX_LEN)
loop_samplings = st.sampled_from(
    [Sampling(temperature=0), Sampling(), Sampling(temperature=0.7, top_k=5, top_p=0.9, frequency_penalty=0.3)]
)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@settings(max_examples=5, deadline=None)
@given(batch=st.lists(prompts, min_size=1, max_size=4), sampling=loop_samplings, seed=st.integers(0, 9))
def test_batched_and_cached_writing_follows_the_definition(shape, batch, sampling, seed):
    model, steps = small_model(**shape), 2 * MAX_LEN
    samples = [i % 2 for i in range(len(batch))]
    expected = [
        define(model, prompt, steps, sampling, seed, sample) for prompt, sample in zip(batch, samples, strict=True)
    ]
    for use_cache in (True, False):
        found = generate_ids(
            model,
            batch,
            max_new_tokens=steps,
            sampling=sampling,
            seed=seed,
            samples=samples,
            pad_id=VOCAB - 1,
            use_cache=use_cache,
        )
        assert [list(completion.ids) for completion in found] == expected


@settings(max_examples=10, deadline=None)
@given(st.lists(prompts, min_size=1, max_size=4), loop_samplings, st.integers(0, VOCAB - 1))
def test_rows_that_end_early_leave_the_others_as_they_were(batch, sampling, eos_id):
    model, steps = small_model(), 2 * MAX_LEN
    whole = generate_ids(model, batch, max_new_tokens=steps, sampling=sampling)
    ended = generate_ids(model, batch, max_new_tokens=steps, sampling=sampling, eos_id=eos_id)
    for free, cut in zip(whole, ended, strict=True):
        if eos_id in free.ids:
            assert (cut.ids, cut.finish) == (free.ids[: free.ids.index(eos_id) + 1], "eos")
        else:
            assert (cut.ids, cut.finish) == (free.ids, "length")


@settings(max_examples=10, deadline=None)
@given(st.lists(prompts, min_size=1, max_size=3), loop_samplings)
def test_recording_the_draws_changes_no_token(batch, sampling):
    model = small_model()
    plain = generate_ids(model, batch, max_new_tokens=MAX_LEN, sampling=sampling)
    recorded = generate_ids(model, batch, max_new_tokens=MAX_LEN, sampling=sampling, record=True)
    for without, with_draws in zip(plain, recorded, strict=True):
        assert with_draws.draws is not None
        assert tuple(drawn.token for drawn in with_draws.draws) == with_draws.ids == without.ids


# Text


@cache
def babbler(kind: str) -> tuple[Decoder, Tokenizer]:
    """A tokenizer, and a model that draws its tokens nearly at random, so that few characters of bytes are whole."""
    tokenizer = train_tokenizer(kind, ["a bad cab, a café, a 🦀\n"] * 9)
    config = {"vocab_size": tokenizer.vocab_size + 5, "max_len": 16, "d_model": 16, "n_layers": 1, "n_heads": 2}
    return build_model(ModelConfig.parse(config), seed=2).eval(), tokenizer


@pytest.mark.parametrize("kind", TOKENIZERS)
@settings(max_examples=5, deadline=None)
@given(
    prompt=st.text("abc é", max_size=5),
    stop=st.lists(st.sampled_from([*"abcé ", "ab", "\ufffd\ufffd\ufffd"]), max_size=2).map(tuple),
    seed=st.integers(0, 99),
    samples=st.integers(1, 3),
)
def test_streamed_text_is_the_text(kind, prompt, stop, seed, samples):
    model, tokenizer = babbler(kind)
    generation = Generation(max_new_tokens=30, stop=stop, seed=seed, num_samples=samples)
    *others, last = generate_text(model, tokenizer, ["a cab", prompt], generation=generation)
    assert len(others) + 1 == 2 * samples
    returned = []

    def listen() -> Iterator[str]:
        returned.append((yield from stream_text(model, tokenizer, prompt, generation=generation, sample=samples - 1)))

    pieces = list(listen())
    assert returned == [last]
    assert all(pieces)
    assert "".join(pieces) == last.text == cut(tokenizer.decode(last.completion.ids, skip_special=True), list(stop))


# Stop strings

texts = st.text("ab ", max_size=30)
stops = st.lists(st.text("ab", min_size=1, max_size=5), max_size=3)


def cut(text: str, stops: list[str]) -> str:
    """The definition: up to the stop that is complete first, and of two that end together the longer."""
    for end in range(len(text) + 1):
        sizes = [len(stop) for stop in stops if text[:end].endswith(stop)]
        if sizes:
            return text[: end - max(sizes)]
    return text


@unhurried
@given(texts, stops, st.lists(st.integers(0, 30)))
@example("aabb", ["aabb", "ab"], [])  # "ab" is complete before "aabb" is, though it begins later
@example("aabb", ["bb", "abb"], [])
def test_stop_strings_cut_alike_however_the_text_arrives(text, stops, places):
    bounds = [0, *sorted(min(place, len(text)) for place in places), len(text)]
    watch = StopStrings(stops)
    shown = ""
    for begin, end in pairwise(bounds):
        shown += watch.push(text[begin:end])
        assert cut(text, stops).startswith(shown)
    assert shown + watch.finish() == cut(text, stops)
    assert watch.stopped == any(stop in text for stop in stops)


@unhurried
@given(texts, stops)
def test_text_is_held_back_only_while_a_stop_string_may_follow(text, stops):
    watch = StopStrings(stops)
    shown = watch.push(text)
    held = text[len(shown) :]
    assert watch.stopped or held == "" or any(stop.startswith(held) for stop in stops)
