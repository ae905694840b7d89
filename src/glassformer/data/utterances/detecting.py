"""Whether files are of sound or vectors, and whether to be written down or to be told apart; sure cases only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from glassformer.data.columns import label_like_column
from glassformer.data.utterances.archives import TARGETS, TEXTS
from glassformer.data.utterances.columns import LABELS, TRANSCRIPTS, Places, alias, path_column
from glassformer.data.utterances.corpus import Asked
from glassformer.data.utterances.manifests import beginning_of_manifest
from glassformer.data.utterances.names import NamePattern
from glassformer.data.utterances.units import Unit, units_of
from glassformer.data.utterances.vectors import open_npz

LONGEST_LABEL = 40  # characters
SpokenTask = Literal["transcribe", "classify_vectors"]
Judged = tuple[SpokenTask, str]  # and in one clause what spoke for it


def spoken_task(sources: Sequence[str | Path], name_pattern: str | None = None) -> Judged | None:
    """The task that sources of sound or vectors are made for; None where they are neither, or not all of one task.

    Raises DataError for files that are not there, and for sound without a word on what is said in it.
    """
    asked = Asked(name_pattern=name_pattern)
    pattern = None if name_pattern is None else NamePattern(name_pattern)
    judged: list[Judged] = []
    for source in sources:
        units = units_of(source, asked, pattern, [])
        found = [judge(unit, asked, pattern) for unit in units]
        if not found or None in found:
            return None
        judged += [one for one in found if one is not None]
    return judged[0] if len({task for task, _ in judged}) == 1 else None


def judge(unit: Unit, asked: Asked, pattern: NamePattern | None) -> Judged | None:
    """The task of one unit, None where it is not beyond doubt."""
    name = unit.path.name
    match unit.how:
        case "classes":
            return "classify_vectors", f"the folders in {name} hold sounds or vectors and are named as classes"
        case "transcript" | "kaldi":
            return "transcribe", f"{name} tells what is said in files of sound"
        case "files":
            if pattern is not None and "label" in pattern.fields:
                return "classify_vectors", f"the names of files in {name} hold a label"
            told = "in its name" if pattern is not None and "text" in pattern.fields else "beside it"
            return "transcribe", f"what is said in each file of {name} is told {told}"
        case "manifest":
            return judge_manifest(unit.path, asked, pattern)
        case "archive":
            return judge_names(names_in(unit.path), name)


def judge_manifest(path: Path, asked: Asked, pattern: NamePattern | None) -> Judged | None:
    """The task that the columns of a manifest speak of."""
    table = beginning_of_manifest(path, asked)
    if table is None:
        return None
    if table.has_header:
        if alias(table.names, (*TRANSCRIPTS, *LABELS)) is None:
            by_label = pattern is not None and "label" in pattern.fields
            return "classify_vectors" if by_label else "transcribe", f"{path.name} names files of sound or vectors"
        return judge_names(table.names, path.name)
    column = path_column(table, Places(path.parent))
    label = label_like_column(table, without=column)
    values = [str(row.cells[label]) for row in table.rows if row.cells] if label else []
    if label and 2 * len(set(values)) <= len(values) and max(map(len, values)) <= LONGEST_LABEL:
        return "classify_vectors", f"{path.name} names files, and {len(set(values))} different short values of them"
    return "transcribe", f"{path.name} names files and what is said in them"


def judge_names(names: Sequence[str], name: str) -> Judged | None:
    """The task that names of columns or arrays speak of; a transcript outweighs a label."""
    if (text := alias(names, TEXTS)) is not None:
        return "transcribe", f"{name} holds sound or vectors, and in {text!r} what is said"
    if (label := alias(names, TARGETS)) is not None:
        return "classify_vectors", f"{name} holds sound or vectors, and in {label!r} their labels"
    return None


def names_in(path: Path) -> list[str]:
    """The names of arrays or columns in a file of many sequences."""
    if path.suffix.lower() == ".npz":
        return list(open_npz(path).members)
    from glassformer.data.utterances.parquet_vectors import opened_parquet

    with opened_parquet(path) as file:
        return list(file.schema_arrow.names)
