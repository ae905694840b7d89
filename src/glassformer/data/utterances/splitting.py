"""Which utterances are trained on and which are held back: whole speakers where there are enough, or by what is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from glassformer.data.documents import counted
from glassformer.data.json_values import listed
from glassformer.data.splitting import (
    FEWEST_TO_HASH,
    held_back,
    held_back_evenly,
    note_on_given,
    refuse_fraction,
    throw,
    two_sides,
)
from glassformer.data.utterances.corpus import Utterance, UtteranceCorpus, identity
from glassformer.errors import ConfigError, DataError, nearest

FEWEST_SPEAKERS = 5  # with fewer, holding one back would take too much of what there is to learn from
AN_EXAMPLE = "'speaker=theo' or 'take=0,1,2'"


class UtteranceSplit(NamedTuple):
    """Two sides that share no utterance. `note` says in one sentence how they were made."""

    train: tuple[Utterance, ...]
    held_out: tuple[Utterance, ...]
    note: str


def split_utterances(
    corpus: UtteranceCorpus,
    fraction: float = 0.1,
    *,
    validation: UtteranceCorpus | None = None,
    hold_back: str | None = None,
) -> UtteranceSplit:
    """Hold back about `fraction` of the utterances, or take `validation` as it is given, or what `hold_back` names.

    ``hold_back="take=0,1,2"`` holds back the rows whose field has one of these values. Without it, where all speakers
    are known and there are enough of them, whole speakers are held back, so that none is on both sides; else single
    recordings, of each label alike where labels were read. What is held back follows from names alone, not from the
    order of rows or from where they lie.

    Raises ConfigError for a fraction outside (0, 1), for both `validation` and `hold_back`, and for fields and values
    that no row has; DataError where a side would be empty.
    """
    rows = corpus.rows
    if hold_back is not None:
        if validation is not None:
            raise ConfigError(f"hold_back={hold_back!r} and validation data were both given; leave out one of them")
        return split_by_field(rows, hold_back)
    if validation is not None:
        return split_as_given(corpus, validation)
    refuse_fraction(fraction)
    by_speaker, why_not = speakers_to_hold(corpus, fraction)
    if by_speaker:
        train, held = two_sides(rows, [row.speaker for row in rows], by_speaker)
        names = ", ".join(sorted(by_speaker)[:8]) + (", …" if len(by_speaker) > 8 else "")
        amount = f"{len(held):,} of {counted(len(rows), 'utterance')} held back for validation"
        n_others = len({row.speaker for row in train})
        whose = f"all of {counted(len(by_speaker), 'speaker')} ({names})"
        return UtteranceSplit(train, held, f"{amount}: {whose}; the other {n_others:,} are trained on")
    return split_by_recording(corpus, fraction, why_not)


def split_as_given(corpus: UtteranceCorpus, validation: UtteranceCorpus) -> UtteranceSplit:
    """Keep the user's validation rows whole; the same stretches of the same files leave the training rows."""
    if corpus.kind != validation.kind or corpus.channels != validation.channels:
        kinds = " and ".join(
            f"vectors of {side.channels} numbers" if side.channels else side.kind for side in (corpus, validation)
        )
        raise DataError(f"training and validation are of different kinds: {kinds}; name data of one kind")
    keys = [repr(identity(row)) for row in corpus.rows]
    train, _ = two_sides(corpus.rows, keys, {repr(identity(row)) for row in validation.rows})
    note = note_on_given("utterance", len(keys), len(train), len(validation.rows))
    shared = {row.speaker for row in train if row.speaker} & {row.speaker for row in validation.rows}
    if shared:
        note += f"; {counted(len(shared), 'speaker')} on both sides, so it measures no new voices"
    return UtteranceSplit(train, validation.rows, note)


# --- by what is told --------------------------------------------------------------------------------------------------


