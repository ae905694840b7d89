"""What the files that the user names seem to be made for, judged by their names and first rows; sure cases only."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Literal, get_args

from glassformer.data.columns import (
    ALIKE_NAMES,
    LABEL_NAMES,
    TAGS_NAMES,
    TEXT_NAMES,
    TOKENS_NAMES,
    first_text_columns,
    is_labelled,
    is_language,
    label_like_column,
    named,
    pair_columns,
)
from glassformer.data.corpora import BUILT_IN_PAIRS
from glassformer.data.decoding import COMPRESSED_EXTENSIONS, decompress
from glassformer.data.opening import beginning_of, open_file, read_bytes, table_format
from glassformer.data.shards.manifest import is_shards
from glassformer.data.source_file import SourceFile
from glassformer.data.sources import BUILT_IN_PREFIX, STANDARD_INPUT, expand, one_or_more
from glassformer.data.tables import Table, read_table
from glassformer.data.utterances.detecting import spoken_task
from glassformer.errors import DataError

Task = Literal["text", "translate", "classify", "tag", "transcribe", "classify_vectors"]
TASKS: tuple[Task, ...] = get_args(Task)
N_ROWS = 200  # of a table, that are looked at
N_FILES = 5  # of a folder or pattern, that are looked at
LONGEST_LABEL = 40  # characters
MOST_UNLIKE = 3  # times that one column of a translation may be as long as the other
TAGGED_EXTENSIONS = (".conll", ".conllu", ".iob", ".iob2", ".bio")
TAG = re.compile(r"O|[BIESLUM]-\S+")
SOURCE_EXTENSIONS, TARGET_EXTENSIONS = (".src", ".source"), (".tgt", ".trg", ".target")
FEELINGS = ({"pos", "neg"}, {"positive", "negative"})  # folders of these names are classes beyond doubt


@dataclass(frozen=True, slots=True)
class Detected:
    """A task, and in one clause what spoke for it."""

    task: Task
    reason: str


def detect_task(sources: str | Path | Sequence[str | Path], *, name_pattern: str | None = None) -> Detected:
    """The task for which files are made; "text" wherever that is not beyond doubt. Raises DataError for missing files.

    "translate": two files of as many lines whose extensions are languages or .src and .tgt; a table of two languages,
    of source and target, or without a header of two columns of text. "classify": a table of texts and labels, or
    without a header with a column of few short values; folders named pos and neg. "tag": lines or lists of tokens and
    tags. "transcribe", "classify_vectors": manifests, folders and archives of sound or of vectors, with what is said in
    them or with labels; `name_pattern` says how names of files tell it.
    """
    listed = one_or_more(sources)
    if any(is_shards(source) for source in listed):
        return Detected("text", "token shards hold running text")
    special = [str(source) for source in listed if is_special(str(source))]
    if special:
        pairs = [name for name in special if name.removeprefix(BUILT_IN_PREFIX) in BUILT_IN_PAIRS]
        return Detected("translate", f"{pairs[0]} holds pairs") if pairs else Detected("text", f"{special[0]} is text")
    spoken = spoken_task(listed, name_pattern) if listed else None
    if spoken is not None:
        return Detected(*spoken)
    for source in listed:
        if is_folder_of_feelings(Path(source).expanduser()):
            return Detected("classify", f"the folders in {source} are named as classes")
    paths = [path for source in listed for path in expand(source, []) if isinstance(path, Path)]
    aligned = aligned_by_name(paths)
    if aligned is not None:
        return aligned
    judged = [judge(path) for path in paths[:N_FILES]]
    tasks = {found.task for found in judged}
    if len(tasks) == 1:
        return judged[0]
    return Detected("text", "its files do not seem to be all of one other kind" if judged else "nothing is named")


def is_special(source: str) -> bool:
    """Whether a source is no file."""
    return source == STANDARD_INPUT or source.startswith(BUILT_IN_PREFIX)


def is_folder_of_feelings(folder: Path) -> bool:
    """Whether a folder holds folders of the names that reviews are sorted into."""
    if not folder.is_dir():
        return False
    names = {path.name for path in folder.iterdir() if path.is_dir()}
    return any(feelings <= names for feelings in FEELINGS)


# --- aligned files ----------------------------------------------------------------------------------------------------


def aligned_by_name(paths: Sequence[Path]) -> Detected | None:
    """A translation where files are two by two in two languages and have as many lines, or one name."""
    if not paths or len(paths) % 2:
        return None
    for source, target in zip(paths[0::2], paths[1::2], strict=True):
        (source_stem, source_end), (target_stem, target_end) = without_packing(source), without_packing(target)
        languages = is_language(source_end[1:]) and is_language(target_end[1:]) and source_end != target_end
        sides = source_end in SOURCE_EXTENSIONS and target_end in TARGET_EXTENSIONS
        if not (languages or sides):
            return None
        # Under one name they are meant for each other, however many lines they have: reading them will tell.
        if source_stem != target_stem and number_of_lines(source) != number_of_lines(target):
            return None
    return Detected("translate", f"{paths[0].name} and {paths[1].name} are named as the two sides of a translation")


def without_packing(path: Path) -> tuple[str, str]:
    """The name of a file and its extension, which may be a language: ``("train", ".de")`` for ``train.de.gz``."""
    name = path.name[: -len(path.suffix)] if path.suffix.lower() in COMPRESSED_EXTENSIONS else path.name
    return PurePath(name).stem, PurePath(name).suffix.lower()


def number_of_lines(path: Path) -> int:
    """How many lines a file has; its last one may lack an end."""
    content = decompress(read_bytes(path), str(path))
    return content.count(b"\n") + (bool(content) and not content.endswith(b"\n"))


# --- single files -----------------------------------------------------------------------------------------------------


def judge(path: Path) -> Detected:
    """The task of one file."""
    first_lines = beginning_of(path, N_ROWS)
    if without_packing(path)[1] in TAGGED_EXTENSIONS or holds_tags(first_lines):
        return Detected("tag", f"{path.name} holds a token and a tag on each line")
    known = table_format(path)
    if known is None:
        return Detected("text", f"{path.name} is text")
    table = table_at_beginning(path, known, first_lines)
    if table is None or not any(row.cells for row in table.rows):
        return Detected("text", f"{path.name} is no table")
    return judge_header(table, path.name) if table.has_header else judge_columns(table, path.name)


def holds_tags(first_lines: Sequence[str]) -> bool:
    """Whether all lines are of as many columns, and the last column says where names begin, go on and end."""
    rows = [line.split() for line in first_lines if not line.startswith("-DOCSTART-")]
    widths = {len(cells) for cells in rows}
    return len(widths) == 1 and widths.pop() > 1 and all(TAG.fullmatch(cells[-1]) for cells in rows)


def table_at_beginning(path: Path, known: str, first_lines: Sequence[str]) -> Table | None:
    """The table of the first rows, or of all in a format that is not made of lines; None where it cannot be read."""

    def is_header(cells: Sequence[str]) -> bool:
        return is_labelled(cells) or pair_columns(cells) is not None

    try:
        if known in (".json", ".parquet"):
            return read_table(open_file(path, []), known, is_header)
        content = "\n".join(first_lines).encode()
        return read_table(SourceFile(str(path), content), known, is_header)
    except DataError:  # a row that was cut in two, or is wrong: reading the whole will tell
        return None


def judge_header(table: Table, name: str) -> Detected:
    """The task that the names of the columns speak of."""
    names = table.names
    if named(names, TOKENS_NAMES) and named(names, TAGS_NAMES):
        return Detected("tag", f"{name} has a column of tokens and one of tags")
    if any(isinstance(row.cells.get("translation"), dict) for row in table.rows):
        return Detected("translate", f"{name} holds translations")
    label = named(names, LABEL_NAMES)
    if label is not None and (named(names, TEXT_NAMES) or len(names) == 2):
        return Detected("classify", f"{name} has a column {label!r}")
    columns = pair_columns(names)
    if columns is None:
        return Detected("text", f"{name} names no second column that is known")
    if any(named(columns, alike) for alike, _ in ALIKE_NAMES):
        return Detected("text", f"{name} holds pairs of like meaning, for which no task is beyond doubt")
    return Detected("translate", f"{name} has the columns {columns[0]!r} and {columns[1]!r}")


def judge_columns(table: Table, name: str) -> Detected:
    """The task that two columns without names speak of."""
    rows = [row.cells for row in table.rows if row.cells]
    texts = first_text_columns(table)
    label = label_like_column(table)
    if label is not None and len(table.names) > 1:
        values = [cells[label] for cells in rows]
        if 2 * len(set(values)) <= len(values) and max(map(len, values)) <= LONGEST_LABEL:
            return Detected("classify", f"{name} has a column of {len(set(values))} different short values")
    if texts is not None and all(is_mostly_words(cells[column] for cells in rows) for column in texts):
        shorter, longer = sorted(sum(len(cells[column]) for cells in rows) for column in texts)
        if longer <= MOST_UNLIKE * shorter:
            return Detected("translate", f"{name} has two columns of text")
    return Detected("text", f"{name} has no columns that say what it is for")


def is_mostly_words(cells: Iterable[str]) -> bool:
    """Whether nearly all cells hold letters."""
    have_letters = [any(character.isalpha() for character in cell) for cell in cells]
    return sum(have_letters) >= 0.9 * len(have_letters)
