"""What a run tells: every row to log.jsonl, and what a person wants to know to the screen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol

from glassformer.files import explained, whole_file
from glassformer.training.decide import Choice


class Screen(Protocol):
    """Where a run is shown: a terminal with a progress bar, plain lines in a pipe, or nowhere."""

    def note(self, text: str) -> None: ...
    def choices(self, choices: list[Choice]) -> None: ...
    def begin(self, step: int, steps: int) -> None: ...
    def step(self, row: dict[str, Any]) -> None: ...
    def evaluation(self, row: dict[str, Any]) -> None: ...
    def sample(self, step: int, text: str) -> None: ...
    def end(self) -> None: ...


class Silence:
    """The screen of a run that nobody watches."""

    def note(self, text: str) -> None:
        return

    def choices(self, choices: list[Choice]) -> None:
        return

    def begin(self, step: int, steps: int) -> None:
        return

    def step(self, row: dict[str, Any]) -> None:
        return

    def evaluation(self, row: dict[str, Any]) -> None:
        return

    def sample(self, step: int, text: str) -> None:
        return

    def end(self) -> None:
        return


class Log:
    """log.jsonl of a run: one JSON object a line, appended; on resume, rows past the checkpoint are dropped."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def resume(self, step: int) -> None:
        """Forget what was written after `step`, since those steps will be taken again."""
        kept = [row for row in self.rows() if row["step"] <= step]
        with whole_file(self.path) as path:
            path.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")

    def write(self, row: dict[str, Any]) -> None:
        """Append one row. Raises DiskError."""
        with explained(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def close(self) -> None:
        """Nothing is left to be written: every row went to the disk at once."""

    def rows(self) -> list[dict[str, Any]]:
        """All rows; a last line that a crash cut short is left out."""
        if not self.path.exists():
            return []
        rows: list[dict[str, Any]] = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except ValueError:
                break
        return rows


class NoLog(Log):
    """The log of a process that is not the first of its run."""

    def resume(self, step: int) -> None:
        return

    def write(self, row: dict[str, Any]) -> None:
        return
