"""What the user names, as what is read in one way: manifests, transcripts, folders and single files. Not what is in them."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from glassformer.data.labelled import SIDES_OF_DATA
from glassformer.data.opening import missing
from glassformer.data.source_file import Notes, extension_of
from glassformer.data.sources import BUILT_IN_PREFIX, STANDARD_INPUT, is_run, note_held_out
from glassformer.data.tables import TABLES
from glassformer.data.utterances.archives import is_archive
from glassformer.data.utterances.corpus import MEDIA_EXTENSIONS, Asked, is_media
from glassformer.data.utterances.folders import texts_beside
from glassformer.data.utterances.manifests import BARRED, asked_for, beginning_of_manifest
from glassformer.data.utterances.names import NamePattern
from glassformer.errors import DataError

TRANSCRIPT = ".trans.txt"  # how names of LibriSpeech's transcripts end
KALDI = "wav.scp"
COMMON_VOICE = ("train.tsv", "validated.tsv")  # of a folder with clips, the first that there is
CLIPS = "clips"
A_MANIFEST = (
    "name a manifest (CSV, TSV, JSONL) whose rows name files, a folder with a .txt beside each file, or a folder whose "
    "names tell what is said, with --name-pattern such as '{text}_{speaker}_{take}'"
)
MANIFEST_EXTENSIONS = (*TABLES, *BARRED)

How = Literal["manifest", "transcript", "kaldi", "archive", "files", "classes"]


@dataclass(frozen=True, slots=True)
class Unit:
    """What is read in one way, and the files in it where there are several."""

    how: How
    path: Path
    files: tuple[Path, ...] = ()


def units_of(source: str | Path, asked: Asked, pattern: NamePattern | None, notes: Notes) -> list[Unit]:
    """What one source stands for; nothing where it has no sound or vectors in it.

    Raises DataError for what is not there, and for a folder of which it cannot be said what is said in its files.
    """
    if str(source) == STANDARD_INPUT or str(source).startswith(BUILT_IN_PREFIX):
        return []
    path = Path(source).expanduser()
    if path.is_dir():
        return units_of_folder(path, asked, pattern, notes)
    if path.is_file():
        return units_of_paths(path, [path], asked, pattern)
    if glob.has_magic(str(path)):
        paths = [Path(name) for name in sorted(glob.glob(str(path), recursive=True)) if os.path.isfile(name)]
        if not paths:
            raise DataError(f"{source}: no file matches this pattern; try **/ for folders inside folders")
        return units_of_paths(path, paths, asked, pattern)
    if path.exists():  # a pipe, a device
        return []
    raise missing(path)


def units_of_paths(source: Path, paths: Sequence[Path], asked: Asked, pattern: NamePattern | None) -> list[Unit]:
    """What single files stand for; those without sound or vectors are passed over."""
    units: list[Unit] = []
    media: list[Path] = []
    for path in paths:
        if path.name.endswith(TRANSCRIPT):
            units.append(Unit("transcript", path))
        elif path.name == KALDI:
            units.append(Unit("kaldi", path.parent))
        elif is_archive(path):
            units.append(Unit("archive", path))
        elif is_media(path):
            media.append(path)
        elif is_manifest(path, asked):
            units.append(Unit("manifest", path))
    if media:
        refuse_untold(source, media, pattern)
        units.append(Unit("files", source, tuple(media)))
    return units


def is_manifest(path: Path, asked: Asked) -> bool:
    """Whether a file is a table that names files of sound or vectors."""
    return extension_of(path.name) in MANIFEST_EXTENSIONS and beginning_of_manifest(path, asked) is not None


def refuse_untold(source: Path, media: Sequence[Path], pattern: NamePattern | None) -> None:
    """Raise DataError for files of sound or vectors without a word on what is said in them."""
    if (pattern is None or not asked_for(pattern)) and not any(texts_beside(media)):
        found = f"{len(media):,} files" if len(media) > 1 else "a file"
        raise DataError(f"{source}: {found} of sound or vectors and nothing that tells what is in them; {A_MANIFEST}")


def units_of_folder(folder: Path, asked: Asked, pattern: NamePattern | None, notes: Notes) -> list[Unit]:
    """What a folder stands for. Raises DataError where its folders are sides of a split, or nothing tells what is said."""
    files = files_below(folder)
    scripts = [path for path in files if path.name == KALDI]
    transcripts = [path for path in files if path.name.endswith(TRANSCRIPT)]
    media = [path for path in files if path.name.lower().endswith(MEDIA_EXTENSIONS)]
    if scripts:
        refuse_sides(folder, scripts)
        return [Unit("kaldi", path.parent) for path in scripts]
    if transcripts and media:
        return [Unit("transcript", path) for path in transcripts]
    manifests = manifests_of(folder, files, media, asked, notes)
    if manifests:
        return [Unit("manifest", path) for path in manifests]
    archives = [path for path in files if path.suffix.lower() in (".npz", ".parquet") and is_archive(path)]
    if archives:
        note_held_out(folder, archives, notes)
        return [Unit("archive", path) for path in archives]
    if not media:
        return []
    if pattern is not None and asked_for(pattern):
        return [Unit("files", folder, tuple(media))]
    beside = texts_beside(media)
    if len(files) - len(media) - sum(text is not None for text in beside) > len(media):
        return []  # a few sounds among other files do not make these transcripts
    if any(beside):
        return [Unit("files", folder, tuple(media))]
    refuse_sides(folder, media)
    within = [path for path in media if path.parent != folder and not path.relative_to(folder).parts[0].startswith("_")]
    if not within:
        refuse_untold(folder, media, pattern)
    if len(within) < len(media):
        notes.append((str(folder), f"{len(media) - len(within):,} files left out that lie in no folder of a class"))
    return [Unit("classes", folder, tuple(within))]


def files_below(folder: Path) -> list[Path]:
    """All files of a folder and the folders in it, sorted, without hidden ones and those of training runs."""
    found: list[Path] = []
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and not is_run(Path(root, name)))
        found += [Path(root, name) for name in sorted(names) if not name.startswith(".")]
    return found


def manifests_of(folder: Path, files: Sequence[Path], media: Sequence[Path], asked: Asked, notes: Notes) -> list[Path]:
    """The tables of a folder that name files of sound or vectors; of those of Common Voice the one to train on."""
    tables = [path for path in files if extension_of(path.name) in TABLES]
    if (folder / CLIPS).is_dir():
        known = next((folder / name for name in COMMON_VOICE if (folder / name) in tables), None)
        if known is not None and is_manifest(known, asked):
            if len(tables) > 1:
                notes.append((str(folder), f"{known.name} read; to measure with another, name it as validation"))
            return [known]
    if not media and len(tables) > 50:  # a folder of tables; those that name sound elsewhere are named one by one
        return []
    manifests = [path for path in tables if is_manifest(path, asked)]
    if manifests:
        refuse_sides(folder, manifests)
        note_held_out(folder, manifests, notes)
    return manifests


def refuse_sides(folder: Path, paths: Sequence[Path]) -> None:
    """Raise DataError where the folders that files lie in are sides of a split, all of which must not be trained on."""
    names = {path.relative_to(folder).parts[0] for path in paths if path.parent != folder}
    if len(names) > 1 and {name.casefold() for name in names} <= SIDES_OF_DATA:
        found = f"its folders are {', '.join(sorted(names))}, which are sides of a split"
        first = min(names, key=len) if "train" not in names else "train"
        raise DataError(f"{folder}: {found}; name one of them, for example {folder / first}")
