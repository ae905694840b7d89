"""CTC held against its definition: the sum, or the best, of all ways to spell a text, one token or blank for each frame."""

from __future__ import annotations

import itertools
import math
import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from glassformer.errors import ConfigError
from glassformer.generate.ctc import CtcText, align, best_path, collapse, occupancy, prefix_beam, text_log_probability


def frames(n_frames: int, vocab_size: int, seed: int, spread: float = 2.0) -> np.ndarray:
    numbers = np.random.default_rng(seed).normal(0, spread, (n_frames, vocab_size))
    return torch.from_numpy(numbers).log_softmax(-1).numpy()


def all_texts(log_p: np.ndarray, blank: int) -> dict[tuple[int, ...], float]:
    """The definition: every path, collapsed, its probability added to that of its text."""
    found: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(log_p.shape[1]), repeat=len(log_p)):
        text = tuple(collapse(path, blank))
        p = math.exp(sum(log_p[t, token] for t, token in enumerate(path)))
        found[text] = found.get(text, 0.0) + p
    return found


tiny = st.tuples(st.integers(0, 5), st.integers(2, 4), st.integers(0, 10_000))


@pytest.mark.parametrize(
    ("path", "text"),
    [([], []), ([0, 0], []), ([1, 1, 2], [1, 2]), ([1, 0, 1], [1, 1]), ([0, 3, 3, 0, 0, 3, 2, 2], [3, 3, 2])],
)
def test_a_path_spells_its_tokens_without_repetitions_and_blanks(path, text):
    assert collapse(path, 0) == text


@given(tiny, st.integers(0, 3))
def test_the_score_of_a_text_is_the_sum_over_all_its_paths(sizes, blank):
    n_frames, vocab_size, seed = sizes
    blank = min(blank, vocab_size - 1)
    log_p = frames(n_frames, vocab_size, seed)
    for text, p in all_texts(log_p, blank).items():
        assert text_log_probability(log_p, text, blank) == pytest.approx(math.log(p), abs=1e-9)


@given(tiny)
def test_a_beam_as_wide_as_there_are_texts_finds_all_of_them_with_their_sums(sizes):
    n_frames, vocab_size, seed = sizes
    log_p = frames(n_frames, vocab_size, seed)
    wanted = all_texts(log_p, 0)
    found = prefix_beam(log_p, 0, num_beams=2000)
    assert {one.ids: pytest.approx(math.exp(one.log_probability), rel=1e-9) for one in found} == wanted
    assert found[0].ids == max(wanted, key=lambda text: wanted[text])
    assert [one.log_probability for one in found] == sorted((one.log_probability for one in found), reverse=True)


@given(st.integers(0, 10_000))
def test_a_narrow_beam_is_often_right_and_never_says_more_than_is_there(seed):
    log_p = frames(5, 3, seed)
    wanted = all_texts(log_p, 0)
    for one in prefix_beam(log_p, 0, num_beams=3):
        assert math.exp(one.log_probability) == pytest.approx(wanted[one.ids])


def test_the_beam_finds_what_the_best_path_misses():
    """Twice a blank with 0.6 makes 0.36, but the token is in all other paths."""
    log_p = np.log([[0.6, 0.4], [0.6, 0.4]])
    assert best_path(log_p, 0) == []
    assert [(one.ids, round(math.exp(one.log_probability), 6)) for one in prefix_beam(log_p, 0, 2)] == [
        ((1,), 0.64),
        ((), 0.36),
    ]


@given(st.integers(1, 40), st.integers(2, 9), st.integers(0, 10_000), st.data())
def test_the_score_is_the_loss_of_torch(n_frames, vocab_size, seed, data):
    blank = data.draw(st.integers(0, vocab_size - 1))
    letters = [token for token in range(vocab_size) if token != blank]
    text = data.draw(st.lists(st.sampled_from(letters), min_size=1, max_size=12))
    log_p = frames(n_frames, vocab_size, seed)
    loss = torch.nn.functional.ctc_loss(
        torch.from_numpy(log_p)[:, None],
        torch.tensor([text]),
        torch.tensor([n_frames]),
        torch.tensor([len(text)]),
        blank=blank,
        reduction="sum",
    )
    assert -text_log_probability(log_p, text, blank) == pytest.approx(float(loss), rel=1e-5)


