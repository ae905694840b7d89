"""``glassformer data``: look at data before it is trained on, and at the very batches that training makes of it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Exit, Option, Typer

from glassformer.cli.flags import (
    AsJson,
    Encoding,
    LabelKey,
    LabelSeparator,
    SourceKey,
    TargetKey,
    TextKey,
    tell,
)

app = Typer(help="Check data files, and show the batches that training makes of them.", rich_markup_mode=None)


@app.command("check")
def check(
    files: Annotated[list[str], Argument(help="Files, folders, globs or demo:NAME, as for `train`.")],
    task: Annotated[
        str | None, Option("--task", help="text, translate, classify or tag. [default: by the files]")
    ] = None,
    validation: Annotated[
        list[str] | None, Option("--val-data", help="Files to validate on, of which none should be trained on.")
    ] = None,
    text_key: TextKey = None,
    source_key: SourceKey = None,
    target_key: TargetKey = None,
    label_key: LabelKey = None,
    label_separator: LabelSeparator = None,
    encoding: Encoding = None,
    strict: Annotated[bool, Option("--strict", help="Leave with exit code 1 where anything was found.")] = False,
    as_json: AsJson = False,
) -> None:
    """Find what may be wrong with data: encodings, duplicates, leaks into validation, wrong languages, odd lengths."""
    from glassformer.data.check import CHECKS, check_files
    from glassformer.errors import FAILED, ConfigError, nearest

    if task is not None and task not in CHECKS:
        raise ConfigError(f"--task {task}: there are no checks for this{nearest(task, CHECKS)}")
    known: Any = task
    report = check_files(
        files,
        known,
        validation=validation or None,
        encoding=encoding,
        text_key=text_key,
        source_key=source_key,
        target_key=target_key,
        label_key=label_key,
        separator=label_separator,
    )
    print(json.dumps(asdict(report), indent=2, ensure_ascii=False) if as_json else "\n".join(report.lines()))
    if strict and report.n_found:
        raise Exit(FAILED)


@app.command("show")
def show(
    recipe: Annotated[Path, Argument(help="A recipe.yaml, or a run folder.")],
    step: Annotated[int, Option("--step", min=1, help="The training step whose batch is shown.")] = 1,
    rows: Annotated[int, Option("--rows", min=1, help="Rows of the batch to show.")] = 4,
    as_json: AsJson = False,
) -> None:
    """Show a batch as the model will see it: tokens, positions, masks and targets of its rows.

    It is the one that training takes at this step, made by the same code.
    """
    from glassformer.cli.batch import in_lines, rows_of
    from glassformer.training.preview import preview

    known, task = preview(recipe)
    left_out = [f"left out {row.where}: {row.reason}" for row in task.skipped[:3]]
    more = len(task.skipped) - len(left_out)
    tell([*task.notes, *left_out, *([f"and {more:,} rows more"] if more else [])])
    batch = task.batch(step - 1)
    listed = list(rows_of(task, known, batch))
    about = {
        "task": known.task,
        "step": step,
        "epoch": task.epoch(step - 1),
        "rows": len(listed),
        "tokens": batch.n_tokens,
        "targets": batch.n_targets,
    }
    if as_json:
        print(json.dumps({**about, "batch": listed[:rows]}, indent=2, ensure_ascii=False))
        return
    print(
        f"step {step:,} of {known.task}, epoch {about['epoch']:.2f}: {len(listed):,} rows, {batch.n_tokens:,} tokens, "
        f"{batch.n_targets:,} targets"
    )
    for number, row in enumerate(listed[:rows], start=1):
        print(f"row {number}")
        print("\n".join(in_lines(row)))
    if len(listed) > rows:
        print(f"and {len(listed) - rows:,} rows more; --rows shows them")
