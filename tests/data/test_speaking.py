"""The voice demo: what is held back is new in every way, and what the speaking program does wrong is said."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from glassformer.data import speaking as room
from glassformer.data.speaking import TRAINING_VOICES, UNSEEN_VOICES, speak_commands, spoken_commands
from glassformer.data.utterances import read_utterances
from glassformer.data.voice_commands import is_held_back, sentences
from glassformer.errors import DataError, GlassformerError

STUB = """#!{python}
import sys, wave
told = dict(zip(sys.argv[1:-1:2], sys.argv[2:-1:2]))
with wave.open(told["-w"], "wb") as file:
    file.setnchannels(1); file.setsampwidth(2); file.setframerate(22050)
    file.writeframes(bytes(2 * 100 * len(sys.argv[-1])))
with open({calls!r}, "a") as file:
    file.write(sys.argv[-1] + "\\n")
"""


@pytest.fixture
def program(tmp_path, monkeypatch):
    """A program in place of espeak-ng; returns where it notes what it was asked to say."""
    path, calls = tmp_path / "espeak-ng", tmp_path / "calls"

    def install(text: str) -> Path:
        path.write_text(text)
        path.chmod(0o755)
        return calls

    monkeypatch.setattr(shutil, "which", lambda name: str(path))
    monkeypatch.setattr(room, "sentences", lambda: iter(["show me my files", "open my files", "find the letters"]))
    monkeypatch.setattr(room, "is_held_back", lambda sentence: sentence == "open my files")
    install(STUB.format(python=sys.executable, calls=str(calls)))
    return install, calls


def test_a_few_hundred_sentences_and_a_seventh_of_them_held_back():
    listed = list(sentences())
    assert len(listed) == len(set(listed)) > 500
    assert 0.1 < sum(map(is_held_back, listed)) / len(listed) < 0.2
    assert {"show me my files please", "check whether the battery ran down please"} <= set(listed)


def test_what_is_held_back_is_new_in_voice_and_in_words_put_together():
    train, unseen = spoken_commands()
    assert {row.voice for row in train} == set(TRAINING_VOICES)
    assert {row.voice for row in unseen} == set(UNSEEN_VOICES)
    assert not set(TRAINING_VOICES) & set(UNSEEN_VOICES)
    said, new = ({row.text.removesuffix(" please") for row in side} for side in (train, unseen))
    assert not said & new
    assert {word for text in new for word in text.split()} <= {word for text in said for word in text.split()}
    assert len({row.name for row in (*train, *unseen)}) == len(train) + len(unseen)


def test_what_is_spoken_is_read_as_utterances_and_not_spoken_again(tmp_path, program):
    _, calls = program
    told: list[str] = []
    for _ in range(2):
        train, unseen = speak_commands(tmp_path / "spoken", told.append)
    corpus = read_utterances([train])
    assert [row.text for row in corpus.rows] == ["show me my files"] * 2 + ["find the letters"] * 2
    assert {row.speaker for row in read_utterances([unseen]).rows} == set(UNSEEN_VOICES)
    assert len(calls.read_text().splitlines()) == 6
    assert [line.startswith("speaking 6 commands in") for line in told] == [True]


def test_a_machine_that_cannot_speak_is_told_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(GlassformerError, match="espeak-ng, which is not installed: apt-get install espeak-ng"):
        speak_commands(tmp_path / "spoken", print)
    assert not (tmp_path / "spoken").exists()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (f"#!{sys.executable}\nimport sys\nsys.exit('no such voice')", "could not say .* \\(no such voice\\)"),
        (f"#!{sys.executable}\n", "could not say"),
        (f"#!{sys.executable}\nimport sys\nopen(sys.argv[-2], 'w').write('x')", "spoken"),
    ],
)
def test_a_program_that_fails_is_an_error_and_leaves_no_file(tmp_path, program, text, sentence):
    install, _ = program
    install(text)
    with pytest.raises(DataError, match=sentence):
        speak_commands(tmp_path / "spoken", lambda said: None)
    assert not list((tmp_path / "spoken").glob("*.wav"))
