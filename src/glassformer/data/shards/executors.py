"""Who makes the shards: this machine's processes, or datatrove's executors on this machine, on Slurm and on Ray.

What becomes of a part is the same wherever it is made, so the shards are too, byte for byte.
"""

from __future__ import annotations

import inspect
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glassformer.data.shards.making import Spec, quarantine_path, shard_path
from glassformer.data.shards.manifest import Shards
from glassformer.data.shards.parts import Part
from glassformer.data.shards.preparing import (
    TOKENS,
    Progress,
    TokenizerChoice,
    begin,
    is_finished,
    make,
    prepare,
    stoppable,
)
from glassformer.data.shards.rows import Reading, check_encoding
from glassformer.data.shards.shard import Shard
from glassformer.errors import ConfigError, DataError, GlassformerError, nearest

Maker = Callable[[Sequence[Part], Spec, int, Progress | None], None]
EXECUTORS = ("local", "datatrove", "slurm", "ray")
OURS = ("pipeline", "tasks", "workers", "depends", "logging_dir", "skip_completed")  # arguments that are not the user's


@dataclass(frozen=True)
class Submitted:
    """Work that a cluster has taken on: its last job writes the manifest of the folder."""

    folder: Path
    job: str
    logs: Path


def prepare_by(
    executor: str,
    sources: Sequence[str | Path],
    folder: Path,
    choice: TokenizerChoice | None = None,
    *,
    options: Mapping[str, Any] | None = None,
    reading: Reading | None = None,
    workers: int = 1,
    shard_tokens: int = TOKENS,
    most_bad: float = 0.05,
    progress: Progress | None = None,
) -> Shards | Submitted:
    """The same as `prepare`, by one of EXECUTORS. `options` go to datatrove's executor, for example a Slurm partition.

    ``slurm`` returns once the jobs are submitted, the others once all is made. Logs go to a folder beside `folder`. Raises
    ConfigError for an unknown executor or option and where datatrove is missing, and what `prepare` raises.
    """
    if executor not in EXECUTORS:
        raise ConfigError(f"--executor {executor}: expected {', '.join(EXECUTORS)}{nearest(executor, EXECUTORS)}")
    given, reading = dict(options or {}), reading or Reading()
    if executor == "local" and given:
        raise ConfigError(
            f"--executor-option {next(iter(given))}: is for datatrove, slurm and ray; name one with --executor"
        )
    kind = None if executor == "local" else executor_class(executor, given)
    if executor == "slurm":
        return submit(
            kind, sources, folder, choice or TokenizerChoice(), given, reading, shard_tokens, most_bad, workers
        )
    maker = make if kind is None else made_by(kind, executor, given)
    return prepare(
        sources,
        folder,
        choice,
        reading=reading,
        workers=workers,
        shard_tokens=shard_tokens,
        most_bad=most_bad,
        progress=progress,
        maker=maker,
    )


def executor_class(executor: str, options: Mapping[str, Any]) -> Any:
    """The class of datatrove. Raises ConfigError where a package is missing or an option is unknown."""
    needed = ("datatrove", "ray") if executor == "ray" else ("datatrove",)
    try:
        for package in needed:
            __import__(package)
        from datatrove.executor import (  # pyright: ignore[reportMissingImports]
            LocalPipelineExecutor,
            RayPipelineExecutor,
            SlurmPipelineExecutor,
        )
    except ImportError:
        raise ConfigError(
            f"--executor {executor} needs {' and '.join(needed)}: pip install 'glassformer[scale]'"
        ) from None
    kind = {"datatrove": LocalPipelineExecutor, "slurm": SlurmPipelineExecutor, "ray": RayPipelineExecutor}[executor]
    known = [name for name in inspect.signature(kind).parameters if name not in OURS]
    for name in options:
        if name not in known:
            raise ConfigError(f"--executor-option {name}: {kind.__name__} has no such option{nearest(name, known)}")
    if executor == "slurm":
        for name in ("partition", "time"):
            if name not in options:
                raise ConfigError(f"--executor slurm: say --executor-option {name}=..., which every Slurm job needs")
    return kind


