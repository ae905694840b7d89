"""Long sound as windows that a model can read: cut where it is quiet, else overlapping; what was said in them joined again."""

# N samples

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from glassformer.generate.transcription import Segment, Word

FRAME_SECONDS = 0.02  # over which loudness is measured,
PAUSE_SECONDS = 0.2  # and how long a pause is
PAUSE_DB = 30.0  # quieter than the loud parts of a window
LOUD = 95  # per cent of the frames are quieter than the loud parts
OVERLAP = 0.25  # of a window, where there is no pause,
MOST_OVERLAP = 4.0  # seconds at most
NEAR = 0.2  # seconds by which two windows may differ about when a word was said,
MARGIN = 0.1  # and from their ends within which a word may have been cut
NOTHING = 1e-4  # the largest sample, -80 dBFS, of what is no sound


@dataclass(frozen=True, eq=False)
class Cut:
    """Some samples, N, or vectors, N F, and which of the whole the first is; `overlap`: how many of them were in the one
    before too; `goes_on`: whether its last are in the next one too; `before` and `behind`: how many were cut off it because
    nothing is to be heard there."""

    samples: NDArray[np.float32]
    start: int
    overlap: int = 0
    goes_on: bool = False
    is_last: bool = True
    before: int = 0
    behind: int = 0

    def kept(self, start: int, end: int) -> Cut:
        """Those from one place in it to another, where they were."""
        behind = len(self.samples) - end
        overlap = max(0, self.overlap - start)
        return replace(
            self,
            samples=self.samples[start:end],
            start=self.start + start,
            overlap=overlap,
            before=start,
            behind=behind,
        )

    @property
    def is_silent(self) -> bool:
        """Whether there is nothing to hear. Vectors are never silent: nobody knows what they mean."""
        return self.samples.ndim == 1 and float(np.abs(self.samples).max(initial=0.0)) < NOTHING


def cuts(blocks: Iterable[NDArray[np.float32]], rate: int, seconds: float) -> Iterator[Cut]:
    """The samples of all blocks in stretches of at most `seconds`, in memory for one of them and a block.

    Each but the last ends in the quietest place of its second half, if that is a pause; otherwise at its full length, and the
    next begins a quarter earlier, so that a word which one of them cuts is whole in the other.
    """
    size = max(1, round(seconds * rate))
    shared = min(round(size * OVERLAP), round(MOST_OVERLAP * rate))
    waiting = np.zeros(0, np.float32)
    start, overlap = 0, 0
    for block in blocks:
        waiting = np.concatenate((waiting, block.astype(np.float32, copy=False)))
        while len(waiting) > size:
            pause = quietest(waiting[:size], rate, max(size // 2, min(size, 2 * overlap)))
            end, again = (size, shared) if pause is None else (pause, 0)
            yield Cut(waiting[:end].copy(), start, overlap, goes_on=again > 0, is_last=False)
            waiting, start, overlap = waiting[end - again :], start + end - again, again
    yield Cut(waiting, start, overlap)


def quietest(samples: NDArray[np.float32], rate: int, after: int) -> int | None:
    """The middle of the quietest pause behind sample `after`; None where nothing is quiet enough for one."""
    frame = max(1, round(FRAME_SECONDS * rate))
    n_frames = len(samples) // frame
    around = round(PAUSE_SECONDS / FRAME_SECONDS)
    if n_frames < 2 * around:
        return None
    powers = np.square(samples[: n_frames * frame], dtype=np.float64).reshape(n_frames, frame).mean(axis=1)
    sums = np.concatenate(([0.0], np.cumsum(powers)))
    pauses = np.maximum(sums[around:] - sums[:-around], 0.0) / around  # of the frames from each on
    first = -(-after // frame)
    if first >= len(pauses):
        return None
    found = first + int(pauses[first:].argmin())
    if pauses[found] > np.percentile(powers, LOUD) * 10 ** (-PAUSE_DB / 10):
        return None
    return (found + around // 2) * frame


class Joiner:
    """What was said in overlapping stretches as segments without what was heard twice.

    A segment is let out when the one behind it is known. Between two that overlap the seam lies behind a word that both
    heard at the same time, the nearest to the middle of the overlap, or else in the gap between words that is nearest. `ids`
    remain those of all that was heard.
    """

    def __init__(self) -> None:
        self.waiting: Segment | None = None

    def push(self, segment: Segment, overlap: float = 0.0) -> list[Segment]:
        """Take the next segment, in seconds of the whole, of which the first `overlap` were in the one before. Returns what
        is now certain; segments without text are left out."""
        before = self.waiting
        if before is not None and overlap > 0:
            before, segment = parted(before, segment, segment.start, segment.start + overlap)
        self.waiting = segment
        return [before] if before is not None and before.text else []

    def finish(self) -> list[Segment]:
        """The last one."""
        return [self.waiting] if self.waiting is not None and self.waiting.text else []


def parted(before: Segment, after: Segment, begin: float, end: float) -> tuple[Segment, Segment]:
    """Two segments that overlap from `begin` to `end`, each with its own words alone."""
    middle = (begin + end) / 2
    left = [i for i, word in enumerate(before.words) if middle_of(word) >= begin and word.end <= end - MARGIN]
    right = [i for i, word in enumerate(after.words) if middle_of(word) <= end and word.start >= begin + MARGIN]
    both = [
        (abs(middle_of(one) - middle), abs(middle_of(one) - middle_of(other)), i, j)
        for i in left
        for j in right
        if same(one := before.words[i], other := after.words[j])
    ]
    if both:
        *_, i, j = min(both)
        return up_to(before, before.words[: i + 1], before.words[i].end), behind(
            after, after.words[j + 1 :], after.words[j].end
        )
    gaps = [
        gap
        for words in (before.words, after.words)
        for one, other in pairwise(words)
        if begin <= (gap := (one.end + other.start) / 2) <= end
    ]
    gaps += [(word.end + end) / 2 for word in before.words[-1:] if begin <= word.end <= end - MARGIN]
    gaps += [(begin + word.start) / 2 for word in after.words[:1] if begin + MARGIN <= word.start <= end]
    seam = min(gaps, key=lambda gap: abs(gap - middle), default=middle)
    earlier = [word for word in before.words if middle_of(word) < seam]
    return up_to(before, earlier, seam), behind(after, [word for word in after.words if middle_of(word) >= seam], seam)


def same(one: Word, other: Word) -> bool:
    """Whether two windows heard the same word."""
    return one.text.casefold() == other.text.casefold() and abs(middle_of(one) - middle_of(other)) <= NEAR


def middle_of(word: Word) -> float:
    """When it was said, as one number."""
    return (word.start + word.end) / 2


def up_to(segment: Segment, words: Sequence[Word], seam: float) -> Segment:
    """The segment with its first words, which ends at the seam or with the last of them."""
    end = max(segment.start, seam, *(word.end for word in words[-1:]))
    return replace(segment, text=text_of(segment, words), words=tuple(words), end=end)


def behind(segment: Segment, words: Sequence[Word], seam: float) -> Segment:
    """The segment with its last words, which begins at the seam or with the first of them."""
    start = min(segment.end, seam, *(word.start for word in words[:1]))
    return replace(segment, text=text_of(segment, words), words=tuple(words), start=start)


def text_of(segment: Segment, words: Sequence[Word]) -> str:
    """The text of some words of a segment; all of it where no words are known."""
    if len(words) == len(segment.words):
        return segment.text
    return (" " if " " in segment.text else "").join(word.text for word in words)
