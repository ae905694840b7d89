"""Which columns of a manifest hold what: by the names that people and other programs give them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from glassformer.data.columns import label_like_column, longest_column
from glassformer.data.json_values import listed
from glassformer.data.tables import Table
from glassformer.data.utterances.corpus import MEDIA_EXTENSIONS, Asked
from glassformer.errors import DataError

PATHS = (  # the surest first: "path" and "file" may be said of other things too
    "audio_filepath",
    "audio_file",
    "audio_path",
    "wav_filename",
    "wav_path",
    "file_name",
    "filename",
    "audio",
    "wav",
    "sound",
    "vectors",
    "features",
    "feature_path",
    "npy",
    "path",
    "file",
    "filepath",
    "file_path",
)
TRANSCRIPTS = (
    "text",
    "transcription",
    "transcript",
    "sentence",
    "tgt_text",
    "normalized_text",
    "normalised_text",
    "normalized_transcription",
    "raw_transcription",
)
LABELS = ("label", "labels", "command", "class", "category", "keyword", "intent")
SPEAKERS = ("speaker", "client_id", "speaker_id", "spk", "spk_id", "reader")
DURATIONS = ("duration", "seconds", "duration_seconds")
OFFSETS = ("offset", "start", "start_time")
ENDS = ("end", "end_time")
KEYS = ("key", "array", "part")  # which array of an .npz
LANGUAGES = ("lang", "language", "locale")
IDS = ("id", "utterance", "utterance_id", "sequence", "sequence_id", "series", "series_id", "sample_id", "key", "group")
FOLDERS = ("clips", "wavs", "wav", "audio")  # beside a manifest, in which the files may lie
SHARE_OF_PATHS = 0.5  # of the first rows, that name sound or vectors
N_JUDGED = 20  # rows of a manifest that tell which column names the files


def alias(names: Sequence[str], known: Iterable[str]) -> str | None:
    """The column with the surest of the known names, whatever its case."""
    folded = {name.strip().casefold(): name for name in reversed(names)}
    return next((folded[name] for name in known if name in folded), None)


def names_media(value: object) -> bool:
    """Whether a cell ends like the name of a file of sound or vectors."""
    return isinstance(value, str) and value.strip().lower().endswith(MEDIA_EXTENSIONS)


def name_in_cell(value: object) -> str | None:
    """The name of a file that a cell holds, as text or, as Hugging Face has it, under ``path``; None for anything else."""
    if isinstance(value, dict):
        value = value.get("path")
    return value.strip() if isinstance(value, str) and value.strip() else None


class Places:
    """Where the files are that a manifest in `folder` names: beside it, or in a folder beside it that holds them."""

    def __init__(self, folder: Path) -> None:
        self.folders = ["", *(f"{name}{os.sep}" for name in FOLDERS if (folder / name).is_dir())]
        self.folder = str(folder)

    def find(self, name: str) -> Path | None:
        """The file of that name, or of that name without its extension; None where there is none."""
        for spelled in (name, name.replace("\\", "/")) if "\\" in name else (name,):
            spelled = os.path.expanduser(spelled)
            within = [""] if os.path.isabs(spelled) else self.folders
            ends = ("",) if names_media(spelled) or not os.path.basename(spelled) else ("", *MEDIA_EXTENSIONS)
            for end in ends:
                for folder in within:
                    place = os.path.join(self.folder, f"{folder}{spelled}{end}")
                    try:
                        if os.path.isfile(place):
                            return Path(place)
                    except (OSError, ValueError):  # a name that no system takes
                        return None
        return None


def share(values: Iterable[bool]) -> float:
    """How many of these are true."""
    listed_values = list(values)
    return sum(listed_values) / max(len(listed_values), 1)


def path_column(table: Table, places: Places) -> str | None:
    """The column that names files of sound or vectors, None where no column does."""
    rows = [row.cells for row in table.rows if row.cells][:N_JUDGED]

    def says_files(column: str) -> bool:
        given = [name for name in (name_in_cell(cells.get(column)) for cells in rows) if name is not None]
        look = table.has_header and column in known
        found = (names_media(name) or (look and places.find(name) is not None) for name in given)
        return bool(given) and share(found) >= SHARE_OF_PATHS

    by_surety = sorted(table.names, key=lambda name: place_in(PATHS, name))
    known = [name for name in by_surety if place_in((*PATHS, *IDS), name) < len(PATHS) + len(IDS)]
    return next((column for column in known or table.names if says_files(column)), None)


def place_in(known: Sequence[str], name: str) -> int:
    """Which of the known names one is; as many as there are where it is none."""
    folded = name.strip().casefold()
    return known.index(folded) if folded in known else len(known)


@dataclass(frozen=True)
class Columns:
    """The columns of one manifest; None where it has none for this."""

    path: str
    text: str | None
    speaker: str | None
    offset: str | None
    duration: str | None
    end: str | None
    key: str | None


def columns_of(table: Table, name: str, places: Places, asked: Asked) -> Columns:
    """The columns of a manifest. Raises DataError listing the columns and naming the flags."""
    flags = ((asked.path_key, "--path-key"), (asked.text_key, "--text-key"), (asked.label_key, "--label-key"))
    for key, flag in flags:
        if key is not None and key not in table.names:
            raise DataError(f"{name}: no column {key!r}, found {listed(table.names)}; choose one with {flag}")
    path = asked.path_key or path_column(table, places) or (alias(table.names, PATHS) if table.has_header else None)
    if path is None:
        found = f"no column that names files of sound or vectors, found {listed(table.names)}"
        raise DataError(f"{name}: {found}; name it with --path-key")
    names = [column for column in table.names if column != path]
    text = text_column(table, names, path, asked)
    names = [column for column in names if column != text]
    if not table.has_header:
        return Columns(path, text, speaker_without_header(table, names), None, None, None, None)
    found = [alias(names, known) for known in (SPEAKERS, OFFSETS, DURATIONS, ENDS, KEYS)]
    return Columns(path, text, *found)


def text_column(table: Table, names: Sequence[str], path: str, asked: Asked) -> str | None:
    """The column of transcripts, or of labels where these are wanted; the other of the two where it is the only one."""
    keys = (asked.text_key, asked.label_key)
    aliases = (TRANSCRIPTS, LABELS)
    if asked.wanted == "label":
        keys, aliases = keys[::-1], aliases[::-1]
    if keys[0] or keys[1]:
        return keys[0] or keys[1]
    if table.has_header:
        return alias(names, aliases[0]) or alias(names, aliases[1])
    if len(names) < 2:
        return names[0] if names else None
    if asked.wanted == "label" and (label := label_like_column(table, without=path)):
        return label
    return longest_column(table, without=path)


def speaker_without_header(table: Table, names: Sequence[str]) -> str | None:
    """The one column besides those of path and text, where it has few different short values."""
    if len(names) != 1:
        return None
    values = [str(row.cells[names[0]]) for row in table.rows if row.cells]
    few = 2 * len(set(values)) <= len(values) and max(map(len, values), default=0) <= 40
    return names[0] if few else None


def is_header(cells: Sequence[str]) -> bool:
    """Whether a first row is the header of a manifest: it names no file, and a column by a name that is known."""
    return not any(names_media(cell) for cell in cells) and alias(cells, (*PATHS, *TRANSCRIPTS, *LABELS)) is not None
