"""A report on data before it is trained on: what was read, and the rows of which something may be wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glassformer.data.decoding import decode, decompress
from glassformer.data.detect import Task, detect_task
from glassformer.data.examples import Skipped
from glassformer.data.findings import (
    Check,
    Example,
    Finding,
    as_findings,
    contradictions,
    damaged,
    duplicates,
    leaks,
    lonely_labels,
    over_long,
)
from glassformer.data.labelled import read_labelled
from glassformer.data.opening import read_bytes
from glassformer.data.pairs import read_pairs
from glassformer.data.reading import read_documents
from glassformer.data.sources import expand, one_or_more, says_held_out
from glassformer.data.suspects import copies, odd_lengths, other_languages, other_scripts
from glassformer.data.tagged import read_tagged
from glassformer.data.utterances.checks import SPOKEN_CHECKS
from glassformer.data.utterances.report import check_utterances
from glassformer.errors import ConfigError, DataError

if TYPE_CHECKING:
    from glassformer.tokenizers import Tokenizer

FIRST_FEW = 5  # findings of each kind that a report shows

Sources = str | Path | Sequence[str | Path]


@dataclass(frozen=True)
class Report:
    """What was found. `counts` holds every kind of finding that was looked for, `findings` the first few of each."""

    task: Task
    reason: str  # for which `task` was taken
    n_rows: int
    notes: tuple[str, ...]
    counts: Mapping[str, int]
    findings: tuple[Finding, ...]

    @property
    def n_found(self) -> int:
        """The number of findings of all kinds."""
        return sum(self.counts.values())

    def lines(self) -> list[str]:
        """The report as lines of text: what was read, then each kind with its count and its first few findings."""
        told = [f"task: {self.task} ({self.reason})", *self.notes]
        for kind, n in self.counts.items():
            few = [finding for finding in self.findings if finding.kind == kind]
            told.append(f"{kind}: {n:,}" if n else f"{kind}: none")
            told += [f"  {finding.where}: {finding.what}  {finding.sample}".rstrip() for finding in few]
            if n > len(few):
                told.append(f"  and {n - len(few):,} more")
        return told


def check_files(
    sources: Sources,
    task: Task | None = None,
    *,
    validation: Sources | None = None,
    encoding: str | None = None,
    hold_back: str | None = None,
    replace: Mapping[str, str] | None = None,
    tokenizer: Tokenizer | None = None,
    **keys: str | None,
) -> Report:
    """Read all rows for `task` (default: as `detect_task` sees it) and run its checks of `CHECKS` over them.

    Rows count as held out for measuring when they are in `validation`, or in a file whose name says so (val, dev,
    test). `keys` go to the reader of the task, those that it knows (`KEYS`). Of sound and vectors, `hold_back` names
    more rows to measure with, `replace` changes texts, and these are held against `tokenizer`. Raises DataError where the
    files cannot be read at all, ConfigError for what the task cannot use.
    """
    if task is None:
        detected = detect_task(sources, name_pattern=keys.get("name_pattern"))
        task, reason = detected.task, detected.reason
    else:
        reason = "as asked for"
    given = {name: key for name, key in keys.items() if key is not None and name in KEYS[task]}
    if task in SPOKEN_CHECKS:
        n_rows, notes, found = check_utterances(
            sources,
            task,
            is_held_out=is_held_out,
            validation=validation,
            hold_back=hold_back,
            tokenizer=tokenizer,
            encoding=encoding,
            replace=replace,
            keys=given,
        )
        return reported(task, reason, n_rows, notes, found)
    if hold_back is not None or tokenizer is not None:
        raise ConfigError(
            f"the task {task} has no use for hold_back or a tokenizer; they are for sound and for vectors"
        )
    examples, skipped, notes = read_examples(sources, task, encoding, given)
    files = files_of(sources)
    if validation is not None:
        more, more_skipped, more_notes = read_examples(validation, task, encoding, given)
        examples += [Example(row.text, row.other, row.where, held_out=True) for row in more]
        skipped += more_skipped
        notes += more_notes
        files += files_of(validation)
    found: dict[str, list[Finding]] = {
        "encoding": list(odd_encodings(files, encoding)),
        "unusable row": [Finding("unusable row", row.where, row.reason, "") for row in skipped],
    }
    for kind, check in TEXT_CHECKS[task].items():
        found[kind] = list(as_findings(kind, check(examples)))
    return reported(task, reason, len(examples), notes, found)


def reported(
    task: Task, reason: str, n_rows: int, notes: Sequence[str], found: Mapping[str, Sequence[Finding]]
) -> Report:
    """The report on these findings."""
    few = tuple(finding for findings in found.values() for finding in findings[:FIRST_FEW])
    counts = {kind: len(findings) for kind, findings in found.items()}
    return Report(task, reason, n_rows, tuple(notes), counts, few)


def read_examples(
    sources: Sources, task: Task, encoding: str | None, given: Mapping[str, str]
) -> tuple[list[Example], list[Skipped], list[str]]:
    """The rows of all files as the checks see them, those that cannot be used, and how they were read."""
    rows: list[tuple[str, str, str]]
    skipped: tuple[Skipped, ...] = ()
    match task:
        case "translate":
            pairs = read_pairs(sources, encoding=encoding, **given)
            rows = [(pair.source, pair.target, pair.where) for pair in pairs.pairs]
            skipped, notes = pairs.skipped, pairs.notes
        case "classify":
            labelled = read_labelled(sources, encoding=encoding, **given)
            rows = [(row.text, " + ".join(row.labels), row.where) for row in labelled.rows]
            skipped, notes = labelled.skipped, labelled.notes
        case "tag":
            tagged = read_tagged(sources, encoding=encoding)
            rows = [(" ".join(row.tokens), " ".join(row.tags), row.where) for row in tagged.rows]
            skipped, notes = tagged.skipped, tagged.notes
        case "text":
            corpus = read_documents(sources, encoding=encoding, text_key=given.get("text_key", "text"))
            rows = [(document.text, "", document.where) for document in corpus.documents]
            notes = corpus.notes
        case _:
            raise ConfigError(f"the task {task} has no texts to read; its rows are of sound or vectors")
    return [Example(*row, is_held_out(row[2])) for row in rows], list(skipped), list(notes)


def is_held_out(where: str) -> bool:
    """Whether the name of the file that a place is in says that it is for measuring."""
    return says_held_out(where.rpartition(":")[0] or where)


def files_of(sources: Sources) -> list[Path]:
    """The files that sources stand for."""
    return [path for source in one_or_more(sources) for path in expand(source, []) if isinstance(path, Path)]


def odd_encodings(files: Sequence[Path], encoding: str | None) -> list[Finding]:
    """Files whose encoding had to be guessed, or that hold damage or a mark."""
    found: list[Finding] = []
    for path in files:
        content = decompress(read_bytes(path), str(path))
        try:
            _, note = decode(content, str(path), encoding)
        except DataError:  # a format that is no text; reading it has told otherwise
            continue
        if note:
            found.append(Finding("encoding", str(path), note, ""))
    return found


KEYS: dict[Task, tuple[str, ...]] = {  # what the readers can be told about columns
    "translate": ("source_key", "target_key"),
    "classify": ("text_key", "label_key", "separator"),
    "tag": (),
    "text": ("text_key",),
    "transcribe": ("path_key", "text_key", "label_key", "name_pattern"),
    "classify_vectors": ("path_key", "text_key", "label_key", "name_pattern"),
}
COMMON: dict[str, Check] = {"damaged text": damaged, "duplicate": duplicates, "leak": leaks}
TEXT_CHECKS: dict[Task, dict[str, Check]] = {  # kind of finding: how it is found
    "translate": {
        **COMMON,
        "several targets": contradictions,
        "copied side": copies,
        "other language": other_languages,
        "other script": other_scripts,
        "odd length": odd_lengths,
        "over-long": over_long,
    },
    "classify": {**COMMON, "several labels": contradictions, "lonely label": lonely_labels, "over-long": over_long},
    "tag": {**COMMON, "several taggings": contradictions, "over-long": over_long},
    "text": COMMON,
}
CHECKS: dict[str, Mapping[str, Callable[[Any], Iterator[tuple[Any, str]]]]] = {**TEXT_CHECKS, **SPOKEN_CHECKS}
