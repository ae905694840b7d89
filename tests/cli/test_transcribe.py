"""``glassformer transcribe``: sound from files, folders and a pipe, in every format, and mistakes in one sentence."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from glassformer.checkpoints import save_model
from glassformer.cli.captions import FORMATS, as_srt, as_text, as_tsv, as_vtt, clock
from glassformer.cli.microphone import record
from glassformer.cli.sounds import Progress, stems_of
from glassformer.errors import DataError
from glassformer.features import FeatureConfig
from glassformer.generate.transcription import Segment, Transcription, Word
from glassformer.models import ModelConfig, build_model
from glassformer.pipeline import load
from glassformer.tokenizers import train_tokenizer
from glassformer.tokenizers.roles import START
from whispers import FEATURES, RATE, generation, noise, random_whisper, tokenizer, wav_bytes

LOUD = ("--no-speech-threshold", 2, "--logprob-threshold", -100)  # one try, whatever the text
HEARD = {"no_speech_threshold": 2.0, "logprob_threshold": -100.0}  # the same from Python


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a random Whisper that reads a second at a time."""
    folder = tmp_path_factory.mktemp("whisper") / "model"
    save_model(folder, random_whisper(), tokenizer(), generation=generation(), features=FEATURES)
    return folder


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two files of noise, one of them further down, and one that is no sound."""
    folder = tmp_path_factory.mktemp("sounds")
    (folder / "inner").mkdir()
    (folder / "a.wav").write_bytes(wav_bytes(noise(1.5)))
    (folder / "inner" / "b.wav").write_bytes(wav_bytes(noise(0.6, 1)))
    (folder / "notes.txt").write_text("no sound")
    return folder


def test_files_folders_and_a_pipe_give_what_python_gives(command: Any, whisper: Path, sounds: Path) -> None:
    pipe = load(whisper)
    wanted = [pipe.transcribe(sounds / name, **HEARD) for name in ("a.wav", "inner/b.wav")]
    alone = command("transcribe", whisper, sounds / "a.wav", *LOUD)
    assert (alone.code, alone.out) == (0, as_text(wanted[0]))
    piped = command("transcribe", whisper, "-", *LOUD, stdin=(sounds / "a.wav").read_bytes())
    assert (piped.code, piped.out) == (0, alone.out)
    assert command("transcribe", whisper, *LOUD, stdin=(sounds / "a.wav").read_bytes()).out == alone.out
    several = command("transcribe", whisper, sounds, *LOUD)
    names = [sounds / "a.wav", sounds / "inner" / "b.wav"]
    lines = [f"{name}\t{' '.join(found.text.split())}\n" for name, found in zip(names, wanted, strict=True)]
    assert (several.code, several.out) == (0, "".join(lines))


def test_json_holds_segments_with_their_measures_and_words(command: Any, whisper: Path, sounds: Path) -> None:
    done = command(
        "transcribe", whisper, sounds / "a.wav", "-f", "json", "--word-timestamps", "--language", "de", *LOUD
    )
    found = json.loads(done.out)
    assert found["language"] == "de"
    assert found["duration"] == 1.5
    for segment in found["segments"]:
        assert {"start", "end", "text", "tokens", "avg_logprob", "no_speech_prob", "compression_ratio"} <= set(segment)
        assert all(word["start"] <= word["end"] for word in segment["words"])
    rows = command("transcribe", whisper, sounds, "-f", "json", *LOUD).out.splitlines()
    assert [Path(json.loads(row)["file"]).name for row in rows] == ["a.wav", "b.wav"]


def test_every_format_is_written_into_a_folder(command: Any, whisper: Path, sounds: Path, tmp_path: Path) -> None:
    done = command("transcribe", whisper, sounds, "--output-dir", tmp_path / "out", "--output-format", "all", *LOUD)
    assert done.code == 0
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == sorted(f"{stem}.{kind}" for stem in "ab" for kind in FORMATS)
    found = load(whisper).transcribe(sounds / "a.wav", **HEARD)
    for kind, write in FORMATS.items():
        assert (tmp_path / "out" / f"a.{kind}").read_text(encoding="utf-8") == write(found)


def test_settings_reach_the_model(command: Any, whisper: Path, sounds: Path) -> None:
    pipe, path = load(whisper), sounds / "a.wav"
    for flags, settings in (
        (("--no-timestamps",), {"timestamps": False}),
        (("--num-beams", 3), {"num_beams": 3}),
        (("--task", "translate", "--language", "German"), {"task": "translate", "language": "de"}),
        (("--initial-prompt", "Ada"), {"initial_prompt": "Ada"}),
        (("--temperature", 0.7, "--seed", 4, "--best-of", 1), {"temperature": 0.7, "seed": 4, "best_of": 1}),
        (("--temperature-increment-on-fallback", 0), {"temperature_increment_on_fallback": None}),
    ):
        done = command("transcribe", whisper, path, *LOUD, *flags)
        assert done.out == as_text(pipe.transcribe(path, **HEARD, **settings)), flags


def test_one_of_several_that_cannot_be_read_is_told_and_the_others_are_done(
    command: Any, whisper: Path, sounds: Path
) -> None:
    done = command("transcribe", whisper, sounds / "a.wav", sounds / "notes.txt", sounds / "none.wav", *LOUD)
    assert done.code == 1
    assert len(done.out.splitlines()) == 1
    assert "notes.txt" in done.err
    assert "none.wav: no such file" in done.err
    assert "2 of 3 files could not be transcribed" in done.err


@pytest.mark.parametrize(
    ("flags", "complaint", "code"),
    [
        (("a.wav", "-f", "docx"), "--output-format 'docx' is not one of txt, json, srt, vtt, tsv, all", 2),
        (("a.wav", "-f", "all"), "all needs --output-dir", 2),
        ((".", "-f", "srt"), "srt of 2 files needs --output-dir", 2),
        (("a.wav", "--microphone"), "--microphone takes the place of files", 2),
        (("a.wav", "--language", "klingon"), "language='klingon' is not known to this model", 2),
        (("a.wav", "--task", "sing"), "task", 2),
        (("a.wav", "--temperature", "-2"), "temperature=-2 is out of range", 2),
        (("a.wav", "--method", "ctc"), "--method: a Whisper has no CTC", 2),
        (("a.wav", "--hallucination-silence-threshold", "2"), "set word_timestamps", 2),
        (("a.wav", "--seconds", "2"), "--seconds 2 is how long to listen to the microphone, with --microphone", 2),
        (
            ("--microphone", "--language", "klingon"),
            "language='klingon' is not known to this model (known: de, en, english, german)",
            2,
        ),
        (
            ("none.wav", "--language", "klingon"),
            "language='klingon' is not known to this model (known: de, en, english, german)",
            2,
        ),
        (("none.wav",), "none.wav: no such file", 1),
        (("notes.txt",), "notes.txt", 1),
        (("nothing",), "nothing", 1),
    ],
)
def test_mistakes_are_said_in_one_sentence(
    command: Any, whisper: Path, sounds: Path, monkeypatch: pytest.MonkeyPatch, flags: Any, complaint: str, code: int
) -> None:
    monkeypatch.chdir(sounds)
    done = command("transcribe", whisper, *flags)
    assert (done.code, done.out) == (code, "")
    assert complaint in done.err
    assert len(done.err.strip().splitlines()) == 1


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model such as is trained here, with CTC beside its decoder."""
    folder = tmp_path_factory.mktemp("trained") / "model"
    words = train_tokenizer("characters", ["one two three"], special_tokens=[START])
    fields = {"vocab_size": words.vocab_size, "ctc_blank": words.pad_id, "vectors": {"size": 8, "strides": (2,)}}
    config = ModelConfig.parse({**fields, "shape": "encoder_decoder", "d_model": 16, "n_layers": 1, "n_heads": 2})
    features = FeatureConfig(kind="log-mel", n_mels=8)
    save_model(folder, build_model(config), words, features=features)
    return folder


