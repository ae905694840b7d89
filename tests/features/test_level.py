"""Loudness taken out of an utterance: what is left, and what is not changed by it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from glassformer.features import FeatureConfig, extract
from glassformer.ops.mel import normalise_level


@given(st.integers(8, 30), st.integers(2, 12), st.integers(0, 99))
def test_all_numbers_together_have_mean_0_and_variance_1(n, f, seed):
    x = 3 + 5 * torch.randn(n, f, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    found = normalise_level(x)
    assert float(found.mean()) == pytest.approx(0, abs=1e-9)
    assert float(found.square().mean()) == pytest.approx(1, abs=1e-3)
    torch.testing.assert_close((found - found[0, 0]) * (x[1, 0] - x[0, 0]), (x - x[0, 0]) * (found[1, 0] - found[0, 0]))


def test_a_constant_becomes_zeros():
    assert normalise_level(torch.full((4, 3), 7.0)).eq(0).all()


def test_how_loud_a_wave_is_makes_no_difference():
    wave = torch.randn(4000, generator=torch.Generator().manual_seed(0)).clamp(-3, 3) / 3
    config = FeatureConfig(rate=8000, n_mels=20, normalise="level")
    torch.testing.assert_close(extract(0.1 * wave, config), extract(wave, config), rtol=1e-3, atol=1e-3)
