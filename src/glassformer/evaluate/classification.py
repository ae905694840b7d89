"""Accuracy, precision, recall, F1 and confusion of labels: one of each text, several of each text, or one of each token."""

# N examples, C labels

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glassformer.errors import DataError, nearest
from glassformer.evaluate.metric import Metric, check_same_examples


@dataclass(frozen=True)
class ClassScore:
    """How one label fared. A ratio is 0 where there is nothing to divide by, as for a label that never occurs."""

    label: str
    n_right: int
    n_predicted: int
    n_wanted: int

    @property
    def precision(self) -> float:
        """The share of the predictions of this label that were right."""
        return self.n_right / max(self.n_predicted, 1)

    @property
    def recall(self) -> float:
        """The share of this label's occurrences that were found."""
        return self.n_right / max(self.n_wanted, 1)

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall."""
        return 2 * self.n_right / max(self.n_predicted + self.n_wanted, 1)


@dataclass(frozen=True, eq=False)
class ClassificationScore:
    """Accuracy, F1 over all labels, each label by itself, and what was taken for what.

    `confusion` [C, C] has a row for each wanted label, a column for each predicted one, in the order of the labels; None
    where an example may have several labels. `macro_f1` is the mean of F1 over labels that are wanted or predicted at
    least once, `micro_f1` the F1 of all decisions together, which with one label each is the accuracy.
    """

    accuracy: Metric
    macro_f1: Metric
    micro_f1: Metric
    per_class: tuple[ClassScore, ...]
    confusion: NDArray[np.int64] | None

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The three numbers that can be resampled and compared."""
        return self.accuracy, self.macro_f1, self.micro_f1


def classification_score(
    predicted: Sequence[str | Collection[str]],
    wanted: Sequence[str | Collection[str]],
    labels: Sequence[str],
    where: Sequence[str] = (),
) -> ClassificationScore:
    """The score of texts, each with its label or its set of labels; `where` [N], if given, is the file and line of each.

    With sets, an example counts as accurate when the whole set is right. There is a confusion matrix when every set
    holds one label. Raises DataError for a label that is not among `labels`, and for unequal or empty lists.
    """
    check_same_examples(predicted, wanted, "predictions")
    found, right = (memberships(rows, numbered(labels), where) for rows in (predicted, wanted))
    exact = (found == right).all(axis=1)
    single = (found.sum(axis=1) == 1).all() and (right.sum(axis=1) == 1).all()
    return score_of_counts(
        np.stack([found & right, found, right], axis=1),
        np.stack([exact, np.ones_like(exact)], axis=1),
        labels,
        confusion_matrix(found.argmax(axis=1), right.argmax(axis=1), len(labels)) if single else None,
        "examples",
    )


def tagging_score(
    predicted: Sequence[Sequence[str]],
    wanted: Sequence[Sequence[str]],
    labels: Sequence[str],
    where: Sequence[str] = (),
) -> ClassificationScore:
    """The score of sentences whose tokens are labelled: tokens are counted, sentences are the examples that are resampled.

    Raises DataError for an unknown label, a sentence with fewer or more predictions than tokens, unequal or empty lists.
    """
    check_same_examples(predicted, wanted, "tagged sentences")
    numbers, n = numbered(labels), len(labels)
    table = np.zeros((len(wanted), 3, n))
    tokens = np.zeros((len(wanted), 2))
    confusion = np.zeros((n, n), np.int64)
    for i, (found, right) in enumerate(zip(predicted, wanted, strict=True)):
        if len(found) != len(right):
            raise DataError(
                f"{place(i, where)}: {len(found):,} tags predicted for {len(right):,} tokens; give one for each"
            )
        of_found, of_right = (np.array(indices(tags, numbers, place(i, where)), np.int64) for tags in (found, right))
        same = of_found == of_right
        table[i] = [np.bincount(some, minlength=n) for some in (of_right[same], of_found, of_right)]
        tokens[i] = same.sum(), len(right)
        confusion += confusion_matrix(of_found, of_right, n)
    return score_of_counts(table, tokens, labels, confusion, "tokens")


def score_of_counts(
    table: NDArray[np.generic],
    outcomes: NDArray[np.generic],
    labels: Sequence[str],
    confusion: NDArray[np.int64] | None,
    noun: str,
) -> ClassificationScore:
    """From `table` [N, 3, C], how often each label was right, predicted and wanted, and `outcomes` [N, 2], right of all."""
    counts = table.astype(np.float64).reshape(len(table), -1)
    exact = outcomes.astype(np.float64)
    n_right, n_all = exact.sum(axis=0).astype(int).tolist()
    signature = f"labels:{len(labels)}"
    per_label = table.sum(axis=0, dtype=np.int64).T.tolist()
    return ClassificationScore(
        Metric("accuracy", exact, share, signature=signature, detail=f"{n_right:,} of {n_all:,} {noun} right"),
        Metric("macro F1", counts, macro_f1, signature=signature, detail="mean over the labels that occur"),
        Metric("micro F1", counts, micro_f1, signature=signature, detail="all labels together"),
        tuple(ClassScore(label, *row) for label, row in zip(labels, per_label, strict=True)),
        confusion,
    )


# Where no label is wanted and none predicted nothing is wrong, so the three are 1: a perfect system scores 1 on every
# choice of its examples.


def share(summed: NDArray[np.float64]) -> float:
    """Accuracy from (right, all)."""
    right, all_of_them = summed.tolist()
    return right / all_of_them if all_of_them else 1.0


def macro_f1(summed: NDArray[np.float64]) -> float:
    """The mean F1 of labels from how often each was right, predicted and wanted, [3 C]."""
    right, predicted, wanted = summed.reshape(3, -1)
    occurs = predicted + wanted > 0
    return float(np.mean(2 * right[occurs] / (predicted + wanted)[occurs])) if occurs.any() else 1.0


def micro_f1(summed: NDArray[np.float64]) -> float:
    """The F1 of all decisions from how often each label was right, predicted and wanted, [3 C]."""
    right, predicted, wanted = summed.reshape(3, -1).sum(axis=1).tolist()
    return 2 * right / (predicted + wanted) if predicted + wanted else 1.0


def confusion_matrix(found: NDArray[np.int64], right: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """How often each label (row) was taken for each (column), [n, n]."""
    return np.bincount(right * n + found, minlength=n * n).reshape(n, n)


def memberships(
    rows: Sequence[str | Collection[str]], numbers: Mapping[str, int], where: Sequence[str]
) -> NDArray[np.bool_]:
    """Which labels each example has, [N, C]."""
    table = np.zeros((len(rows), len(numbers)), bool)
    for i, row in enumerate(rows):
        table[i, indices([row] if isinstance(row, str) else row, numbers, place(i, where))] = True
    return table


def indices(names: Collection[str], numbers: Mapping[str, int], where: str) -> list[int]:
    """The numbers of labels. Raises DataError with the nearest known label."""
    for name in names:
        if name not in numbers:
            raise DataError(
                f"{where}: the label {name!r} is not among the model's{nearest(name, numbers)}; correct it or leave it out"
            )
    return [numbers[name] for name in names]


def numbered(labels: Sequence[str]) -> dict[str, int]:
    """The column of each label."""
    return {label: i for i, label in enumerate(labels)}


def place(i: int, where: Sequence[str]) -> str:
    """Where example `i` stands, for an error."""
    return where[i] if where else f"example {i + 1:,}"
