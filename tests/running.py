"""Running the command line inside the test process: what it printed, and the exit code that the shell would see."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest

# Flags that make a training run of a fraction of a second.
QUICK = (
    *("--d-model", "16", "--n-layers", "1", "--n-heads", "2", "--max-len", "16", "--batch-size", "4"),
    *("--steps", "6", "--threads", "1"),
)
SENTENCES = "The cat sat on the mat. The dog ran to the door, and the bird sang a song of rain.\n"


@dataclass(frozen=True)
class Outcome:
    """What a command left: exit code, standard output, standard error."""

    code: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """The last line of standard error without the program's name: what a user's mistake is answered with."""
        last = self.err.strip().splitlines()[-1]
        assert last.startswith("glassformer: "), self.err
        return last.removeprefix("glassformer: ")


Command = Callable[..., Outcome]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs ``glassformer`` with some arguments and, if given, bytes on standard input. Exceptions are not hidden."""
    from glassformer.cli import main

    def run(*arguments: object, stdin: bytes = b"") -> Outcome:
        begun = time.monotonic()
        monkeypatch.setattr("glassformer.machine.began", lambda: begun)  # not when the process of all tests began
        monkeypatch.setattr(sys, "argv", ["glassformer", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        return Outcome(code, *capsys.readouterr())

    return run


@pytest.fixture
def swift(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of half the time, for tests that look at neither: the disk is not waited for, and no picture is drawn."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    monkeypatch.setattr("glassformer.training.sitting.save_png", lambda rows, path, title: None)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory):
    """The folder of a small finished run, for tests that only read it."""
    from glassformer import train

    folder = tmp_path_factory.mktemp("trained")
    text = folder / "words.txt"
    text.write_text(SENTENCES * 40)
    train(text, folder / "run", **quick_settings())
    return folder / "run"


def quick_settings(**more: object) -> dict[str, object]:
    """QUICK for the Python call."""
    return {
        "model.d_model": 16,
        "model.n_layers": 1,
        "model.n_heads": 2,
        "model.max_len": 16,
        "loop.batch_size": 4,
        "loop.steps": 6,
        "loop.threads": 1,
        **more,
    }
