"""What is told about data that was read: findings as sentences, rows that were skipped, files without any row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

from glassformer.data.documents import counted
from glassformer.data.examples import Skipped
from glassformer.data.source_file import Notes
from glassformer.errors import DataError

T = TypeVar("T")


def parted(name: str, found: Sequence[T | Skipped], notes: Notes) -> tuple[list[T], list[Skipped]]:
    """The rows of one file that can be used and those that cannot, with one finding for each reason."""
    if not found:
        notes.append((name, "empty, left out"))
    skipped = [row for row in found if isinstance(row, Skipped)]
    for reason, n_skipped in Counter(row.reason for row in skipped).items():
        first = next(row.where for row in skipped if row.reason == reason)
        notes.append((name, f"{counted(n_skipped, 'row')} skipped, {reason}; the first is {first}"))
    return [row for row in found if not isinstance(row, Skipped)], skipped


def nothing_found(noun: str, names: Sequence[str], skipped: Sequence[Skipped]) -> DataError:
    """The error where no row of any file can be used."""
    why = f" ({counted(len(skipped), 'row')}; {skipped[0].where}: {skipped[0].reason})" if skipped else ""
    return DataError(f"{shortened(names)}: no {noun} in {it_or_them(names)}{why}; name files that hold some")


def sentences(notes: Notes) -> list[str]:
    """One sentence for each finding, naming its files: twenty CRLF files are one line, not twenty."""
    names_of: dict[str, dict[str, None]] = {}
    for name, finding in notes:
        names_of.setdefault(finding, {})[name] = None
    told: list[str] = []
    for finding, found_in in names_of.items():
        names = list(found_in)
        named = ", ".join(names) if len(names) <= 3 else f"{names[0]} and {len(names) - 1:,} more files"
        told.append(f"{named}: {finding}")
    return told


def shortened(names: Sequence[str]) -> str:
    """The first names, for an error about all of them."""
    return ", ".join(names[:8]) + (", …" if len(names) > 8 else "")


def it_or_them(names: Sequence[str]) -> str:
    """The pronoun for so many files."""
    return "it" if len(names) == 1 else "them"
