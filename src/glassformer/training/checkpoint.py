"""Checkpoints of a run: written whole or not at all, each file's sha256 in a manifest, the newest sound one wins."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from glassformer.errors import CheckpointError, GlassformerError
from glassformer.files import TEMPORARY, DiskError, flush, nearest_existing, sha256, whole_folder
from glassformer.training.optimisers import Optimisers
from glassformer.training.origin import ORIGIN, Origin, read_origin
from glassformer.training.topology import own_part

MANIFEST = "manifest.json"
SCHEMA = 1
DELETED = ".del-"  # what names of checkpoints begin with that are being deleted
ROOM = 1.2  # of the last checkpoint's size must be free before another is begun


@dataclass
class State:
    """How far a run has come. Random numbers need no place here: each follows from the seed and the step."""

    step: int = 0
    best: float | None = None  # the objective of the best model, and its loss
    best_loss: float | None = None
    best_step: int = 0
    worse: int = 0  # evaluations in a row that did not improve on the best
    seconds: float = 0.0  # spent training, over all sittings
    portions: int | None = None  # of every step since memory ran out
    skipped: int = 0  # steps left out because their loss or gradient was no number
    skipped_in_a_row: int = 0


@dataclass(frozen=True)
class Snapshot:
    """All that one checkpoint is written from: tensors by file and name, texts by file."""

    step: int
    tensors: Mapping[str, Mapping[str, Tensor]]
    texts: Mapping[str, str]

    def copied(self) -> Snapshot:
        """The same in memory of its own, which the next step does not change."""
        tensors = {
            file: {name: value.detach().clone() for name, value in some.items()} for file, some in self.tensors.items()
        }
        return Snapshot(self.step, tensors, self.texts)

    @property
    def n_bytes(self) -> int:
        """About what it takes on the disk."""
        return sum(value.nbytes for some in self.tensors.values() for value in some.values())


@dataclass
class Checkpoints:
    """The folder of a run's checkpoints, of which the newest `keep` are kept."""

    folder: Path
    keep: int
    needed: int = field(default=0, init=False)  # bytes, as the last save found them out
    sign: Callable[[], None] = field(default_factory=lambda: lambda: None, init=False)  # told of each file on the disk

    def save(
        self, model: nn.Module, optimisers: Optimisers, average: dict[str, Tensor] | None, state: State, data: str
    ) -> Path:
        """Write checkpoint number `state.step`. `data` identifies text, tokenizer and recipe. Raises DiskError."""
        return self.write(self.snapshot(model, optimisers, average, state, data))

    def snapshot(
        self,
        model: nn.Module,
        optimisers: Optimisers,
        average: dict[str, Tensor] | None,
        state: State,
        data: str,
        origin: Origin | None = None,
    ) -> Snapshot:
        """What there is to write now, without a copy of any tensor."""
        tensors = {"model.safetensors": untied(model), "optimiser.safetensors": flatten(optimisers)}
        if average is not None:
            tensors["average.safetensors"] = average
        texts = {"state.json": json.dumps({**asdict(state), "data": data}, indent=1)}
        if origin is not None:
            texts[ORIGIN] = origin.json()
        return Snapshot(state.step, tensors, texts)

    def write(self, snapshot: Snapshot) -> Path:
        """Publish a checkpoint, then delete what is older than the newest `keep`.

        Raises DiskError, and NotFiniteError where a number in it is none; then nothing is published or deleted.
        """
        refuse_non_finite(snapshot.tensors)
        path = self.folder / f"step-{snapshot.step:08d}"
        self.check_room(path, snapshot)
        with whole_folder(path) as draft:
            for name, tensors in snapshot.tensors.items():
                save_file(dict(tensors), draft / name)
                flush(draft / name)
                self.sign()
            for name, text in snapshot.texts.items():
                (draft / name).write_text(text, encoding="utf-8")
            (draft / MANIFEST).write_text(manifest(draft, snapshot.step), encoding="utf-8")
        self.thin_out(path)
        return path

    def check_room(self, path: Path, snapshot: Snapshot) -> None:
        """Raise DiskError where the disk has less room than this checkpoint will take, with what is missing."""
        last = next(iter(self.found()), None)
        size = sum(file.stat().st_size for file in last.glob("*")) if last is not None and last.is_dir() else 0
        self.needed = int(ROOM * max(size, snapshot.n_bytes))
        free = shutil.disk_usage(nearest_existing(path)).free
        if free < self.needed:
            raise DiskError(
                f"{path}: the disk is full ({free / 1e6:.0f} MB free): {self.needed:,} bytes are needed and {free:,} are "
                "free; nothing was overwritten, make room and run again"
            )

    def thin_out(self, newest: Path) -> None:
        """Delete all but the newest `keep`, unless those are damaged."""
        # What bears a higher number was damaged when the run went back to an earlier step; it must crowd out nothing.
        found = self.found()
        kept = [path for path in found if path.name <= newest.name][: self.keep]
        if len(kept) == len(found) or all(damage(path) for path in kept):
            return
        for other in found:
            if other not in kept:
                gone = other.with_name(f"{DELETED}{other.name}-{uuid.uuid4().hex[:8]}")
                try:
                    os.rename(other, gone)  # so that no half of it can be taken for a checkpoint
                except OSError:
                    continue
                delete(gone)

    def found(self) -> list[Path]:
        """All checkpoints, newest first."""
        return sorted(self.folder.glob("step-*"), reverse=True)

    def sweep(self) -> None:
        """Delete what saves that were interrupted left behind in the run folder."""
        for beginning in (TEMPORARY, DELETED):
            for leftover in list(self.folder.parent.rglob(f"{beginning}*")):
                delete(leftover)

    def newest_sound(
        self, note: Callable[[str], None], origin: Origin | None = None, *, allow_changed: bool = False
    ) -> Path | None:
        """The newest checkpoint whose every byte is as it was written; each one that is passed over is said.

        None where there are no checkpoints at all. With an `origin`, one that follows from something else is passed over
        too. Raises CheckpointError where there are checkpoints, but none to go on from, with what has changed.
        """
        found = self.found()
        others: list[tuple[Path, str]] = []
        for path in found:
            fault = damage(path)
            if fault is not None:
                note(f"{path} is damaged ({fault}); falling back to the one before it")
                continue
            earlier = read_origin(path) if origin is not None else None
            changes = origin.changes_since(earlier) if origin is not None and earlier is not None else []
            if changes and not allow_changed:
                others.append((path, shortened(changes)))
                continue
            for other, told in others:
                note(f"{other} is of another run ({told}); falling back to the one before it")
            return path
        if others:
            path, told = others[0]
            raise CheckpointError(
                f"{path}: what this run follows from has changed since: {told}; undo that, train into another --out-dir, or "
                "go on all the same with --allow-changed"
            )
        if found:
            raise CheckpointError(f"{self.folder}: no checkpoint is sound; delete the folder to begin anew")
        return None