@given(tiny, st.data())
def test_the_alignment_is_the_likeliest_path(sizes, data):
    n_frames, vocab_size, seed = sizes
    log_p = frames(n_frames, vocab_size, seed)
    text = data.draw(st.lists(st.integers(1, vocab_size - 1), max_size=3))
    paths = [path for path in itertools.product(range(vocab_size), repeat=n_frames) if collapse(path, 0) == text]
    found = align(log_p, text, 0)
    if not paths:
        assert found is None
        return
    assert found is not None
    best = max(paths, key=lambda path: sum(log_p[t, token] for t, token in enumerate(path)))
    spelled = [0] * n_frames
    for one in found:
        spelled[one.first : one.last + 1] = [one.id] * (one.last + 1 - one.first)
        assert one.probability == pytest.approx(np.exp(log_p[one.first : one.last + 1, one.id]).mean())
    assert spelled == list(best)
    assert [one.id for one in found] == text


@given(tiny, st.data())
def test_the_occupancy_of_a_token_is_the_share_of_the_paths_that_spell_it_there(sizes, data):
    n_frames, vocab_size, seed = sizes
    log_p = frames(n_frames, vocab_size, seed)
    text = data.draw(st.lists(st.integers(1, vocab_size - 1), max_size=n_frames))
    wanted, total = np.zeros((len(text), n_frames)), 0.0
    for path in itertools.product(range(vocab_size), repeat=n_frames):
        if collapse(path, 0) == text:
            p = math.exp(sum(log_p[t, token] for t, token in enumerate(path)))
            total += p
            number = -1
            for t, token in enumerate(path):
                number += token != 0 and (t == 0 or token != path[t - 1])
                if token != 0:
                    wanted[number, t] += p
    found = occupancy(log_p, text, 0)
    if total == 0:
        assert found is None
    else:
        assert found is not None
        assert found == pytest.approx(wanted / total, abs=1e-9)


def test_the_occupancies_of_a_frame_are_the_gradient_of_the_loss():
    log_p, text = frames(30, 6, 5), [3, 1, 1, 4, 2, 3]
    leaf = torch.from_numpy(log_p).requires_grad_()
    lengths = torch.tensor([30]), torch.tensor([len(text)])
    torch.nn.functional.ctc_loss(leaf[:, None], torch.tensor([text]), *lengths, blank=0, reduction="sum").backward()
    assert leaf.grad is not None
    found = occupancy(log_p, text, 0)
    assert found is not None
    by_token = np.zeros((6, 30))
    np.add.at(by_token, text, found)
    by_token[0] = 1 - found.sum(0)
    # what torch gives is the gradient at the logits of a softmax: the probabilities less the occupancies
    assert by_token == pytest.approx(np.exp(log_p).T - leaf.grad.numpy().T, abs=1e-6)


def test_equal_neighbours_need_a_blank_between_them():
    log_p = frames(2, 3, 0)
    assert text_log_probability(log_p, [1, 1], 0) == -math.inf
    assert align(log_p, [1, 1], 0) is None
    three = align(frames(3, 3, 0), [1, 1], 0)
    assert three is not None
    assert [(one.first, one.last) for one in three] == [(0, 0), (2, 2)]


def test_no_frames_say_nothing():
    nothing = np.zeros((0, 4))
    assert prefix_beam(nothing, 0, 4)[0].ids == ()
    assert (text_log_probability(nothing, [], 0), text_log_probability(nothing, [1], 0)) == (0.0, -math.inf)
    assert align(nothing, [], 0) == []


def test_probabilities_of_zero_are_no_trouble():
    log_p = np.full((4, 3), -math.inf)
    log_p[[0, 1, 2, 3], [1, 0, 2, 2]] = 0.0
    assert prefix_beam(log_p, 0, 5) == [CtcText((1, 2), 0.0)]
    assert text_log_probability(log_p, [1, 2], 0) == 0.0
    assert text_log_probability(log_p, [2, 1], 0) == -math.inf
    assert align(log_p, [2, 1], 0) is None


@pytest.mark.parametrize("log_p", [np.zeros(3), np.full((2, 3), 0.5), np.full((2, 3), math.nan)])
def test_what_are_no_log_probabilities_is_refused(log_p):
    with pytest.raises(ConfigError, match="expected log probabilities"):
        prefix_beam(log_p, 0, 2)


def test_a_text_with_the_blank_in_it_is_refused():
    with pytest.raises(ConfigError, match="cannot spell the token 0"):
        text_log_probability(frames(3, 3, 0), [1, 0], 0)


def test_ten_seconds_are_searched_faster_than_they_last():
    log_p = frames(250, 30, 1)  # a frame in 40 ms
    began = time.process_time()
    prefix_beam(log_p, 0, 8)
    assert time.process_time() - began < 5
