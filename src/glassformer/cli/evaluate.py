"""``glassformer evaluate``: the scores of a model on files, how far they can be trusted, and whether another one's differ."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from glassformer.cli.flags import (
    AsJson,
    Device,
    EarlyStopping,
    Encoding,
    LabelKey,
    LabelSeparator,
    LengthPenalty,
    NoRepeatNgramSize,
    NumBeams,
    Run,
    SourceKey,
    TargetKey,
    TextKey,
    Threads,
    given,
    opened,
    tell,
)

if TYPE_CHECKING:
    from glassformer.evaluate import ClassificationScore, Comparison
    from glassformer.pipeline import Evaluation

MOST_LABELS = 20  # in a confusion matrix that is printed
MOST_WORST = 5  # utterances that are printed
RESAMPLES = 1000


def evaluate(
    run: Run,
    files: Annotated[
        list[str],
        Argument(help="Text, pairs, labelled texts, tagged sentences or utterances, whichever the model was made for."),
    ],
    against: Annotated[
        Path | None, Option("--against", help="Another run or model folder, to test whether its scores differ.")
    ] = None,
    examples: Annotated[
        Path | None, Option("--examples", help="Write every example with its score, worst first, as .jsonl or .tsv.")
    ] = None,
    num_beams: NumBeams = None,
    length_penalty: LengthPenalty = None,
    no_repeat_ngram_size: NoRepeatNgramSize = None,
    early_stopping: EarlyStopping = None,
    method: Annotated[
        str | None, Option("--method", help="Of transcribing: attention, ctc or joint. [default: what the model has]")
    ] = None,
    ctc_weight: Annotated[
        float | None, Option("--ctc-weight", help="Of transcribing: what CTC counts in joint decoding.")
    ] = None,
    text_key: TextKey = None,
    source_key: SourceKey = None,
    target_key: TargetKey = None,
    label_key: LabelKey = None,
    label_separator: LabelSeparator = None,
    path_key: Annotated[str | None, Option("--path-key", help="Column with the file of each utterance.")] = None,
    name_pattern: Annotated[
        str | None, Option("--name-pattern", help="What names of files tell: '{text}_{speaker}_{take}'.")
    ] = None,
    replace: Annotated[
        list[str] | None, Option("--replace", help="A text, or word, for another: 0=zero. May be given again.")
    ] = None,
    encoding: Encoding = None,
    seed: Annotated[int, Option("--seed", help="Seed of the resampling.")] = 0,
    as_json: AsJson = False,
    device: Device = "cpu",
    threads: Threads = None,
) -> None:
    """Score a model on files, in the ways that suit what it was made for.

    A model that generates: perplexity and bits per byte. One that translates: BLEU and chrF, and the perplexity of the
    references. Labels and tags: accuracy, F1, confusion. Vectors: recall and mean reciprocal rank of a pair's other side.
    Masks: accuracy and perplexity. Transcripts: word and character errors, and the worst of them. Each with the interval in
    which 95 % of 1,000 resamples of the examples lie.
    """
    from glassformer.errors import ConfigError
    from glassformer.evaluate.listing import WRITERS
    from glassformer.pipeline.evaluation import evaluate, read_examples

    if examples is not None and examples.suffix.lower() not in WRITERS:
        raise ConfigError(f"{examples}: examples are written as {' or '.join(WRITERS)}; choose a name that ends so")
    pipe = opened(run, device, threads)
    other = None if against is None else opened(against, device, threads)
    if other is not None and other.task != pipe.task:
        raise ConfigError(f"{run} was made to {pipe.task} and {against} to {other.task}; compare models of one task")
    settings = given(
        num_beams=num_beams,
        length_penalty=length_penalty,
        no_repeat_ngram_size=no_repeat_ngram_size,
        early_stopping=early_stopping,
        method=method,
        ctc_weight=ctc_weight,
    )
    if pipe.task != "transcribe" and (method is not None or ctc_weight is not None):
        raise ConfigError(f"{run} was made to {pipe.task}; --method and --ctc-weight are for models that transcribe")
    corpus = read_examples(
        pipe.task,
        files,
        text_key=text_key,
        source_key=source_key,
        target_key=target_key,
        label_key=label_key,
        separator=label_separator,
        encoding=encoding,
        path_key=path_key,
        name_pattern=name_pattern,
        replace=replacements(replace),
    )
    evaluation = evaluate(pipe, corpus, pipe.searching(settings))
    tell(evaluation.notes)
    comparisons: list[Comparison] = []
    if other is not None:
        comparisons = evaluation.against(evaluate(other, corpus, other.searching(settings)), RESAMPLES, seed)
    if examples is not None:
        evaluation.write_examples(examples)
        tell([f"{examples}: {len(evaluation.examples):,} {evaluation.unit}, worst first"])
    if as_json:
        found = evaluation.to_dict(RESAMPLES, seed)
        if comparisons:
            found["against"] = {one.name: asdict(one) for one in comparisons}
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return
    print("\n".join(report(evaluation, seed)))
    if comparisons:
        print("\n".join(["", f"{run} against {against}, on the same resamples:", *compared(comparisons)]))
        alike = {one.name for one in comparisons}
        unlike = [metric.name for metric in evaluation.metrics if metric.name not in alike]
        tell(f"{name} is not compared: the two models cut the text into different tokens" for name in unlike)


def replacements(asked: Sequence[str] | None) -> dict[str, str] | None:
    """``0=zero`` as what is replaced and by what. Raises ConfigError."""
    from glassformer.errors import ConfigError

    found: dict[str, str] = {}
    for one in asked or ():
        old, equals, new = one.partition("=")
        if not (old and equals):
            raise ConfigError(f"--replace {one}: expected OLD=NEW, for example --replace 0=zero")
        found[old] = new
    return found or None


def report(evaluation: Evaluation, seed: int) -> list[str]:
    """The scores as lines: value, interval, and what stands behind it."""
    between = evaluation.intervals(RESAMPLES, seed)
    width = max(len(metric.name) for metric in evaluation.metrics)
    lines = [f"{evaluation.task}, {len(evaluation.examples):,} {evaluation.unit}; in brackets 95 % of the resamples"]
    for metric in evaluation.metrics:
        low, high = (number(bound) for bound in between[metric.name])
        about = "; ".join(part for part in (metric.detail, metric.signature if "|" in metric.signature else "") if part)
        lines.append(f"{metric.name:<{width}}  {number(metric.value)}  [{low} to {high}]  {about}".rstrip())
    if evaluation.task == "transcribe":
        lines += worst(evaluation)
    return lines if evaluation.classes is None else [*lines, "", *classes(evaluation.classes)]


def worst(evaluation: Evaluation) -> list[str]:
    """The utterances with the most errors for each word, as lines; none where all are right."""
    rows = sorted((row for row in evaluation.examples if row["score"] > 0), key=lambda row: -row["score"])[:MOST_WORST]
    lines = [f"{row['score']:.2f}  {row['where']}: {row['said']!r} for {row['wanted']!r}" for row in rows]
    return ["", "most errors for each word:", *lines] if lines else []


def classes(scores: ClassificationScore) -> list[str]:
    """Each label by itself, and what was taken for what."""
    names = [one.label for one in scores.per_class]
    width = max(5, *map(len, names))
    lines = [f"{'label':<{width}}  precision  recall      F1       n"]
    for one in scores.per_class:
        lines.append(f"{one.label:<{width}}  {one.precision:>9.4f}  {one.recall:.4f}  {one.f1:.4f}  {one.n_wanted:>6,}")
    if scores.confusion is None or len(names) > MOST_LABELS:
        return lines
    cell = max(6, *map(len, names))
    lines += ["", f"{'rows: wanted, columns: said':<{width}}"]
    lines.append(" " * width + "".join(f"  {name:>{cell}}" for name in names))
    for name, row in zip(names, scores.confusion.tolist(), strict=True):
        lines.append(f"{name:<{width}}" + "".join(f"  {count:>{cell},}" for count in row))
    return lines


def compared(comparisons: Sequence[Comparison]) -> list[str]:
    """Each paired test as a line."""
    width = max(len(one.name) for one in comparisons)
    return [
        f"{one.name:<{width}}  {number(one.first)} - {number(one.second)} = {number(one.difference)}"
        f"  [{number(one.low)} to {number(one.high)}]  p = {one.p_value:.3g}"
        for one in comparisons
    ]


def number(value: float) -> str:
    """A score with as many digits as can matter."""
    return f"{value:,.2f}" if abs(value) >= 10 else f"{value:.4f}"
