"""Word and character errors: by hand, against the definition, and against jiwer."""

from __future__ import annotations

import functools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glassformer.errors import DataError
from glassformer.evaluate import character_errors, confidence_interval, paired_test, word_errors
from glassformer.evaluate.transcription import Edits, edits, stripped

words = st.lists(st.sampled_from(["a", "b", "on", "off"]), max_size=7)


def distance(found: tuple[str, ...], wanted: tuple[str, ...]) -> int:
    """The definition."""

    @functools.cache
    def of(i: int, j: int) -> int:
        if i == 0 or j == 0:
            return i + j
        return min(of(i - 1, j) + 1, of(i, j - 1) + 1, of(i - 1, j - 1) + (found[i - 1] != wanted[j - 1]))

    return of(len(found), len(wanted))


@pytest.mark.parametrize(
    ("found", "wanted", "counts"),
    [
        ("a b c", "a b c", (0, 0, 0, 3)),
        ("a x c", "a b c", (1, 0, 0, 3)),
        ("a c", "a b c", (0, 1, 0, 3)),
        ("a b b c", "a b c", (0, 0, 1, 3)),
        ("", "a b c", (0, 3, 0, 3)),
        ("a b", "", (0, 0, 2, 0)),
        ("", "", (0, 0, 0, 0)),
        ("b c d", "a b c", (0, 1, 1, 3)),
        ("x y", "a b", (2, 0, 0, 2)),
    ],
)
def test_changes_are_counted_by_kind(found, wanted, counts):
    assert edits(found.split(), wanted.split()) == Edits(*counts)


@given(words, words)
def test_the_changes_are_as_few_as_can_be_and_add_up(found, wanted):
    counted = edits(found, wanted)
    assert counted.substituted + counted.left_out + counted.put_in == distance(tuple(found), tuple(wanted))
    assert counted.put_in - counted.left_out == len(found) - len(wanted)
    assert min(counted) >= 0
    assert edits(wanted, found)[:3] == (counted.substituted, counted.put_in, counted.left_out)


@given(st.lists(st.tuples(words, words.filter(bool)), min_size=1, max_size=5))
def test_the_rates_are_those_of_jiwer(pairs):
    jiwer = pytest.importorskip("jiwer")
    found, wanted = ([" ".join(words) for words in side] for side in zip(*pairs, strict=True))
    assert word_errors(found, wanted).value == pytest.approx(jiwer.wer(wanted, found))
    assert character_errors(found, wanted).value == pytest.approx(jiwer.cer(wanted, found))


def test_a_rate_counts_words_not_utterances():
    score = word_errors(["a b c d", "x"], ["a b c d", "y"])
    assert (score.value, score.scores.tolist(), score.higher_is_better) == (0.2, [0.0, 1.0], False)
    assert score.detail == "1 substituted, 0 left out, 0 put in, of 5 words"


def test_white_space_is_no_error():
    assert word_errors([" a  b\n"], ["a b"]).value == character_errors([" a  b\n"], ["a b"]).value == 0.0


def test_bare_errors_leave_case_and_punctuation_out():
    found, wanted = (
        ["turn it on", "dont"],
        [
            "Turn it \N{LEFT DOUBLE QUOTATION MARK}on\N{RIGHT DOUBLE QUOTATION MARK}!",
            "don\N{RIGHT SINGLE QUOTATION MARK}t",
        ],
    )
    assert word_errors(found, wanted).value == 3 / 4
    assert word_errors(found, wanted, bare=True).value == 1 / 4
    assert stripped("'Tis well-known, don't you?  5 €") == "tis well known don't you 5"


def test_what_nobody_said_counts_for_each_word_that_is_put_in():
    assert word_errors(["a b"], [""]).value == 2.0
    assert word_errors([""], [""]).value == 0.0


def test_rates_are_resampled_and_compared():
    wanted = ["one two three"] * 20
    good = word_errors(["one two three"] * 19 + ["one two"], wanted)
    bad = word_errors(["one too three"] * 20, wanted)
    low, high = confidence_interval(good, 400)
    assert low == 0.0 < good.value < high
    assert paired_test(good, bad, 400).p_value < 0.01


def test_lists_of_different_lengths_are_refused():
    with pytest.raises(DataError, match="2 transcripts for 1 examples"):
        word_errors(["a", "b"], ["a"])
