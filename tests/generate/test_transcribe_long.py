"""From files of sound to text: a model that hears tones writes down what was said, however long it lasts."""

from __future__ import annotations

import itertools
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import tones
from glassformer import load
from glassformer.data.utterances import read_utterances
from glassformer.errors import ConfigError, DataError
from glassformer.features import FeatureConfig
from glassformer.generate import Beam, Segment, Word
from glassformer.generate.vectors import padded_vectors
from glassformer.lens.glass import open_glass, trace_text
from glassformer.lens.views.heard import moment
from glassformer.models import ModelConfig, build_model
from glassformer.pipeline import Pipeline
from glassformer.pipeline.transcribe import Hearing, transcribe_each
from glassformer.pipeline.windows import Joiner, cuts, quietest
from glassformer.training.hearing import Hearing as TrainingHearing

SHORT = "abba cab dead bead e"


def long_text(n_words: int, seed: int = 0) -> str:
    drawn = np.random.default_rng(seed)
    return " ".join("".join(drawn.choice(list("abcde"), size=drawn.integers(1, 6))) for _ in range(n_words))


# --- windows ----------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 60), min_size=1, max_size=8), st.integers(0, 1000), st.booleans())
def test_windows_hold_all_samples_in_order(sizes, seed, is_loud):
    """Without what each shares with the one before, the windows are the blocks."""
    drawn = np.random.default_rng(seed)
    blocks = [drawn.normal(0, 1, 10 * size).astype(np.float32) for size in sizes]
    if not is_loud:
        blocks = [np.where(drawn.random(len(block)) < 0.5, block, 0).astype(np.float32) for block in blocks]
    found = list(cuts(blocks, rate=100, seconds=1.0))
    assert np.array_equal(np.concatenate([cut.samples[cut.overlap :] for cut in found]), np.concatenate(blocks))
    assert all(len(cut.samples) <= 100 for cut in found)
    assert [cut.is_last for cut in found] == [False] * (len(found) - 1) + [True]
    for cut, after in itertools.pairwise(found):
        assert after.start + after.overlap == cut.start + len(cut.samples)
        assert cut.goes_on == (after.overlap > 0)


def test_a_cut_is_made_in_the_quietest_pause_and_nowhere_else():
    loud = np.sin(np.arange(8000)).astype(np.float32)
    assert quietest(loud, 8000, 4000) is None
    loud[5600:7600] *= 0.001
    cut = quietest(loud, 8000, 4000)
    assert cut is not None
    assert 5600 < cut < 7600
    assert quietest(loud, 8000, 7900) is None


def word(text: str, start: float, end: float) -> Word:
    return Word(text, start, end, 1.0)


def segment(*words: Word) -> Segment:
    return Segment(words[0].start, words[-1].end, " ".join(one.text for one in words), (), words)


def joined(before: Segment, after: Segment, begin: float, end: float) -> list[str]:
    joiner = Joiner()
    known = joiner.push(before)
    known += joiner.push(Segment(begin, after.end, after.text, (), after.words), end - begin)
    known += joiner.finish()
    assert [one.start for one in known] == sorted(one.start for one in known)
    return [one.text for one in known]


def test_what_two_windows_heard_is_told_once():
    before = segment(word("one", 0, 1), word("two", 1.2, 2), word("three", 2.2, 3), word("fo", 3.2, 3.5))
    after = segment(word("ee", 2.5, 3), word("four", 3.2, 4), word("five", 4.2, 5))
    assert joined(before, after, 2.5, 3.5) == ["one two three", "four five"]


def test_the_seam_lies_behind_a_word_that_both_heard():
    before = segment(word("one", 0, 1), word("two", 1.2, 2), word("three", 2.2, 2.8), word("for", 2.9, 3.4))
    after = segment(word("o", 1.5, 1.9), word("three", 2.25, 2.85), word("four", 2.9, 3.5), word("five", 4.2, 5))
    assert joined(before, after, 1.5, 3.5) == ["one two three", "four five"]


