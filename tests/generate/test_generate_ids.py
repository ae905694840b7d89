"""What the loop reads, when it ends, what it says and what it refuses."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from glassformer.errors import ConfigError
from glassformer.generate import Sampling, generate_ids
from glassformer.models import Decoder, ModelConfig, build_model

GREEDY = Sampling(temperature=0)


@pytest.fixture
def model() -> Decoder:
    config = ModelConfig(vocab_size=10, max_len=8, d_model=16, n_layers=1, n_heads=2, dropout=0.5)
    model = build_model(config, seed=3)
    with torch.no_grad():
        model.head.linear.weight.normal_(generator=torch.Generator().manual_seed(3))
    return model


@pytest.fixture
def reads(model: Decoder) -> Iterator[list[tuple[int, ...]]]:
    """The shapes of the ids of every call of the model."""
    shapes: list[tuple[int, ...]] = []
    hook = model.register_forward_pre_hook(lambda _, given: shapes.append(tuple(given[0].shape)))
    yield shapes
    hook.remove()


def test_each_token_is_read_once(model, reads):
    generate_ids(model, [[1, 2, 3]], max_new_tokens=4)
    assert reads == [(1, 3), (1, 1), (1, 1), (1, 1)]


def test_without_a_cache_everything_is_read_each_time(model, reads):
    generate_ids(model, [[1, 2, 3]], max_new_tokens=3, use_cache=False)
    assert reads == [(1, 3), (1, 4), (1, 5)]


def test_samples_of_one_prompt_share_its_reading(model, reads):
    generate_ids(model, [[1, 2, 3]] * 4, samples=[0, 1, 2, 3], max_new_tokens=3)
    assert reads == [(1, 3), (4, 1), (4, 1)]


def test_a_full_context_slides_to_its_last_three_quarters(model, reads):
    (completion,) = generate_ids(model, [[1, 2, 3, 4, 5, 6]], max_new_tokens=8)
    assert reads == [(1, 6), (1, 1), (1, 1), (1, 6), (1, 1), (1, 1), (1, 6), (1, 1)]
    assert completion.notes == ("the context of 8 tokens is full: going on with the last 6",)


def test_a_prompt_longer_than_the_context_is_read_from_its_last_three_quarters(model, reads):
    (completion,) = generate_ids(model, [[1] * 20], max_new_tokens=1)
    assert reads == [(1, 6)]
    assert len(completion.notes) == 1


def test_a_context_that_is_just_full_is_not_spoken_of(model):
    (completion,) = generate_ids(model, [[1] * 5], max_new_tokens=4)  # the model reads 8 tokens, the ninth is the last
    assert completion.notes == ()


@pytest.mark.parametrize("max_len", [1, 2, 3])
def test_the_shortest_contexts_slide_too(max_len):
    model = build_model(ModelConfig(vocab_size=10, max_len=max_len, d_model=16, n_layers=1, n_heads=2))
    cached, recomputed = (
        generate_ids(model, [[1, 2], [3]], max_new_tokens=9, use_cache=use_cache) for use_cache in (True, False)
    )
    assert cached == recomputed
    assert all(len(completion.ids) == 9 for completion in cached)


def test_finished_rows_leave_the_batch(model, reads):
    stops = [lambda _: True, lambda _: False]
    first, second = generate_ids(model, [[1, 2], [3]], max_new_tokens=3, stop=stops)
    assert reads == [(2, 2), (1, 1), (1, 1)]
    assert (first.finish, len(first.ids)) == ("stop", 1)
    assert (second.finish, len(second.ids)) == ("length", 3)


def test_greedy_is_a_loop_over_argmax(model):
    tokens = [1, 2]
    model.eval()
    with torch.inference_mode():
        for _ in range(6):
            tokens.append(int(model(torch.tensor([tokens]))[0, -1].argmax()))
    (completion,) = generate_ids(model, [[1, 2]], max_new_tokens=6, sampling=GREEDY)
    assert (completion.prompt_ids, completion.ids) == ((1, 2), tuple(tokens[2:]))


def test_a_seed_and_a_sample_number_decide_the_text(model):
    def write(seed: int, sample: int) -> tuple[int, ...]:
        return generate_ids(model, [[1]], max_new_tokens=20, seed=seed, samples=[sample])[0].ids

    assert write(1, 0) == write(1, 0)
    assert len({write(1, 0), write(2, 0), write(1, 1)}) == 3


def test_tokens_are_told_as_they_are_drawn(model):
    told: list[tuple[int, int]] = []
    completions = generate_ids(
        model, [[1], [2, 3]], max_new_tokens=2, on_token=lambda row, token: told.append((row, token))
    )
    (a, b), (c, d) = completions[0].ids, completions[1].ids
    assert told == [(0, a), (1, c), (0, b), (1, d)]


def test_eos_ends_a_row_and_is_its_last_id(model):
    (free,) = generate_ids(model, [[1]], max_new_tokens=3, sampling=GREEDY)
    (ended,) = generate_ids(model, [[1]], max_new_tokens=3, sampling=GREEDY, eos_id=free.ids[0], stop=[lambda _: True])
    assert (ended.ids, ended.finish) == (free.ids[:1], "eos")


def test_no_tokens_asked_for_are_none_drawn(model, reads):
    (completion,) = generate_ids(model, [[1]], max_new_tokens=0)
    assert (completion.ids, completion.finish, reads) == ((), "length", [])


def test_ids_that_the_tokenizer_does_not_have_are_never_drawn(model):
    completions = generate_ids(model, [[1], [2]], max_new_tokens=50, vocab_size=3)
    assert {token for completion in completions for token in completion.ids} == {0, 1, 2}


def test_a_model_in_training_is_read_without_dropout_and_goes_on_training(model):
    model.train()
    once, again = (generate_ids(model, [[1]], max_new_tokens=7, sampling=GREEDY) for _ in range(2))
    assert once == again
    assert model.training
    model(torch.tensor([[1, 2]])).sum().backward()


def test_an_empty_prompt_is_refused(model):
    with pytest.raises(ConfigError, match="prompt 1 has no tokens"):
        generate_ids(model, [[1], []], max_new_tokens=1)


@pytest.mark.parametrize("foreign", [10, -1])
def test_an_id_of_another_vocabulary_is_refused(model, foreign):
    with pytest.raises(ConfigError, match=rf"token id {foreign}, but the model knows ids 0 to 9"):
        generate_ids(model, [[1, foreign]], max_new_tokens=1)
