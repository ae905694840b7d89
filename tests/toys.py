"""For every task data so small that a model learns from it in seconds, and the wishes that make such a run."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
TOYS_OF_ROWS = [name for name, toy in TOYS.items() if toy.wishes.get("loop.batch_tokens")]


def toy_wishes(name: str, **more: Any) -> dict[str, Any]:
    """All that makes a quick run of a toy, by dotted keys."""
    small = {"model.d_model": 32, "model.n_layers": 1, "model.n_heads": 2, "model.dropout": 0.0}
    loop = {"loop.steps": 6, "loop.threads": 1, "tokenizer.kind": "words"}
    return {"task": TOYS[name].task, **small, **loop, **TOYS[name].wishes, **more}


def prepared(name: str, folder: Path, **more: Any) -> tuple[Recipe, Task]:
    """The recipe of a toy's run and its task, ready for the first step. No folder of a run is made."""
    asked: dict[str, Any] = {}
    set_dotted(asked, "data.sources", [str(TOYS[name].write(folder))])
    for key, value in toy_wishes(name, **more).items():
        set_dotted(asked, key, value)
    recipe, task = prepare(check_wishes(asked), None, 1.0, torch.device("cpu"), Silence())
    task.begin(recipe)
    return recipe, task