def test_a_word_that_a_window_cut_is_not_taken_for_its_neighbour():
    before = segment(word("x", 2.0, 2.4), word("b", 2.6, 2.68), word("b", 2.72, 2.92))  # of "bc"
    after = segment(word("b", 2.6, 2.68), word("bc", 2.72, 3.1), word("d", 3.2, 3.4))
    assert joined(before, after, 2.5, 2.99) == ["x b", "bc d"]
    before = segment(word("ab", 2.3, 2.6), word("b", 2.62, 2.7))
    after = segment(word("b", 2.5, 2.58), word("b", 2.62, 2.7), word("c", 3.0, 3.3))
    assert joined(before, after, 2.5, 2.9) == ["ab b", "c"]


def test_a_window_in_which_nothing_was_heard_takes_nothing_away():
    before = segment(word("one", 0, 1), word("two", 1.2, 2))
    assert joined(before, Segment(1.5, 3.5, "", ()), 1.5, 2.5) == ["one two"]


# --- sound ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_beams", [1, 4])
def test_what_is_said_is_written_down_with_its_times(num_beams):
    found = tones.pipeline().transcribe(tones.said(SHORT), num_beams=num_beams, words=True)
    assert (found.text, found.notes) == (SHORT, ())
    places = [0, *(place + 1 for place, letter in enumerate(SHORT) if letter == " ")]
    for one, place in zip(found.words, places, strict=True):
        assert one.start == pytest.approx(tones.moment(SHORT, place), abs=0.03)
        assert one.end == pytest.approx(tones.moment(SHORT, place + len(one.text)) - tones.GAP, abs=0.03)
        assert one.probability > 0.99


@pytest.mark.parametrize(("window", "pause"), [(3.0, tones.GAP), (7.5, tones.GAP), (5.0, 0.4), (29.0, 0.4)])
def test_long_sound_is_heard_window_by_window_as_it_was_said(window, pause, tmp_path):
    text = long_text(120)
    samples = tones.said(text, pause=pause, noise=1e-4)
    tones.write(tmp_path / "long.wav", samples)
    pipe = tones.pipeline()
    found = pipe.transcribe(tmp_path / "long.wav", num_beams=1, window=window)
    assert found.text == text
    assert found.duration == pytest.approx(len(samples) / tones.RATE)
    assert len(found.segments) >= len(samples) / tones.RATE / window
    assert [one.words for one in found.segments] == [()] * len(found.segments)
    streamed = pipe.stream_transcription(tmp_path / "long.wav", num_beams=1, window=window)
    assert next(streamed).text == found.segments[0].text
    assert [one.text for one in streamed] == [one.text for one in found.segments[1:]]


def test_many_sources_come_out_in_their_order(tmp_path):
    texts = [long_text(n, seed=n) for n in (3, 40, 1, 12)]
    for number, text in enumerate(texts):
        tones.write(tmp_path / f"{number}.wav", tones.said(text))
    paths = [tmp_path / f"{number}.wav" for number in range(len(texts))]
    assert [one.text for one in tones.pipeline().transcribe_many(paths, num_beams=1, window=4.0)] == texts


def test_samples_of_another_rate_and_of_torch_are_heard():
    pipe, samples = tones.pipeline(), tones.said(SHORT)
    pytest.importorskip("soxr")
    twice = np.repeat(samples, 2)
    assert pipe.transcribe(twice, rate=2 * tones.RATE, num_beams=1).text == SHORT
    assert pipe.transcribe(torch.from_numpy(samples), num_beams=1).text == SHORT


def test_no_word_lasts_longer_than_the_sound():
    samples = tones.said(SHORT)[: round((tones.moment(SHORT, 3) + 0.04) * tones.RATE)]
    found = tones.pipeline().transcribe(samples, num_beams=1, words=True)
    assert found.text == "abba"
    assert found.words[-1].end == found.segments[-1].end == pytest.approx(found.duration)


