"""That files are of sound or of vectors, and made to be written down or told apart, is said only where it is beyond doubt."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from glassformer.data import detect_task
from glassformer.errors import DataError
from spoken import write_npy, write_wav

TEXTS = {
    "m.csv": "path,text\na.wav,hello there\n",
    "labels.csv": "path,label\na.wav,yes\n",
    "both.csv": "path,text,label\na.wav,hello there,yes\n",
    "bare.csv": "a.wav,hello there\nb.wav,good bye now\n",
    "short.csv": "a.wav,yes\nb.wav,no\n",
    "few.csv": "a.wav,yes\nb.wav,no\na.wav,yes\nb.wav,no\n",
    "unknown.csv": "path,said\na.wav,hello there\n",
    "lj/metadata.csv": "a|Dr. No|Doctor No\n",
    "ls/1-2.trans.txt": "1-2-0 HELLO\n",
    "k/wav.scp": "u ../a.wav\n",
    "k/text": "u hello\n",
    "beside/a.txt": "hello there\n",
    "vectors.csv": "path,text\nv/a.npy,hello there\n",
    "reviews.csv": "path,text,label\nreviews/1.html,so good,1\n",
    "texts/a.txt": "It was the best of times.\n",
    "texts/b.txt": "It was the worst of times.\n",
    "sentiment.csv": "text,label\nso good,1\n",
    "files.csv": "file,size\na.py,3\n",
    "reviews/pos/1.txt": "good\n",
    "reviews/neg/1.txt": "bad\n",
}
SOUNDS = ["a.wav", "b.wav", "lj/wavs/a.wav", "ls/1-2-0.wav", "beside/a.wav", "classes/yes/a.wav", "classes/no/a.wav",
          "texts/bird.wav", "reviews/pos/sound.wav", "untold/a.wav", "named/7_theo_1.wav"]  # fmt: skip


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, content in TEXTS.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(content)
    for name in SOUNDS:
        write_wav(name, np.zeros(80))
    write_npy("v/a.npy")
    write_npy("moves/up/a.npy")
    write_npy("moves/down/a.npy")
    np.savez("labels.npz", data=np.zeros((2, 3, 4)), y=[0, 1])
    np.savez("texts.npz", data=np.zeros((2, 3, 4)), text=np.array(["a b", "c"]))


@pytest.mark.parametrize(
    ("source", "task"),
    [
        ("m.csv", "transcribe"),
        ("labels.csv", "classify_vectors"),
        ("both.csv", "transcribe"),
        ("bare.csv", "transcribe"),
        ("short.csv", "transcribe"),
        ("few.csv", "classify_vectors"),
        ("unknown.csv", "transcribe"),
        ("lj", "transcribe"),
        ("lj/metadata.csv", "transcribe"),
        ("ls", "transcribe"),
        ("k", "transcribe"),
        ("beside", "transcribe"),
        ("beside/*.wav", "transcribe"),
        ("classes", "classify_vectors"),
        ("vectors.csv", "transcribe"),
        ("moves", "classify_vectors"),
        ("labels.npz", "classify_vectors"),
        ("texts.npz", "transcribe"),
        (["m.csv", "bare.csv"], "transcribe"),
        (["m.csv", "labels.csv"], "text"),
        (["m.csv", "texts/a.txt"], "text"),
        ("reviews.csv", "classify"),
        ("sentiment.csv", "classify"),
        ("files.csv", "text"),
        ("texts", "text"),
        ("reviews", "classify"),
    ],
)
def test_sure_cases_and_all_others(source: str | list[str], task: str):
    found = detect_task(source)
    assert (found.task, bool(found.reason)) == (task, True)


def test_names_of_files_tell_what_for():
    assert detect_task("named", name_pattern="{text}_{speaker}_{take}").task == "transcribe"
    assert detect_task("named", name_pattern="{label}_{speaker}_{take}").task == "classify_vectors"


@pytest.mark.parametrize("source", ["untold", "a.wav", "v/a.npy", "*.wav"])
def test_sound_of_which_nothing_tells_what_is_said_is_an_error_with_the_way_out(source: str):
    with pytest.raises(DataError, match=r"nothing that tells what is in them; name a manifest .*--name-pattern"):
        detect_task(source)