def test_models_trained_here_are_asked_in_the_same_way(command: Any, trained: Path, sounds: Path) -> None:
    path, pipe = sounds / "a.wav", load(trained)
    for flags, settings in (
        ((), {}),
        (("--method", "ctc"), {"method": "ctc"}),
        (("--num-beams", 2, "--max-new-tokens", 5), {"num_beams": 2, "max_new_tokens": 5}),
    ):
        done = command("transcribe", trained, path, *flags)
        assert (done.code, done.out) == (0, as_text(pipe.transcribe(path, **settings)))


@pytest.mark.parametrize("flag", [("--language", "de"), ("--no-timestamps",), ("--best-of", 2)])
def test_flags_of_whisper_are_refused_by_models_trained_here(
    command: Any, trained: Path, sounds: Path, flag: Any
) -> None:
    done = command("transcribe", trained, sounds / "a.wav", *flag)
    assert done.code == 2
    assert f"{flag[0]} is for Whisper models, and this one was trained here" in done.err


@pytest.fixture
def no_sound_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is asked for must be refused before the first sound."""

    def read(*_: object) -> None:
        raise AssertionError("a sound was read")

    monkeypatch.setattr("glassformer.cli.transcribe.source_of", read)


@pytest.mark.usefixtures("no_sound_is_read")
@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (("--method", "foo"), "method='foo' is not one of attention, ctc, joint"),
        (("--method", "attention", "--ctc-weight", 0.4), "ctc_weight=0.4 is for method='joint', not for 'attention'"),
        (("--ctc-weight", 2), "ctc_weight=2.0 is out of range: expected 0 to 1"),
        (("--method", "ctc", "--max-new-tokens", 5), "max_new_tokens=5 is for what a decoder writes"),
        (("--method", "ctc", "--length-penalty", 2), "of a search it takes num_beams and n_best"),
        (("--task", "translate"), "--task is for Whisper models, and this one was trained here"),
    ],
)
def test_models_trained_here_refuse_before_any_sound_is_read(
    command: Any, trained: Path, sounds: Path, flags: Any, complaint: str
) -> None:
    done = command("transcribe", trained, sounds / "a.wav", *flags)
    assert (done.code, done.out) == (2, "")
    assert complaint in done.err


@pytest.mark.usefixtures("no_sound_is_read")
@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (("--task", "translate"), "task='translate': this model knows English alone"),
        (("--task", "sing"), "transcribe"),
        (("--language", "de"), "language='de': this model knows English alone"),
        (("--method", "foo"), "--method: a Whisper has no CTC"),
    ],
)
def test_whispers_refuse_before_any_sound_is_read(
    command: Any, tmp_path: Path, sounds: Path, flags: Any, complaint: str
) -> None:
    said = generation(is_multilingual=False)
    save_model(tmp_path, random_whisper(), tokenizer(), generation=said, features=FEATURES)
    done = command("transcribe", tmp_path, sounds / "a.wav", *flags)
    assert (done.code, done.out) == (2, "")
    assert complaint in done.err


def test_an_empty_folder_is_named(command: Any, whisper: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = command("transcribe", whisper, tmp_path / "empty")
    assert done.code == 1
    assert "holds no file of sound" in done.err


def test_a_microphone_without_its_package_is_one_sentence(
    command: Any, whisper: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    done = command("transcribe", whisper, "--microphone")
    assert done.code == 2
    assert "the microphone needs sounddevice: pip install sounddevice" in done.err


def test_a_microphone_is_listened_to_for_its_time(command: Any, whisper: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stream:
        def __init__(self, **settings: Any) -> None:
            assert (settings["samplerate"], settings["channels"]) == (RATE, 1)

        def __enter__(self) -> Stream:
            return self

        def __exit__(self, *error: object) -> None: ...

        def read(self, count: int) -> tuple[np.ndarray, bool]:
            return np.full((count, 1), 0.1, np.float32), False

    monkeypatch.setitem(sys.modules, "sounddevice", SimpleNamespace(InputStream=Stream))
    done = command("transcribe", whisper, "--microphone", "--seconds", 0.5, "-f", "json")
    assert done.code == 0
    assert json.loads(done.out)["duration"] == 0.5


class Microphone:
    """A stream of blocks: each a number of samples and whether some were lost before it, or an error."""

    def __init__(self, *blocks: tuple[int, bool] | BaseException) -> None:
        self.blocks = list(blocks)

    def __call__(self, **settings: Any) -> Microphone:
        return self

    def __enter__(self) -> Microphone:
        return self

    def __exit__(self, *error: object) -> None: ...

    def read(self, count: int) -> tuple[np.ndarray, bool]:
        found = self.blocks.pop(0)
        if isinstance(found, BaseException):
            raise found
        return np.full((found[0], 1), 0.1, np.float32), found[1]


def recorded(monkeypatch: pytest.MonkeyPatch, *blocks: tuple[int, bool] | BaseException) -> np.ndarray:
    monkeypatch.setitem(sys.modules, "sounddevice", SimpleNamespace(InputStream=Microphone(*blocks)))
    return record(1000, None)


def test_sound_that_a_microphone_lost_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = [(100, False), (100, True), (100, True), KeyboardInterrupt()]
    assert len(recorded(monkeypatch, *blocks)) == 300
    assert "sound was lost before 2 of 3 blocks of 0.1 s" in capsys.readouterr().err
    recorded(monkeypatch, (100, False), KeyboardInterrupt())
    assert "lost" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "message"),
    [(OSError(), r"cannot be read \(OSError\)"), (OSError("no\ndevice"), r"cannot be read \(no device\)")],
)
def test_what_a_microphone_answers_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, error: OSError, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        recorded(monkeypatch, error)
    with pytest.raises(DataError, match="gave no samples"):
        recorded(monkeypatch, KeyboardInterrupt())


# Formats

WORDS = (Word("So", 0.0, 0.5, 0.9), Word("<b>", 0.5, 1.0, 0.8))
FOUND = Transcription(
    "So <b> what -->\n goes & comes?",
    (Segment(0.0, 1.0, "So <b>", (1, 2), WORDS), Segment(1.0, 3661.5, "what --> goes\n& comes?", (3,))),
    language="en",
    duration=3662.0,
)


def test_subtitles_of_subrip() -> None:
    assert as_srt(FOUND) == (
        "1\n00:00:00,000 --> 00:00:00,500\n<u>So</u> <b>\n\n"
        "2\n00:00:00,500 --> 00:00:01,000\nSo <u><b></u>\n\n"
        "3\n00:00:01,000 --> 01:01:01,500\nwhat -> goes & comes?\n\n"
    )


def test_subtitles_of_webvtt_have_their_signs_escaped() -> None:
    assert as_vtt(FOUND) == (
        "WEBVTT\n\n00:00.000 --> 00:00.500\n<u>So</u> &lt;b&gt;\n\n"
        "00:00.500 --> 00:01.000\nSo <u>&lt;b&gt;</u>\n\n"
        "00:01.000 --> 01:01:01.500\nwhat --&gt; goes &amp; comes?\n\n"
    )


def test_a_table_and_a_text_have_a_line_for_each_segment() -> None:
    assert as_tsv(FOUND) == "start\tend\ttext\n0\t1000\tSo <b>\n1000\t3661500\twhat --> goes & comes?\n"
    assert as_text(FOUND) == "So <b>\nwhat --> goes & comes?\n"
    assert as_text(Transcription("")) == "\n"


def test_clocks() -> None:
    assert clock(0.0004, ".") == "00:00.000"
    assert clock(59.9996, ",", hours=True) == "00:01:00,000"
    assert clock(36_000, ".") == "10:00:00.000"


def test_files_of_one_name_are_told_apart_by_their_folders() -> None:
    assert stems_of(["a/x.wav", "b/x.wav", "y.wav", "-", None]) == ["a-x", "b-x", "y", "standard-input", "microphone"]


@pytest.mark.parametrize(
    ("sources", "stems"),
    [
        (["a/x.wav", "a/x.flac"], ["a-x.wav", "a-x.flac"]),
        (["a/x.wav", "b/x.wav", "b/x.flac"], ["a-x", "b-x.wav", "b-x.flac"]),
        (["x.wav", "./x.wav", "../x.wav"], ["x.wav", "x.wav-2", "x.wav-3"]),
        (["a/x.wav", "b/x.wav", "a-x.wav"], ["a-x.wav", "b-x", "a-x"]),
        (["a/X.wav", "a/x.WAV"], ["a-X.wav", "a-x.WAV-2"]),
    ],
)
def test_no_two_sounds_are_written_into_one_file(sources: list[str], stems: list[str]) -> None:
    assert stems_of(sources) == stems


def test_hidden_files_are_no_sounds_of_a_folder(command: Any, whisper: Path, tmp_path: Path) -> None:
    (tmp_path / ".trash").mkdir()
    for name in ("._a.wav", ".trash/b.wav", "c.caf.txt"):
        (tmp_path / name).write_bytes(b"no sound")
    (tmp_path / "a.wav").write_bytes(wav_bytes(noise(0.2)))
    (tmp_path / "b.w64").write_bytes(b"no sound either")
    done = command("transcribe", whisper, tmp_path, *LOUD)
    assert (done.code, len(done.out.splitlines())) == (1, 1)
    assert "1 of 2 files could not be transcribed" in done.err


def test_progress_is_a_line_now_and_then(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("glassformer.cli.sounds.time", SimpleNamespace(monotonic=lambda: now[0]))
    progress = Progress("a.wav", 125.0)
    for second in range(25):
        now[0] = float(second)
        progress((), 5.0 * second)
    progress.end()
    assert capsys.readouterr().err.splitlines() == [
        "a.wav: 0:50 of 2:05, 5.0 times real time",
        "a.wav: 1:40 of 2:05, 5.0 times real time",
    ]
