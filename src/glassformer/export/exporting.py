"""The export of a model: written, opened again, compared, and only then given its name."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glassformer import __version__
from glassformer.checkpoints.json_files import write_json
from glassformer.checkpoints.save import refuse_strangers
from glassformer.errors import CheckpointError, ConfigError, nearest
from glassformer.export import to_gguf, to_hf, to_onnx, to_torch
from glassformer.export.agreement import UNITS, Agreement, require, sublayers
from glassformer.export.draft import draft_of
from glassformer.export.job import DTYPES, Job, need, own_dtype
from glassformer.files import whole_folder
from glassformer.models import Model, count_parameters
from glassformer.tokenizers import Tokenizer

REPORT = "export.json"  # in a folder; beside a file it is called like the file


@dataclass(frozen=True)
class Format:
    """What can be written: how, the numbers it takes, the ending of its file ("" for a folder)."""

    write: Callable[[Job, Path], list[Agreement]]
    numbers: tuple[str, ...]
    suffix: str
    needs: tuple[str, ...] = ()  # an extra and its packages


@dataclass(frozen=True)
class Exported:
    """What was written: its files with their bytes, and how each reader of them agrees with the model in memory."""

    to: str
    out: Path
    numbers: str
    files: dict[Path, int]
    report: Path
    checks: tuple[Agreement, ...]
    notes: tuple[str, ...] = ()

    @property
    def largest(self) -> float:
        """The largest difference that any reader showed."""
        return max(check.largest for check in self.checks)

    @property
    def bytes(self) -> int:
        """The size of all files together, the report left out."""
        return sum(self.files.values())


def export_model(
    model: Model,
    to: str,
    out: Path,
    *,
    tokenizer: Tokenizer | None = None,
    source_tokenizer: Tokenizer | None = None,
    generation: Mapping[str, Any] | None = None,
    chat_template: str | None = None,
    card: str | None = None,
    dtype: str | None = None,
    kind: str | None = None,
    written: Callable[[Path], None] = lambda path: None,
) -> Exported:
    """Write a model in a format of FORMATS, open what was written again and compare both on random inputs.

    dtype: of the numbers, default the model's own in a folder and float32 in a graph; kind: that of GGUF. card: Markdown for
    the README.md of a folder. `written` is told
    each draft before it is opened again. Where a difference is more than rounding explains, nothing is left behind and
    CheckpointError raised. Raises ConfigError for what does not go together and DiskError where the disk refuses.
    """
    out = Path(os.path.abspath(out))
    check_wishes(to, out, dtype, kind)
    if model.config.vectors is not None and to != "hf":
        raise ConfigError(f"--to {to}: no graph is written yet of a model that reads vectors; choose --to hf")
    form = FORMATS[to]
    job = Job(
        model,
        out.name,
        numbers_of(to, model, dtype, kind),
        tokenizer,
        source_tokenizer,
        generation or {},
        chat_template,
        card,
        written,
    )
    with place(out, form) as draft:
        with named(draft, out):
            checks = form.write(job, draft)
        require(checks, out)
        report = draft / REPORT if not form.suffix else draft.with_name(f"{draft.name}.json")
        files = {
            path: path.stat().st_size
            for path in sorted(draft.rglob("*") if not form.suffix else draft.parent.iterdir())
        }
        write_json(
            report, told(job, to, checks, {str(path.relative_to(base(draft, form))): n for path, n in files.items()})
        )
        if not form.suffix:
            append_to_card(draft / "README.md", checks)
    final = base(out, form)
    return Exported(
        to,
        out,
        job.numbers,
        {final / path.relative_to(base(draft, form)): size for path, size in files.items()},
        final / report.relative_to(base(draft, form)),
        tuple(checks),
        tuple(job.notes),
    )


@contextmanager
def named(draft: Path, out: Path) -> Generator[None]:
    """Errors about the draft name the file that it was to become."""
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(str(error).replace(str(draft), str(out))) from None


def format_named(to: str) -> Format:
    """The format of that name. Raises ConfigError with the nearest one."""
    if to not in FORMATS:
        raise ConfigError(f"--to {to}: is not one of {', '.join(FORMATS)}{nearest(to, FORMATS)}")
    return FORMATS[to]


def check_wishes(to: str, out: Path, dtype: str | None = None, kind: str | None = None) -> None:
    """Raise, before a large model is read, what `export_model` would: ConfigError for an unknown format, for numbers that it
    has not, a name that belongs to another format or a package that is missing; CheckpointError for a folder of strangers."""
    form = format_named(to)
    wrong, asked, right = ("--dtype", dtype, "--kind") if to == "gguf" else ("--kind", kind, "--dtype")
    if asked is not None:
        raise ConfigError(f"{wrong} {asked}: does not belong to --to {to}; choose {right} ({', '.join(form.numbers)})")
    chosen = kind if to == "gguf" else dtype
    if chosen is not None and chosen not in form.numbers:
        raise ConfigError(f"{right} {chosen}: is not one of {', '.join(form.numbers)}{nearest(chosen, form.numbers)}")
    refuse_place(out, to)
    if form.needs:
        need(*form.needs)


def numbers_of(to: str, model: Model, dtype: str | None, kind: str | None) -> str:
    """The numbers to write in, the model's own where nothing is asked for; in graphs float32."""
    own = own_dtype(model)
    if to == "gguf":
        return kind or ("f32" if own == "float32" else "f16")
    return dtype or (own if to == "hf" else "float32")


