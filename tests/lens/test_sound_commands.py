"""The verbs that see through a model, asked about a file of sound: trace, verify, explain, plot, info, prove, step, export."""

from __future__ import annotations

import wave as waves

import pytest

from glassformer.checkpoints import save_model
from running import command, swift  # noqa: F401  # fixtures
from sounds import features, tokenizer, wave


@pytest.fixture(scope="module")
def model(random_model, tmp_path_factory):
    """A model folder with its features, and a sound beside it."""
    folder = tmp_path_factory.mktemp("heard")
    fields = {"ctc_blank": tokenizer().pad_id, "n_layers": 1, "max_len": 24, "vocab_size": tokenizer().vocab_size}
    made = random_model(shape="encoder_decoder", vectors={"size": 6, "strides": (2, 2)}, **fields)
    save_model(folder / "model", made, tokenizer(), features=features())
    with waves.open(str(folder / "tone.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(1000)
        file.writeframes((wave(500) * 32767).astype("<i2").tobytes())
    return folder


def test_a_sound_is_traced_and_its_file_verified(command, swift, model, tmp_path):  # noqa: F811
    path = tmp_path / "x.glass"
    done = command("trace", model / "model", model / "tone.wav", "--target", "abc", "-o", path)
    assert done.code == 0, done.err
    assert "7 encoder places and 4 decoder tokens" in done.err
    for asked in ((path,), (model / "model", model / "tone.wav")):
        checked = command("verify", *asked)
        assert checked.code == 0, checked.out + checked.err
        said = " ".join(checked.out.split())
        assert "26 vectors follow from 500 samples" in said
        assert "recipes agree" in said
    refused = command("verify", path, "again")
    assert refused.code == 2
    assert "a .glass file holds what was read" in refused.err


def test_a_sound_is_explained_from_waveform_to_word(command, swift, model, tmp_path):  # noqa: F811
    done = command("explain", model / "model", model / "tone.wav", "--target", "abc")
    assert done.code == 0, done.err
    titles = [
        "WHAT IS HEARD",
        "A FRAME OF THE WAVE",
        "MEL BAND",
        "VECTORS",
        "CONVOLUTION 1",
        "CROSS-ATTENTION: SOFTMAX",
        "LOSS",
    ]
    places = [done.out.index(f"] {title}") for title in titles]
    assert places == sorted(places)
    assert "✗" not in done.out
    one = command("explain", model / "model", model / "tone.wav", "--at", "sound.mel[3,2]")
    assert one.code == 0, one.err
    assert "mel[3,2] = " in one.out
    listed = command("explain", model / "model", "--list-points")
    assert "encoder.embedding.convolutions.1.out" in listed.out
    assert "ctc.logits" in listed.out


@pytest.mark.parametrize("view", ["vectors", "alignment"])
def test_views_of_a_sound_are_printed_and_written(command, swift, model, tmp_path, view):  # noqa: F811
    asked = ("explain", model / "model", model / "tone.wav", "--target", "ab c", "--view", view)
    printed = command(*asked)
    assert printed.code == 0, printed.err
    assert "|ab" in printed.out
    for suffix in ("svg", "png", "html"):
        written = command(*asked, "-o", tmp_path / f"{view}.{suffix}")
        assert written.code == 0, written.err
        assert (tmp_path / f"{view}.{suffix}").stat().st_size > 1000


def test_plot_draws_a_sound_without_being_told_what(model, tmp_path, capsys):
    from glassformer.cli.plot import plot

    plot(model / "model", str(model / "tone.wav"), out=tmp_path / "a.svg", target="ab c")
    assert "Log-mel over time" in (tmp_path / "a.svg").read_text()
    plot(model / "model", str(model / "tone.wav"), view="alignment", target="ab c")
    assert "CTC: what is being said at each moment" in capsys.readouterr().out


def test_info_tells_how_it_listens(command, swift, model):  # noqa: F811
    done = command("info", model / "model")
    assert done.code == 0, done.err
    said = " ".join(done.out.split())
    assert "50 vectors a second; one place for 4 vectors, hearing 7 of them: 0.08 s from one place to the next" in said
    assert "convolutions" in said


def test_what_is_not_there_yet_is_said_in_a_sentence(command, swift, model, tmp_path):  # noqa: F811
    exported = command("export", model / "model", "--to", "onnx", "-o", tmp_path / "a.onnx")
    assert exported.code == 2
    assert "no graph is written yet of a model that reads vectors" in exported.err
    missing = command("explain", model / "model", model / "nothing.wav")
    assert missing.code == 1
    assert "nothing.wav" in missing.err
    for done in (exported, missing):
        assert len(done.err.strip().splitlines()) == 1
    compared = command("compare", model / "model", model / "model")
    assert compared.code == 0, compared.err + compared.out
