"""What may be wrong with examples of any kind: duplicates, contradictions, leaks, damaged and over-long texts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from glassformer.data.documents import counted
from glassformer.data.splitting import normalised

LONGEST = 2_000  # characters, about 500 tokens: what most small models can still take in
LONGEST_SAMPLE = 60  # characters of each side that a finding shows
# What UTF-8 looks like when it was read as cp1252 or Latin-1 and saved so: "Ã©" for "é", "â€™" for an apostrophe.
TWICE_ENCODED = re.compile("[ÃÂ][\u0080-\u00bf]|â€|ï»¿")


@dataclass(frozen=True, slots=True)
class Example:
    """One row as the checks see it: a text, and its translation, labels or tags as text; "" where there is none."""

    text: str
    other: str
    where: str
    held_out: bool


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that may be wrong: of which kind, where (file:line), in a clause what, and the beginning of the row."""

    kind: str
    where: str
    what: str
    sample: str


Found = Iterator[tuple[Example, str]]  # an example, and in a clause what is wrong with it
Check = Callable[[Sequence[Example]], Found]


def duplicates(examples: Sequence[Example]) -> Found:
    """Rows that equal an earlier one of their side in everything."""
    first: dict[tuple[str, str, bool], str] = {}
    for example in examples:
        earlier = first.setdefault((example.text, example.other, example.held_out), example.where)
        if earlier != example.where:
            yield example, f"the same as {earlier}"


def contradictions(examples: Sequence[Example]) -> Found:
    """Rows whose text stood before, but for case and spacing, with another translation, label or tags."""
    first: dict[str, Example] = {}
    for example in examples:
        earlier = first.setdefault(normalised(example.text), example)
        if example.other != earlier.other:
            yield example, f"{earlier.where} has {shown(earlier.other)} for the same text"


def leaks(examples: Sequence[Example]) -> Found:
    """Rows to measure with whose text is also trained on."""
    trained = {example.text: example.where for example in reversed(examples) if not example.held_out}
    nearly = {normalised(text): where for text, where in reversed(trained.items())}
    for example in examples:
        if example.held_out and example.text in trained:
            yield example, f"trained on at {trained[example.text]}"
        elif example.held_out and normalised(example.text) in nearly:
            yield example, f"trained on, but for case and spacing, at {nearly[normalised(example.text)]}"


def damaged(examples: Sequence[Example]) -> Found:
    """Rows with characters that a wrong decoding left behind."""
    for example in examples:
        whole = f"{example.text}\n{example.other}"
        n_lost = whole.count("\ufffd")
        if n_lost:
            yield example, f"{counted(n_lost, 'character')} lost in decoding (U+FFFD)"
        elif not whole.isascii() and (trace := TWICE_ENCODED.search(whole)):
            yield example, f"{trace[0]!r}, as UTF-8 looks that was read in another encoding"


def over_long(examples: Sequence[Example]) -> Found:
    """Rows that few models take in whole."""
    for example in examples:
        longest = max(len(example.text), len(example.other))
        if longest > LONGEST:
            yield example, f"{longest:,} characters, more than {LONGEST:,}"


def lonely_labels(examples: Sequence[Example]) -> Found:
    """Rows with a label that no other row has, and rows to measure with whose label is not trained on."""
    counts = Counter(example.other for example in examples)
    trained = {example.other for example in examples if not example.held_out}
    for example in examples:
        if example.held_out and trained and example.other not in trained:
            yield example, f"no training row is labelled {shown(example.other)}"
        elif counts[example.other] == 1:
            yield example, f"no other row is labelled {shown(example.other)}"


def shown(text: str) -> str:
    """The beginning of a text in quotes, on one line."""
    return repr(text if len(text) <= LONGEST_SAMPLE else text[: LONGEST_SAMPLE - 1] + "…")


def sample_of(example: Example) -> str:
    """The beginning of both sides of a row."""
    return f"{shown(example.text)} → {shown(example.other)}" if example.other else shown(example.text)


def as_findings(kind: str, found: Iterable[tuple[Example, str]]) -> Iterator[Finding]:
    """What a check found, with its name."""
    return (Finding(kind, example.where, what, sample_of(example)) for example, what in found)