def refuse_place(out: Path, to: str) -> None:
    """Raise ConfigError for a name that belongs to another format, CheckpointError where other files would be lost."""
    suffix = FORMATS[to].suffix
    if not suffix:
        if out.suffix in {form.suffix for form in FORMATS.values() if form.suffix}:
            raise ConfigError(f"-o {out}: --to {to} writes a folder, and this is the name of a {out.suffix} file")
        refuse_strangers(out)
    elif out.suffix != suffix:
        raise ConfigError(f"-o {out}: --to {to} writes a file whose name ends in {suffix}")
    elif out.is_dir():
        raise ConfigError(f"-o {out}: is a folder, expected the name of a file")


def place(out: Path, form: Format) -> AbstractContextManager[Path]:
    """Where the draft is written."""
    return draft_of(out) if form.suffix else whole_folder(out)


def base(path: Path, form: Format) -> Path:
    """The folder that the files of an export lie in."""
    return path.parent if form.suffix else path


def told(job: Job, to: str, checks: list[Agreement], files: dict[str, int]) -> dict[str, Any]:
    """The report that is stored beside what was written."""
    config = job.model.config
    return {
        "format": to,
        "glassformer": __version__,
        "numbers": job.numbers,
        "shape": config.shape,
        "head": config.head,
        "parameters": count_parameters(job.model),
        "vocab_size": config.vocab_size,
        "max_len": config.max_len,
        "files": files,
        "largest_difference": max(check.largest for check in checks),
        "tolerance": f"{UNITS} units in the last place of the number type, for each of {sublayers(config)} sublayers, "
        "of the largest answer or of 1",
        "checks": [check.to_dict() for check in checks],
    }


def append_to_card(path: Path, checks: list[Agreement]) -> None:
    """Say in the README.md of a folder who has read it and how well that agreed."""
    lines = "\n".join(f"- {check}" for check in checks)
    text = path.read_text(encoding="utf-8")
    path.write_text(
        f"{text}\n## Read again\n\nCompared with the model in memory on random texts when this folder was written:\n\n"
        f"{lines}\n\nThe figures are in `{REPORT}`.\n",
        encoding="utf-8",
    )


FORMATS = {
    "hf": Format(to_hf.write, tuple(DTYPES), ""),
    "gguf": Format(to_gguf.write, tuple(to_gguf.KINDS), ".gguf"),
    "onnx": Format(to_onnx.write, ("float32", "float16"), ".onnx", ("onnx", "onnx", "onnxscript", "onnxruntime")),
    "torch": Format(to_torch.write, tuple(DTYPES), ".pt2"),
}
