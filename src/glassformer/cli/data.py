"""``glassformer data``: check data, make token shards of much of it, and see the very batches that training takes."""

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

app = Typer(
    help="Check data files, prepare much text for training, and show the batches that training makes.",
    rich_markup_mode=None,
)


@app.command("check")
def check(
    files: Annotated[list[str], Argument(help="Files, folders, globs or demo:NAME, as for `train`.")],
    task: Annotated[
        str | None,
        Option(
            "--task", help="text, translate, classify, tag, transcribe or classify_vectors. [default: by the files]"
        ),
    ] = None,
    validation: Annotated[
        list[str] | None, Option("--val-data", help="Files to validate on, of which none should be trained on.")
    ] = None,
    text_key: TextKey = None,
    source_key: SourceKey = None,
    target_key: TargetKey = None,
    label_key: LabelKey = None,
    label_separator: LabelSeparator = None,
    path_key: Annotated[str | None, Option("--path-key", help="Column that names files of sound or vectors.")] = None,
    name_pattern: Annotated[
        str | None, Option("--name-pattern", help="What names of such files tell, as '{text}_{speaker}_{take}'.")
    ] = None,
    hold_back: Annotated[
        str | None, Option("--hold-back", help="Rows of sound to validate on, as 'speaker=theo' or 'take=0,1,2'.")
    ] = None,
    replace: Annotated[
        list[str] | None, Option("--replace", help="A text or word of sound and what is meant, as 7=seven; repeatable.")
    ] = None,
    tokenizer: Annotated[
        Path | None, Option("--tokenizer", help="Folder or tokenizer.json that must know what is said in the sound.")
    ] = None,
    encoding: Encoding = None,
    strict: Annotated[bool, Option("--strict", help="Leave with exit code 1 where anything was found.")] = False,
    as_json: AsJson = False,
) -> None:
    """Find what may be wrong with data: encodings, duplicates, leaks into validation, wrong languages, odd lengths.

    Of sound also: broken, silent, clipped and mixed recordings, and texts that cannot have been said in the time.
    """
    from glassformer.cli.tokenizer import open_tokenizer
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
        path_key=path_key,
        name_pattern=name_pattern,
        hold_back=hold_back,
        replace=replacements(replace or []),
        tokenizer=None if tokenizer is None else open_tokenizer(tokenizer),
    )
    print(json.dumps(asdict(report), indent=2, ensure_ascii=False) if as_json else "\n".join(report.lines()))
    if strict and report.n_found:
        raise Exit(FAILED)


def replacements(asked: list[str]) -> dict[str, str]:
    """Texts and what they become, out of OLD=NEW. Raises ConfigError."""
    from glassformer.errors import ConfigError

    pairs: dict[str, str] = {}
    for text in asked:
        old, equals, new = text.partition("=")
        if not old or not equals:
            raise ConfigError(f"--replace {text}: expected a text and what it becomes, for example 7=seven")
        pairs[old] = new
    return pairs


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


@app.command("prepare")
def prepare(
    sources: Annotated[list[str], Argument(help="Text, JSONL and Parquet files (also .gz, .zst), folders, globs.")],
    folder: Annotated[Path, Option("--out-dir", "-o", help="Folder of shards; the same command goes on in it.")],
    tokenizer: Annotated[
        Path | None, Option("--tokenizer", help="Run, model, tokenizer or shards folder, or tokenizer.json, to use.")
    ] = None,
    kind: Annotated[
        str | None,
        Option("--tokenizer-kind", help="Else one is trained: bpe, characters, words or bytes. [default: bpe]"),
    ] = None,
    vocab_size: Annotated[
        int | None, Option("--vocab-size", min=1, help="Size of its vocabulary. [default: by the text]")
    ] = None,
    workers: Annotated[int, Option("--workers", "-j", min=1, help="Processes.")] = 1,
    shard_tokens: Annotated[
        int, Option("--shard-tokens", min=1, help="About how many tokens a shard has, where a file can be cut.")
    ] = 50_000_000,
    max_bad: Annotated[float, Option("--max-bad", min=0, max=1, help="Share of rows that may be bad.")] = 0.05,
    max_row: Annotated[int, Option("--max-row", min=1, help="Bytes that a row may have; longer ones are bad.")] = 1
    << 24,
    text_key: Annotated[str, Option("--text-key", help="Key or column that holds the text.")] = "text",
    encoding: Encoding = None,
    executor: Annotated[
        str,
        Option(
            "--executor",
            help="Who makes the shards: local, or one of datatrove's executors: datatrove (on this machine), slurm, ray.",
        ),
    ] = "local",
    executor_options: Annotated[
        list[str] | None,
        Option("--executor-option", help="KEY=VALUE for datatrove's executor: partition=cpu, time=04:00:00, ..."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Turn text of any amount into token shards, in bounded memory; `glassformer train FOLDER` trains on them.

    Rows that cannot be used are listed in FOLDER/quarantine.jsonl with file, place and reason. Stopped by Ctrl-C, or killed,
    the same command goes on behind the last finished shard, and ends with the same bytes.
    """
    from glassformer.cli.pace import PaceLine
    from glassformer.cli.tokenizer import open_tokenizer
    from glassformer.data.documents import counted
    from glassformer.data.shards import Reading, Submitted, TokenizerChoice, prepare_by
    from glassformer.errors import ConfigError

    if tokenizer is not None and (kind or vocab_size):
        raise ConfigError("--tokenizer names one that exists, so leave out --tokenizer-kind and --vocab-size")
    known = None if tokenizer is None else open_tokenizer(tokenizer)
    with PaceLine() as progress:
        made = prepare_by(
            executor,
            sources,
            folder,
            TokenizerChoice(known, kind or "bpe", vocab_size),
            options=named_options(executor_options or []),
            reading=Reading(text_key, encoding, max_row),
            workers=workers,
            shard_tokens=shard_tokens,
            most_bad=max_bad,
            progress=progress,
        )
    if isinstance(made, Submitted):
        print(
            f"{folder}: submitted; job {made.job} comes last and writes {folder / 'index.json'}; logs are in {made.logs}"
        )
        return
    about = made.manifest
    if as_json:
        counts = {name: getattr(about, name) for name in ("tokens", "rows", "documents", "quarantined", "empty")}
        print(json.dumps({"folder": str(folder), "shards": len(made.shards), **counts}, indent=2))
        return
    print(
        f"{folder}: {about.tokens:,} tokens in {counted(len(made.shards), 'shard')}; {counted(about.rows, 'row')} = "
        f"{counted(about.documents, 'document')} + {about.quarantined:,} quarantined + {about.empty:,} empty"
    )
    if about.quarantined:
        print(f"what is wrong with each of the {about.quarantined:,} is listed in {folder / 'quarantine.jsonl'}")
    print(f"next: glassformer train {folder}")


def named_options(assignments: list[str]) -> dict[str, Any]:
    """The values of ``--executor-option KEY=VALUE`` by key, numbers as numbers. Raises ConfigError."""
    from glassformer.errors import ConfigError

    found: dict[str, Any] = {}
    for assignment in assignments:
        key, sign, value = assignment.partition("=")
        if not sign or not key:
            raise ConfigError(f"--executor-option {assignment}: expected KEY=VALUE")
        found[key] = int(value) if value.lstrip("-").isdecimal() else value
    return found
