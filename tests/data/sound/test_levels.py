"""How loud and how clipped: against their definitions; and what trimming keeps."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glassformer.data.sound import heard_part, resample, sounding, trimmed
from glassformer.data.sound.levels import decibels, frame_powers, n_clipped
from glassformer.features import FeatureConfig

RATE = 8000
SMALL = settings(max_examples=25, deadline=None)


def sine(amplitude: float, seconds: float = 1.0, hertz: float = 200) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def test_decibels_of_known_amplitudes():
    assert decibels(1.0) == 0
    assert decibels(0.1) == pytest.approx(-20)
    assert decibels(0.5) == pytest.approx(-6.02, abs=0.01)
    assert decibels(0.0) == -math.inf


@given(limit=st.floats(0.2, 5))
@SMALL
def test_clipped_are_the_samples_that_a_limit_has_cut(limit):
    """A wave times a gain, cut to full scale, as a recorder does; single samples at the top are none."""
    wave = sine(limit, 0.5, 51)
    cut = np.clip(wave, -1, 1)
    above = np.abs(wave) > 1
    runs = np.diff(np.flatnonzero(np.diff(np.concatenate([[0], above, [0]]))))[::2]
    assert n_clipped(cut) == sum(run for run in runs if run >= 3)


def test_waves_that_only_touch_full_scale_are_not_clipped():
    assert n_clipped(sine(0.9999)) == 0
    assert n_clipped(np.array([0, 1, 1, 0, -1, -1, 0], np.float32)) == 0
    assert n_clipped(np.array([0, 1, 1, 1, 0, -1, -1, -1], np.float32)) == 6
    assert n_clipped(np.array([1, -1, 1, -1, 1], np.float32)) == 0
    assert n_clipped(np.zeros(0, np.float32)) == 0
    assert n_clipped(np.ones(2, np.float32)) == 0


@given(sizes=st.lists(st.integers(1, 50), max_size=5), frame=st.integers(1, 40))
@SMALL
def test_the_power_of_a_frame_is_the_mean_of_its_squares(sizes, frame):
    samples = np.concatenate([np.zeros(0), *(np.full(size, 0.1 * size) for size in sizes)])
    expected = [np.mean(samples[at : at + frame] ** 2) for at in range(0, len(samples), frame)]
    np.testing.assert_allclose(frame_powers(samples, frame), expected)


@given(before=st.floats(0, 1), length=st.floats(0.05, 1), behind=st.floats(0, 1), margin=st.floats(0, 0.2))
@SMALL
def test_trimming_keeps_the_sound_and_its_margin(before, length, behind, margin):
    silence = np.random.default_rng(0).standard_normal
    samples = np.concatenate(
        [1e-4 * silence(round(before * RATE)), sine(0.5, length), 1e-4 * silence(round(behind * RATE))]
    )
    first, last = round(before * RATE), round(before * RATE) + round(length * RATE)
    start, end = sounding(samples, RATE, below_db=40, margin=margin)
    frame = RATE // 100
    reach = round(margin * RATE)
    assert max(0, first - reach - frame) <= start <= max(0, first - reach + frame)
    assert min(len(samples), last + reach - frame) <= end <= min(len(samples), last + reach + frame)


def test_a_model_hears_what_its_features_leave_of_a_sound():
    samples = np.concatenate([np.zeros(4000), sine(0.5, 0.5), np.zeros(4000)])
    trims, hears_all = (FeatureConfig(rate=RATE, trim_db=db) for db in (40.0, None))
    assert heard_part(samples, trims) == (3600, 8400)
    assert np.array_equal(trimmed(samples, trims), samples[3600:8400])
    assert heard_part(samples, hears_all) == (0, 12_000)
    for nothing in (np.zeros(1000), np.zeros(0)):
        assert np.array_equal(trimmed(nothing, trims), nothing)
    assert sounding(np.zeros(1000), RATE, below_db=40) == (0, 0)


def test_resampling_to_the_same_rate_changes_nothing():
    wave = sine(0.3)
    assert np.array_equal(resample(wave, RATE, RATE), wave)
