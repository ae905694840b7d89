"""The voice demo: espeak-ng speaks the commands of the grammar in several voices, into files of sound and two manifests."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from glassformer.data.sound import sound_info
from glassformer.data.splitting import throw
from glassformer.data.voice_commands import is_held_back, sentences
from glassformer.errors import DataError, GlassformerError
from glassformer.files import whole_file

PROGRAM = "espeak-ng"
TRAINING_VOICES = ("en-us+m1", "en-gb+f2", "en-gb-scotland+m3", "en-gb-x-rp+f4", "en-029+m7", "en-gb-x-gbcwmd+f3")
UNSEEN_VOICES = ("en-us+f5", "en-gb-x-gbclan+m2")
VOICES_EACH = 2  # that speak a training sentence, of the six in turn
SLOWEST, FASTEST = 140, 190  # words a minute
LOWEST, HIGHEST = 35, 65  # pitch, of 0 to 99


@dataclass(frozen=True, slots=True)
class Spoken:
    """A sentence in a voice: the file that it goes to, and how fast and high it is said."""

    name: str
    text: str
    voice: str
    speed: int
    pitch: int


def spoken_commands() -> tuple[list[Spoken], list[Spoken]]:
    """What is trained on, and what is held back: other sentences in other voices."""
    listed = list(sentences())
    train = [sentence for sentence in listed if not is_held_back(sentence)]
    return (
        [
            spoken(sentence, TRAINING_VOICES[(number + turn * 3 + number // 6) % len(TRAINING_VOICES)])
            for number, sentence in enumerate(train)
            for turn in range(VOICES_EACH)
        ],
        [spoken(sentence, voice) for sentence in listed if is_held_back(sentence) for voice in UNSEEN_VOICES],
    )


def spoken(text: str, voice: str) -> Spoken:
    """How a sentence is said in a voice: its speed and pitch follow from both."""
    draw = throw(f"{voice} {text}", seed=0)
    speed = SLOWEST + draw % (FASTEST - SLOWEST + 1)
    pitch = LOWEST + draw // 1000 % (HIGHEST - LOWEST + 1)
    return Spoken(f"{text.replace(' ', '-')}_{voice}.wav", text, voice, speed, pitch)


def speak_commands(folder: Path, tell: Callable[[str], None]) -> tuple[Path, Path]:
    """Speak all commands into a folder, what stands there already excepted; the manifests to train and to validate on.

    Raises GlassformerError where espeak-ng is not installed, DataError where it fails.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        raise GlassformerError(
            f"the voice demo speaks its commands through {PROGRAM}, which is not installed: apt-get install espeak-ng, or"
            " brew install espeak-ng"
        )
    sides = spoken_commands()
    folder.mkdir(parents=True, exist_ok=True)
    missing = [row for side in sides for row in side if not (folder / row.name).exists()]
    if missing:
        tell(f"speaking {len(missing):,} commands in {len({row.voice for row in missing})} voices into {folder}")
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for _ in pool.map(lambda row: speak(program, row, folder), missing):
                pass
    return manifest(folder / "train.csv", sides[0]), manifest(folder / "unseen.csv", sides[1])


def speak(program: str, row: Spoken, folder: Path) -> None:
    """Have one sentence spoken into its file. Raises DataError where that fails."""
    with whole_file(folder / row.name) as path:
        order = [program, "-v", row.voice, "-s", str(row.speed), "-p", str(row.pitch), "-w", str(path), row.text]
        done = subprocess.run(order, capture_output=True, check=False)
        said = done.stderr.decode(errors="replace").strip()
        if done.returncode or not path.exists():
            raise DataError(
                f"{PROGRAM} could not say {row.text!r} in the voice {row.voice} ({said or done.returncode})"
            )
        sound_info(path)


def manifest(path: Path, rows: Sequence[Spoken]) -> Path:
    """A table of files, texts and voices."""
    with whole_file(path) as draft, draft.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("path", "text", "speaker"))
        table.writerows((row.name, row.text, row.voice) for row in rows)
    return path
