"""What a config promises of its vectors, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from glassformer.errors import ConfigError, DataError
from glassformer.features import FeatureConfig, extract, loudest_band
from glassformer.ops import mel

SMALL = settings(max_examples=30, deadline=None)
EXAMPLES = {
    "log-mel": FeatureConfig(),
    "log-mel at 8 kHz": FeatureConfig(rate=8000, n_mels=40, normalise="utterance", deltas=1),
    "whisper": FeatureConfig(kind="whisper"),
    "whisper large": FeatureConfig(kind="whisper", n_mels=128, chunk_seconds=2),
    "mfcc": FeatureConfig(kind="mfcc", deltas=2, normalise="running", preemphasis=0.97, window_shape="hamming"),
    "vectors": FeatureConfig(kind="vectors", size=3, normalise="utterance", deltas=1),
}


@st.composite
def configs(draw: st.DrawFn) -> FeatureConfig:
    kind = draw(st.sampled_from(["log-mel", "mfcc", "whisper"]))
    values = {"kind": kind, "n_mels": draw(st.integers(3, 30))}
    if kind == "whisper":
        values |= {"chunk_seconds": draw(st.integers(1, 2)), "hop": draw(st.integers(50, 500))}
    else:
        values |= {
            "rate": draw(st.sampled_from([4000, 8000, 16000, 22050])),
            "hop": draw(st.integers(1, 700)),
            "window_shape": draw(st.sampled_from(sorted(mel.WINDOWS))),
            "scale": draw(st.sampled_from(["slaney", "htk"])),
            "equal_area": draw(st.booleans()),
            "centred": draw(st.booleans()),
            **({"n_mfcc": draw(st.integers(1, 3)), "lifter": draw(st.integers(0, 22))} if kind == "mfcc" else {}),
            "deltas": draw(st.integers(0, 2)),
            "normalise": draw(st.sampled_from(["none", "level", "utterance", "running"])),
        }
    try:
        return FeatureConfig.parse(values)
    except ConfigError as error:
        assume("is too many for n_fft" not in str(error))
        raise


@given(config=configs(), n=st.integers(1, 3000))
@SMALL
def test_a_config_knows_how_many_vectors_of_how_many_numbers_there_will_be(config, n):
    made = extract(torch.rand(n) - 0.5, config)
    assert made.shape == (config.frames(n), config.channels)
    assert made.dtype == torch.float32
    assert made.isfinite().all()


@pytest.mark.parametrize("config", EXAMPLES.values(), ids=EXAMPLES)
def test_several_waves_at_once_are_as_good_as_one_after_another(config):
    shape = (2, 50, 3) if config.kind == "vectors" else (2, 6000)
    waves = torch.rand(shape) - 0.5
    assert_close(extract(waves, config)[1], extract(waves[1], config), atol=1e-4, rtol=1e-4)


def test_lengths_that_are_not_given_follow_from_the_rate_and_can_be_read_off():
    config = FeatureConfig(rate=8000)
    assert (config.window, config.hop, config.n_fft, config.high_hz) == (200, 80, 256, 4000)
    config = FeatureConfig(rate=44100, hop=512)
    assert (config.window, config.hop, config.n_fft, config.high_hz) == (1102, 512, 2048, 22050)
    assert FeatureConfig.parse(config.model_dump()) == config
    assert FeatureConfig(kind="whisper").frames(1) == 3000
    assert FeatureConfig(kind="whisper").frames(960_000) == 6000


@pytest.mark.parametrize("config", EXAMPLES.values(), ids=EXAMPLES)
def test_a_config_that_was_written_out_whole_is_read_again(config):
    assert FeatureConfig.parse(config.model_dump(mode="json")) == config


def test_log_mel_and_mfcc_are_the_arithmetic_of_ops():
    wave = torch.rand(2000) - 0.5
    bands = mel.log_mel(
        mel.mel_power(mel.frames(wave, 512, 160), mel.window("hann", 400, 512), mel.mel_filters(80, 512, 16000))
    )
    assert_close(extract(wave, FeatureConfig()), bands)
    cepstra = mel.cepstrum(bands, mel.cosines(80, 13), mel.lifter(13, 22))
    found = extract(wave, FeatureConfig(kind="mfcc", deltas=1, normalise="utterance"))
    assert_close(found, mel.normalise_utterance(mel.with_deltas(cepstra, 1)))


def test_vectors_come_as_they_are():
    given_vectors = torch.randn(7, 3)
    assert torch.equal(extract(given_vectors, FeatureConfig(kind="vectors", size=3)), given_vectors)
    with pytest.raises(DataError, match=r"expected vectors of 4 numbers, found an array of shape \(7, 3\)"):
        extract(given_vectors, FeatureConfig(kind="vectors", size=4))


def test_whisper_hears_at_least_a_chunk_and_no_end_is_cut_off():
    extractor = pytest.importorskip("transformers").WhisperFeatureExtractor(chunk_length=1)
    config = FeatureConfig(kind="whisper", chunk_seconds=1)
    for n in (700, 16000, 40_100):
        wave = torch.rand(n) - 0.5
        theirs = extractor(
            wave.numpy(), sampling_rate=16000, truncation=False, padding="longest" if n > 16000 else "max_length"
        )
        assert_close(extract(wave, config).T, torch.as_tensor(theirs.input_features[0]), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "mel"}, "kind: .*'mel'"),
        ({"n_mel": 40}, "unknown key 'n_mel' .did you mean 'n_mels'"),
        ({"rate": 0}, "rate: .*greater than or equal to 1000, found 0"),
        ({"rate": "fast"}, "rate: .*found 'fast'"),
        ({"window": 600, "n_fft": 512}, "window=600 is longer than n_fft=512"),
        ({"high_hz": 9000}, "high_hz=9000 is above half of rate=16000"),
        ({"low_hz": 8000}, "low_hz=8000 is not below high_hz=8000"),
        ({"kind": "mfcc", "n_mfcc": 90}, "n_mfcc=90 is more than n_mels=80"),
        ({"n_mels": 400}, "n_mels=400 is too many for n_fft=512 at rate=16000: band 0 lies .*, 31.25 Hz"),
        ({"size": 3}, "size=3 is for kind=vectors; kind=log-mel makes 80 numbers"),
        ({"kind": "vectors"}, "kind=vectors needs size"),
        ({"chunk_seconds": 30}, "chunk_seconds=30 is for kind=whisper"),
        ({"kind": "whisper", "normalise": "utterance"}, "normalise=utterance where kind=whisper always has none"),
        ({"kind": "whisper", "rate": 8000}, "high_hz=8000 is above half of rate=8000"),
        ({"kind": "whisper", "window": 200}, "window=200 where kind=whisper always has 400"),
        ({"n_mfcc": 20}, "n_mfcc=20 is for kind=mfcc; kind=log-mel has n_mels=80 bands; leave it out"),
        ({"kind": "whisper", "lifter": 0}, "lifter=0 is for kind=mfcc; kind=whisper has n_mels=80 bands"),
        ({"kind": "vectors", "size": 3, "rate": 8000}, "rate=8000 is for sound, and kind=vectors takes vectors from files"),
        ({"kind": "vectors", "size": 3, "hop": 80}, "hop=80 is for sound"),
        ({"kind": "vectors", "size": 3, "preemphasis": 0.97}, "preemphasis=0.97 is for sound"),
        ({"deltas": 3}, "deltas: .*less than or equal to 2, found 3"),
        ({"preemphasis": 1.0}, "preemphasis: .*less than 1, found 1.0"),
    ],
)  # fmt: skip
def test_what_does_not_fit_together_is_refused_with_its_values(values, message):
    with pytest.raises(ConfigError, match=rf"here: {message}") as error:
        FeatureConfig.parse(values, "here")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("wave", [torch.zeros(0), torch.zeros(3, 0)])
@pytest.mark.parametrize("kind", ["log-mel", "whisper", "mfcc"])
def test_a_wave_without_samples_is_refused(kind, wave):
    with pytest.raises(DataError, match="there is no sample in it"):
        extract(wave, FeatureConfig(kind=kind))


def test_whole_numbers_are_refused():
    with pytest.raises(DataError, match=r"expected floating numbers in \[-1, 1\], found int16"):
        extract(torch.zeros(5, dtype=torch.int16), FeatureConfig())


@SMALL
@given(st.integers(1, 9000), st.lists(st.integers(1, 3000), max_size=6), st.integers(0, 1000))
def test_the_loudest_band_of_blocks_is_that_of_the_whole(length, lengths, seed):
    config = FeatureConfig(kind="whisper", chunk_seconds=1)
    wave = torch.randn(length, generator=torch.Generator().manual_seed(seed)) / 10
    cuts = [n for n in torch.tensor([0, *lengths]).cumsum(0).tolist() if n < length]
    blocks = [wave[a:b] for a, b in zip(cuts, [*cuts[1:], length], strict=True)]
    whole = extract(wave, config).max().item() * 4 - 4  # log10 of the loudest, and silence behind
    assert loudest_band(blocks, config) == pytest.approx(whole, abs=1e-4)
