"""Every kind of finding in sound and in vectors is found where it was put, with its line, and not where all is well."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from glassformer.data import Report, check_files
from glassformer.data.utterances.checks import SPOKEN_CHECKS, Room, odd_lengths
from glassformer.data.utterances.corpus import Utterance
from glassformer.data.utterances.hearing import Heard, hear
from glassformer.errors import ConfigError
from glassformer.tokenizers import train_tokenizer
from running import Command, command
from spoken import tone, write_npy, write_wav

SECONDS = 1.2
WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog"]

__all__ = ["command"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def voice(seed: int, seconds: float = SECONDS, amplitude: float = 0.3) -> np.ndarray:
    """Something that is loud enough throughout, and never the same twice."""
    noise = np.random.default_rng(seed).normal(size=round(8000 * seconds))
    return np.clip(tone(seconds, 150 + 10 * seed, amplitude=amplitude) * (1 + 0.1 * noise), -0.9, 0.9)


def said(number: int) -> str:
    return f"{WORDS[number % 9]} {WORDS[number * 5 % 9]} {WORDS[number * 7 % 9]}"


class Manifest:
    """A manifest that is written row by row."""

    def __init__(self, name: str) -> None:
        self.name, self.lines = name, ["path\ttext\tduration\tspeaker"]

    def add(self, path: Path | str, text: str, duration: str = "", speaker: str = "") -> int:
        """The line on which the row stands."""
        self.lines.append(f"{path}\t{text}\t{duration}\t{speaker}")
        Path(self.name).write_text("\n".join(self.lines) + "\n")
        return len(self.lines)


def good(manifest: Manifest, n_rows: int = 24, start: int = 0) -> None:
    for number in range(start, start + n_rows):
        manifest.add(write_wav(f"x/{number}.wav", voice(number)), said(number))


def found(report: Report) -> dict[str, list[tuple[str, str]]]:
    kinds: dict[str, list[tuple[str, str]]] = {}
    for finding in report.findings:
        kinds.setdefault(finding.kind, []).append((finding.where, finding.what))
    return kinds


def test_sound_in_which_all_is_well():
    good(Manifest("m.tsv"))
    report = check_files("m.tsv")
    assert (report.task, report.n_rows, report.n_found) == ("transcribe", 24, 0)
    assert set(report.counts) == {"unusable row", *SPOKEN_CHECKS["transcribe"]}
    told = report.lines()
    assert (
        "28.8 seconds of sound: from 1.20 s (m.tsv:2) to 1.20 s (m.tsv:25), median 1.20 s, 98 % from 1.20 to 1.20 s"
        in told
    )
    assert "samples a second: 8,000 (24)" in told
    assert "27 different characters: ' abcdefghijklmnopqrstuvwxyz'" in told


def test_what_is_wrong_with_sound_is_found_with_its_line():
    manifest = Manifest("m.tsv")
    good(manifest)
    at: dict[str, int] = {}
    at["duplicate"] = manifest.add("x/3.wav", said(3))
    at["several texts"] = manifest.add("x/4.wav", "something else")
    Path("x/broken.wav").write_bytes(b"RIFF\x00\x00\x00\x00WAVEjunk")
    at["unreadable"] = manifest.add("x/broken.wav", "never heard")
    at["odd length"] = manifest.add(write_wav("x/long.wav", voice(90, 9.0)), "well said " * 12)
    at["too short"] = manifest.add(write_wav("x/short.wav", voice(91, 0.02)), "x")
    at["wrong duration"] = manifest.add(write_wav("x/cut.wav", voice(92)), said(2), duration="0.8")
    at["silent"] = manifest.add(write_wav("x/silent.wav", np.zeros(9600)), said(3))
    at["quiet"] = manifest.add(write_wav("x/quiet.wav", voice(93, amplitude=0.002)), said(4))
    at["clipped"] = manifest.add(write_wav("x/clipped.wav", np.sign(voice(94))), said(5))
    padded = np.concatenate([np.zeros(12_000), voice(95, 0.9)])
    at["long silence"] = manifest.add(write_wav("x/padded.wav", padded), said(6) + " and " + said(7))
    at["other rate"] = manifest.add(write_wav("x/rate.wav", voice(96, 2.4), rate=16_000), said(7))
    at["odd pace"] = manifest.add(write_wav("x/pace.wav", voice(97)), "far too much to say in such a short time " * 3)
    at["damaged text"] = manifest.add(write_wav("x/mark.wav", voice(98)), "caf\u00c3\u00a9 au lait")
    at["unusable row"] = manifest.add("x/missing.wav", "gone")
    cut = write_wav("x/promised.wav", voice(99))
    cut.write_bytes(cut.read_bytes()[:-6000])
    at["damaged sound"] = manifest.add(cut, said(8))
    report = check_files("m.tsv")
    places = {kind: [where for where, _ in rows] for kind, rows in found(report).items()}
    for kind, line in at.items():
        assert f"m.tsv:{line}" in places[kind], kind
    what = {kind: dict(rows)[f"m.tsv:{at[kind]}"] for kind, rows in found(report).items() if kind in at}
    assert what["duplicate"] == "the same sound and text as m.tsv:5; leave one of them out"
    assert what["several texts"] == f"m.tsv:6 has {said(4)!r} for the same sound; mend one of them"
    assert what["odd length"] == "9.00 s, much longer than usual (1.20 s); see whether it was cut rightly"
    assert what["too short"] == "20 ms of sound, in which nothing can be said; leave it out"
    assert what["wrong duration"] == "the row says 0.80 s and the file lasts 1.20 s, so the rest is not read; mend it"
    assert what["silent"] == "silent throughout; leave it out"
    assert "record it louder" in what["quiet"]
    assert "of its samples are clipped; record it again at a lower level" in what["clipped"]
    assert (
        what["long silence"]
        == "1.5 of 2.4 s are silent (1.5 s at its beginning, 0.0 s at its end); trim it, or train with features.trim_db"
    )
    assert what["other rate"] == "16,000 samples a second, most have 8,000; all are brought to one rate"
    assert "characters in 1.20 s of sound, more than can be said" in what["odd pace"]
    assert "header promises; cut short; save the file again, or leave it out" in what["damaged sound"]
    assert {kind: len(rows) for kind, rows in places.items()} == {
        **dict.fromkeys(at, 1),
        "odd length": 2,  # what is too short is also much shorter than usual
    }


@pytest.mark.parametrize("rate", [8000, 11_025, 22_050])
def test_silence_is_measured_to_a_frame_at_rates_that_no_frame_divides(rate):
    loud = tone(1.0, rate=rate)
    write_wav("long.wav", np.concatenate([np.zeros(65 * rate), loud, np.zeros(33 * rate)]), rate)
    heard = hear(Utterance("long.wav", Path("long.wav"), "a"), held_out=False)
    assert heard.length == pytest.approx(99)
    assert heard.silent_start == pytest.approx(65, abs=0.021)
    assert heard.silent_end == pytest.approx(33, abs=0.021)


def test_odd_lengths_are_found_in_a_walk_through_the_rows_and_not_one_for_each():
    class Rows(list[Heard]):
        walks = 0

        def __iter__(self):
            Rows.walks += 1
            return super().__iter__()

    row = Utterance("a", Path("a"), "a")
    rows = Rows(Heard(row, False, length=100.0 if number % 7 == 0 else 1.0) for number in range(700))
    assert len(list(odd_lengths(Room(rows, "sound")))) == 100
    assert Rows.walks == 1


def test_the_same_sound_on_both_sides_of_a_split():
    train, held = Manifest("train.tsv"), Manifest("dev.tsv")
    good(train, 3)
    write_wav("y/copy.wav", voice(1))
    held.add("y/copy.wav", said(1))
    held.add(write_wav("y/new.wav", voice(50)), said(5))
    expected = [("dev.tsv:2", "the same sound is trained on at train.tsv:3; take it out of one side")]
    assert found(check_files(["train.tsv", "dev.tsv"]))["leak"] == expected
    Path("dev.tsv").rename("other.tsv")
    assert found(check_files("train.tsv", validation="other.tsv"))["leak"][0][0] == "other.tsv:2"
    both = Manifest("both.tsv")
    good(both, 4)
    both.add("y/copy.wav", said(1), speaker="theo")
    both.add("y/new.wav", said(1), speaker="anna")
    report = check_files("both.tsv", hold_back="speaker=theo")
    assert found(report)["leak"][0][0] == "both.tsv:6"


def test_characters_and_words_that_a_tokenizer_does_not_know():
    manifest = Manifest("m.tsv")
    good(manifest, 4)
    line = manifest.add(write_wav("x/q.wav", voice(40)), "naïve Fox!")
    for kind, pieces in (("characters", "'ï', 'F', '!'"), ("words", "'naïve', 'Fox!'")):
        tokenizer = train_tokenizer(kind, [said(number) for number in range(40)])
        (finding,) = found(check_files("m.tsv", tokenizer=tokenizer))["unknown character"]
        assert finding[0] == f"m.tsv:{line}"
        assert pieces in finding[1] or kind == "words"
    assert check_files("m.tsv", tokenizer=train_tokenizer("bytes", ["x"])).counts["unknown character"] == 0


def test_labels_and_vectors():
    for number in range(6):
        write_npy(f"moves/{('up', 'down')[number % 2]}/{number}.npy", 5, 3, seed=number)
    write_npy("moves/left/9.npy", 5, 3, seed=1)
    array = np.zeros((4, 3), np.float32)
    array[1, 2] = np.nan
    np.save("moves/up/bad.npy", array)
    report = check_files("moves")
    assert (report.task, report.n_rows) == ("classify_vectors", 8)
    assert found(report) == {
        "unreadable": [
            (
                "moves/up/bad.npy",
                "moves/up/bad.npy: number 3 of vector 2 is nan, expected a finite number of 32 bits",
            )
        ],
        "several texts": [("moves/left/9.npy", "moves/down/1.npy has 'down' for the same vectors; mend one of them")],
        "lonely label": [("moves/left/9.npy", "no other row is labelled 'left'; add some, or leave it out")],
    }
    assert "clipped" not in report.counts
    assert any(note.startswith("35 vectors: from 5 ") for note in report.notes)


def test_vectors_whose_numbers_say_nothing_or_differ_in_size():
    for number in range(3):
        array = np.random.default_rng(number).normal(size=(6, 3))
        array[:, 0] = 7
        array[:, 1] *= 1e4
        Path("x").mkdir(exist_ok=True)
        np.save(f"x/{number}.npy", array)
        Path(f"x/{number}.txt").write_text("hello")
    notes = "\n".join(check_files("x").notes)
    assert "numbers of a vector that never change: 1; leave them out" in notes
    assert "the numbers of a vector differ much in size" in notes


def test_what_other_tasks_have_no_use_for_is_refused():
    Path("a.txt").write_text("hello\n")
    with pytest.raises(ConfigError, match="the task text has no use for hold_back"):
        check_files("a.txt", hold_back="take=1")


def test_the_verb(command: Command, tmp_path: Path):
    for name in ("7_theo_0", "7_anna_0", "0_theo_0"):
        write_wav(f"f/{name}.wav", voice(len(name) + ord(name[-3])))
    train_tokenizer("characters", ["seven"]).save(tmp_path / "tok")
    flags = ["--name-pattern", "{text}_{speaker}_{take}", "--replace", "7=seven", "--tokenizer", "tok"]
    done = command("data", "check", "f", *flags, "--hold-back", "speaker=anna", "--json", "--strict")
    assert done.code == 1
    report = json.loads(done.out)
    assert report["counts"]["unknown character"] == 1
    assert report["task"] == "transcribe"
    done = command("data", "check", "f", *flags[:2], "--replace", "seven")
    assert (done.code, done.sentence) == (
        2,
        "--replace seven: expected a text and what it becomes, for example 7=seven",
    )
    done = command("data", "check", "f")
    assert done.code == 1
    assert "nothing that tells what is in them" in done.sentence
    done = command("data", "check", "f", "--name-pattern", "{text}", "--hold-back", "take=1")
    assert done.code == 2
