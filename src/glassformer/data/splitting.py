"""Which text is trained on and which is held back to measure with; whole documents where there are enough."""

from __future__ import annotations

import bisect
import hashlib
import itertools
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from glassformer.data.documents import Corpus, Document, counted
from glassformer.errors import ConfigError, DataError

T = TypeVar("T")
FEWEST_TO_HASH = 10  # with fewer distinct documents the held-back share is too much a matter of luck


@dataclass(frozen=True)
class Split:
    """Two sides that share no document. `note` says in one sentence how they were made."""

    train: tuple[Document, ...]
    validation: tuple[Document, ...]
    note: str


def split(corpus: Corpus, fraction: float = 0.1, seed: int = 0, validation: Corpus | None = None) -> Split:
    """Hold back about `fraction` of the characters, or take `validation` as it is given.

    A document's side follows from its content and `seed` alone, so a growing corpus never moves a document across.
    Where that is too coarse (few documents, or a share outside fraction/2 to 2*fraction) the end of the text is held
    back; of a single document, what follows its first ``int(len * (1 - fraction))`` characters. Copies of a document
    are always on one side. Raises ConfigError for a fraction outside (0, 1), DataError where a side would be empty.
    """
    if validation is not None:
        return split_as_given(corpus.documents, validation.documents)
    refuse_fraction(fraction)
    sizes = Counter[str]()  # characters of each distinct text, all its copies together, in order of first appearance
    for document in corpus.documents:
        sizes[document.text] += len(document.text)
    total = sizes.total()
    if total < 2:
        raise DataError(f"{counted(total, 'character')} cannot be split into training and validation; add text")
    held = {text for text in sizes if falls_in_validation(text, fraction, seed)}
    if len(sizes) >= FEWEST_TO_HASH and is_near(share(held, sizes), fraction):
        return split_by_document(corpus.documents, held, "chosen by the hash of their content")
    return split_tail(corpus.documents, sizes, fraction)


def refuse_fraction(fraction: float) -> None:
    """Raise ConfigError for a share that leaves one side empty or is none."""
    if not 0 < fraction < 1:
        raise ConfigError(f"the validation fraction is {fraction}, expected a number between 0 and 1, for example 0.1")


def split_as_given(train: Sequence[Document], validation: Sequence[Document]) -> Split:
    """Keep the user's validation text whole; what the training text shares with it leaves the training text."""
    held = {document.text for document in validation}
    kept = tuple(document for document in train if document.text not in held)
    return Split(kept, tuple(validation), note_on_given("document", len(train), len(kept), len(validation)))


def falls_in_validation(text: str, fraction: float, seed: int) -> bool:
    """A coin that seed and content throw once and for all: their sha256 as a number in [0, 1), below `fraction`."""
    return throw(text, seed) < fraction * 2**64


def throw(text: str, seed: int) -> int:
    """64 bits that follow from seed and content."""
    digest = hashlib.sha256(f"split {seed}\n".encode() + text.encode()).digest()
    return int.from_bytes(digest[:8], "big")


def split_by_document(documents: Sequence[Document], held: set[str], how: str) -> Split:
    """Hold back the documents whose text is in `held`, all copies of it."""
    train = tuple(document for document in documents if document.text not in held)
    validation = tuple(document for document in documents if document.text in held)
    n_characters = sum(len(document.text) for document in validation)
    percent = n_characters / sum(len(document.text) for document in documents)
    kept_back = f"{len(validation):,} of {counted(len(documents), 'document')} ({percent:.1%} of the text)"
    return Split(train, validation, f"{kept_back} held back for validation, {how}")


def split_tail(documents: Sequence[Document], sizes: Counter[str], fraction: float) -> Split:
    """Hold back the end of the text: from the document boundary nearest to the cut, or from within a document."""
    texts = list(sizes)
    ends = list(itertools.accumulate(sizes.values()))
    total = ends[-1]
    cut = int(total * (1 - fraction))
    boundary = min(range(1, len(texts)), key=lambda i: abs(ends[i - 1] - cut), default=0)
    if boundary and is_near(1 - ends[boundary - 1] / total, fraction):
        how = "the last ones, as there are too few of like size to choose by hash"
        return split_by_document(documents, set(texts[boundary:]), how)

    pierced = bisect.bisect_right(ends, cut)
    before = ends[pierced] - sizes[texts[pierced]]
    n_copies = sizes[texts[pierced]] // len(texts[pierced])
    within = (cut - before) // n_copies  # copies are cut alike, so that no part of one is on both sides
    train: list[Document] = []
    validation: list[Document] = []
    order = {text: i for i, text in enumerate(texts)}
    for document in documents:
        place = order[document.text]
        if place == pierced:
            train += part(document, 0, within)
            validation += part(document, within, len(document.text))
        else:
            (train if place < pierced else validation).append(document)
    n_held = sum(len(document.text) for document in validation)
    if not train or not validation:
        raise DataError(f"{counted(total, 'character')} cannot be split at {1 - fraction:.0%}; add text")
    note = f"the last {n_held:,} of {counted(total, 'character')} ({n_held / total:.1%}) held back for validation"
    return Split(tuple(train), tuple(validation), note)


