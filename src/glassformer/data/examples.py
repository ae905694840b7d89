"""What is learnt from besides running text: pairs, labelled texts, tagged sentences, and rows that cannot be used."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pair:
    """A text and what it should become. `where` is the file:line of its source side."""

    source: str
    target: str
    where: str


@dataclass(frozen=True, slots=True)
class Labelled:
    """A text and its labels: one, or where several can apply at once any number of them."""

    text: str
    labels: tuple[str, ...]
    where: str


@dataclass(frozen=True, slots=True)
class Tagged:
    """The tokens of a sentence and as many tags. `where` is the file:line of its first token."""

    tokens: tuple[str, ...]
    tags: tuple[str, ...]
    where: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """A row that cannot be used, and why; none is dropped without one of these."""

    where: str
    reason: str


@dataclass(frozen=True)
class PairCorpus:
    """Pairs in the order in which they were read; `notes` are sentences on what was found and decided."""

    pairs: tuple[Pair, ...]
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class LabelledCorpus:
    """Labelled texts in the order in which they were read; `notes` are sentences on what was found and decided."""

    rows: tuple[Labelled, ...]
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class TaggedCorpus:
    """Tagged sentences in the order in which they were read; `notes` are sentences on what was found and decided."""

    rows: tuple[Tagged, ...]
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()
