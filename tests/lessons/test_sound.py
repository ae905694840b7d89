"""The ear against torch.stft and its definition: frames, Fourier sums, mel bands, cepstrum, and frames that attend."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch.testing import assert_close

from glassformer.errors import DataError
from glassformer.lessons import sound as chapter
from glassformer.lessons.models.ear import Ear, melody
from glassformer.ops.mel_scale import hertz_of, mel_of

EAR = Ear()


@pytest.fixture(scope="module")
def wave():
    return chapter.heard(0)


def test_power_is_that_of_torch_stft(wave):
    window = torch.hann_window(EAR.frame, dtype=torch.float64)
    theirs = torch.stft(wave, EAR.frame, EAR.hop, window=window, center=False, return_complex=True).abs().square()
    assert_close(EAR.power(wave), theirs.T)


def test_power_is_two_dot_products_squared(wave):
    frame, power = EAR.frames(wave)[7], EAR.power(wave)[7]
    at = torch.arange(EAR.frame, dtype=torch.float64)
    for turns in (0, 1, 14, 128):
        angle = 2 * math.pi * turns * at / EAR.frame
        assert_close((frame @ angle.cos()) ** 2 + (frame @ angle.sin()) ** 2, power[turns])


@pytest.mark.parametrize("turns", [5, 14, 60])
def test_a_pure_tone_is_loudest_at_its_own_frequency(turns):
    hertz = EAR.frequencies[turns].item()
    tone = (2 * math.pi * hertz * torch.arange(1000, dtype=torch.float64) / EAR.rate).sin()
    assert set(EAR.power(tone).argmax(-1).tolist()) == {turns}


def test_a_thousand_hertz_are_a_thousand_mels_and_the_scale_can_be_undone():
    assert round(mel_of(1000)) == 1000
    assert mel_of(0) == 0
    for hertz in (20.0, 440.0, 3999.0):
        assert hertz_of(mel_of(hertz)) == pytest.approx(hertz)


def test_bands_are_even_in_mels_and_their_triangles_add_up_to_one_between_the_first_and_last_peak():
    mels = [mel_of(edge) for edge in EAR.edges.tolist()]
    steps = [b - a for a, b in pairwise(mels)]
    assert steps == pytest.approx([steps[0]] * len(steps))
    between = (EAR.frequencies >= EAR.edges[1]) & (EAR.frequencies <= EAR.edges[-2])
    assert_close(EAR.filters.sum(0)[between], torch.ones(int(between.sum()), dtype=torch.float64))
    assert EAR.filters.shape == (EAR.n_bands, EAR.frame // 2 + 1)


def test_bands_are_those_of_transformers():
    audio_utils = pytest.importorskip("transformers.audio_utils")
    theirs = audio_utils.mel_filter_bank(
        num_frequency_bins=EAR.frame // 2 + 1,
        num_mel_filters=EAR.n_bands,
        min_frequency=0.0,
        max_frequency=EAR.rate / 2,
        sampling_rate=EAR.rate,
        norm=None,
        mel_scale="htk",
    )
    assert_close(EAR.filters, torch.tensor(theirs).T.double())


def test_the_whole_cepstrum_keeps_every_length_and_its_parts_are_the_definition(wave):
    heard, whole = EAR.hear(wave), EAR.cepstrum(wave, EAR.n_bands)
    assert_close(whole.norm(dim=1), heard.norm(dim=1))  # the transform is a rotation
    assert_close(whole[:, 0], heard.sum(1) / math.sqrt(EAR.n_bands))
    third = sum(heard[0, m].item() * math.cos(math.pi / EAR.n_bands * (m + 0.5) * 3) for m in range(EAR.n_bands))
    assert whole[0, 3].item() == pytest.approx(third * math.sqrt(2 / EAR.n_bands))
    assert_close(EAR.cepstrum(wave), whole[:, :8])


def test_no_frame_occurs_twice_and_none_has_a_zero(wave):
    heard = EAR.hear(wave)
    assert len({tuple(row) for row in heard.tolist()}) == len(heard)
    assert (heard != 0).all()


def test_the_counted_frames_are_all_that_fit(wave):
    n_frames = 1 + (len(wave) - EAR.frame) // EAR.hop
    assert len(EAR.frames(wave)) == len(chapter.tone_of_frames()) == n_frames


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_last_frame_looks_at_its_own_tone_and_at_the_first_which_is_the_same(seed):
    shares = chapter.looks(EAR.hear(chapter.heard(seed)))
    assert sum(shares) == pytest.approx(1)
    assert shares[0] + shares[3] > 0.99
    assert shares[0] > 0.1


def test_frames_enter_the_model_as_their_projection_plus_positions(wave):
    heard, project = EAR.hear(wave), chapter.projection(0)
    entered = chapter.entered_model(heard, project)
    assert entered.shape == (len(heard), chapter.D_MODEL)
    assert_close(entered[0, ::2], (heard[0] @ project.T)[::2])  # the sine of position 0 is 0 ...
    assert_close(entered[0, 1::2], (heard[0] @ project.T)[1::2] + 1)  # ... and its cosine is 1


def test_silence_has_a_logarithm_and_a_wave_shorter_than_a_frame_is_refused():
    assert EAR.hear(torch.zeros(EAR.frame)).isfinite().all()
    with pytest.raises(DataError, match="255 samples are too few: expected at least the 256 of a frame"):
        EAR.hear(torch.zeros(EAR.frame - 1))


def test_the_noise_is_drawn_from_the_seed():
    assert torch.equal(melody([440.0], 0.1, 8000, 0.1, 3), melody([440.0], 0.1, 8000, 0.1, 3))
    assert not torch.equal(melody([440.0], 0.1, 8000, 0.1, 3), melody([440.0], 0.1, 8000, 0.1, 4))
