"""The samples of a sound of any length, of which only those from the current place on are kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]


class Sound:
    """Blocks of samples as they are needed; what lies behind is forgotten, so that memory does not grow with the length."""

    def __init__(self, blocks: Iterable[Samples]) -> None:
        self._blocks: Iterator[Samples] = iter(blocks)
        self._kept: Samples = np.empty(0, np.float32)
        self._first = 0  # number of the first sample that is kept
        self.is_read = False  # whether the last sample is among those kept or behind
        self.length = 0  # samples so far, all of them once `is_read`

    def window(self, start: int, count: int) -> Samples:
        """Up to `count` samples from number `start` on, fewer at the end, none behind it. `start` never goes back."""
        pieces = [self._kept[start - self._first :]]
        self._first = start
        missing = count - len(pieces[0])
        while missing > 0 and not self.is_read:
            block = next(self._blocks, None)
            if block is None:
                self.is_read = True
                break
            self.length += len(block)
            pieces.append(block[max(0, start - (self.length - len(block))) :])
            missing -= len(pieces[-1])
        self._kept = np.concatenate(pieces) if len(pieces) > 1 else pieces[0]
        return self._kept[:count]

    def goes_on(self, count: int) -> bool:
        """Whether there is a sample behind the first `count` of those that are kept."""
        return len(self.window(self._first, count + 1)) > count
