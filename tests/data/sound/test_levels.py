"""How loud, how clipped, how silent: against their definitions; and what trimming keeps."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glassformer.data.sound import clipped_share, level, measure, peak, resample, silent_share, sounding, trim

RATE = 8000
SMALL = settings(max_examples=25, deadline=None)


def sine(amplitude: float, seconds: float = 1.0, hertz: float = 200) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def test_levels_of_known_waves():
    assert level(np.sign(sine(1) + 0.01)) == pytest.approx(0, abs=1e-6)
    assert level(sine(1)) == pytest.approx(-3.01, abs=0.01)
    assert level(sine(0.1)) == pytest.approx(-23.01, abs=0.01)
    assert peak(sine(0.1)) == pytest.approx(-20, abs=0.01)
    assert level(np.zeros(10)) == peak(np.zeros(10)) == level(np.zeros(0)) == peak(np.zeros(0)) == -math.inf


@given(gain=st.floats(0.001, 1))
@SMALL
def test_half_as_large_is_six_decibels_less(gain):
    assert level(sine(gain)) - level(sine(gain / 2)) == pytest.approx(6.02, abs=0.01)


@given(limit=st.floats(0.2, 5))
@SMALL
def test_clipped_are_the_samples_that_a_limit_has_cut(limit):
    """A wave times a gain, cut to full scale, as a recorder does; single samples at the top are none."""
    wave = sine(limit, 0.5, 51)
    cut = np.clip(wave, -1, 1)
    above = np.abs(wave) > 1
    runs = np.diff(np.flatnonzero(np.diff(np.concatenate([[0], above, [0]]))))[::2]
    assert round(clipped_share(cut) * len(cut)) == sum(run for run in runs if run >= 3)


def test_waves_that_only_touch_full_scale_are_not_clipped():
    assert clipped_share(sine(0.9999)) == 0
    assert clipped_share(np.array([0, 1, 1, 0, -1, -1, 0], np.float32)) == 0
    assert clipped_share(np.array([0, 1, 1, 1, 0, -1, -1, -1], np.float32)) == 6 / 8
    assert clipped_share(np.array([1, -1, 1, -1, 1], np.float32)) == 0
    assert clipped_share(np.zeros(0, np.float32)) == 0
    assert clipped_share(np.ones(2, np.float32)) == 0


@given(quiet=st.integers(0, 20), loud=st.integers(0, 20))
@SMALL
def test_the_silent_share_counts_frames(quiet, loud):
    samples = np.concatenate([np.full(quiet * 160, 1e-4), sine(0.5, loud * 0.02)])
    expected = quiet / (quiet + loud) if quiet + loud else 0
    assert silent_share(samples, RATE) == pytest.approx(expected)


def test_all_at_once():
    wave = np.concatenate([sine(0.5), np.zeros(RATE, np.float32)])
    found = measure(wave, RATE)
    assert (found.level, found.peak) == (pytest.approx(-12.04, abs=0.01), pytest.approx(-6.02, abs=0.01))
    assert (found.clipped, found.silent) == (0, 0.5)


@given(before=st.floats(0, 1), length=st.floats(0.05, 1), behind=st.floats(0, 1), margin=st.floats(0, 0.2))
@SMALL
def test_trimming_keeps_the_sound_and_its_margin(before, length, behind, margin):
    silence = np.random.default_rng(0).standard_normal
    samples = np.concatenate(
        [1e-4 * silence(round(before * RATE)), sine(0.5, length), 1e-4 * silence(round(behind * RATE))]
    )
    first, last = round(before * RATE), round(before * RATE) + round(length * RATE)
    start, end = sounding(samples, RATE, margin=margin)
    frame = RATE // 100
    reach = round(margin * RATE)
    assert max(0, first - reach - frame) <= start <= max(0, first - reach + frame)
    assert min(len(samples), last + reach - frame) <= end <= min(len(samples), last + reach + frame)
    assert np.array_equal(trim(samples, RATE, margin=margin), samples[start:end])


def test_of_silence_nothing_is_left_and_of_nothing_nothing():
    assert len(trim(np.zeros(1000, np.float32), RATE)) == 0
    assert sounding(np.zeros(0), RATE) == (0, 0)
    assert len(trim(np.full(5, 0.1), RATE)) == 5


def test_resampling_to_the_same_rate_changes_nothing():
    wave = sine(0.3)
    assert np.array_equal(resample(wave, RATE, RATE), wave)