def part(document: Document, start: int, end: int) -> list[Document]:
    """The part as a document, or nothing if it is empty."""
    where = f"{document.where}, characters {start} to {end}"
    return [Document(document.text[start:end], where)] if end > start else []


def share(held: set[str], sizes: Counter[str]) -> float:
    """The part of all characters that the `held` texts make up."""
    return sum(sizes[text] for text in held) / sizes.total()


def is_near(found: float, fraction: float) -> bool:
    """Within a factor of two, and leaving something to train on."""
    return fraction / 2 <= found <= min(2 * fraction, (1 + fraction) / 2)


# --- rows, which belong together where one of their texts is the same ---------------------------------------------------


def normalised(text: str) -> str:
    """The text without differences of case and spacing, by which texts count as the same."""
    return " ".join(text.casefold().split())


def held_back(texts: Iterable[str], fraction: float, noun: str) -> set[str]:
    """About `fraction` of the distinct texts, those whose hash is smallest.

    Each falls on its side by itself, so that a growing corpus moves none, unless their share would be less than half
    of `fraction` or more than twice as much: then as many as come nearest to it, at least one and never all. Raises
    ConfigError for a fraction outside (0, 1), DataError for fewer than two distinct texts.
    """
    refuse_fraction(fraction)
    throws = {text: throw(text, seed=0) for text in dict.fromkeys(texts)}
    if len(throws) < 2:
        found = f"{counted(len(throws), f'distinct {noun}')}"
        raise DataError(f"{found} cannot be split into training and validation; add more, or name a validation file")
    held = {text for text, number in throws.items() if number < fraction * 2**64}
    if len(throws) >= FEWEST_TO_HASH and is_near(len(held) / len(throws), fraction):
        return held
    n_held = min(max(round(fraction * len(throws)), 1), len(throws) - 1)
    return set(sorted(throws, key=throws.__getitem__)[:n_held])


def held_back_evenly(strata: Mapping[str, str], fraction: float, noun: str) -> set[str]:
    """About `fraction` of the texts of each stratum, those whose hash is smallest; `strata` gives each text its own.

    What a stratum is short of, the next one gives, and none gives its last text. Raises ConfigError for a fraction
    outside (0, 1), DataError where no text can be spared.
    """
    refuse_fraction(fraction)
    members: dict[str, list[str]] = {}
    for text, stratum in strata.items():
        members.setdefault(stratum, []).append(text)
    held: set[str] = set()
    n_seen = 0
    for stratum in sorted(members):
        texts = sorted(members[stratum], key=lambda text: throw(text, seed=0))
        n_seen += len(texts)
        held.update(texts[: min(round(n_seen * fraction) - len(held), len(texts) - 1)])
    if held:
        return held
    spare = next((texts for texts in members.values() if len(texts) > 1), None)
    if spare is None:
        found = f"{counted(len(strata), f'distinct {noun}')}, no two of one label,"
        raise DataError(f"{found} cannot be split into training and validation; add more, or name a validation file")
    return {min(spare, key=lambda text: throw(text, seed=0))}


def two_sides(rows: Sequence[T], keys: Sequence[str], held: Collection[str]) -> tuple[tuple[T, ...], tuple[T, ...]]:
    """The rows whose key is not held back, and those whose key is, in their order."""
    train = tuple(row for key, row in zip(keys, rows, strict=True) if key not in held)
    return train, tuple(row for key, row in zip(keys, rows, strict=True) if key in held)


def note_on_given(noun: str, n_before: int, n_train: int, n_held: int) -> str:
    """The sentence on validation rows that the user gave. Raises DataError where a side is empty."""
    if not n_train or not n_held:
        found = f"every training {noun} is also in the validation text" if n_held else "the validation text is empty"
        raise DataError(f"{found}; name different files for training and validation")
    note = f"validation as given: {counted(n_held, noun)}"
    n_shared = n_before - n_train
    return note + (f"; {counted(n_shared, f'training {noun}')} found in it left out of training" if n_shared else "")