def test_silence_says_nothing():
    found = tones.pipeline().transcribe(np.zeros(5 * tones.RATE, np.float32))
    assert (found.text, found.segments, found.duration) == ("", (), 5.0)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_hours_are_heard_in_memory_for_a_window():
    """Three hours of blocks that nobody keeps."""
    text = long_text(60)
    piece = tones.said(f"{text} ", pause=0.3)
    n_pieces = round(3 * 3600 * tones.RATE / len(piece))
    pipe = tones.pipeline()

    def peak(n: int) -> int:
        tracemalloc.start()
        from glassformer.pipeline import transcribe as room

        original = room.blocks_of
        room.blocks_of = lambda *_: (piece for _ in range(n))
        try:
            (found,) = transcribe_each(pipe, ["long"], Hearing(Beam(num_beams=1)))
        finally:
            room.blocks_of = original
            most = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert found.text == " ".join([text] * n)
        return most

    short = peak(20)
    assert peak(n_pieces) < short + 40e6  # what was said is kept, what was heard is not


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"window": 100.0}, "window=100 s is out of range"),
        ({"window": 0.01}, "out of range: expected 0.5 to 30 s"),
        ({"num_bems": 2}, "no setting 'num_bems' .did you mean 'num_beams'"),
    ],
)
def test_settings_that_cannot_be_are_refused(asked, message):
    with pytest.raises(ConfigError, match=message):
        tones.pipeline().transcribe(tones.said("a"), **asked)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros((2, 5), np.float32), r"float32 of shape \[2, 5\]"),
        (np.zeros(0), "one after another"),
        (np.zeros(5, np.int16), "floating numbers"),
        (np.array([np.nan, 1.0]), "not finite"),
    ],
)
def test_samples_that_are_none_are_refused(samples, message):
    with pytest.raises(DataError, match=message):
        tones.pipeline().transcribe(samples)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "no.wav").write_bytes(b"RIFF but nothing else")
    with pytest.raises(DataError, match=r"no\.wav"):
        tones.pipeline().transcribe(tmp_path / "no.wav")


def test_a_model_that_does_not_say_how_sound_becomes_vectors_is_refused():
    pipe = tones.pipeline()
    with pytest.raises(ConfigError, match=r"no preprocessor_config\.json"):
        type(pipe)(pipe.model, pipe.tokenizer).transcribe(tones.said("a"))


def test_a_saved_model_hears_the_same(tmp_path):
    tones.pipeline().save(tmp_path / "model")
    assert load(tmp_path / "model").transcribe(tones.said(SHORT), num_beams=1).text == SHORT


# --- vectors and labels -----------------------------------------------------------------------------------------------


def test_vectors_from_files_are_read_as_they_are(tmp_path):
    from glassformer.features import extract

    vectors = extract(torch.from_numpy(tones.said(SHORT)), tones.FEATURES).numpy()
    np.save(tmp_path / "said.npy", vectors)
    heard = tones.pipeline()
    plain = type(heard)(
        heard.model, heard.tokenizer, features=FeatureConfig.parse({"kind": "vectors", "size": tones.FEATURES.channels})
    )
    found = plain.transcribe(tmp_path / "said.npy", num_beams=1, words=True)
    assert (found.text, found.duration) == (SHORT, len(vectors))
    assert found.words[1].start == pytest.approx(100 * tones.moment(SHORT, 5), abs=3)  # in vectors
    with pytest.raises(DataError, match="reads vectors of 24 numbers"):
        plain.transcribe(vectors[:, :5])


