"""Reading utterances to check them: what there is in all, in sentences, and the findings of every check."""

# T vectors of a sequence, F numbers in each

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from glassformer.data.findings import Finding
from glassformer.data.json_values import listed
from glassformer.data.utterances.checks import SOUND_ONLY, SPOKEN_CHECKS, Room, as_findings
from glassformer.data.utterances.corpus import UtteranceCorpus
from glassformer.data.utterances.hearing import Heard, hear
from glassformer.data.utterances.reading import read_utterances
from glassformer.data.utterances.splitting import split_utterances

if TYPE_CHECKING:
    from glassformer.tokenizers import Tokenizer

MOST_CHARACTERS = 80  # of the alphabet of all texts, that a note shows

Sources = str | Path | Sequence[str | Path]


def check_utterances(
    sources: Sources,
    task: str,
    *,
    is_held_out: Callable[[str], bool],
    validation: Sources | None = None,
    hold_back: str | None = None,
    tokenizer: Tokenizer | None = None,
    encoding: str | None = None,
    replace: Mapping[str, str] | None = None,
    keys: Mapping[str, str],
) -> tuple[int, list[str], dict[str, list[Finding]]]:
    """The number of rows, sentences about them, and by kind what may be wrong. All sound is read once.

    Raises DataError where nothing can be read at all, and what `read_utterances` and `split_utterances` raise.
    """
    label = task == "classify_vectors"
    corpora: list[UtteranceCorpus] = []
    for source in (sources, validation):
        if source is not None:
            wanted = "label" if label else "text"
            corpora.append(
                read_utterances(
                    source,
                    wanted=wanted,
                    path_key=keys.get("path_key"),
                    text_key=keys.get("text_key"),
                    label_key=keys.get("label_key"),
                    name_pattern=keys.get("name_pattern"),
                    replace=replace,
                    encoding=encoding,
                )
            )
    held = {id(row) for row in corpora[1].rows} if len(corpora) > 1 else set[int]()
    notes = [note for corpus in corpora for note in corpus.notes]
    if hold_back is not None:
        split = split_utterances(corpora[0], validation=corpora[1] if len(corpora) > 1 else None, hold_back=hold_back)
        held |= {id(row) for row in split.held_out}
        notes.append(split.note)
    rows = [row for corpus in corpora for row in corpus.rows]
    heard = [hear(row, id(row) in held or is_held_out(row.where)) for row in rows]
    room = Room(heard, corpora[0].kind, tokenizer)
    notes += sentences_of(room, label=label)
    skipped = [row for corpus in corpora for row in corpus.skipped]
    found = {"unusable row": [Finding("unusable row", row.where, row.reason, "") for row in skipped]}
    for kind, check in SPOKEN_CHECKS[task].items():
        if room.kind == "sound" or kind not in SOUND_ONLY:
            found[kind] = as_findings(kind, check(room))
    return len(rows), notes, found


def sentences_of(room: Room, *, label: bool) -> list[str]:
    """How long, how loud, at which rates and in which characters it all is."""
    if not room.heard:
        return []
    notes = [lengths_in_words(room)]
    if room.kind == "sound":
        rates = Counter(one.rate for one in room.heard).most_common()
        notes.append("samples a second: " + ", ".join(f"{rate:,} ({n:,})" for rate, n in rates[:6]))
        levels = np.array([max(one.level, -120.0) for one in room.heard])
        notes.append(f"level: median {np.median(levels):.0f} dBFS, from {levels.min():.0f} to {levels.max():.0f}")
    else:
        notes += channels_in_words(room.heard)
    if not label:
        characters = "".join(sorted(set("".join(one.row.text for one in room.all))))
        more = "…" if len(characters) > MOST_CHARACTERS else ""
        notes.append(f"{len(characters):,} different characters: {characters[:MOST_CHARACTERS]!r}{more}")
    both = {one.row.speaker for one in room.all if one.held_out} & {
        one.row.speaker for one in room.all if not one.held_out
    }
    if both - {""}:
        notes.append(f"speakers on both sides: {listed(sorted(both - {''}))}; new voices are not measured")
    return notes


def lengths_in_words(room: Room) -> str:
    """The total, both ends and the tails of all lengths."""
    by_length = sorted(room.heard, key=lambda one: one.length)
    lengths = np.array([one.length for one in by_length])
    low, middle, high = np.quantile(lengths, [0.01, 0.5, 0.99])
    shortest, longest = by_length[0].row.where, by_length[-1].row.where
    if room.kind == "sound":
        ends = f"from {lengths[0]:.2f} s ({shortest}) to {lengths[-1]:.2f} s ({longest})"
        return f"{duration(lengths.sum())} of sound: {ends}, median {middle:.2f} s, 98 % from {low:.2f} to {high:.2f} s"
    ends = f"from {lengths[0]:,.0f} ({shortest}) to {lengths[-1]:,.0f} ({longest})"
    return f"{lengths.sum():,.0f} vectors: {ends}, median {middle:,.0f}, 98 % from {low:,.0f} to {high:,.0f}"


def duration(seconds: float) -> str:
    """A time in the unit that suits it."""
    if seconds < 120:
        return f"{seconds:.1f} seconds"
    return f"{seconds / 60:.1f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"


def channels_in_words(heard: Sequence[Heard]) -> list[str]:
    """The range of the numbers, and which of a vector's numbers never change or are of quite another size."""
    tables = [one.channels for one in heard if one.channels is not None]
    least = np.min([table[0] for table in tables], axis=0)  # F
    greatest = np.max([table[1] for table in tables], axis=0)
    n_vectors = sum(one.length for one in heard)
    means = np.sum([table[2] for table in tables], axis=0) / n_vectors
    spreads = np.sqrt(np.maximum(np.sum([table[3] for table in tables], axis=0) / n_vectors - means**2, 0))
    notes = [f"numbers from {least.min():.4g} to {greatest.max():.4g}"]
    constant = [str(channel + 1) for channel in np.flatnonzero(least == greatest)]
    if constant:
        notes.append(f"numbers of a vector that never change: {', '.join(constant[:12])}; leave them out")
    moving = spreads[least != greatest]
    if len(moving) > 1 and moving.max() > 100 * moving.min():
        sizes = f"standard deviations from {moving.min():.3g} to {moving.max():.3g}"
        notes.append(f"the numbers of a vector differ much in size ({sizes}); normalise them")
    return notes
