"""Numbers and dates in words, held against words written by hand and against grammar."""

from __future__ import annotations

import datetime
import re

import pytest

from glassformer.data import BUILT_IN_PAIRS
from glassformer.data.number_words import (
    english_date,
    english_number,
    english_ordinal,
    spanish_date,
    spanish_number,
)


@pytest.mark.parametrize(
    ("number", "english", "spanish"),
    [
        (0, "zero", "cero"),
        (1, "one", "uno"),
        (16, "sixteen", "dieciséis"),
        (21, "twenty-one", "veintiuno"),
        (26, "twenty-six", "veintiséis"),
        (31, "thirty-one", "treinta y uno"),
        (40, "forty", "cuarenta"),
        (100, "one hundred", "cien"),
        (101, "one hundred and one", "ciento uno"),
        (555, "five hundred and fifty-five", "quinientos cincuenta y cinco"),
        (700, "seven hundred", "setecientos"),
        (999, "nine hundred and ninety-nine", "novecientos noventa y nueve"),
        (1000, "one thousand", "mil"),
        (1001, "one thousand and one", "mil uno"),
        (1100, "one thousand one hundred", "mil cien"),
        (2021, "two thousand and twenty-one", "dos mil veintiuno"),
        (21_000, "twenty-one thousand", "veintiún mil"),
        (31_021, "thirty-one thousand and twenty-one", "treinta y un mil veintiuno"),
        (100_000, "one hundred thousand", "cien mil"),
        (101_100, "one hundred and one thousand one hundred", "ciento un mil cien"),
        (121_000, "one hundred and twenty-one thousand", "ciento veintiún mil"),
        (
            999_999,
            "nine hundred and ninety-nine thousand nine hundred and ninety-nine",
            "novecientos noventa y nueve mil novecientos noventa y nueve",
        ),
    ],
)
def test_numbers(number: int, english: str, spanish: str):
    assert english_number(number) == english
    assert spanish_number(number) == spanish


@pytest.mark.parametrize(
    ("day", "english", "spanish"),
    [
        ((1998, 5, 3), "the third of May nineteen ninety-eight", "el tres de mayo de mil novecientos noventa y ocho"),
        ((2000, 1, 1), "the first of January two thousand", "el primero de enero de dos mil"),
        (
            (2005, 9, 21),
            "the twenty-first of September two thousand and five",
            "el veintiuno de septiembre de dos mil cinco",
        ),
        (
            (2031, 8, 31),
            "the thirty-first of August twenty thirty-one",
            "el treinta y uno de agosto de dos mil treinta y uno",
        ),
        ((1900, 2, 20), "the twentieth of February nineteen hundred", "el veinte de febrero de mil novecientos"),
        ((1105, 12, 12), "the twelfth of December eleven oh five", "el doce de diciembre de mil ciento cinco"),
    ],
)
def test_dates(day: tuple[int, int, int], english: str, spanish: str):
    assert english_date(datetime.date(*day)) == english
    assert spanish_date(datetime.date(*day)) == spanish


def test_ordinals():
    assert [english_ordinal(day) for day in (2, 3, 5, 8, 9, 11, 22, 30)] == (
        ["second", "third", "fifth", "eighth", "ninth", "eleventh", "twenty-second", "thirtieth"]
    )


def test_every_pair_is_another_on_both_sides():
    numbers = range(1_000_000)
    assert len({english_number(number) for number in numbers[::7]}) == len(numbers[::7])
    pairs = BUILT_IN_PAIRS["translate"]().pairs
    assert len(pairs) == len({pair.source for pair in pairs}) == len({pair.target for pair in pairs}) == 20_000
    assert pairs == BUILT_IN_PAIRS["translate"]().pairs
    assert (pairs[21].source, pairs[21].target) == ("twenty-one", "veintiuno")


def test_no_spanish_number_breaks_the_rules_that_learners_break():
    wrong = re.compile(r"^un mil|uno mil|veintiun |ciento mil|cien [^m]|ientos y |  ")
    targets = [pair.target for pair in BUILT_IN_PAIRS["translate"]().pairs]
    assert [target for target in targets if wrong.search(target)] == []
    assert sum("veintiún mil" in target for target in targets) > 50
