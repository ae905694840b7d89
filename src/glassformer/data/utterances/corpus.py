"""What an utterance is: a stretch of sound, or a sequence of vectors, and what is said in it; and many of them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

from glassformer.data.examples import Skipped
from glassformer.data.source_file import Notes
from glassformer.errors import DataError

SOUND_EXTENSIONS = (".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf", ".w64")
VECTOR_EXTENSIONS = (".npy", ".npz")
ALL_VECTOR_EXTENSIONS = (*VECTOR_EXTENSIONS, ".parquet")  # a Parquet file may be a manifest too
UNKNOWN_KIND = "a file of no known kind"
MEDIA_EXTENSIONS = (*SOUND_EXTENSIONS, *VECTOR_EXTENSIONS)

Kind = Literal["sound", "vectors"]
Wanted = Literal["text", "label"]


@dataclass(frozen=True, slots=True)
class Utterance:
    """One stretch of sound or one sequence of vectors. `where` is the file:line that tells of it, or the file itself."""

    where: str
    path: Path  # of the sound, or of the file in which the vectors are
    text: str  # what is said in it, or its label, whichever was asked for
    speaker: str = ""  # "" where nothing tells
    offset: float = 0.0  # seconds from the beginning of the file
    duration: float | None = None  # seconds; None: up to the end
    fields: Mapping[str, str] = field(default_factory=dict)  # all that is told of it, by the names it has there
    part: str = (
        ""  # of several sequences in one file, which: a name in an .npz, ``data[3]``, ``row 3``, ``rows 3 to 90``
    )
    shape: tuple[int, int] | None = None  # T F: how many vectors, and the size of each; None for sound

    def value_of(self, name: str) -> str | None:
        """What is told of it under a name; ``speaker`` and ``text`` are known by these, whatever their columns are called."""
        if name == "speaker" and self.speaker:
            return self.speaker
        return self.text if name == "text" else self.fields.get(name)


@dataclass(frozen=True)
class UtteranceCorpus:
    """Utterances in the order in which they were read; `notes` are sentences on what was found and decided."""

    rows: tuple[Utterance, ...]
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()
    kind: Kind = "sound"
    wanted: Wanted = "text"
    channels: int | None = None  # F, the size of each vector; None for sound

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """Every file that holds sound or vectors of these rows, once."""
        return tuple(dict.fromkeys(row.path for row in self.rows))


@dataclass(frozen=True)
class Asked:
    """What the user said about how utterances are to be read; None where nothing was said."""

    wanted: Wanted = "text"
    path_key: str | None = None
    text_key: str | None = None
    label_key: str | None = None
    name_pattern: str | None = None
    encoding: str | None = None


Found = list[Utterance | Skipped]


def is_media(path: Path) -> bool:
    """Whether a file holds sound or vectors, by its extension."""
    return path.suffix.lower() in MEDIA_EXTENSIONS


def kind_of_file(path: Path) -> Kind:
    """Whether what a file holds is sound or vectors, by its extension. Raises DataError for one that says neither."""
    extension = path.suffix.lower()
    if extension in SOUND_EXTENSIONS:
        return "sound"
    if extension in ALL_VECTOR_EXTENSIONS:
        return "vectors"
    sounds, vectors = ", ".join(SOUND_EXTENSIONS), ", ".join(ALL_VECTOR_EXTENSIONS)
    found = f"ends in {extension}" if extension else "has no extension"
    raise DataError(
        f"{path}: {found}, which is neither sound ({sounds}) nor vectors ({vectors}); convert it, or rename it"
    )


def parted(name: str, found: Sequence[Utterance | Skipped], notes: Notes) -> tuple[list[Utterance], list[Skipped]]:
    """The rows of one source that can be used and those that cannot, with one note for each kind of reason.

    What follows a colon in a reason is of that row alone: a thousand missing files are one note.
    """
    if not found:
        notes.append((name, "empty, left out"))
    skipped = [row for row in found if isinstance(row, Skipped)]
    kinds: dict[str, list[Skipped]] = {}
    for row in skipped:
        kinds.setdefault(row.reason.partition(": ")[0], []).append(row)
    for kind, rows in kinds.items():
        detail = rows[0].reason.partition(": ")[2]
        first = f"{rows[0].where} ({detail})" if detail else rows[0].where
        number = f"{len(rows):,} row{'' if len(rows) == 1 else 's'}"
        notes.append((name, f"{number} skipped, {kind}; the first is {first}"))
    return [row for row in found if not isinstance(row, Skipped)], skipped


def identity(row: Utterance) -> tuple[str, str, float, float | None]:
    """What tells two utterances apart: the file, and the stretch or part of it."""
    return os.path.realpath(row.path), row.part, row.offset, row.duration
