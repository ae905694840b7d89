"""Word and character errors of transcripts, the counts of every utterance kept for resampling."""

# N utterances

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from glassformer.evaluate.metric import Metric, check_same_examples

ONE = 1 << 32  # an edit; what is added to it decides between ways with as many


class Edits(NamedTuple):
    """The fewest changes that turn what was wanted into what was found, `of` so many pieces."""

    substituted: int
    left_out: int
    put_in: int
    of: int


def edits(found: Sequence[str], wanted: Sequence[str]) -> Edits:
    """The fewest changes from `wanted` to `found` (Levenshtein 1966), of all such ways that with the most substitutions.

    The table of costs is kept one row at a time: an insertion or a deletion costs a trifle more than a substitution, and the
    trifles tell in the end how many of them there were.
    """
    numbers = {piece: number for number, piece in enumerate({*found, *wanted})}
    columns = np.array([numbers[piece] for piece in found], np.int64)
    aside = (ONE + 1) * np.arange(len(found) + 1, dtype=np.int64)  # of putting in all up to each column
    costs = aside
    for piece in wanted:
        least = costs + ONE + 1  # the piece is left out
        least[1:] = np.minimum(least[1:], costs[:-1] + np.where(columns == numbers[piece], 0, ONE))
        costs = np.minimum.accumulate(least - aside) + aside  # or something is put in
    n_edits, n_shifts = divmod(int(costs[-1]), ONE)
    put_in = (n_shifts + len(found) - len(wanted)) // 2
    return Edits(n_edits - n_shifts, n_shifts - put_in, put_in, len(wanted))


def word_errors(found: Sequence[str], wanted: Sequence[str], *, bare: bool = False) -> Metric:
    """The word error rate: words substituted, left out and put in, for each word that was said; 0 is best, no end to it.

    White space divides words. `bare` leaves case and punctuation out. Raises DataError for unequal or empty lists.
    """
    name = "bare WER" if bare else "WER"
    return error_rate(name, found, wanted, lambda text: (stripped(text) if bare else text).split(), "words", bare)


def character_errors(found: Sequence[str], wanted: Sequence[str], *, bare: bool = False) -> Metric:
    """The same of characters, spaces included, several counting as one."""
    name = "bare CER" if bare else "CER"
    return error_rate(
        name, found, wanted, lambda text: list(" ".join((stripped(text) if bare else text).split())), "characters", bare
    )


def error_rate(
    name: str,
    found: Sequence[str],
    wanted: Sequence[str],
    pieces: Callable[[str], Sequence[str]],
    noun: str,
    bare: bool,
) -> Metric:
    """Errors for each piece of what was wanted, from four counts of each utterance."""
    check_same_examples(found, wanted, "transcripts")
    counts = [edits(pieces(said), pieces(right)) for said, right in zip(found, wanted, strict=True)]
    table = np.array(counts, np.float64)
    substituted, left_out, put_in, of = table.sum(axis=0).astype(int).tolist()
    detail = f"{substituted:,} substituted, {left_out:,} left out, {put_in:,} put in, of {of:,} {noun}"
    signature = "case and punctuation left out" if bare else "as written"
    return Metric(name, table, rate, signature=signature, detail=detail, higher_is_better=False)


def rate(summed: NDArray[np.float64]) -> float:
    """Errors for each piece; where nothing was said, every piece that was put in is one."""
    substituted, left_out, put_in, of = summed.tolist()
    return (substituted + left_out + put_in) / max(of, 1.0)


def stripped(text: str) -> str:
    """A text in lower case without punctuation, apostrophes inside words kept."""
    folded = unicodedata.normalize("NFC", text).casefold().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    words = "".join(" " if unicodedata.category(letter)[0] in "PS" and letter != "'" else letter for letter in folded)
    return " ".join(bared for word in words.split() if (bared := word.strip("'")))
