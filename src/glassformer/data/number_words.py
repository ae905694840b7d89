"""Pairs that the project makes itself: numbers and dates in words, English and Spanish, for a translation without files."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Iterator

import numpy as np

from glassformer.data.documents import counted
from glassformer.data.examples import Pair, PairCorpus

N_NUMBERS, N_DATES = 12_000, 8_000
LARGEST = 999_999
FIRST_DAY, LAST_DAY = datetime.date(1100, 1, 1), datetime.date(2099, 12, 31)


def words(text: str) -> tuple[str, ...]:
    """A row of words as a tuple; "-" holds a place that is never asked for."""
    return tuple(text.split())


ENGLISH_UNITS = words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
ENGLISH_TENS = words("- - twenty thirty forty fifty sixty seventy eighty ninety")
ENGLISH_ORDINALS = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
    "twenty": "twentieth",
    "thirty": "thirtieth",
}
ENGLISH_MONTHS = words("- January February March April May June July August September October November December")
SPANISH_UNITS = words(
    "cero uno dos tres cuatro cinco seis siete ocho nueve diez once doce trece catorce quince dieciséis diecisiete "
    "dieciocho diecinueve veinte veintiuno veintidós veintitrés veinticuatro veinticinco veintiséis veintisiete "
    "veintiocho veintinueve"
)
SPANISH_TENS = words("- - - treinta cuarenta cincuenta sesenta setenta ochenta noventa")
SPANISH_HUNDREDS = words(
    "- ciento doscientos trescientos cuatrocientos quinientos seiscientos setecientos ochocientos novecientos"
)
SPANISH_MONTHS = words("- enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre")


def numbers_and_dates() -> PairCorpus:
    """About 20,000 pairs, always the same: numbers from 0 to 999,999, and dates from 1100 to 2099.

    "three hundred and five thousand and one" is "trescientos cinco mil uno"; "the third of May nineteen ninety-eight"
    is "el tres de mayo de mil novecientos noventa y ocho".
    """
    both = [(english_number(number), spanish_number(number)) for number in some_numbers()]
    both += [(english_date(day), spanish_date(day)) for day in some_dates()]
    pairs = tuple(Pair(*sides, f"demo:translate:{number}") for number, sides in enumerate(both, 1))
    note = f"numbers and dates in words, English to Spanish, {counted(len(pairs), 'pair')} that the program makes"
    return PairCorpus(pairs, notes=(note,))


def some_numbers() -> list[int]:
    """All below a thousand, all whole thousands, and others drawn from those between."""
    drawn = draws("numbers", 2 * N_NUMBERS, LARGEST + 1)
    return list(dict.fromkeys((*range(1000), *range(1000, LARGEST, 1000), *drawn)))[:N_NUMBERS]


def some_dates() -> list[datetime.date]:
    """Dates drawn from a thousand years, in no order."""
    n_days = (LAST_DAY - FIRST_DAY).days + 1
    drawn = dict.fromkeys(draws("dates", 2 * N_DATES, n_days))
    return [FIRST_DAY + datetime.timedelta(days=number) for number in drawn][:N_DATES]


def draws(purpose: str, n: int, below: int) -> Iterator[int]:
    """Numbers in [0, below) that are the same in every numpy, unlike those of its distributions."""
    key = int.from_bytes(hashlib.sha256(f"demo {purpose}".encode()).digest()[:16], "big")
    return (int(number) % below for number in np.random.Philox(key=key).random_raw(n))


def english_number(number: int) -> str:
    """A number below a million in words, with the British "and"."""
    thousands, rest = divmod(number, 1000)
    if not thousands:
        return english_below_thousand(rest)
    text = f"{english_below_thousand(thousands)} thousand"
    if not rest:
        return text
    return f"{text} {'and ' if rest < 100 else ''}{english_below_thousand(rest)}"


def english_below_thousand(number: int) -> str:
    """Hundreds, tens and units."""
    hundreds, rest = divmod(number, 100)
    if not hundreds:
        return english_below_hundred(rest)
    text = f"{ENGLISH_UNITS[hundreds]} hundred"
    return f"{text} and {english_below_hundred(rest)}" if rest else text


def english_below_hundred(number: int) -> str:
    """Tens and units, with a hyphen between them."""
    if number < 20:
        return ENGLISH_UNITS[number]
    tens, units = divmod(number, 10)
    return f"{ENGLISH_TENS[tens]}-{ENGLISH_UNITS[units]}" if units else ENGLISH_TENS[tens]


def english_ordinal(number: int) -> str:
    """The ordinal of a number below a hundred: only its last word changes."""
    tens, hyphen, last = english_below_hundred(number).rpartition("-")
    return f"{tens}{hyphen}{ENGLISH_ORDINALS.get(last, last + 'th')}"


def english_year(year: int) -> str:
    """A year as it is read aloud: by its centuries, but for the first decade of the third millennium."""
    century, rest = divmod(year, 100)
    if 2000 <= year < 2010:
        return english_number(year)
    if not rest:
        return f"{english_below_hundred(century)} hundred"
    return f"{english_below_hundred(century)} {'oh ' if rest < 10 else ''}{english_below_hundred(rest)}"


def english_date(day: datetime.date) -> str:
    """Day, month and year: ``the third of May nineteen ninety-eight``."""
    return f"the {english_ordinal(day.day)} of {ENGLISH_MONTHS[day.month]} {english_year(day.year)}"


def spanish_number(number: int) -> str:
    """A number below a million in words; before "mil" one is dropped, or shortened to "un"."""
    thousands, rest = divmod(number, 1000)
    last = spanish_below_thousand(rest) if rest or not thousands else ""
    if not thousands:
        return last
    counted_thousands = "" if thousands == 1 else shortened_one(spanish_below_thousand(thousands))
    return f"{counted_thousands} mil {last}".strip()


def shortened_one(number: str) -> str:
    """The form before a masculine noun: veintiún, treinta y un, ciento un."""
    if number.endswith("veintiuno"):
        return number.removesuffix("uno") + "ún"
    return number.removesuffix("o") if number.endswith("uno") else number


def spanish_below_thousand(number: int) -> str:
    """Hundreds, tens and units; a hundred alone is "cien"."""
    hundreds, rest = divmod(number, 100)
    if not hundreds:
        return spanish_below_hundred(rest)
    if number == 100:
        return "cien"
    return f"{SPANISH_HUNDREDS[hundreds]} {spanish_below_hundred(rest)}" if rest else SPANISH_HUNDREDS[hundreds]


def spanish_below_hundred(number: int) -> str:
    """One word below thirty, from there on tens "y" units."""
    if number < 30:
        return SPANISH_UNITS[number]
    tens, units = divmod(number, 10)
    return f"{SPANISH_TENS[tens]} y {SPANISH_UNITS[units]}" if units else SPANISH_TENS[tens]


def spanish_date(day: datetime.date) -> str:
    """Day, month and year: ``el tres de mayo de mil novecientos noventa y ocho``; the first is an ordinal."""
    day_in_words = "primero" if day.day == 1 else spanish_below_hundred(day.day)
    return f"el {day_in_words} de {SPANISH_MONTHS[day.month]} de {spanish_number(day.year)}"
