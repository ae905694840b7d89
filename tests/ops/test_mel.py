"""The vectors of sound: against librosa and transformers, against their definitions, and the laws that they keep."""

# N samples, T frames, W samples of a frame, F frequencies, M mel bands, C numbers of a vector

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from glassformer.ops import mel, mel_scale
from glassformer.ops.framing import n_frames

CLOSE = {"atol": 1e-4, "rtol": 0.0}
SMALL = settings(max_examples=25, deadline=None)


@pytest.fixture(scope="module")
def librosa():
    return pytest.importorskip("librosa")


@pytest.fixture(scope="module")
def wave() -> torch.Tensor:
    draw = torch.Generator().manual_seed(0)
    at = torch.arange(12000) / 16000
    tones = 0.4 * (2 * math.pi * 440 * at).sin() + 0.2 * (2 * math.pi * (1000 + 2000 * at) * at).sin()
    return tones * (1 - at) + 0.01 * torch.randn(12000, generator=draw)


def random_wave(n: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2 - 1


# --- the scales and the filters ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", mel_scale.SCALES)
@given(hertz=st.floats(0, 96_000))
@SMALL
def test_every_scale_can_be_undone_and_only_rises(scale, hertz):
    assert mel_scale.hertz_of(mel_scale.mel_of(hertz, scale), scale) == pytest.approx(hertz, abs=1e-6)
    assert mel_scale.mel_of(hertz + 1, scale) > mel_scale.mel_of(hertz, scale)


@pytest.mark.parametrize("scale", mel_scale.SCALES)
@given(hertz=st.floats(0, 96_000))
@SMALL
def test_scales_are_librosas(librosa, scale, hertz):
    assert mel_scale.mel_of(hertz, scale) == pytest.approx(
        librosa.hz_to_mel(hertz, htk=scale == "htk"), rel=1e-9, abs=1e-9
    )


def test_published_points_of_the_scales():
    assert round(mel_scale.mel_of(1000.0, "htk")) == 1000
    assert mel_scale.mel_of(1000.0, "slaney") == pytest.approx(15.0)
    assert mel_scale.mel_of(6400.0, "slaney") == pytest.approx(42.0)  # 27 mels above 1000 Hz are a factor of 6.4


FILTERS = [
    (80, 400, 16000, 0.0, None),
    (128, 2048, 16000, 0.0, None),
    (40, 512, 16000, 20.0, 7600.0),
    (20, 256, 8000, 0, None),
]


@pytest.mark.parametrize("sizes", FILTERS)
@pytest.mark.parametrize("equal_area", [True, False])
@pytest.mark.parametrize("scale", mel_scale.SCALES)
def test_filters_are_librosas(librosa, sizes, equal_area, scale):
    n_mels, n_fft, rate, low, high = sizes
    norm = "slaney" if equal_area else None
    theirs = librosa.filters.mel(
        sr=rate, n_fft=n_fft, n_mels=n_mels, fmin=low, fmax=high, htk=scale == "htk", norm=norm, dtype=np.float64
    )
    ours = mel.mel_filters(n_mels, n_fft, rate, low, high, scale=scale, equal_area=equal_area, dtype=torch.float64)
    assert_close(ours, torch.from_numpy(theirs), atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("n_mels", [80, 128])
def test_filters_are_whispers(n_mels):
    extractor = pytest.importorskip("transformers").WhisperFeatureExtractor(feature_size=n_mels)
    theirs = torch.from_numpy(extractor.mel_filters).T.float()
    assert_close(mel.mel_filters(n_mels, 400, 16000), theirs, atol=1e-8, rtol=1e-6)


def test_triangles_of_the_same_height_add_up_to_one_between_the_first_and_the_last_peak():
    edges = mel_scale.mel_edges(30, 100.0, 7000.0, "slaney")
    filters = mel.mel_filters(30, 2048, 16000, 100.0, 7000.0, equal_area=False, dtype=torch.float64)
    at = torch.arange(1025, dtype=torch.float64) * 16000 / 2048
    between = (at >= edges[1]) & (at <= edges[-2])
    assert between.sum() > 100
    assert_close(filters.sum(0)[between], torch.ones(int(between.sum()), dtype=torch.float64))


# --- frames and spectra -----------------------------------------------------------------------------------------------


@given(n=st.integers(1, 60), size=st.integers(2, 24), hop=st.integers(1, 30), centred=st.booleans())
@SMALL
def test_frames_are_their_definition(n, size, hop, centred):
    wave = torch.arange(1.0, n + 1)
    made = mel.frames(wave, size, hop, centred=centred)
    assert made.shape == (n_frames(n, size, hop, centred=centred), size)
    needed = size - size // 2 + 1 if centred else size
    longer = wave.tolist() + [0.0] * max(0, needed - n)
    for t, frame in enumerate(made.tolist()):
        for i, value in enumerate(frame):
            at = t * hop + i - (size // 2 if centred else 0)
            at = abs(at)
            assert value == longer[at if at < len(longer) else 2 * (len(longer) - 1) - at]


def test_frames_of_several_waves_are_those_of_each():
    waves = torch.stack([random_wave(500, 1), random_wave(500, 2)]).reshape(2, 1, 500)
    for centred in (True, False):
        made = mel.frames(waves, 64, 20, centred=centred)
        assert_close(made[1, 0], mel.frames(waves[1, 0], 64, 20, centred=centred))


@pytest.mark.parametrize("length", [400, 300, 301])
@pytest.mark.parametrize("shape", mel.WINDOWS)
def test_spectra_are_those_of_torch_stft(wave, shape, length):
    window = mel.window(shape, length)
    theirs = torch.stft(wave, 400, 160, length, window, center=True, pad_mode="reflect", return_complex=True)
    ours = mel.power_spectrum(mel.frames(wave, 400, 160), mel.window(shape, length, 400))
    assert_close(ours, theirs.abs().square().T, atol=1e-3, rtol=1e-4)


def test_power_is_two_dot_products_squared():
    frames, window = mel.frames(random_wave(60), 16, 5), mel.window("hann", 16, dtype=torch.float64)
    power, at = mel.power_spectrum(frames, window), torch.arange(16, dtype=torch.float64)
    for k in range(9):
        angle = 2 * math.pi * k * at / 16
        faded = frames * window
        assert_close(power[:, k], (faded @ angle.cos()) ** 2 + (faded @ angle.sin()) ** 2)


@given(n=st.integers(1, 700))
@SMALL
def test_few_frames_at_a_time_are_as_good_as_all(n):
    frames, window = torch.randn(n, 8, dtype=torch.float64), mel.window("hamming", 8, dtype=torch.float64)
    filters = torch.rand(3, 5, dtype=torch.float64)
    assert_close(mel.mel_power(frames, window, filters), mel.power_spectrum(frames, window) @ filters.mT)


def test_preemphasis_is_librosas(librosa, wave):
    theirs = librosa.effects.preemphasis(wave.numpy(), coef=0.97, zi=np.array([-0.97 * wave[0].item()]))
    assert_close(mel.preemphasise(wave, 0.97), torch.from_numpy(theirs), atol=1e-6, rtol=0)


# --- bands and cepstra ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("scale", mel_scale.SCALES)
def test_log_mel_is_librosas(librosa, wave, scale, centred):
    theirs = librosa.feature.melspectrogram(
        y=wave.numpy(), sr=16000, n_fft=512, win_length=400, hop_length=160, n_mels=40, htk=scale == "htk",
        center=centred, pad_mode="reflect",
    )  # fmt: skip
    frames = mel.frames(wave, 512, 160, centred=centred)
    power = mel.mel_power(frames, mel.window("hann", 400, 512), mel.mel_filters(40, 512, 16000, scale=scale))
    assert_close(power.T, torch.from_numpy(theirs), **CLOSE)
    assert_close(mel.log_mel(power).T, torch.from_numpy(theirs).clamp(min=1e-10).log(), **CLOSE)


@pytest.mark.parametrize("length", [0, 12, 22])
@pytest.mark.parametrize("n_numbers", [1, 13, 40])
def test_cepstra_are_librosas(librosa, n_numbers, length):
    bands = torch.randn(17, 40, dtype=torch.float64) * 5
    theirs = librosa.feature.mfcc(S=bands.T.numpy(), n_mfcc=n_numbers, lifter=length)
    cosines, lifter = mel.cosines(40, n_numbers, torch.float64), mel.lifter(n_numbers, length, torch.float64)
    assert_close(mel.cepstrum(bands, cosines, lifter), torch.from_numpy(theirs).T, atol=1e-9, rtol=1e-9)


@given(n=st.integers(1, 40))
@SMALL
def test_the_whole_cosine_transform_is_a_rotation(n):
    rows = mel.cosines(n, n, torch.float64)
    assert_close(rows @ rows.mT, torch.eye(n, dtype=torch.float64))


@pytest.mark.parametrize("n", [1, 159, 160, 8000, 12000])
@pytest.mark.parametrize("n_mels", [80, 128])
def test_log_mel_is_whispers(wave, n, n_mels):
    extractor = pytest.importorskip("transformers").WhisperFeatureExtractor(feature_size=n_mels, chunk_length=1)
    heard = torch.zeros(16000)
    heard[:n] = wave[:n]
    theirs = extractor(heard.numpy(), sampling_rate=16000, return_tensors="pt").input_features[0]
    ours = mel.whisper_log_mel(heard, mel.window("hann", 400), mel.mel_filters(n_mels, 400, 16000), 160)
    assert ours.shape == (100, n_mels)
    assert_close(ours.T, theirs, **CLOSE)


def test_whispers_bands_of_silence_and_of_several_waves(wave):
    window, filters = mel.window("hann", 400), mel.mel_filters(80, 400, 16000)
    assert_close(mel.whisper_log_mel(torch.zeros(1600), window, filters, 160), torch.full((10, 80), -1.5))
    both = mel.whisper_log_mel(torch.stack([wave, wave / 100]), window, filters, 160)
    assert_close(both[1], mel.whisper_log_mel(wave / 100, window, filters, 160))  # each has its own loudest
    assert both[0].max() - both[0].min() <= 2 + 1e-6


# --- over time --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reach", [1, 2, 4])
def test_deltas_are_librosas(librosa, reach):
    x = torch.randn(30, 5, dtype=torch.float64)
    theirs = librosa.feature.delta(x.T.numpy(), width=2 * reach + 1, mode="nearest")
    assert_close(mel.deltas(x, reach), torch.from_numpy(theirs).T)


@given(n=st.integers(1, 20), reach=st.integers(1, 4), slope=st.floats(-3, 3), start=st.floats(-3, 3))
@SMALL
def test_the_delta_of_a_line_is_its_slope_away_from_the_ends(n, reach, slope, start):
    line = (start + slope * torch.arange(n, dtype=torch.float64))[:, None]
    found = mel.deltas(line, reach)
    assert found.shape == line.shape
    assert_close(found[reach : n - reach], torch.full_like(found[reach : n - reach], slope))
    assert_close(mel.deltas(torch.full_like(line, start), reach), torch.zeros_like(line))


def test_deltas_of_deltas_stand_behind_the_deltas():
    x = torch.randn(2, 9, 3, dtype=torch.float64)
    both = mel.with_deltas(x, 2)
    assert_close(both, torch.cat([x, mel.deltas(x), mel.deltas(mel.deltas(x))], -1))
    assert torch.equal(mel.with_deltas(x, 0), x)


@given(n=st.integers(2, 40), seed=st.integers(0, 9))
@SMALL
def test_a_normalised_utterance_has_mean_zero_and_variance_one(n, seed):
    x = torch.stack([random_wave(n, seed) * 7 + 100, torch.full((n,), -23.0, dtype=torch.float64)], -1)
    made = mel.normalise_utterance(x)
    assert_close(made.mean(0), torch.zeros(2, dtype=torch.float64), atol=1e-9, rtol=0)
    assert made[:, 0].square().mean() == pytest.approx(1, rel=0.05)
    assert (made[:, 1] == 0).all()  # what never changes is no noise made large


@given(n=st.integers(1, 30), cut=st.integers(1, 30))
@SMALL
def test_running_normalisation_is_its_definition_and_knows_no_future(n, cut):
    x = torch.stack([random_wave(n, 3) * 5 - 20, random_wave(n, 4)], -1)
    made = mel.normalise_running(x)
    for t in range(n):
        past = x[: t + 1]
        expected = (x[t] - past.mean(0)) / (past.var(0, correction=0) + mel.STEADY).sqrt()
        assert_close(made[t], expected, atol=1e-6, rtol=1e-6)
    assert torch.equal(made[:cut], mel.normalise_running(x[:cut]))


def test_running_normalisation_ends_as_that_of_the_utterance():
    x = torch.randn(2, 50, 4)
    assert_close(mel.normalise_running(x)[:, -1], mel.normalise_utterance(x)[:, -1])


def test_running_normalisation_of_channels_far_from_zero_keeps_how_much_they_vary():
    x = (3000 + torch.randn(200, 2)).float()
    assert_close(mel.normalise_running(x), mel.normalise_running(x.double()).float(), atol=1e-5, rtol=1e-5)
    assert_close(mel.normalise_running(x)[-1], mel.normalise_utterance(x.double())[-1].float(), atol=1e-4, rtol=1e-4)


def test_gradients_go_through_everything():
    filters, window = mel.mel_filters(4, 16, 1000, dtype=torch.float64), mel.window("hann", 12, 16, torch.float64)
    cosines, lifter = mel.cosines(4, 3, torch.float64), mel.lifter(3, 5, torch.float64)

    def vectors(wave: torch.Tensor) -> torch.Tensor:
        frames = mel.frames(mel.preemphasise(wave, 0.9), 16, 5)
        numbers = mel.cepstrum(mel.log_mel(mel.mel_power(frames, window, filters)), cosines, lifter)
        return mel.normalise_running(mel.normalise_utterance(mel.with_deltas(numbers, 1)))

    wave = random_wave(40).requires_grad_()
    assert torch.autograd.gradcheck(vectors, wave, atol=1e-4)
