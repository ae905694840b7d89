"""Small finished runs of every task, each trained when a test first asks for it, in a fraction of a second."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from running import quick_settings

if TYPE_CHECKING:
    from glassformer.evaluate import Score

WORDS = ["cat", "dog", "bird", "sat", "ran", "sang", "mat", "door", "song", "rain", "the", "a", "on", "to", "of"]
NOUNS = ("cat", "dog", "bird")
FILES = {  # of each kind of run: its data, the same to validate on
    "text": ("words.txt", "held.txt"),
    "fill": ("words.txt", "held.txt"),
    "translate": ("pairs.tsv", "held.tsv"),
    "separator": ("pairs.tsv", "held.tsv"),
    "classify": ("labels.csv", "held.csv"),
    "several": ("several.jsonl", "held.jsonl"),
    "tag": ("tags.conll", "held.conll"),
    "embed": ("pairs.tsv", "held.tsv"),
}
TASKS = {kind: {"separator": "translate", "several": "classify"}.get(kind, kind) for kind in FILES}


class Runs:
    """The folders of runs by their kind, the files they were trained on, and what training said of their last models."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.scores: dict[str, Score] = {}
        write_data(folder)

    def __call__(self, kind: str) -> Path:
        """The folder of a run."""
        if kind not in self.scores:
            self.scores[kind] = self.train(kind, self.folder / kind)
        return self.folder / kind

    def file(self, kind: str, held: bool = True) -> Path:
        """The data of a run: what it was trained on, or what was held back."""
        return self.folder / FILES[kind][held]

    def train(self, kind: str, folder: Path) -> Score:
        """Train a run of this kind."""
        from glassformer.training import Silence, train_run

        return train_run(self.wishes(kind), folder, minutes=1, screen=Silence()).score

    def wishes(self, kind: str) -> dict[str, object]:
        """A recipe of a few steps."""
        from glassformer.config import set_dotted

        train, held = (str(self.folder / name) for name in FILES[kind])
        more: dict[str, object] = {"task": TASKS[kind], "data.sources": [train], "data.validation": [held]}
        if TASKS[kind] not in ("text", "fill"):
            more |= {"loop.batch_size": None, "loop.batch_tokens": 200, "model.max_len": 60}
        if kind == "separator":
            more["model.shape"] = "decoder"
            more["model.max_len"] = 120
        values: dict[str, object] = {}
        for key, value in quick_settings(**more).items():
            set_dotted(values, key, value)
        return values


def write_data(folder: Path) -> None:
    """A file of every format, to train on and to validate on."""
    draw = random.Random(0)

    def sentence() -> str:
        return " ".join(draw.choice(WORDS) for _ in range(draw.randint(2, 7)))

    for held, n_rows in ((False, 90), (True, 12)):
        rows = [sentence() for _ in range(n_rows)]
        written = {
            "text": "".join(f"{row}\n" for row in rows),
            "translate": "".join(f"{row}\t{row[::-1]}\n" for row in rows),
            "classify": "text,label\n" + "".join(f"{row},{'yes' if 'cat' in row else 'no'}\n" for row in rows),
            "several": "".join(
                json.dumps({"text": row, "labels": [noun for noun in NOUNS if noun in row]}) + "\n" for row in rows
            ),
            "tag": "\n".join(
                "".join(f"{word} {'B-N' if word in NOUNS else 'O'}\n" for word in row.split()) for row in rows
            ),
        }
        for kind, content in written.items():
            (folder / FILES[kind][held]).write_text(content)


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """The runs of this session."""
    return Runs(tmp_path_factory.mktemp("runs"))
