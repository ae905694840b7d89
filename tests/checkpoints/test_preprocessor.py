"""What preprocessor_config.json keeps of the features, for transformers too, and what of it is refused."""

from __future__ import annotations

import json

import pytest
import torch
from torch.testing import assert_close

from glassformer.checkpoints.preprocessor import PREPROCESSOR, read_features, write_features
from glassformer.errors import CheckpointError
from glassformer.features import FeatureConfig, extract
from sounds import FEATURES


@pytest.mark.parametrize("values", FEATURES.values(), ids=FEATURES)
def test_a_folder_gives_back_the_config(tmp_path, values):
    config = FeatureConfig.parse(values)
    write_features(config, tmp_path)
    assert read_features(tmp_path) == config


@pytest.mark.parametrize("n_mels", [80, 128])
def test_transformers_opens_what_we_save_and_we_what_it_saves(tmp_path, n_mels):
    extractor_class = pytest.importorskip("transformers").WhisperFeatureExtractor
    config = FeatureConfig(kind="whisper", n_mels=n_mels, chunk_seconds=2)
    (tmp_path / "ours").mkdir()
    write_features(config, tmp_path / "ours")
    theirs = extractor_class.from_pretrained(tmp_path / "ours")
    wave = torch.rand(20_000) - 0.5
    heard = theirs(wave.numpy(), sampling_rate=16000, return_tensors="pt").input_features[0]
    assert_close(extract(wave, config).T, heard, atol=1e-4, rtol=0)
    theirs.save_pretrained(tmp_path / "theirs")
    assert read_features(tmp_path / "theirs") == config
    written = json.loads((tmp_path / "theirs" / PREPROCESSOR).read_text())
    ours = json.loads((tmp_path / "ours" / PREPROCESSOR).read_text())
    assert {key: ours[key] for key in written if key in ours} == {key: written[key] for key in written if key in ours}
    assert set(written) - set(ours) <= {"mel_filters", "processor_class"}


def test_the_part_of_processor_config_that_newer_transformers_write_is_read(tmp_path):
    values = {"feature_extractor_type": "WhisperFeatureExtractor", "feature_size": 128, "chunk_length": 30}
    (tmp_path / "processor_config.json").write_text(json.dumps({"feature_extractor": values}))
    assert read_features(tmp_path) == FeatureConfig(kind="whisper", n_mels=128)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, f"has no {PREPROCESSOR}"),
        ("{", f"{PREPROCESSOR}:1: is not valid JSON"),
        ("[1]", "expected keys and values, found list"),
        ("[" * 90_000, "is not valid JSON in UTF-8"),
        ('{"feature_extractor_type": "Wav2Vec2FeatureExtractor"}', "is 'Wav2Vec2FeatureExtractor', expected"),
        ('{"feature_extractor_type": "WhisperFeatureExtractor", "dither": 0.1}', "dither is 0.1, and only 0.0"),
        ('{"feature_extractor_type": "WhisperFeatureExtractor", "do_normalize": true}', "do_normalize is True"),
        ('{"feature_extractor_type": "WhisperFeatureExtractor", "hop_length": 0}', "hop: .*found 0"),
        ('{"feature_extractor_type": "WhisperFeatureExtractor", "n_fft": NaN}', "NaN"),
        ('{"feature_extractor_type": "WhisperFeatureExtractor", "n_fft": "x"}', "n_fft: .*found 'x'"),
        ('{"feature_extractor_type": "WhisperFeatureExtractor", "chunk_length": 1e99}', "chunk_seconds: "),
        ('{"feature_extractor_type": "GlassformerFeatureExtractor", "hops": 3}', "unknown key 'hops'"),
        ('{"feature_extractor_type": "GlassformerFeatureExtractor", "rate": 1e400}', "1e400 is too large"),
        ('{"feature_extractor_type": "GlassformerFeatureExtractor", "window": [3]}', "window: "),
    ],
)
def test_a_damaged_file_is_refused_with_its_name(tmp_path, content, message):
    if content is not None:
        (tmp_path / PREPROCESSOR).write_text(content)
    with pytest.raises(CheckpointError, match=message) as error:
        read_features(tmp_path)
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)