class NotFiniteError(GlassformerError):
    """A number that would have been published is none."""


def refuse_non_finite(tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Raise NotFiniteError where a tensor holds NaN or infinity, naming the first."""
    for file, some in tensors.items():
        for name, value in some.items():
            # The sum of a tensor is finite only if its every number is; the other way round it is looked at again.
            if not value.is_floating_point() or value.sum().isfinite() or value.isfinite().all():
                continue
            raise NotFiniteError(
                f"{name} of {file} holds numbers that are none (NaN or infinity), so nothing was saved; what was saved "
                "before stays: lower the rates under optimiser, and train into another --out-dir"
            )


def manifest(draft: Path, step: int, world: int = 1) -> str:
    """The list of a checkpoint's files with their sizes and digests, and its own digest, which it is checked by."""
    files = {file.name: {"size": file.stat().st_size, "sha256": sha256(file)} for file in sorted(draft.iterdir())}
    return sealed({"step": step, "world": world, "schema": SCHEMA, "files": files})


def sealed(content: dict[str, Any]) -> str:
    """A manifest's text with the digest of all that stands in it."""
    plain = {key: value for key, value in content.items() if key != "sha256"}
    digest = hashlib.sha256(json.dumps(plain, indent=1).encode()).hexdigest()
    return json.dumps({**plain, "sha256": digest}, indent=1)


def damage(path: Path) -> str | None:
    """What is wrong with a checkpoint, or None."""
    try:
        text = (path / MANIFEST).read_bytes()
        content: dict[str, Any] = json.loads(text)
        files: dict[str, dict[str, Any]] = content["files"]
        if text != sealed(content).encode():
            return f"{MANIFEST} has changed since it was written"
        strangers = {file.name for file in path.iterdir()} - {MANIFEST, *files}
        if strangers:
            return f"{min(strangers)} is not in its {MANIFEST}"
        if path.name != f"step-{content['step']:08d}":
            return f"it is the checkpoint of step {content['step']}"
        for name, about in files.items():
            if (path / name).stat().st_size != about["size"] or sha256(path / name) != about["sha256"]:
                return f"{name} has changed since it was written"
    except OSError as error:
        return f"{Path(error.filename or MANIFEST).name}: {error.strerror}"
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
        return f"{MANIFEST} cannot be read ({type(error).__name__}: {error})"
    return None if "state.json" in files else f"{MANIFEST} does not list its files"


def delete(path: Path) -> None:
    """Delete a file or a folder, if the disk permits."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def shortened(clauses: list[str], most: int = 6) -> str:
    """The first clauses of a list."""
    return ", ".join(clauses[:most]) + (f" and {len(clauses) - most} more" if len(clauses) > most else "")


def restore(
    path: Path, model: nn.Module, optimisers: Optimisers, average: dict[str, Tensor] | None, data: str | None
) -> State:
    """Put a checkpoint's numbers in place. `data` is what it must have been saved with, None where that was looked at.

    Raises CheckpointError where it belongs to other data or another model.
    """
    saved = json.loads((path / "state.json").read_text(encoding="utf-8"))
    if saved.pop("data") != data and data is not None:
        raise CheckpointError(
            f"{path}: the text, its tokens or the recipe have changed since this run began; train into another --out-dir"
        )
    if not (path / "model.safetensors").exists():
        from glassformer.training.distributed.parts import read_parts

        read_parts(path, model, optimisers, average)
        return State(**saved)
    try:
        weights = load_file(path / "model.safetensors")
        missing, unexpected = load_weights(model, weights)
        strangers = [name for name in missing if name not in tied_names(model)] + unexpected
        if strangers:
            raise CheckpointError(
                f"{path}: is of another model (tensor {strangers[0]!r}); train into another --out-dir"
            )
        unflatten(optimisers, load_file(path / "optimiser.safetensors"))
        if average is not None:
            for name, value in load_file(path / "average.safetensors").items():
                put_value(average[name], value)
    except (SafetensorError, RuntimeError, KeyError) as error:
        raise CheckpointError(f"{path}: is of another model ({str(error).splitlines()[0]})") from None
    return State(**saved)


def load_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> tuple[list[str], list[str]]:
    """Put weights in place; the names that are missing and those that the model does not know."""
    own = model.state_dict()
    if not any(hasattr(value, "to_local") for value in own.values()):
        return model.load_state_dict(weights, strict=False)
    for name in own.keys() & weights.keys():
        put_value(own[name], weights[name])
    return sorted(own.keys() - weights.keys()), sorted(weights.keys() - own.keys())


def put_value(target: Tensor, value: Tensor) -> None:
    """Copy a whole value to where it belongs, or this process's part of it. Raises RuntimeError for another shape."""
    if not hasattr(target, "to_local"):
        target.copy_(value)
        return
    from glassformer.training.distributed.sharding import put_whole

    put_whole(target, value)


def untied(model: nn.Module) -> dict[str, Tensor]:
    """The model's tensors by name, each stored once."""
    tied = tied_names(model)
    return {name: value for name, value in model.state_dict().items() if name not in tied}


def tied_names(model: nn.Module) -> set[str]:
    """Names that stand for a tensor that has another name before."""
    first = {id(parameter) for _, parameter in model.named_parameters()}
    names = {name for name, _ in model.named_parameters()}
    every = dict(model.named_parameters(remove_duplicate=False))
    return {name for name, parameter in every.items() if name not in names and id(parameter) in first}


def flatten(optimisers: Optimisers) -> dict[str, Tensor]:
    """All tensors that the optimisers remember, as ``part.parameter.name``."""
    return {
        f"{number}.{index}.{name}": value
        for number, part in enumerate(optimisers.parts)
        for index, state in enumerate(part.state)
        for name, value in state.items()
    }


def unflatten(optimisers: Optimisers, tensors: dict[str, Tensor]) -> None:
    """The inverse of `flatten`. Raises KeyError for a missing tensor, RuntimeError for one of another shape."""
    for key, value in flatten(optimisers).items():
        put_value(value, tensors[key])


def clone(model: nn.Module) -> dict[str, Tensor]:
    """A copy of every parameter, where an average over steps begins."""
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def update_average(average: dict[str, Tensor], model: nn.Module, decay: float, step: int) -> None:
    """Move an exponential moving average of the weights (Polyak and Juditsky 1992) one step, `step` counting from 0.

    The decay grows to its full value over the first steps, so that little is left of the random beginning.
    """
    decay = min(decay, (1 + step) / (10 + step))
    with torch.no_grad():
        averages = [own_part(value) for value in average.values()]
        torch._foreach_lerp_(averages, [own_part(p) for _, p in model.named_parameters()], 1 - decay)