@pytest.mark.parametrize("head", ["tokens", "labels"])
def test_what_is_done_to_vectors_in_training_is_done_wherever_they_are_read(head, tmp_path):
    """The vectors of a training batch are those that the model reads when it is asked, and those of the glass box."""
    folder = tmp_path / "one"
    folder.mkdir()
    np.save(folder / "said.npy", np.random.default_rng(0).normal(3, 2, (20, 3)))
    (folder / "said.txt").write_text("ab")
    features = FeatureConfig.parse({"kind": "vectors", "size": 3, "normalise": "utterance", "deltas": 1})
    corpus = read_utterances(folder)
    trained = padded_vectors([TrainingHearing({"train": corpus.rows}, features).vectors("train", 0)])[0]
    assert not np.allclose(trained[0, :, :3], np.load(folder / "said.npy"))
    sizes = {"shape": "encoder", "vectors": {"size": features.channels}, "max_len": 40, "d_model": 8, "n_heads": 1}
    known = tones.tones_tokenizer()
    last = {"head": "labels", "labels": ("a", "b")} if head == "labels" else {"ctc_blank": known.pad_id}
    model = build_model(ModelConfig.parse({**sizes, **last, "n_layers": 1, "vocab_size": known.vocab_size})).eval()
    pipe = Pipeline(model, known, features=features)
    read: list[torch.Tensor] = []
    model.register_forward_pre_hook(lambda _, given: read.append(given[0]))
    array = np.load(folder / "said.npy").astype(np.float32)
    for source in (folder / "said.npy", array, torch.tensor(array, requires_grad=True), corpus.rows[0]):
        if head == "labels":
            pipe.classify_sounds([source])
        else:
            pipe.transcribe(source, num_beams=1)
            list(pipe.stream_transcription(source, num_beams=1))
    assert len(read) == (4 if head == "labels" else 8)
    assert all(torch.equal(one, trained) for one in read)
    for source in (str(folder / "said.npy"), array):
        trace = trace_text(model, known, source, features=features)
        assert torch.equal(trace.replay.given["encoder.vectors"], trained)
    ask = pipe.classify_many if head == "labels" else pipe.transcribe_many
    with pytest.raises(DataError, match="samples: holds no vector"):
        ask([array[:0]])


def test_silence_that_is_trimmed_in_training_is_trimmed_wherever_sound_is_heard(tmp_path):
    """The vectors are those of training, and the times those of the file."""
    quiet = np.zeros(round(1.3 * tones.RATE), np.float32)
    samples = np.concatenate([quiet, tones.said(SHORT), quiet])
    tones.write(tmp_path / "said.wav", samples)
    (tmp_path / "said.txt").write_text(SHORT)
    features = tones.FEATURES.updated({"trim_db": 40.0})
    trained = TrainingHearing({"train": read_utterances(tmp_path).rows}, features).vectors("train", 0)[None]
    whole = tones.pipeline()
    pipe = Pipeline(whole.model, whole.tokenizer, features=features)
    read: list[torch.Tensor] = []
    hook = whole.model.register_forward_pre_hook(lambda _, given: read.append(given[0]))
    found = pipe.transcribe(tmp_path / "said.wav", num_beams=1, words=True)
    hook.remove()
    assert [one.shape for one in read] == [trained.shape]
    assert torch.equal(read[0], trained)
    assert trained.shape[1] < features.frames(len(samples)) - 200
    expected = whole.transcribe(tmp_path / "said.wav", num_beams=1, words=True)
    assert (found.text, found.duration) == (SHORT, expected.duration) == (expected.text, len(samples) / tones.RATE)
    for one, other in zip(found.words, expected.words, strict=True):
        assert (one.text, one.start, one.end) == (other.text, pytest.approx(other.start), pytest.approx(other.end))
    trace = trace_text(whole.model, whole.tokenizer, str(tmp_path / "said.wav"), features=features)
    assert torch.equal(trace.replay.given["encoder.vectors"], trained)
    assert trace.tokens["encoder"].labels[:2] == ("1.35s", "1.36s")
    assert moment(trace, 100) == pytest.approx(2.35)
    trace.save(tmp_path / "said.glass")
    assert moment(open_glass(tmp_path / "said.glass"), 100) == pytest.approx(2.35)


