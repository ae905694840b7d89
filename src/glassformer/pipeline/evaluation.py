"""How good a model is on given files: which scores suit what it was made for, their intervals, and every example's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glassformer.data import (
    Corpus,
    LabelledCorpus,
    PairCorpus,
    TaggedCorpus,
    read_documents,
    read_labelled,
    read_pairs,
    read_tagged,
)
from glassformer.data.utterances import UtteranceCorpus, read_utterances
from glassformer.errors import ConfigError
from glassformer.evaluate import (
    ClassificationScore,
    Comparison,
    Metric,
    confidence_interval,
    paired_test,
    write_examples,
)
from glassformer.generate import Beam

if TYPE_CHECKING:
    from glassformer.pipeline.pipeline import Pipeline

Examples = Corpus | PairCorpus | LabelledCorpus | TaggedCorpus | UtteranceCorpus


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Scores of a model. `examples` holds a row for each example, with its own "score" and `where` it stands.

    `classes`: every label by itself and what was taken for what, where labels or tags were judged. `notes` are sentences
    on what was found in the files, and what could not be counted.
    """

    task: str
    unit: str  # what the examples are, in the plural
    metrics: tuple[Metric, ...]
    examples: tuple[dict[str, Any], ...]
    higher_is_better: bool = True  # of the examples' scores
    classes: ClassificationScore | None = None
    notes: tuple[str, ...] = ()

    def intervals(self, n: int = 1000, seed: int = 0) -> dict[str, tuple[float, float]]:
        """Between what 95 % of n resamples of the examples score, by the name of the metric."""
        return {metric.name: confidence_interval(metric, n, seed) for metric in self.metrics}

    def against(self, other: Evaluation, n: int = 1000, seed: int = 0) -> list[Comparison]:
        """A paired test of each score that means the same for both. Raises ConfigError for models of different tasks,
        DataError where nothing can be compared."""
        if self.task != other.task:
            raise ConfigError(
                f"a model to {self.task} cannot be compared with one to {other.task}; name two of one task"
            )
        theirs = {(metric.name, metric.signature): metric for metric in other.metrics}
        same = [(mine, theirs.get((mine.name, mine.signature))) for mine in self.metrics]
        both = [(mine, its) for mine, its in same if its is not None] or list(
            zip(self.metrics[:1], other.metrics[:1], strict=True)  # which tells why not
        )
        return [paired_test(mine, its, n, seed) for mine, its in both]

    def write_examples(self, path: Path) -> None:
        """Write every example with its score, worst first, as .jsonl or .tsv. Raises ConfigError, DiskError."""
        write_examples(path, self.examples, self.higher_is_better)

    def to_dict(self, n: int = 1000, seed: int = 0) -> dict[str, Any]:
        """All but the examples, for JSON."""
        between = self.intervals(n, seed)
        found: dict[str, Any] = {
            "task": self.task,
            "n_examples": len(self.examples),
            "unit": self.unit,
            "metrics": {
                metric.name: {
                    "value": metric.value,
                    "low": between[metric.name][0],
                    "high": between[metric.name][1],
                    "signature": metric.signature,
                    "detail": metric.detail,
                }
                for metric in self.metrics
            },
        }
        if self.classes is not None:
            found["labels"] = {
                one.label: {"precision": one.precision, "recall": one.recall, "f1": one.f1, "n": one.n_wanted}
                for one in self.classes.per_class
            }
            confusion = self.classes.confusion
            found["confusion"] = None if confusion is None else confusion.tolist()
        return found


def read_examples(
    task: str,
    sources: str | Path | Sequence[str | Path],
    *,
    text_key: str | None = None,
    source_key: str | None = None,
    target_key: str | None = None,
    label_key: str | None = None,
    separator: str | None = None,
    encoding: str | None = None,
    path_key: str | None = None,
    name_pattern: str | None = None,
    replace: Mapping[str, str] | None = None,
) -> Examples:
    """What a model of this task is judged on: documents, pairs, labelled texts, tagged sentences or utterances.

    path_key, name_pattern and replace are for utterances, as in `read_utterances`. Raises DataError.
    """
    if task in ("transcribe", "classify_vectors"):
        return read_utterances(
            sources,
            wanted="text" if task == "transcribe" else "label",
            path_key=path_key,
            text_key=text_key,
            label_key=label_key,
            name_pattern=name_pattern,
            replace=replace,
            encoding=encoding,
        )
    asked = next((name for name in (path_key, name_pattern, replace) if name), None)
    if asked:
        raise ConfigError(f"{asked!r}: columns of files, patterns of names and replacements are for models that hear")
    if task in ("translate", "embed"):
        return read_pairs(sources, source_key=source_key, target_key=target_key, encoding=encoding)
    if task == "classify":
        return read_labelled(sources, text_key=text_key, label_key=label_key, separator=separator, encoding=encoding)
    if task == "tag":
        return read_tagged(sources, encoding=encoding)
    return read_documents(sources, text_key=text_key or "text", encoding=encoding)


def evaluate(pipe: Pipeline, examples: Examples, beam: Beam | Mapping[str, Any]) -> Evaluation:
    """The scores of a model on what `read_examples` has read for its task. `beam`: how it searches for translations; of a model
    that transcribes the settings of `Pipeline.transcribe`.

    Raises DataError, naming the line, for an example that the model cannot read, and for a label that it does not know.
    """
    from glassformer.pipeline.scoring import SCORERS  # which makes evaluations

    return SCORERS[pipe.task](pipe, examples, beam)
