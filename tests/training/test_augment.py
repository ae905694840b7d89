"""Utterances as they are changed: how far, how often, and by nothing but the seed."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glassformer.training.augment import Draws, at_speed, hide, stretch_of, white_noise, with_noise
from glassformer.training.recipe import AugmentRecipe


def test_draws_are_the_same_on_every_machine():
    draws = Draws(7)
    assert [draws.below(1000) for _ in range(4)] == GOLDEN
    assert Draws(7).share() == Draws(7).share() != Draws(8).share()


@given(st.integers(0, 2**50))
def test_draws_stay_within_their_bounds(seed):
    draws = Draws(seed)
    assert 0 <= draws.share() < 1
    assert draws.below(3) in (0, 1, 2)
    assert -2 <= draws.between(-2, 5) < 5
    assert ((draws.shares(9) >= 0) & (draws.shares(9) < 1)).all()


@pytest.mark.parametrize("speed", [0.8, 0.9, 1.0, 1.1, 1.25])
def test_a_wave_played_faster_is_shorter_and_higher(speed):
    rate, pitch = 8000, 440
    wave = np.sin(2 * np.pi * pitch * np.arange(rate) / rate).astype(np.float32)
    played = at_speed(wave, rate, speed)
    assert len(played) == pytest.approx(rate / speed, abs=2)
    peak = np.abs(np.fft.rfft(played)).argmax() * rate / len(played)
    assert peak == pytest.approx(pitch * speed, abs=2)


@settings(max_examples=40)
@given(st.integers(0, 2**40), st.floats(-5, 40))
def test_noise_is_as_far_below_the_voice_as_is_asked(seed, decibels):
    draws = Draws(seed)
    wave, noise = 0.05 * white_noise(4000, draws), white_noise(4000, draws)
    added = (with_noise(wave, noise, decibels) - wave).astype(np.float64)
    ratio = 10 * math.log10(np.square(wave, dtype=np.float64).mean() / np.square(added).mean())
    assert ratio == pytest.approx(decibels, abs=0.2)


def test_silence_has_no_level_to_measure_noise_by():
    wave, noise = np.zeros(100, np.float32), white_noise(100, Draws(0))
    assert with_noise(wave, noise, 10) is wave
    assert with_noise(noise, wave, 10) is noise


@given(st.integers(1, 30), st.integers(1, 100), st.integers(0, 99))
def test_noise_that_is_too_short_goes_round(n_noise, n, seed):
    noise = np.arange(n_noise, dtype=np.float32)
    found = stretch_of(noise, n, Draws(seed))
    assert len(found) == n
    assert ((np.diff(found) == 1) | ((found[:-1] == n_noise - 1) & (found[1:] == 0))).all()


@settings(max_examples=60)
@given(st.integers(0, 2**40), st.integers(1, 60), st.integers(1, 20), st.integers(0, 3), st.integers(0, 3))
def test_what_is_hidden_becomes_the_mean_and_the_rest_stays(seed, n, f, times, bands):
    recipe = AugmentRecipe(time_masks=times, frequency_masks=bands, time_mask_width=10, frequency_mask_width=4)
    vectors = torch.randn(n, f, generator=torch.Generator().manual_seed(seed % 1000))
    found = hide(vectors, recipe, Draws(seed))
    changed = found != vectors
    assert torch.equal(found[changed], vectors.mean(0).expand(n, f)[changed])
    rows, columns = changed.all(1), changed.all(0)
    assert not (changed & ~rows[:, None] & ~columns[None]).any()  # whole vectors or whole channels
    if n > 1 and f > 1:
        assert rows.sum() <= times * min(10, int(0.2 * n)) or bool(columns.all())
        assert columns.sum() <= bands * min(4, f) or bool(rows.all())


def test_every_place_and_every_width_is_hidden_now_and_then():
    recipe = AugmentRecipe(time_masks=1, time_mask_width=3, time_mask_share=1.0, frequency_masks=0)
    ramp = torch.arange(20.0).square()[:, None].expand(20, 2)
    hidden = torch.stack([(hide(ramp, recipe, Draws(seed)) != ramp)[:, 0] for seed in range(2000)])
    assert set(hidden.sum(1).tolist()) == {0, 1, 2, 3}
    assert (hidden.float().mean(0) > 0.02).all()


GOLDEN = [692, 655, 120, 522]