@pytest.mark.parametrize(("window", "pause"), [(3.0, tones.GAP), (5.0, 0.4)])
def test_windows_that_are_trimmed_are_joined_as_the_others_are(window, pause):
    text = long_text(40)
    whole = tones.pipeline()
    pipe = Pipeline(whole.model, whole.tokenizer, features=tones.FEATURES.updated({"trim_db": 40.0}))
    samples = tones.said(text, pause=pause)
    found, expected = (one.transcribe(samples, num_beams=1, window=window, words=True) for one in (pipe, whole))
    assert (found.text, found.duration) == (text, pytest.approx(expected.duration))
    for one, other in zip(found.words, expected.words, strict=True):
        assert (one.text, one.start) == (other.text, pytest.approx(other.start, abs=0.021))


def test_samples_and_vectors_in_a_type_that_numpy_lacks_are_read():
    pipe, samples = tones.pipeline(), torch.from_numpy(tones.said(SHORT))
    assert pipe.transcribe(samples.requires_grad_(), num_beams=1).text == SHORT
    assert pipe.transcribe(samples.detach().bfloat16(), num_beams=1).text == SHORT


def test_sounds_are_given_their_labels(tmp_path):
    pipe = tones.pipeline(labels=tuple("abcde"))
    for letter in "bed":
        tones.write(tmp_path / f"{letter}.wav", tones.said(letter))
    paths = [str(tmp_path / f"{letter}.wav") for letter in "bed"]
    assert [one.labels for one in pipe.classify_sounds(paths)] == [("b",), ("e",), ("d",)]
    assert [(one.text, one.labels) for one in pipe.classify_many(paths)] == [
        (path, (letter,)) for path, letter in zip(paths, "bed", strict=True)
    ]
    with pytest.raises(DataError, match=r"b\.wav: makes \d+ vectors, more than the 9"):
        tones.pipeline(max_len=9, labels=tuple("abcde")).classify_sounds(paths)
    with pytest.raises(ConfigError, match="gives sound, or other vectors, their labels"):
        pipe.transcribe(paths[0])


# --- evaluation -------------------------------------------------------------------------------------------------------


def manifest(folder: Path, rows: list[tuple[str, str]]) -> Path:
    for number, (said, _) in enumerate(rows):
        tones.write(folder / f"{number}.wav", tones.said(said))
    path = folder / "test.jsonl"
    lines = [json.dumps({"path": f"{number}.wav", "text": text}) for number, (_, text) in enumerate(rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_model_that_transcribes_is_judged_by_words_and_characters(tmp_path):
    path = manifest(tmp_path, [("abba cab", "abba cab"), ("dead bead e", "dead bed"), ("ab", "AB,")])
    found = tones.pipeline().evaluate(path, num_beams=1)
    scores = {metric.name: metric.value for metric in found.metrics}
    assert scores == {"WER": 3 / 5, "CER": pytest.approx(6 / 19), "bare WER": 2 / 5}
    worst = sorted(found.examples, key=lambda row: -row["score"])
    assert [(row["said"], row["wanted"], row["score"]) for row in worst] == [
        ("dead bead e", "dead bed", 1.0),
        ("ab", "AB,", 1.0),
        ("abba cab", "abba cab", 0.0),
    ]
    assert not found.higher_is_better
    low, high = found.intervals(200)["WER"]
    assert 0 <= low <= 3 / 5 <= high <= 1
    assert worst[0]["where"].startswith(str(path))


def test_a_model_that_labels_sound_is_judged_by_its_labels(tmp_path):
    path = manifest(tmp_path, [("a", "a"), ("b", "b"), ("c", "b")])
    found = tones.pipeline(labels=tuple("abcde")).evaluate(path, keys={"label_key": "text"})
    assert {metric.name: metric.value for metric in found.metrics}["accuracy"] == pytest.approx(2 / 3)
    assert [row["said"] for row in found.examples] == ["a", "b", "c"]
    (tmp_path / "odd.jsonl").write_text('{"path": "0.wav", "text": "z"}\n', encoding="utf-8")
    with pytest.raises(DataError, match="the label 'z' is not among the model's"):
        tones.pipeline(labels=tuple("abcde")).evaluate(tmp_path / "odd.jsonl", keys={"label_key": "text"})
