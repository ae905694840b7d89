"""From the samples to the word: every step of a sound is replayed, pictured and kept, and no wrong one passes."""

from __future__ import annotations

import json
import re
import wave as waves
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from glassformer.errors import ConfigError
from glassformer.features import extract
from glassformer.lens import explain
from glassformer.lens.glass import open_glass, trace_text
from glassformer.lens.glass.archive import digest_of_tensor
from glassformer.lens.glass.heard import last_of_sound
from glassformer.lens.recording import graph_of
from glassformer.lens.replay import Replay
from sounds import FEATURES, features, heard, tokenizer, wave

JOINT = {"shape": "encoder_decoder", "ctc_blank": tokenizer().pad_id, "n_layers": 1}


def failing(trace):
    """What is wrong with a trace: names of tensors, labels of checks."""
    found = trace.verify()
    return {one.name for one in found.failures} | {check.label for check in found.checks if not check.ok}


@pytest.mark.parametrize("name", FEATURES)
def test_every_kind_of_features_verifies_from_the_samples_on(random_model, name):
    trace = heard(random_model, name, **JOINT, target="abc")
    assert failing(trace) == set()
    assert trace.replay.given["encoder.vectors"].shape[1] == features(name).frames(
        trace.replay.given["sound.samples"].shape[1]
    )


@pytest.mark.parametrize("name", FEATURES)
def test_the_last_step_of_a_sound_is_what_is_extracted(random_model, name):
    trace = heard(random_model, name, shape="encoder", n_layers=1)
    expected = extract(trace.replay.given["sound.samples"].double(), features(name))
    torch.testing.assert_close(
        trace[last_of_sound(trace)], expected, atol=1e-5, rtol=1e-5
    )  # the constants are those of float32


def with_given(trace, **changed):
    """The same trace with something that was given changed."""
    given = {**trace.replay.given, **{name.replace("__", "."): x for name, x in changed.items()}}
    config = features() if trace.settings.get("features") else None
    graph = graph_of(trace.model, given, 0.0, config)
    return replace(trace, replay=Replay(trace.model, graph, trace.replay.points, given))


def bumped(x, place, by):
    changed = x.clone()
    changed[place] += by
    return changed


def test_a_vector_that_does_not_follow_from_the_samples_is_noticed(random_model):
    trace = heard(random_model, shape="encoder", n_layers=1)
    vectors = bumped(trace.replay.given["encoder.vectors"], (0, 5, 2), 1e-3)
    assert any("vectors follow from" in label for label in failing(with_given(trace, encoder__vectors=vectors)))


def test_a_sample_that_was_changed_is_noticed(random_model):
    trace = heard(random_model, shape="encoder", n_layers=1)
    samples = bumped(trace.replay.given["sound.samples"], (0, 200), 1e-3)
    assert any("vectors follow from" in label for label in failing(with_given(trace, sound__samples=samples)))


@pytest.mark.parametrize("name", ["window", "filters"])
def test_a_window_or_filter_that_was_changed_is_noticed(random_model, name):
    trace = heard(random_model, shape="encoder", n_layers=1)
    place = (0, 30) if name == "window" else (0, 1, 8)
    changed = bumped(trace.replay.given[f"sound.{name}"], place, 1e-4)
    assert "window and filters are those of the features" in failing(with_given(trace, **{f"sound__{name}": changed}))


def test_ctc_summed_wrongly_is_noticed(random_model, monkeypatch):
    from glassformer.lens.glass import heard as room

    trace = heard(random_model, **JOINT, target="ab")
    right = room.text_log_probability
    monkeypatch.setattr(room, "text_log_probability", lambda *of: right(*of) * (1 + 1e-6))
    assert failing(trace) == {"CTC: the words' probability, summed in two ways"}


def written_wav(path, samples, rate):
    """A file of 16 bits."""
    with waves.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples * 32767).astype("<i2").tobytes())


def test_a_file_of_sound_is_read_kept_with_its_digest_and_verified(random_model, tmp_path):
    path, glass = tmp_path / "tone.wav", tmp_path / "tone.glass"
    written_wav(path, wave(500), 1000)
    chosen = features()
    model = random_model(**JOINT, max_len=24, vocab_size=tokenizer().vocab_size, vectors={"size": 6, "strides": (2, 2)})
    trace = trace_text(model, tokenizer(), str(path), features=chosen)
    assert trace.settings["sound"]["file"] == "tone.wav"
    assert trace.settings["sound"]["seconds"] == pytest.approx(0.5)
    assert len(trace.settings["sound"]["sha256"]) == 64
    assert trace.tokens["encoder"].labels[:3] == ("0.00s", "0.08s", "0.16s")
    trace.save(glass)
    opened = open_glass(glass)
    told = opened.filed.manifest
    samples = opened.replay.given["sound.samples"]
    assert told["tensors"]["given.sound.samples"]["sha256"] == digest_of_tensor(samples)
    assert samples.shape == (1, 500)
    assert told["run"]["features"]["n_mels"] == 6
    assert [row["name"] for row in told["derived"]][:2] == ["sound.frames", "sound.windowed"]
    found = opened.verify()
    assert found.ok, found.render()
    assert explain(opened, n_tokens=tokenizer().vocab_size).ok


def test_a_long_sound_says_how_much_there_is_room_for(random_model):
    model = random_model(shape="encoder", positions="learned", max_len=10, vectors={"size": 6, "strides": (2, 2)})
    with pytest.raises(ConfigError, match="101 vectors make 26 places, more than the 10 that the encoder reads"):
        trace_text(model, tokenizer(), wave(2000), features=features())


