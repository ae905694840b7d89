"""What is held back of utterances: whole speakers, by a field, as given; nothing on both sides, nothing by order or place."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glassformer.data import Utterance, UtteranceCorpus, UtteranceSplit, split_utterances
from glassformer.data.utterances.corpus import identity
from glassformer.errors import ConfigError, DataError


def corpus_of(n_speakers: int, n_takes: int, **about: Any) -> UtteranceCorpus:
    rows = [
        Utterance("m.csv", Path(f"x/{s}_{t}.wav"), f"text {t % 3}", f"s{s}", fields={"take": str(t)})
        for s in range(n_speakers)
        for t in range(n_takes)
    ]
    return UtteranceCorpus(tuple(rows), **about)


def sides(found: UtteranceSplit) -> tuple[set[str], set[str]]:
    train, held = ({str(row.path) for row in side} for side in found[:2])
    assert not train & held
    return train, held


@given(n_speakers=st.integers(1, 14), n_takes=st.integers(1, 6), wanted=st.sampled_from(["text", "label"]))
def test_the_sides_share_nothing_and_lose_nothing_whatever_the_order(n_speakers: int, n_takes: int, wanted: Any):
    corpus = corpus_of(n_speakers, n_takes, wanted=wanted)
    try:
        found = split_utterances(corpus, 0.2)
    except DataError:
        assert len(corpus.rows) < 2 or wanted == "label"
        return
    train, held = sides(found)
    assert train
    assert held
    assert len(train) + len(held) == len(corpus.rows)
    rows = list(corpus.rows)
    random.Random(1).shuffle(rows)
    assert sides(split_utterances(UtteranceCorpus(tuple(rows), wanted=wanted), 0.2)) == (train, held)
    if "the other" in found.note:
        assert not {row.speaker for row in found.train} & {row.speaker for row in found.held_out}
    if wanted == "label":
        assert {row.text for row in found.held_out} <= {row.text for row in found.train}


def test_whole_speakers_where_there_are_enough():
    found = split_utterances(corpus_of(20, 5), 0.1)
    held = {row.speaker for row in found.held_out}
    assert len(held) == 2
    assert found.note == (
        f"10 of 100 utterances held back for validation: all of 2 speakers ({', '.join(sorted(held))}); "
        "the other 18 are trained on"
    )
    few = split_utterances(corpus_of(3, 40), 0.1)
    assert "3 speakers on both sides, as 3 speakers are too few to hold one back" in few.note
    assert 6 <= len(few.held_out) <= 24
    lopsided = UtteranceCorpus((*corpus_of(1, 90).rows, *corpus_of(5, 1).rows[1:]))
    assert {row.speaker for row in split_utterances(lopsided, 0.1).held_out} <= {"s0", "s1", "s2", "s3", "s4"}
    unknown = UtteranceCorpus((*corpus_of(6, 9).rows, Utterance("m", Path("x/z.wav"), "t")))
    assert "as the speaker of 1 is not known" in split_utterances(unknown, 0.1).note


def test_a_label_that_one_speaker_alone_says_is_trained_on():
    rows = [Utterance("m", Path(f"{s}/{t}.wav"), f"label {s}", f"s{s}") for s in range(10) for t in range(4)]
    found = split_utterances(UtteranceCorpus(tuple(rows), wanted="label"), 0.2)
    assert {row.text for row in found.train} == {f"label {s}" for s in range(10)}
    assert "as some labels have one speaker only" in found.note


def test_by_a_field():
    found = split_utterances(corpus_of(2, 10), hold_back="take=0, 1,2")
    assert {row.fields["take"] for row in found.held_out} == {"0", "1", "2"}
    assert found.note == "6 of 20 utterances held back for validation: those with take=0,1,2"
    assert {row.speaker for row in split_utterances(corpus_of(2, 10), hold_back="speaker=s1").held_out} == {"s1"}
    assert {row.text for row in split_utterances(corpus_of(2, 10), hold_back="text=text 1").held_out} == {"text 1"}


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ("take", ConfigError, "expected a field and its values"),
        ("take=", ConfigError, "expected a field and its values"),
        ("taek=1", ConfigError, r"no utterance has a field 'taek' \(did you mean 'take'\?\)"),
        ("index=1", ConfigError, r"\(known: speaker, take, text\)"),
        ("take=1,77", ConfigError, "no utterance has take=77; there are '0', '1', '2'"),
        ("speaker=s0,s1", DataError, "holds back every utterance"),
    ],
)
def test_fields_and_values_that_there_are_not(asked: str, error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        split_utterances(corpus_of(2, 3), hold_back=asked)


def test_as_given():
    corpus = corpus_of(3, 4)
    given_rows = UtteranceCorpus((*corpus.rows[:2], Utterance("v", Path("y/new.wav"), "text", "s9")))
    found = split_utterances(corpus, validation=given_rows)
    assert found.held_out == given_rows.rows
    assert {identity(row) for row in found.train} == {identity(row) for row in corpus.rows[2:]}
    assert "2 training utterances found in it left out of training; 1 speaker on both sides" in found.note
    with pytest.raises(ConfigError, match="both given"):
        split_utterances(corpus, validation=given_rows, hold_back="take=1")
    with pytest.raises(DataError, match="of different kinds: sound and vectors of 3 numbers"):
        split_utterances(corpus, validation=corpus_of(1, 2, kind="vectors", channels=3))


def test_stretches_of_one_recording_stay_together():
    rows = [
        Utterance("m", Path(f"talk{file}.wav"), f"{file} {n}", offset=float(n), duration=1.0)
        for file in range(30)
        for n in range(4)
    ]
    found = split_utterances(UtteranceCorpus(tuple(rows)), 0.1)
    assert not {row.path for row in found.train} & {row.path for row in found.held_out}
    few = split_utterances(UtteranceCorpus(tuple(rows[:8])), 0.25)
    assert len(few.held_out) == 2


@pytest.mark.parametrize("fraction", [0.0, 1.0, -1.0])
def test_fractions_that_are_none(fraction: float):
    with pytest.raises(ConfigError, match="validation fraction"):
        split_utterances(corpus_of(2, 3), fraction)
