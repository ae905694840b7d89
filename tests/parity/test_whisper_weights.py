"""Whisper tiny.en on real speech, marked `weights`: the tokens of CTranslate2's runtime, the words that were said."""

# N samples, T frames, F bands

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from glassformer.checkpoints.load import Loaded
from glassformer.checkpoints.open import open_model
from glassformer.data.sound import read_sound
from glassformer.features import extract
from glassformer.generate.whisper import WhisperSettings, transcribe_sound, windows
from glassformer.generate.whisper.decoding import decode_window
from glassformer.generate.whisper.tokens import Tokens

pytestmark = [pytest.mark.weights, pytest.mark.timeout(1800)]

RATE, STRINGS = 16_000, 12
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


@pytest.fixture(scope="module")
def folder(weights_folder: Path) -> Path:
    found = weights_folder / "whisper-tiny.en"
    if not found.is_dir():
        pytest.skip(f"needs {found}, which `make weights` fetches")
    return found


@pytest.fixture(scope="module")
def loaded(folder: Path) -> Loaded:
    return open_model(folder, dtype=torch.float32)


@pytest.fixture(scope="module")
def recordings(shared_folder: Path) -> Path:
    found = shared_folder / "data" / "fsdd" / "recordings"
    if not found.is_dir():
        pytest.skip(f"needs {found}")
    return found


@pytest.fixture(scope="module")
def recording(weights_folder: Path) -> Path:
    """Ten seconds of somebody reading."""
    found = weights_folder / "speech" / "beckett.wav"
    if not found.is_file():
        pytest.skip(f"needs {found}, which `make weights` fetches")
    return found


def joined(recordings: Path, draw: random.Random, digits: list[int], speaker: str) -> np.ndarray:
    """Digits spoken one after the other, with pauses: N at 16 kHz."""
    pieces: list[np.ndarray] = []
    for digit in digits:
        path = recordings / f"{digit}_{speaker}_{draw.randrange(50)}.wav"
        pieces += [read_sound(path, RATE).samples, np.zeros(draw.randrange(800, 4000), np.float32)]
    return np.concatenate(pieces)


def strings(recordings: Path, count: int = STRINGS) -> list[tuple[list[int], np.ndarray]]:
    """Strings of three to seven digits by all speakers."""
    draw = random.Random(0)
    found = []
    for number in range(count):
        digits = [draw.randrange(10) for _ in range(draw.randrange(3, 8))]
        found.append((digits, joined(recordings, draw, digits, SPEAKERS[number % len(SPEAKERS)])))
    return found


def test_greedy_tokens_are_those_of_the_runtime(folder: Path, loaded: Loaded, recordings: Path) -> None:
    ctranslate2 = pytest.importorskip("ctranslate2", reason="parity is with CTranslate2")
    theirs = ctranslate2.models.Whisper(str(folder), compute_type="float32", intra_threads=2)
    assert loaded.features is not None
    assert loaded.tokenizer is not None
    tokens = Tokens.of(loaded.tokenizer, loaded.generation, loaded.model.config.vocab_size)
    settings = WhisperSettings(temperature_increment_on_fallback=None)
    for _, wave in strings(recordings):
        vectors = extract(torch.from_numpy(wave), loaded.features)
        view = ctranslate2.StorageView.from_array(np.ascontiguousarray(vectors.T.numpy()[None]))
        with torch.inference_mode():
            memory = loaded.model.read(vectors[None])  # type: ignore[union-attr]
        for times in (True, False):
            prompt = tokens.beginning("en", "transcribe", times=times)
            found = decode_window(loaded.model, memory, tokens, settings, prompt)
            expected = theirs.generate(view, [prompt], beam_size=1, return_scores=True, return_no_speech_prob=True)[0]
            assert list(found.ids) == expected.sequences_ids[0]
            assert found.no_speech_prob == pytest.approx(expected.no_speech_prob, abs=1e-3)


def test_a_recording_is_heard_as_the_runtime_hears_it(folder: Path, loaded: Loaded, recording: Path) -> None:
    ctranslate2 = pytest.importorskip("ctranslate2", reason="parity is with CTranslate2")
    theirs = ctranslate2.models.Whisper(str(folder), compute_type="float32", intra_threads=2)
    assert loaded.features is not None
    assert loaded.tokenizer is not None
    wave = read_sound(recording, RATE).samples
    vectors = extract(torch.from_numpy(wave), loaded.features)
    prompt = Tokens.of(loaded.tokenizer, loaded.generation, 51_864).beginning("en", "transcribe", times=True)
    view = ctranslate2.StorageView.from_array(np.ascontiguousarray(vectors.T.numpy()[None]))
    expected = theirs.generate(view, [prompt], beam_size=1)[0].sequences_ids[0]
    settings = WhisperSettings(word_timestamps=True)
    found = transcribe_sound(loaded.model, loaded.tokenizer, loaded.features, loaded.generation, [wave], settings)
    assert found.text == "Ever tried, ever failed. No matter, try again. Fail again. Fail better."
    assert [id for segment in found.segments for id in segment.ids] == expected
    # As faster-whisper has them, but for words that begin or end a sentence, which each cuts in its own way.
    ends = {"Ever": 0.7, "tried,": 1.22, "ever": 2.22, "No": 3.82, "matter,": 4.14, "try": 5.2}
    for word in found.words:
        assert word.end == pytest.approx(ends.get(word.text, word.end), abs=0.05)


