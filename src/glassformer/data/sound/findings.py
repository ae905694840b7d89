"""What is found in samples while they are read: clipping, silence, numbers that are none, an end that comes too soon."""

from __future__ import annotations

import numpy as np

from glassformer.data.documents import counted
from glassformer.data.sound.levels import n_clipped
from glassformer.errors import DataError

CLIPPED = 0.001  # the share of clipped samples that is worth a note
NO_SOUND = 16.0  # times full scale: whole numbers written as floating ones, or damage


class Findings:
    """Counts over the blocks of one file, told as sentences with its name."""

    def __init__(self, name: str, rate: int) -> None:
        self.name, self.rate = name, rate
        self.n_samples = self.n_clipped = self.n_beyond = self.n_no_numbers = 0
        self.loudest = 0.0

    def heard(self, block: np.ndarray) -> np.ndarray:
        """The block in [-1, 1], counted. block: n channels. Raises DataError for numbers far beyond that."""
        self.n_samples += block.size
        finite = np.isfinite(block)
        if not finite.all():
            self.n_no_numbers += int(block.size - finite.sum())
            block = np.where(finite, block, np.float32(0))
        loudest = float(np.abs(block).max(initial=0.0))
        if loudest > NO_SOUND:
            raise DataError(
                f"{self.name}: its samples reach {loudest:,.6g} where full scale is 1; divide them by their scale, or save "
                "them as whole numbers"
            )
        self.loudest = max(self.loudest, loudest)
        if loudest > 1:
            self.n_beyond += int((np.abs(block) > 1).sum())
            block = np.clip(block, -1, 1)
        self.n_clipped += n_clipped(block)
        return block

    def tell(self, notes: list[str]) -> None:
        """Add what was found to the notes."""
        if self.n_no_numbers:
            notes.append(f"{self.name}: {counted(self.n_no_numbers, 'sample')} no number, made 0")
        if self.n_beyond:
            notes.append(
                f"{self.name}: {counted(self.n_beyond, 'sample')} beyond full scale, cut to it (up to {self.loudest:.3g})"
            )
        elif self.n_clipped > CLIPPED * self.n_samples:
            notes.append(f"{self.name}: {100 * self.n_clipped / self.n_samples:.2g} % of its samples are clipped")
        if self.loudest == 0:
            notes.append(f"{self.name}: is silent throughout")

    def cut_short(self, n_frames: int | None, promised: int | None, notes: list[str]) -> None:
        """Add that a file holds less than its header promises, if it does."""
        if n_frames is not None and promised is not None and n_frames < promised:
            found, expected = n_frames / self.rate, promised / self.rate
            notes.append(f"{self.name}: holds {found:.2f} of the {expected:,.2f} s that its header promises; cut short")

    def ends_early(self, n_frames: int, wanted: int, notes: list[str]) -> None:
        """Add that a part reaches beyond the end, if by more than a hundredth of a second."""
        if wanted - n_frames > self.rate / 100:
            notes.append(
                f"{self.name}: ends {(wanted - n_frames) / self.rate:.2f} s before the part that was asked for does"
            )