def split_by_field(rows: Sequence[Utterance], hold_back: str) -> UtteranceSplit:
    """Hold back the rows whose field has one of the values. Raises ConfigError naming the fields and values there are."""
    field, equals, told = hold_back.partition("=")
    field, values = field.strip(), {value.strip() for value in told.split(",") if value.strip()}
    if not equals or not field or not values:
        raise ConfigError(f"hold_back={hold_back!r}, expected a field and its values, for example {AN_EXAMPLE}")
    found = [row.value_of(field) for row in rows]
    known = Counter(value for value in found if value is not None)
    if not known:
        fields = {name for row in rows for name in row.fields} | {"text"}
        fields |= {"speaker"} if any(row.speaker for row in rows) else set()
        raise ConfigError(f"hold_back={hold_back!r}: no utterance has a field {field!r}{nearest(field, fields)}")
    unknown = sorted(values - known.keys())
    if unknown:
        shown = listed(sorted(known))
        raise ConfigError(f"hold_back={hold_back!r}: no utterance has {field}={unknown[0]}; there are {shown}")
    train = tuple(row for row, value in zip(rows, found, strict=True) if value not in values)
    held = tuple(row for row, value in zip(rows, found, strict=True) if value in values)
    if not train:
        raise DataError(f"hold_back={hold_back!r} holds back every utterance; leave some to train on")
    note = f"{len(held):,} of {counted(len(rows), 'utterance')} held back for validation: those with {field}="
    return UtteranceSplit(train, held, note + ",".join(sorted(values)))


# --- by speaker -------------------------------------------------------------------------------------------------------


def speakers_to_hold(corpus: UtteranceCorpus, fraction: float) -> tuple[set[str], str]:
    """The speakers to hold back, by hash, with about `fraction` of the rows; none, and a clause why, where that fails."""
    counts = Counter(row.speaker for row in corpus.rows)
    if counts[""] == len(corpus.rows):
        return set(), ""
    if counts[""]:
        return set(), f"as the speaker of {counts['']:,} is not known"
    if len(counts) < FEWEST_SPEAKERS:
        return set(), f"as {counted(len(counts), 'speaker')} are too few to hold one back"
    most = 2 * fraction * len(corpus.rows)
    held: set[str] = set()
    n_held = 0
    for speaker in sorted(counts, key=lambda name: throw(name, seed=0)):
        if n_held >= fraction * len(corpus.rows):
            break
        if n_held + counts[speaker] <= most:
            held.add(speaker)
            n_held += counts[speaker]
    if n_held < fraction / 2 * len(corpus.rows) or len(held) == len(counts):
        return set(), f"as no speakers make up about {fraction:.0%}"
    if corpus.wanted == "label":
        trained = {row.text for row in corpus.rows if row.speaker not in held}
        if any(row.text not in trained for row in corpus.rows):
            return set(), "as some labels have one speaker only"
    return held, ""


# --- by recording -----------------------------------------------------------------------------------------------------


def split_by_recording(corpus: UtteranceCorpus, fraction: float, why: str) -> UtteranceSplit:
    """Hold back single recordings by the hash of their names; stretches of one file stay together where files suffice."""
    rows = corpus.rows
    by_file = corpus.kind == "sound" and len(corpus.files) >= FEWEST_TO_HASH
    keys = [name_of(row, whole=by_file) for row in rows]
    if corpus.wanted == "label":
        held = held_back_evenly(dict(zip(keys, (row.text for row in rows), strict=True)), fraction, "recording")
    else:
        held = held_back(keys, fraction, "recording")
    train, held_out = two_sides(rows, keys, held)
    amount = f"{len(held_out):,} of {counted(len(rows), 'utterance')} held back for validation"
    how = ", of each label alike" if corpus.wanted == "label" else ""
    speakers = {row.speaker for row in train if row.speaker} & {row.speaker for row in held_out}
    both = f"; {counted(len(speakers), 'speaker')} on both sides, {why}" if speakers and why else ""
    return UtteranceSplit(train, held_out, f"{amount}{how}, chosen by hash of their names{both}")


def name_of(row: Utterance, *, whole: bool) -> str:
    """What a recording is called wherever its folder lies: the file, its folder, and unless `whole` the part of it."""
    name = "/".join(row.path.parts[-2:])
    return name if whole else f"{name}|{row.part}|{row.offset}|{row.duration}"
