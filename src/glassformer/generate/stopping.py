"""Stop strings in a stream of text: nothing is let out that could still turn out to belong to one."""

from __future__ import annotations

from collections.abc import Sequence


class StopStrings:
    """Passes text on until one of `stops` is complete, then drops it and all that follows.

    The stop that is complete first wins, whatever the pieces in which the text arrives; of two that end at the same
    character, the longer.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self.stops = tuple(stops)
        self.stopped = False
        self._held = ""

    def push(self, text: str) -> str:
        """Take the next piece of text and return what is now certain to be shown."""
        if self.stopped:
            return ""
        self._held += text
        found = [(start + len(stop), start) for stop in self.stops if (start := self._held.find(stop)) >= 0]
        self.stopped = bool(found)
        return self._release(min(found)[1] if found else len(self._held) - self._undecided())

    def finish(self) -> str:
        """The text still held back, when no more is to come."""
        return "" if self.stopped else self._release(len(self._held))

    def _release(self, size: int) -> str:
        certain, self._held = self._held[:size], self._held[size:]
        return certain

    def _undecided(self) -> int:
        """The length of the longest end of the held text with which a stop string begins."""
        longest = min(len(self._held), max(map(len, self.stops), default=1) - 1)
        ends = range(longest, 0, -1)
        return next((size for size in ends if any(stop.startswith(self._held[-size:]) for stop in self.stops)), 0)