@pytest.mark.parametrize(
    "at", ["sound.mel", "sound.re[3,4]", "sound.samples[7]", "encoder.vectors[0,1]", "ctc.logits[2,1]"]
)
def test_one_number_of_a_sound_is_explained_with_its_operands(random_model, at):
    told = explain(heard(random_model, **JOINT, target="ab"), at=at)
    assert told.ok
    text = told.render()
    assert "It is computed from:" in text or "GIVEN" in text
    assert "is used in:" in text or "Nothing else" in text


def test_the_numbers_of_one_frame_follow_from_each_other(random_model):
    trace = heard(random_model, shape="encoder", n_layers=1)
    told = explain(trace)
    frame = {section.step: section for section in told.sections}
    s, m = frame["sound.mel"].cell
    power = np.abs(np.fft.rfft(trace["sound.windowed"][0, s].numpy())) ** 2
    by_hand = float(power @ trace.replay.given["sound.filters"][0, m].double().numpy())
    assert frame["sound.mel"].value == pytest.approx(by_hand, rel=1e-9)
    assert frame["sound.log"].value == pytest.approx(np.log(by_hand), rel=1e-9)
    assert frame["encoder.embedding.vectors"].cell == (s, m)
    assert frame["encoder.embedding.vectors"].value == pytest.approx(np.log(by_hand), rel=1e-4)


@pytest.mark.parametrize("name", ["log-mel", "cepstra", "whisper"])
def test_pictures_of_what_is_heard(random_model, tmp_path, name):
    trace = heard(random_model, name, **JOINT, target="ab cd")
    view = trace.view("vectors")
    grid = next(part for part in view.parts if hasattr(part, "under"))
    values = trace.replay.given["encoder.vectors"][0].double().numpy()
    assert np.array_equal(grid.values, values[:, ::-1].T)
    assert [span.text for span in grid.under] == ["ab", "cd"]
    assert all(0 <= span.first <= span.last < len(values) for span in grid.under)
    assert [span.first for span in grid.under] == sorted(span.first for span in grid.under)
    for picture in (view.svg(), trace.view("alignment", layer=0).svg()):
        root = ElementTree.fromstring(picture)
        words = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
        assert {"ab", "cd", "0.00s"} <= set(words)
    assert "ab" in view.html()
    assert view.png()[:4] == b"\x89PNG"
    for format in ("plain", "ansi", "md"):
        for each in (view, trace.view("alignment")):
            text = each.render(format)
            assert re.search(r"\|ab\b|\|ab(?=\|)", text)
            if format == "plain":
                assert max(map(len, text.splitlines())) <= 80
                assert each.render(ascii=True).isascii()
    data = json.loads(view.render("json"))
    assert data["parts"][-2]["under"][0]["text"] == "ab"


def test_the_alignment_shows_attention_and_posteriors_as_they_are(random_model):
    trace = heard(random_model, **{**JOINT, "n_layers": 2}, target="ab cd")
    view = trace.view("alignment")
    patterns = [trace[f"decoder.blocks.{layer}.cross_attention.pattern"][0] for layer in range(2)]
    mean = torch.stack(patterns).mean((0, 1)).numpy()
    assert np.allclose(view.arrays["cross-attention"], mean, atol=0)
    assert np.allclose(view.arrays["ctc.probability"], trace["ctc.logits"][0].softmax(-1).numpy(), atol=0)
    spelled = view.arrays["ctc.occupancy"]
    assert spelled.shape == (len(trace.settings["said"]), view.arrays["cross-attention"].shape[1])
    assert ((spelled >= 0) & (spelled.sum(0) <= 1 + 1e-9)).all()
    assert (np.diff(spelled.argmax(1)) >= 0).all()
    times = view.arrays["tokens.times"]
    assert (np.diff(times[:, 0]) > 0).all()
    assert (times[:, 1] > times[:, 0]).all()
    one = trace.view("alignment", layer=1, head=2)
    assert np.allclose(one.arrays["cross-attention"], patterns[1][2].numpy())
    with pytest.raises(ConfigError, match="layer=5 is out of range"):
        trace.view("alignment", layer=5)


def test_words_are_put_together_from_tokens_at_spaces(random_model):
    from glassformer.lens.views.heard import Spoken, words_of

    letters = [Spoken(c, n, n, 0.9 - n / 10) for n, c in enumerate("ab␣c")]
    assert words_of(letters) == [Spoken("ab", 0, 1, 0.8), Spoken("c", 3, 3, pytest.approx(0.6))]
    pieces = [Spoken("␣show", 0, 2, 0.5), Spoken("ing", 3, 4, 0.4), Spoken("␣me", 6, 7, 0.9)]
    assert [word.label for word in words_of(pieces)] == ["showing", "me"]
    assert words_of(pieces)[0][1:] == (0, 4, 0.4)


def test_a_model_of_attention_alone_and_one_of_ctc_alone_are_aligned_too(random_model):
    attention = heard(random_model, shape="encoder_decoder", n_layers=1, target="ab")
    assert "cross-attention" in attention.view("alignment").arrays
    ctc = heard(random_model, shape="encoder", n_layers=1, target="bc")
    assert ctc.settings["said"] == tokenizer().encode("bc")
    assert "ctc.probability" in ctc.view("alignment").arrays
    labels = heard(random_model, shape="encoder", head="labels", labels=("yes", "no"), n_layers=1)
    with pytest.raises(ConfigError, match="neither cross-attention nor CTC"):
        labels.view("alignment")
    assert labels.view("vectors").render()
