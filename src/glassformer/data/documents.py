"""What a corpus is: documents, each with its place of origin, and the sentences that tell how they were read."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True, slots=True)
class Document:
    """One text that stands by itself. `where` is its file, or file:line, or file and row: what an error would name."""

    text: str
    where: str


@dataclass(frozen=True)
class Corpus:
    """Documents in the order in which they were read; `notes` are sentences on what was found and decided."""

    documents: tuple[Document, ...]
    notes: tuple[str, ...] = ()

    @cached_property
    def n_bytes(self) -> int:
        """The size of all texts in UTF-8, which bits per byte are counted in."""
        return sum(len(document.text.encode()) for document in self.documents)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 (hex) over the texts, their order and their bounds; where they lie does not count."""
        digest = hashlib.sha256()
        for document in self.documents:
            encoded = document.text.encode()
            digest.update(len(encoded).to_bytes(8, "little"))
            digest.update(encoded)
        return digest.hexdigest()


def counted(n: int, noun: str) -> str:
    """``counted(1200, "file")`` is ``"1,200 files"``."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def readable_size(n_bytes: int) -> str:
    """``readable_size(1_115_394)`` is ``"1.1 MB"``, in powers of a thousand."""
    size = float(n_bytes)
    for unit in ("bytes", "kB", "MB"):
        if size < 999.5:
            return counted(n_bytes, "byte") if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