def test_the_digits_are_heard_and_when(loaded: Loaded, recordings: Path) -> None:
    assert loaded.features is not None
    assert loaded.tokenizer is not None
    draw = random.Random(3)
    digits = [3, 1, 4, 1, 5, 9, 2, 6]
    wave = joined(recordings, draw, digits, "jackson")
    found = transcribe_sound(
        loaded.model,
        loaded.tokenizer,
        loaded.features,
        loaded.generation,
        [wave],
        WhisperSettings(word_timestamps=True, num_beams=5),
    )
    text = "".join(word.text for segment in found.segments for word in segment.words).lower()
    for number, name in enumerate(DIGITS):
        text = text.replace(name, str(number))
    assert [int(letter) for letter in text if letter.isdigit()] == digits
    starts = [word.start for word in found.words]
    assert starts == sorted(starts)
    assert 0 <= starts[0] < 1.0
    assert found.words[-1].end <= len(wave) / RATE + 0.01


def test_a_longer_sound_goes_through_several_windows(loaded: Loaded, recording: Path) -> None:
    assert loaded.features is not None
    assert loaded.tokenizer is not None
    wave = np.tile(read_sound(recording, RATE).samples, 8)
    found = transcribe_sound(loaded.model, loaded.tokenizer, loaded.features, loaded.generation, np.split(wave, 8))
    times: list[Any] = [time for segment in found.segments for time in (segment.start, segment.end)]
    assert times == sorted(times)
    assert found.duration == pytest.approx(len(wave) / RATE)
    assert found.duration - times[-1] < 3
    assert len(found.segments) >= 8
    assert found.text.lower().count("fail better") == 8


@pytest.fixture(scope="module")
def sounds(recording: Path, recordings: Path) -> dict[str, np.ndarray]:
    """Over a minute each: somebody reading again and again, and in turns with strings of digits."""
    read, draw = read_sound(recording, RATE).samples, random.Random(5)
    digits = [joined(recordings, draw, [draw.randrange(10) for _ in range(7)], "theo") for _ in range(6)]
    return {"reading": np.tile(read, 8), "in turns": np.concatenate([part for one in digits for part in (one, read)])}


@pytest.mark.parametrize("conditioned", [True, False])
@pytest.mark.parametrize("name", ["reading", "in turns"])
def test_windows_segments_and_times_are_those_of_faster_whisper(
    folder: Path,
    loaded: Loaded,
    sounds: dict[str, np.ndarray],
    name: str,
    conditioned: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Greedily, from the frames that it computes: zeros are behind the last of them, where ours are those of silence, as in a
    sound of less than a window."""
    wave = sounds[name]
    theirs = runtime(folder)
    frames = torch.from_numpy(np.ascontiguousarray(theirs.feature_extractor(wave).T))[:-1]

    class OverTheirFrames(windows.Listener):
        def read(self, around: Any, start: int) -> Any:
            first = start // self.features.hop
            known = frames[first : first + 3000]
            with torch.inference_mode():
                return self.model.read(torch.nn.functional.pad(known, (0, 0, 0, 3000 - len(known)))[None])

    expected, _ = theirs.transcribe(wave, beam_size=1, temperature=0.0, condition_on_previous_text=conditioned)
    monkeypatch.setattr(windows, "Listener", OverTheirFrames)
    assert_same(loaded, wave, list(expected), conditioned)


@pytest.mark.parametrize("conditioned", [True, False])
@pytest.mark.parametrize("name", ["reading", "in turns"])
def test_speech_before_a_silence_has_the_segments_that_faster_whisper_gives(
    folder: Path, loaded: Loaded, sounds: dict[str, np.ndarray], name: str, conditioned: bool
) -> None:
    """From our own frames, where no window ends in the zeros that faster-whisper puts behind the last frame."""
    speech = sounds[name]
    wave = np.concatenate([speech, np.zeros(32 * RATE, np.float32)])
    expected, _ = runtime(folder).transcribe(wave, beam_size=1, temperature=0.0, condition_on_previous_text=conditioned)
    of_speech = [segment for segment in expected if segment.start < len(speech) / RATE - 1]
    if name == "reading":
        assert len(of_speech) >= 31  # four sentences in each of the eight readings, two of which may come as one
    assert_same(loaded, wave, of_speech, conditioned)


def runtime(folder: Path) -> Any:
    """The same model in faster-whisper."""
    faster_whisper = pytest.importorskip("faster_whisper", reason="parity is with faster-whisper")
    return faster_whisper.WhisperModel(str(folder), device="cpu", compute_type="float32", cpu_threads=2)


def assert_same(loaded: Loaded, wave: np.ndarray, expected: list[Any], conditioned: bool) -> None:
    """Our first segments are those expected: texts and tokens, and times but for a frame at the end of the sound."""
    settings = WhisperSettings(temperature_increment_on_fallback=None, condition_on_previous_text=conditioned)
    assert loaded.features is not None
    assert loaded.tokenizer is not None
    given = (loaded.model, loaded.tokenizer, loaded.features, loaded.generation, [wave], settings)
    found = transcribe_sound(*given, again=lambda: [wave])
    ours = found.segments[: len(expected)]
    assert [segment.text for segment in ours] == [segment.text.strip() for segment in expected]
    assert [list(segment.ids) for segment in ours] == [segment.tokens for segment in expected]
    end = len(wave) / RATE  # behind which no segment of ours reaches
    times = [(min(segment.start, end), min(segment.end, end)) for segment in expected]
    np.testing.assert_allclose([(segment.start, segment.end) for segment in ours], times, atol=0.011)


def test_log_mel_frames_are_those_of_transformers(loaded: Loaded, recordings: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="parity is with transformers")
    assert loaded.features is not None
    theirs = transformers.WhisperFeatureExtractor(feature_size=80)
    for _, wave in strings(recordings, 6):
        expected = theirs(wave, sampling_rate=RATE, return_tensors="np").input_features[0].T
        np.testing.assert_allclose(extract(torch.from_numpy(wave), loaded.features).numpy(), expected, atol=1e-4)
