"""From sources (manifests, folders, files of vectors) to one corpus of utterances, with notes. Sound itself is not read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace as changed
from pathlib import Path

from glassformer.data.documents import counted
from glassformer.data.examples import Skipped
from glassformer.data.json_values import listed
from glassformer.data.notes import nothing_found, sentences
from glassformer.data.source_file import Notes
from glassformer.data.sources import distinct, one_or_more
from glassformer.data.utterances.archives import rows_of_npz, rows_of_parquet
from glassformer.data.utterances.corpus import (
    Asked,
    Found,
    Kind,
    Utterance,
    UtteranceCorpus,
    Wanted,
    kind_of_file,
    parted,
)
from glassformer.data.utterances.folders import rows_of_files, rows_of_kaldi, rows_of_transcript
from glassformer.data.utterances.manifests import rows_of_manifest
from glassformer.data.utterances.names import NamePattern, Replacements
from glassformer.data.utterances.units import A_MANIFEST, Unit, units_of
from glassformer.errors import DataError

MOST_SHOWN = 8  # labels that a note lists with their counts


def read_utterances(
    sources: str | Path | Sequence[str | Path],
    *,
    wanted: Wanted = "text",
    path_key: str | None = None,
    text_key: str | None = None,
    label_key: str | None = None,
    name_pattern: str | None = None,
    replace: Mapping[str, str] | None = None,
    encoding: str | None = None,
) -> UtteranceCorpus:
    """Read every source, in the order given, into one corpus of utterances, all of sound or all of vectors.

    A source is a manifest whose rows name files beside it (CSV, TSV, JSON, Parquet, cells between bars as of LJSpeech;
    columns by the names of `columns`, or by `path_key`, `text_key`, `label_key`), a folder of LibriSpeech, Common Voice
    or Kaldi, of files with a .txt beside each, or of a folder for each class, an .npz or Parquet file of many sequences,
    or a pattern of such. `name_pattern` reads fields off names of files, as ``{text}_{speaker}_{take}``. `wanted` says
    whether transcripts or labels are read where there are both. `replace` changes whole texts, else words, for others.
    Rows that cannot be used are listed in `skipped`. Files of sound are looked for, not opened; the shapes of vectors
    are read.

    Raises DataError: nothing usable, unknown columns, sound beside vectors, vectors of different sizes; ConfigError for
    a name pattern that is none.
    """
    asked = Asked(wanted, path_key, text_key, label_key, name_pattern, encoding)
    pattern = None if name_pattern is None else NamePattern(name_pattern)
    replacements = Replacements(replace or {})
    notes: Notes = []
    rows: list[Utterance] = []
    skipped: list[Skipped] = []
    units = distinct(all_units(one_or_more(sources), asked, pattern, notes), lambda unit: [unit.path], notes)
    for unit in units:
        found = [replaced(row, replacements) for row in rows_of(unit, asked, pattern, notes)]
        usable, unusable = parted(str(unit.path), found, notes)
        rows += usable
        skipped += unusable
    names = [str(unit.path) for unit in units]
    if not names:
        raise DataError(f"no sound or vectors named; {A_MANIFEST}")
    if not rows:
        raise nothing_found("utterance", names, skipped)
    if replacements.unused:
        notes.append(("replace", f"{listed(replacements.unused)} found in no text"))
    kind, channels = one_kind(rows)
    amount = f"{counted(len(names), 'source')}, {in_words(rows, kind, wanted, channels)}"
    return UtteranceCorpus(tuple(rows), tuple(skipped), (amount, *sentences(notes)), kind, wanted, channels)


def all_units(sources: Sequence[str | Path], asked: Asked, pattern: NamePattern | None, notes: Notes) -> list[Unit]:
    """What the sources stand for. Raises DataError for a source without sound or vectors."""
    units: list[Unit] = []
    for source in sources:
        found = units_of(source, asked, pattern, notes)
        if not found:
            path = Path(source).expanduser()
            if not path.is_file() or path.suffix == "":
                raise DataError(f"{source}: no sound or vectors; {A_MANIFEST}")
            found = [Unit("archive" if path.suffix.lower() == ".parquet" else "manifest", path)]  # reading it will tell
        units += found
    return units


def rows_of(unit: Unit, asked: Asked, pattern: NamePattern | None, notes: Notes) -> Found:
    """The rows of one unit."""
    match unit.how:
        case "manifest":
            return rows_of_manifest(unit.path, asked, pattern, notes)
        case "transcript":
            return rows_of_transcript(unit.path, asked, notes)
        case "kaldi":
            return rows_of_kaldi(unit.path, asked, notes)
        case "archive" if unit.path.suffix.lower() == ".npz":
            return rows_of_npz(unit.path, asked, pattern, notes)
        case "archive":
            return rows_of_parquet(unit.path, asked, notes)
        case "files" | "classes":
            folder = unit.path if unit.how == "classes" else None
            return rows_of_files(unit.files, unit.path, folder, asked, pattern, notes)


def replaced(row: Utterance | Skipped, replacements: Replacements) -> Utterance | Skipped:
    """The row with the text that is meant."""
    if isinstance(row, Skipped) or not replacements.replace:
        return row
    text = replacements(row.text)
    if not text:
        return Skipped(row.where, "the text is empty")
    return row if text == row.text else changed(row, text=text)


def one_kind(rows: Sequence[Utterance]) -> tuple[Kind, int | None]:
    """Whether the rows are of sound or of vectors, and the size of these. Raises DataError where they differ."""
    first, kind = rows[0], kind_of_file(rows[0].path)
    for row in rows:
        if kind_of_file(row.path) != kind:
            kinds = f"{kind_of_file(row.path)}, and {first.where} of {kind}"
            raise DataError(f"{row.where}: is of {kinds}; train on one of the two")
    if first.shape is None:
        return "sound", None
    sizes = Counter(row.shape[1] for row in rows if row.shape)
    if len(sizes) > 1:
        usual = sizes.most_common(1)[0][0]
        odd, like = (next(r for r in rows if r.shape and (r.shape[1] == usual) is same) for same in (False, True))
        turned = len({row.shape[0] for row in rows if row.shape}) == 1
        advice = "T x F is expected, are they the other way round?" if turned else "all must be of one size"
        found = f"vectors of {odd.shape[1] if odd.shape else 0} numbers, where {like.where} has {usual}"
        raise DataError(f"{odd.where}: {found}; {advice}")
    return "vectors", first.shape[1]


def in_words(rows: Sequence[Utterance], kind: Kind, wanted: Wanted, channels: int | None) -> str:
    """How many utterances there are, of what, and by whom."""
    told = [counted(len(rows), "utterance")]
    if kind == "vectors":
        n_vectors = sum(row.shape[0] for row in rows if row.shape)
        told.append(f"{counted(n_vectors, 'vector')} of {counted(channels or 0, 'number')}")
    speakers = {row.speaker for row in rows}
    if "" not in speakers:
        told.append(counted(len(speakers), "speaker"))
    counts = Counter(row.text for row in rows)
    if wanted == "label":
        shown = ", ".join(f"{label} ({n:,})" for label, n in counts.most_common(MOST_SHOWN))
        told.append(f"{counted(len(counts), 'label')}: {shown}{', …' if len(counts) > MOST_SHOWN else ''}")
    else:
        told.append(counted(len(counts), "different text"))
    return ", ".join(told)
