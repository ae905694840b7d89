"""What may be wrong with pairs: copies, sides in another language or script, lengths that do not belong together."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from glassformer.data.findings import Example, Found
from glassformer.data.splitting import normalised

FEWEST_TO_JUDGE = 20  # rows; of fewer nothing can be said about what is usual
ENOUGH_TO_JUDGE = 1000  # rows, from all of the files; more would not change what is usual
FEWEST_LETTERS = 3  # of another script; a name or a symbol in a sentence is usual
FEWEST_VOTES = 2  # words of another language, with none of its own, that make a text suspect
FEWEST_USUAL = 0.05  # of the words of a side are in the list of its language, or it is none of those below
CLEAR_MAJORITY = 0.8
SMOOTHING = 10  # characters added to every length: short texts may well be twice as long as each other
SPREADS = 6  # standard deviations beyond which a ratio of lengths is no accident
DEVIATIONS_OF_NORMAL = 1.4826  # standard deviations of a normal distribution in one median absolute deviation
LEAST_FACTOR = 2.0  # a ratio within this factor of the usual one is never an outlier
WORD = re.compile(r"[^\W\d_]+")
NAMES = {"en": "English", "es": "Spanish", "de": "German", "fr": "French"}
FUNCTION_WORDS = {  # frequent in one of these languages, and hardly ever a word of the others
    "en": "the of and to is that it with for are at this from you she his they my what have not be by there were an",
    "es": "el los las y por con para una está del al lo su más pero muy como este esta ella mi yo qué ser los sus",
    "de": "der und ein eine einen einem einer ist mit auf dem von zu nicht ich sie er wie für sind das im wir auch",
    "fr": "et est dans avec pour une du au il elle ne pas vous je qui ce cette sont aux nous leur",
}
LANGUAGE_OF_WORD = {word: language for language, words in FUNCTION_WORDS.items() for word in words.split()}
LATIN = "LATIN"
ONE_SCRIPT = {"HIRAGANA": "CJK", "KATAKANA": "CJK", "FULLWIDTH": "CJK"}  # Japanese is written in several at once


def copies(examples: Sequence[Example]) -> Found:
    """Rows whose two sides are the same, but for case and spacing."""
    for example in examples:
        if normalised(example.text) == normalised(example.other):
            yield example, "both sides are the same"


def other_languages(examples: Sequence[Example]) -> Found:
    """Rows with a side whose function words are all of another language than those of most rows on that side."""
    if len(examples) < FEWEST_TO_JUDGE:
        return
    judged = examples[:: max(1, len(examples) // ENOUGH_TO_JUDGE)]
    usual = [usual_language(example.text for example in judged), usual_language(example.other for example in judged)]
    for example in examples:
        found = [
            other_language(text, expected) if expected else None
            for text, expected in zip((example.text, example.other), usual, strict=True)
        ]
        if found[0] and found[1] and found == usual[::-1]:
            yield example, f"the sides seem swapped ({NAMES[found[0]]} → {NAMES[found[1]]})"
            continue
        for side, language, expected in zip(("source", "target"), found, usual, strict=True):
            if language and expected:
                yield example, f"the {side} seems to be {NAMES[language]}, most are {NAMES[expected]}"
                break


def usual_language(texts: Iterable[str]) -> str | None:
    """The language that most function words are of, None where it seems to be none of those with a list."""
    words = [word for text in texts for word in WORD.findall(text.casefold())]
    votes = Counter(LANGUAGE_OF_WORD[word] for word in words if word in LANGUAGE_OF_WORD)
    language = most_frequent(votes)
    is_clear = votes[language] > max(FEWEST_USUAL * len(words), CLEAR_MAJORITY * votes.total())
    return language if is_clear else None


def other_language(text: str, usual: str) -> str | None:
    """The language of a text none of whose function words is of the usual one."""
    votes = [LANGUAGE_OF_WORD[word] for word in WORD.findall(text.casefold()) if word in LANGUAGE_OF_WORD]
    if not votes or usual in votes:
        return None
    language, n_votes = Counter(votes).most_common(1)[0]
    return language if n_votes >= FEWEST_VOTES else None


def other_scripts(examples: Sequence[Example]) -> Found:
    """Rows with a side more than half of whose letters are of another script than most letters of that side."""
    if len(examples) < FEWEST_TO_JUDGE:
        return
    judged = examples[:: max(1, len(examples) // ENOUGH_TO_JUDGE)]
    sources = most_frequent(scripts("".join(example.text for example in judged)))
    targets = most_frequent(scripts("".join(example.other for example in judged)))
    for example in examples:
        for name, text, expected in (("source", example.text, sources), ("target", example.other, targets)):
            if expected == LATIN and text.isascii():
                continue
            letters = scripts(text)
            n_letters, n_expected = letters.total(), letters.pop(expected, 0)
            if letters.total() >= FEWEST_LETTERS and 2 * n_expected < n_letters:
                found = most_frequent(letters).capitalize()
                yield example, f"the {name} is in {found} letters, most are in {expected.capitalize()}"
                break


def scripts(text: str) -> Counter[str]:
    """How many letters of a text are of each script."""
    return Counter(script for script in map(script_of, text) if script)


@functools.cache
def script_of(character: str) -> str:
    """The script of a letter, as the first word of its name in Unicode has it; "" for anything else."""
    if not character.isalpha():
        return ""
    first_word = unicodedata.name(character, "unnamed").partition(" ")[0]
    return ONE_SCRIPT.get(first_word, first_word)


def most_frequent(counts: Counter[str]) -> str:
    """The most frequent key, "" of none."""
    return max(counts, key=counts.__getitem__, default="")


def odd_lengths(examples: Sequence[Example]) -> Found:
    """Rows in which one side is much longer, as the other goes, than in most rows."""
    if len(examples) < FEWEST_TO_JUDGE:
        return
    lengths = np.array([(len(example.text), len(example.other)) for example in examples], dtype=np.float64)
    ratios = np.diff(np.log(lengths + SMOOTHING), axis=1)[:, 0]
    usual = np.median(ratios)
    spread = DEVIATIONS_OF_NORMAL * np.median(np.abs(ratios - usual))
    for row in np.flatnonzero(np.abs(ratios - usual) > max(SPREADS * spread, np.log(LEAST_FACTOR))).tolist():
        n_source, n_target = lengths[row].astype(int)
        longer = "longer" if ratios[row] > usual else "shorter"
        yield examples[row], f"the target is much {longer} than usual ({n_source:,} → {n_target:,} characters)"
