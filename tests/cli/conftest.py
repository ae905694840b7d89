"""The command line as a fixture, and small runs, finished or fast."""

from __future__ import annotations

from running import command, swift, trained

__all__ = ["command", "swift", "trained"]
