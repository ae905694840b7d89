"""The command line as a fixture, and small runs of every task, finished or fast."""

from __future__ import annotations

from running import command, swift, trained
from runs import runs

__all__ = ["command", "runs", "swift", "trained"]
