"""What may be wrong with utterances: sound that is broken, silent, clipped or twice there, texts that do not fit it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from glassformer.data.documents import counted
from glassformer.data.findings import Example, Finding, damaged, shown
from glassformer.data.json_values import listed
from glassformer.data.suspects import DEVIATIONS_OF_NORMAL, FEWEST_TO_JUDGE, LEAST_FACTOR, SPREADS
from glassformer.data.utterances.corpus import Kind
from glassformer.data.utterances.hearing import Heard

if TYPE_CHECKING:
    from glassformer.tokenizers import Tokenizer

SHORTEST = 0.05  # seconds; two windows of 25 ms, less than any word
CLIPPED = 0.001  # share of the samples, from which on it is heard
SILENT = -60.0  # dBFS of the loudest sample
QUIET = -50.0  # dBFS; speech that is well recorded lies between -35 and -15
LONGEST_SILENCE = 1.0  # seconds before the first word or behind the last
MOST_SILENT = 0.7  # share of an utterance of some seconds
CUT = 0.1  # seconds by which a row may end before its file does, for rounding
FASTEST = 40.0  # characters a second; the fastest speakers of an alphabet reach 25, letters of other scripts hold more
FEWEST_TO_TIME = 10  # characters; a single short word may be said in no time
OWN_NOTES = ("are clipped", "is silent throughout")  # of reading, said here in other findings

Found = Iterator[tuple[Heard, str]]  # an utterance, and in a clause what is wrong and what to do


@dataclass(frozen=True)
class Room:
    """All utterances that are checked together, those that could be read, and what they are held against."""

    all: Sequence[Heard]
    kind: Kind
    tokenizer: Tokenizer | None = None

    @property
    def heard(self) -> list[Heard]:
        """Those that could be read."""
        return [one for one in self.all if not one.problem]


Check = Callable[[Room], Found]


# --- of sound and of vectors ------------------------------------------------------------------------------------------


def unreadable(room: Room) -> Found:
    """Files that are broken, or hold nothing."""
    for one in room.all:
        if one.problem:
            yield one, one.problem


def duplicates(room: Room) -> Found:
    """The same content with the same text as an earlier one of its side."""
    first: dict[tuple[bytes, str, bool], str] = {}
    for one in room.heard:
        earlier = first.setdefault((one.digest, one.row.text, one.held_out), one.row.where)
        if earlier != one.row.where:
            yield one, f"the same {room.kind} and text as {earlier}; leave one of them out"


def contradictions(room: Room) -> Found:
    """The same content as an earlier one with another text."""
    first: dict[bytes, Heard] = {}
    for one in room.heard:
        earlier = first.setdefault(one.digest, one)
        if one.row.text != earlier.row.text:
            yield one, f"{earlier.row.where} has {shown(earlier.row.text)} for the same {room.kind}; mend one of them"


def leaks(room: Room) -> Found:
    """Content to measure with that is also trained on."""
    trained = {one.digest: one.row.where for one in reversed(room.heard) if not one.held_out}
    for one in room.heard:
        if one.held_out and one.digest in trained:
            yield one, f"the same {room.kind} is trained on at {trained[one.digest]}; take it out of one side"


def odd_lengths(room: Room) -> Found:
    """Those that are much longer or shorter than most."""
    heard = room.heard  # all of them anew each time
    lengths = np.array([one.length for one in heard])
    usual = in_unit(float(np.median(lengths)), room.kind) if heard else ""
    for row, longer in outliers(lengths):
        one = heard[row]
        how = "longer" if longer else "shorter"
        yield one, f"{in_unit(one.length, room.kind)}, much {how} than usual ({usual}); see whether it was cut rightly"


def outliers(values: np.ndarray) -> list[tuple[int, bool]]:
    """The places of positive numbers far from the median, as factors go, and whether they are greater."""
    if len(values) < FEWEST_TO_JUDGE:
        return []
    logs = np.log(values)
    distance = logs - np.median(logs)
    spread = DEVIATIONS_OF_NORMAL * np.median(np.abs(distance))
    odd = np.flatnonzero(np.abs(distance) > max(SPREADS * spread, np.log(LEAST_FACTOR)))
    return [(row, bool(distance[row] > 0)) for row in odd.tolist()]


def in_unit(length: float, kind: Kind) -> str:
    """A length in words."""
    return f"{length:.2f} s" if kind == "sound" else counted(round(length), "vector")


def damaged_texts(room: Room) -> Found:
    """Texts with characters that a wrong decoding left behind."""
    by_where = {one.row.where: one for one in room.all}
    for example, what in damaged([Example(one.row.text, "", one.row.where, one.held_out) for one in room.all]):
        yield by_where[example.where], f"{what}; name the encoding of the file with --encoding"


def unknown_characters(room: Room) -> Found:
    """Texts with characters, or words, that a tokenizer has no token for."""
    if room.tokenizer is None or room.tokenizer.unk_id is None:
        return
    known: dict[str, bool] = {}

    def is_known(piece: str) -> bool:
        assert room.tokenizer is not None
        if piece not in known:
            known[piece] = room.tokenizer.unk_id not in room.tokenizer.encode(piece)
        return known[piece]

    for one in room.all:
        if not is_known(one.row.text):
            pieces = dict.fromkeys(character for character in one.row.text if not is_known(character))
            pieces = pieces or dict.fromkeys(word for word in one.row.text.split() if not is_known(word))
            yield one, f"the tokenizer does not know {listed(pieces)}; write it otherwise, or train a tokenizer on it"


# --- of sound ---------------------------------------------------------------------------------------------------------


def too_short(room: Room) -> Found:
    """Sounds in which there is no room for a word."""
    for one in room.heard:
        if one.length < SHORTEST:
            yield one, f"{1000 * one.length:.0f} ms of sound, in which nothing can be said; leave it out"


def damaged_sound(room: Room) -> Found:
    """Sounds of which reading had something to say: cut short, beyond full scale, no numbers."""
    for one in room.heard:
        for note in one.notes:
            if not note.endswith(OWN_NOTES):
                yield one, f"{note.removeprefix(f'{one.row.path}: ')}; save the file again, or leave it out"


def wrong_durations(room: Room) -> Found:
    """Rows that end well before their file does though they begin where it begins."""
    for one in room.heard:
        duration, whole = one.row.duration, one.file_seconds
        if duration is None or whole is None or one.row.offset:
            continue
        if whole - duration > max(CUT, 0.05 * whole):
            yield (
                one,
                f"the row says {duration:.2f} s and the file lasts {whole:.2f} s, so the rest is not read; mend it",
            )


def silent(room: Room) -> Found:
    """Sounds in which nothing is to be heard."""
    for one in room.heard:
        if one.peak < SILENT:
            yield one, "silent throughout; leave it out"


def quiet(room: Room) -> Found:
    """Sounds that are much too quiet, but not silent."""
    for one in room.heard:
        if one.peak >= SILENT and one.level < QUIET:
            yield one, f"a level of {one.level:.0f} dBFS; record it louder, noise is amplified with it"


def clipped(room: Room) -> Found:
    """Sounds that were recorded too loud."""
    for one in room.heard:
        if one.clipped > CLIPPED:
            yield one, f"{one.clipped:.1%} of its samples are clipped; record it again at a lower level"


def long_silences(room: Room) -> Found:
    """Sounds with much silence around what is said, or in it."""
    for one in room.heard:
        if one.peak < SILENT:
            continue
        around = max(one.silent_start, one.silent_end)
        if around > LONGEST_SILENCE or (one.silent > LONGEST_SILENCE and one.silent > MOST_SILENT * one.length):
            where = f"{one.silent_start:.1f} s at its beginning, {one.silent_end:.1f} s at its end"
            yield (
                one,
                f"{one.silent:.1f} of {one.length:.1f} s are silent ({where}); trim it, or train with features.trim_db",
            )


def other_rates(room: Room) -> Found:
    """Sounds with another sampling rate than most."""
    rates = Counter(one.rate for one in room.heard)
    if len(rates) > 1:
        usual = rates.most_common(1)[0][0]
        for one in room.heard:
            if one.rate != usual:
                lacks = ", so it lacks the high sounds that the others have" if one.rate < usual else ""
                yield one, f"{one.rate:,} samples a second, most have {usual:,}{lacks}; all are brought to one rate"


def odd_paces(room: Room) -> Found:
    """Texts that cannot have been said in the time, or take much longer or shorter than usual."""
    timed = [one for one in room.heard if len(one.row.text) >= FEWEST_TO_TIME]
    told: set[str] = set()
    for one in timed:
        said = max(one.length - one.silent_start - one.silent_end, 1e-3)
        if len(one.row.text) > FASTEST * said:
            told.add(one.row.where)
            time = f"{len(one.row.text):,} characters in {said:.2f} s of sound"
            yield one, f"{time}, more than can be said; see whether the text belongs to it"
    paces = np.array([len(one.row.text) / max(one.length, 1e-3) for one in timed])
    usual = float(np.median(paces)) if timed else 0.0
    for row, faster in outliers(paces):
        if timed[row].row.where not in told:
            pace = float(paces[row])
            how = "more" if faster else "fewer"
            number = f"{pace:.1f} characters a second, far {how} than usual ({usual:.1f})"
            yield timed[row], f"{number}; see whether the text belongs to it"


# --- of labels --------------------------------------------------------------------------------------------------------


def lonely_labels(room: Room) -> Found:
    """Labels that no other row has, and labels to measure with that are not trained on."""
    counts = Counter(one.row.text for one in room.all)
    trained = {one.row.text for one in room.all if not one.held_out}
    for one in room.all:
        if one.held_out and trained and one.row.text not in trained:
            yield one, f"no training row is labelled {shown(one.row.text)}; add some, or leave it out"
        elif counts[one.row.text] == 1:
            yield one, f"no other row is labelled {shown(one.row.text)}; add some, or leave it out"


def as_findings(kind: str, found: Found) -> list[Finding]:
    """What a check found, with its name."""
    return [Finding(kind, one.row.where, what, shown(one.row.text)) for one, what in found]


OF_ALL: dict[str, Check] = {
    "unreadable": unreadable,
    "duplicate": duplicates,
    "several texts": contradictions,
    "leak": leaks,
    "odd length": odd_lengths,
}
OF_SOUND: dict[str, Check] = {
    "damaged sound": damaged_sound,
    "too short": too_short,
    "wrong duration": wrong_durations,
    "silent": silent,
    "quiet": quiet,
    "clipped": clipped,
    "long silence": long_silences,
    "other rate": other_rates,
}
OF_TEXTS: dict[str, Check] = {"damaged text": damaged_texts, "unknown character": unknown_characters}
SPOKEN_CHECKS: dict[str, dict[str, Check]] = {  # of each task: kind of finding, how it is found
    "transcribe": {**OF_ALL, **OF_SOUND, **OF_TEXTS, "odd pace": odd_paces},
    "classify_vectors": {**OF_ALL, **OF_SOUND, "lonely label": lonely_labels},
}
SOUND_ONLY = frozenset({*OF_SOUND, "odd pace"})  # kinds of findings that vectors do not have
