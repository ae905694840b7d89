"""For every task data so small that a model learns from it in seconds, and the wishes that make such a run."""

from __future__ import annotations

import itertools
import json
import wave
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from glassformer.config import set_dotted
from glassformer.training import Recipe, Silence, check_wishes
from glassformer.training.run import prepare
from glassformer.training.tasks import Task
from running import SENTENCES

SPANISH = {"one": "uno", "two": "dos", "three": "tres", "four": "cuatro", "ten": "diez"}
ODD = ("one", "three")
COUNTS = [*itertools.product(SPANISH, repeat=2), *itertools.product(SPANISH, repeat=3)]  # 150 rows of words


def in_spanish(words: tuple[str, ...]) -> str:
    return " ".join(SPANISH[word] for word in words)


def pairs() -> Iterator[str]:
    """Source and target, word for word."""
    return (f"{' '.join(words)}\t{in_spanish(words)}\n" for words in COUNTS)


def labelled() -> Iterator[str]:
    """Whether there is a ten in it."""
    yield "text,label\n"
    yield from (f"{' '.join(words)},{'high' if 'ten' in words else 'low'}\n" for words in COUNTS)


def several_labels() -> Iterator[str]:
    """The first two numbers, where they occur."""
    for words in COUNTS:
        labels = [f"has {word}" for word in ("one", "two") if word in words]
        yield json.dumps({"text": " ".join(words), "labels": labels}) + "\n"


def tagged() -> Iterator[str]:
    """Odd or even, word by word."""
    for words in COUNTS:
        yield "".join(f"{word} {'ODD' if word in ODD else 'EVEN'}\n" for word in words) + "\n"


class Notes(Silence):
    """A screen that remembers what it was told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@dataclass(frozen=True)
class Toy:
    """A file, the task that it is for, and wishes of its own."""

    task: str
    name: str
    content: str
    wishes: dict[str, Any] = field(default_factory=dict)

    def write(self, folder: Path) -> Path:
        """The file, in a folder."""
        (folder / self.name).write_text(self.content)
        return folder / self.name


PITCHES = dict(zip(SPANISH, (300, 700, 1200, 1900, 2900), strict=True))  # of a tone for each word, in Hz
SPEAKERS = ("ann", "bob", "cid")


@dataclass(frozen=True)
class SpokenToy(Toy):
    """The same in sound: a folder with a file for each row of up to three words, each word a tone in the speaker's time."""

    def write(self, folder: Path) -> Path:
        place = folder / self.name
        place.mkdir()
        draw = np.random.default_rng(7)
        for number, words in enumerate(COUNTS[::2]):
            speaker = SPEAKERS[number % len(SPEAKERS)]
            tones = [tone(PITCHES[word], 480 + 160 * SPEAKERS.index(speaker), draw) for word in words]
            said = words[0] if self.task == "classify_vectors" else " ".join(words)
            write_wave(place / f"{said}_{speaker}_{number}.wav", np.concatenate(tones))
        return place


@dataclass(frozen=True)
class VectorToy(Toy):
    """The same in vectors of six numbers, all in one file: each word is two or three vectors of its own and some noise."""

    def write(self, folder: Path) -> Path:
        draw = np.random.default_rng(7)
        rows = [np.concatenate([one_hot(word, draw) for word in words]) for words in COUNTS]
        said = [words[0] if self.task == "classify_vectors" else " ".join(words) for words in COUNTS]
        lengths = [len(row) for row in rows]
        path = folder / "toy" / self.name  # rows are held back by the names of file and folder
        path.parent.mkdir()
        np.savez(path, vectors=np.concatenate(rows), lengths=lengths, text=np.array(said))
        return path


def tone(pitch: float, n: int, draw: np.random.Generator) -> np.ndarray:
    """n samples at 8 kHz."""
    return 0.4 * np.sin(2 * np.pi * pitch * np.arange(n) / 8000) + 0.01 * draw.standard_normal(n)


def one_hot(word: str, draw: np.random.Generator) -> np.ndarray:
    """Two or three vectors that say a word."""
    vectors = 0.05 * draw.standard_normal((draw.integers(2, 4), 6))
    vectors[:, list(SPANISH).index(word)] += 1
    return vectors


def write_wave(path: Path, samples: np.ndarray, rate: int = 8000) -> None:
    """A WAV file of 16 bits."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples * 32767).astype("<i2").tobytes())


RUNNING_TEXT = {"model.max_len": 16, "loop.batch_size": 16}
ROWS = {"loop.batch_tokens": 256}
TOYS = {  # every row of TASKS at least once
    "text": Toy("text", "words.txt", SENTENCES * 20, RUNNING_TEXT),
    "fill": Toy("fill", "words.txt", SENTENCES * 20, RUNNING_TEXT),
    "translate": Toy("translate", "pairs.tsv", "".join(pairs()), ROWS),
    "translate by a decoder": Toy("translate", "pairs.tsv", "".join(pairs()), {**ROWS, "model.shape": "decoder"}),
    "classify": Toy("classify", "labelled.csv", "".join(labelled()), ROWS),
    "classify by several": Toy("classify", "labelled.jsonl", "".join(several_labels()), ROWS),
    "tag": Toy("tag", "tagged.conll", "".join(tagged()), ROWS),
    "embed": Toy("embed", "pairs.tsv", "".join(pairs()), ROWS),
}
NOISY = {"augment.noise_db": (5, 20)}
HEARD = {"model.max_len": 128, "features.n_mels": 16, "loop.batch_tokens": 512}
SPELT = {"data.name_pattern": "{text}_{speaker}_{take}"}
TOYS_OF_VECTORS = {  # those of the tasks that read sound, or vectors from files
    "transcribe": SpokenToy("transcribe", "spoken", "", {**HEARD, **SPELT}),
    "transcribe vectors by CTC": VectorToy("transcribe", "spoken.npz", "", {**ROWS, "model.shape": "encoder"}),
    "classify_vectors": SpokenToy(
        "classify_vectors", "spoken", "", {**HEARD, "data.name_pattern": "{label}_{speaker}_{take}", **NOISY}
    ),
    "classify_vectors of vectors": VectorToy("classify_vectors", "spoken.npz", "", ROWS),
}
TOYS_OF_ROWS = [name for name, toy in TOYS.items() if toy.wishes.get("loop.batch_tokens")]


def toy_wishes(name: str, **more: Any) -> dict[str, Any]:
    """All that makes a quick run of a toy, by dotted keys."""
    small = {"model.d_model": 32, "model.n_layers": 1, "model.n_heads": 2, "model.dropout": 0.0}
    loop = {"loop.steps": 6, "loop.threads": 1, "tokenizer.kind": "words"}
    toy = toy_of(name)
    return {"task": toy.task, **small, **loop, **toy.wishes, **more}


def toy_of(name: str) -> Toy:
    """A row of either table."""
    return TOYS.get(name) or TOYS_OF_VECTORS[name]


def prepared(name: str, folder: Path, **more: Any) -> tuple[Recipe, Task]:
    """The recipe of a toy's run and its task, ready for the first step. No folder of a run is made."""
    asked: dict[str, Any] = {}
    set_dotted(asked, "data.sources", [str(toy_of(name).write(folder))])
    for key, value in toy_wishes(name, **more).items():
        set_dotted(asked, key, value)
    recipe, task = prepare(check_wishes(asked), None, 1.0, torch.device("cpu"), Silence())
    task.begin(recipe)
    return recipe, task