def made_by(kind: Any, executor: str, options: Mapping[str, Any]) -> Maker:
    """Makes all shards by an executor that waits until they stand."""

    def run(parts: Sequence[Part], spec: Spec, workers: int, progress: Progress | None) -> None:
        from glassformer.data.shards.pipeline_step import MakeShards

        logs = begin_logs(Path(spec.folder))
        step = MakeShards(parts, spec, str(complaints_in(logs)))
        try:
            if executor == "ray":
                begin_ray()
            kind(
                [step], tasks=len(parts), workers=workers, logging_dir=str(logs), skip_completed=False, **options
            ).run()
        except GlassformerError:
            raise
        except Exception as error:  # whatever the executor, or what it runs on, complains of
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise DataError(
                f"{executor}: the work could not be run ({first}); its logs are in {logs}, and the same command goes on"
            ) from None
        check_all_made(parts, spec, complaints_in(logs))

    return run


def begin_ray() -> None:
    """Join the cluster that RAY_ADDRESS names, or begin one on this machine, where the caller has not."""
    import ray  # pyright: ignore[reportMissingImports]

    if not ray.is_initialized():
        ray.init(log_to_driver=False, include_dashboard=False)


def submit(
    kind: Any,
    sources: Sequence[str | Path],
    folder: Path,
    choice: TokenizerChoice,
    options: dict[str, Any],
    reading: Reading,
    shard_tokens: int,
    most_bad: float,
    workers: int,
) -> Shards | Submitted:
    """Plan the work here, and hand it to Slurm: a task for each part, and one behind them for the manifest."""
    check_encoding(reading.encoding)
    folder = folder.absolute()
    with stoppable(folder):
        parts, spec = begin(sources, folder, choice, reading, shard_tokens)
        if is_finished(folder):
            return prepare(
                sources, folder, choice, reading=reading, shard_tokens=shard_tokens, most_bad=most_bad, maker=make
            )
        from glassformer.data.shards.pipeline_step import FinishShards, MakeShards

        if shutil.which("sbatch") is None:
            raise ConfigError("--executor slurm: there is no sbatch here; run this on a machine that submits to Slurm")
        logs = begin_logs(folder)
        told = str(complaints_in(logs))
        alike = {"skip_completed": False, **options}
        name = options.get("job_name", f"shards-{folder.name}")
        shards = kind(
            [MakeShards(parts, spec, told)],
            tasks=len(parts),
            workers=workers if workers > 1 else -1,
            logging_dir=str(logs / "shards"),
            **{**alike, "job_name": name},
        )
        last = kind(
            [FinishShards(parts, spec, told, most_bad)],
            tasks=1,
            depends=shards,
            logging_dir=str(logs / "manifest"),
            **{**alike, "job_name": f"{name}-manifest"},
        )
        last.run()
    return Submitted(folder, str(last.job_id), logs)


def begin_logs(folder: Path) -> Path:
    """Where datatrove logs, beside the shards: all who work on them must see it. Earlier complaints are forgotten."""
    logs = folder.absolute().with_name(f"{folder.name}-logs")
    shutil.rmtree(complaints_in(logs), ignore_errors=True)
    complaints_in(logs).mkdir(parents=True)
    return logs


def complaints_in(logs: Path) -> Path:
    """Where the tasks write what parts failed at."""
    return logs / "complaints"


def check_all_made(parts: Sequence[Part], spec: Spec, complaints: Path) -> None:
    """Raise DataError where a shard is missing, with what its task said."""
    for number, part in enumerate(parts):
        said = complaints / f"{number:05}.json"
        if said.exists():
            raise DataError(json.loads(said.read_text(encoding="utf-8")))
        path = shard_path(Path(spec.folder), number)
        try:
            header = Shard(path).header
        except DataError:
            header = None
        listed = header is not None and (not header.quarantined or quarantine_path(Path(spec.folder), number).exists())
        if header is None or header.spec != spec.digest(part) or not listed:
            raise DataError(
                f"{path}: was not made; the logs in {complaints.parent} say why, and the same command makes what is missing"
            )
