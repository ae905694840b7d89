"""Utterances out of folders: a text beside each file, names that tell, folders of classes, LibriSpeech, Kaldi."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from glassformer.data.examples import Skipped
from glassformer.data.opening import open_file
from glassformer.data.source_file import Notes
from glassformer.data.utterances.archives import NO_VECTORS, sequence_in
from glassformer.data.utterances.columns import Places
from glassformer.data.utterances.corpus import MEDIA_EXTENSIONS, UNKNOWN_KIND, Asked, Found, Utterance, kind_of_file
from glassformer.data.utterances.manifests import asked_for
from glassformer.data.utterances.names import NamePattern
from glassformer.errors import DataError

TEXT_EXTENSIONS = (".txt", ".normalized.txt", ".lab")  # of a file beside, that holds what is said
READER = re.compile(r"(?P<speaker>\d+)-(?P<chapter>\d+)-\d+")  # how LibriSpeech calls what it holds


def rows_of_files(
    paths: Sequence[Path],
    source: Path,
    classes: Path | None,
    asked: Asked,
    pattern: NamePattern | None,
    notes: Notes,
) -> Found:
    """One utterance in each file. What is said is in its name, else in a text beside it, else in the name of its folder.

    `source` is what the user named, `classes` the folder in which the folders of classes lie, None where there are none.
    """
    by_name = pattern is not None and asked_for(pattern)
    texts = [None] * len(paths) if by_name else texts_beside(paths)
    by_class = not by_name and classes is not None
    name = str(source)
    if pattern is not None:
        notes.append((name, f"names of files read as {pattern.pattern!r}"))
    if not by_name:
        notes.append((name, "each folder is a class" if by_class else "what is said is in the text beside each file"))
    rows: Found = []
    for path, beside in zip(paths, texts, strict=True):
        fields = {} if pattern is None else pattern.fields_of(path)
        if fields is None:
            rows.append(Skipped(str(path), f"a name that does not fit {asked.name_pattern!r}"))
            continue
        if by_name:
            text = fields.get("text") or fields.get("label") or ""
        elif classes is not None:
            text = path.relative_to(classes).parts[0]
        elif beside is None:
            rows.append(Skipped(str(path), "no text beside it"))
            continue
        else:
            text = " ".join(open_file(beside, notes, encoding=asked.encoding).text_of_lines().split())
        rows.append(utterance(str(path), path, text, fields.get("speaker", ""), fields))
    return rows


def utterance(where: str, path: Path, text: str, speaker: str, fields: dict[str, str]) -> Utterance | Skipped:
    """One utterance that is a whole file, or why it is none."""
    if not text:
        return Skipped(where, "the text is empty")
    if kind_of_file(path) == "sound":  # those of other kinds were passed over
        return Utterance(where, path, text, speaker, fields=fields)
    try:
        part, shape = sequence_in(path, "")
    except DataError as error:
        return Skipped(where, f"{NO_VECTORS}: {error}")
    return Utterance(where, path, text, speaker, fields=fields, part=part, shape=shape)


def texts_beside(paths: Sequence[Path]) -> list[Path | None]:
    """The file of text that belongs to each file, None where there is none."""
    parts = [os.path.split(path) for path in paths]  # pathlib takes its time over a hundred thousand
    names = {folder: frozenset(os.listdir(folder or ".")) for folder in {folder for folder, _ in parts}}
    found: list[Path | None] = []
    for folder, name in parts:
        stem = os.path.splitext(name)[0]
        text = next((stem + end for end in TEXT_EXTENSIONS if stem + end in names[folder]), None)
        found.append(None if text is None else Path(folder, text))
    return found


# --- LibriSpeech ------------------------------------------------------------------------------------------------------


def rows_of_transcript(path: Path, asked: Asked, notes: Notes) -> Found:
    """Lines of a name and what is said, beside the files of these names (Panayotov et al. 2015, LibriSpeech)."""
    rows: Found = []
    for where, line in lines_of(path, asked, notes):
        name, _, text = line.partition(" ")
        place = next((p for p in (path.parent / f"{name}{end}" for end in MEDIA_EXTENSIONS) if p.is_file()), None)
        if place is None:
            rows.append(Skipped(where, f"no such file: {name[:200]} with .flac or .wav" if name else "a blank line"))
            continue
        reader = READER.fullmatch(name)
        fields = reader.groupdict() if reader else {}
        rows.append(utterance(where, place, " ".join(text.split()), fields.get("speaker", ""), {"id": name, **fields}))
    return rows


def lines_of(path: Path, asked: Asked, notes: Notes) -> list[tuple[str, str]]:
    """The lines of a file without the space around them, each with its place; tabs are spaces."""
    text = open_file(path, notes, encoding=asked.encoding).text_of_lines()
    stripped = [line.replace("\t", " ").strip() for line in text.removesuffix("\n").split("\n")]
    return [(f"{path}:{number}", line) for number, line in enumerate(stripped, 1)] if text else []


# --- Kaldi ------------------------------------------------------------------------------------------------------------


def rows_of_kaldi(folder: Path, asked: Asked, notes: Notes) -> Found:
    """A folder with ``wav.scp`` and ``text``, and perhaps ``segments`` and ``utt2spk`` (Povey et al. 2011, Kaldi)."""
    if not (folder / "text").is_file():
        raise DataError(f"{folder}: holds wav.scp and no file 'text' with what is said; put it beside wav.scp")
    sounds = pairs_of(folder / "wav.scp", asked, notes)
    segments = pairs_of(folder / "segments", asked, notes)
    speakers = pairs_of(folder / "utt2spk", asked, notes)
    places = Places(folder)
    rows: Found = []
    for where, line in lines_of(folder / "text", asked, notes):
        name, _, text = line.partition(" ")
        if not name:
            rows.append(Skipped(where, "a blank line"))
            continue
        recording, offset, duration = name, 0.0, None
        if segments:
            try:
                recording, begin, end = segments.get(name, "").split()
                offset, duration = float(begin), float(end) - float(begin)
            except ValueError:
                rows.append(Skipped(where, f"no line of recording, begin and end in 'segments': {name}"))
                continue
            if not 0 <= offset < float(end) < float("inf"):
                rows.append(Skipped(where, f"a bad stretch: from {begin} to {end} seconds"))
                continue
        place = sounds.get(recording, "")
        if not place or place.endswith("|"):
            reason = f"wav.scp gives a command, expected a file: {place}" if place else f"not in wav.scp: {recording}"
            rows.append(Skipped(where, reason))
            continue
        path = places.find(place) or next((p for p in (Path(place),) if p.is_file()), None)
        if path is None:
            rows.append(Skipped(where, f"no such file: {place[:200]}"))
            continue
        try:
            kind_of_file(path)
        except DataError as error:
            rows.append(Skipped(where, f"{UNKNOWN_KIND}: {error}"))
            continue
        text, speaker = " ".join(text.split()), speakers.get(name, "")
        fields = {"id": name, **({"speaker": speaker} if speaker else {})}
        if text:
            rows.append(Utterance(where, path, text, speaker, offset, duration, fields))
        else:
            rows.append(Skipped(where, "the text is empty"))
    return rows


def pairs_of(path: Path, asked: Asked, notes: Notes) -> dict[str, str]:
    """The first word of each line and what follows it; empty for a file that is not there."""
    if not path.is_file():
        return {}
    found = (line.partition(" ") for _, line in lines_of(path, asked, notes))
    return {name: rest.strip() for name, _, rest in found if name}
