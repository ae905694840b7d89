"""Checkpoints of a run: written whole or not at all, each file's sha256 in a manifest, the newest sound one wins."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from glassformer.errors import CheckpointError
from glassformer.files import TEMPORARY, sha256, whole_folder
from glassformer.training.optimisers import Optimisers

MANIFEST = "manifest.json"


@dataclass
class State:
    """How far a run has come. Random numbers need no place here: each follows from the seed and the step."""

    step: int = 0
    best: float | None = None  # the objective of the best model, and its loss
    best_loss: float | None = None
    best_step: int = 0
    worse: int = 0  # evaluations in a row that did not improve on the best
    seconds: float = 0.0  # spent training, over all sittings


@dataclass
class Checkpoints:
    """The folder of a run's checkpoints, of which the newest `keep` are kept."""

    folder: Path
    keep: int

    def save(
        self, model: nn.Module, optimisers: Optimisers, average: dict[str, Tensor] | None, state: State, data: str
    ) -> Path:
        """Write checkpoint number `state.step`. `data` identifies text, tokenizer and recipe. Raises DiskError."""
        path = self.folder / f"step-{state.step:08d}"
        with whole_folder(path) as draft:
            save_file(untied(model), draft / "model.safetensors")
            save_file(flatten(optimisers), draft / "optimiser.safetensors")
            if average is not None:
                save_file(average, draft / "average.safetensors")
            (draft / "state.json").write_text(json.dumps({**asdict(state), "data": data}, indent=1), encoding="utf-8")
            digests = {file.name: sha256(file) for file in sorted(draft.iterdir())}
            (draft / MANIFEST).write_text(json.dumps(digests, indent=1), encoding="utf-8")
        # What bears a higher number was damaged when the run went back to an earlier step; it must crowd out nothing.
        kept = [found for found in self.found() if found.name <= path.name][: self.keep]
        for other in self.found():
            if other not in kept:
                shutil.rmtree(other, ignore_errors=True)
        return path

    def found(self) -> list[Path]:
        """All checkpoints, newest first."""
        return sorted(self.folder.glob("step-*"), reverse=True)

    def sweep(self) -> None:
        """Delete what saves that were interrupted left behind in the run folder."""
        for leftover in list(self.folder.parent.rglob(f"{TEMPORARY}*")):
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink(missing_ok=True)

    def newest_sound(self, note: Callable[[str], None]) -> Path | None:
        """The newest checkpoint whose every byte is as it was written; each damaged one is said and passed over.

        None where there are no checkpoints at all. Raises CheckpointError where there are, but none is sound.
        """
        found = self.found()
        for path in found:
            fault = damage(path)
            if fault is None:
                return path
            note(f"{path} is damaged ({fault}); falling back to the one before it")
        if found:
            raise CheckpointError(f"{self.folder}: no checkpoint is sound; delete the folder to begin anew")
        return None


def damage(path: Path) -> str | None:
    """What is wrong with a checkpoint, or None."""
    try:
        digests: dict[str, str] = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        for name, digest in digests.items():
            if sha256(path / name) != digest:
                return f"{name} has changed since it was written"
    except OSError as error:
        return f"{Path(error.filename or MANIFEST).name}: {error.strerror}"
    except (ValueError, AttributeError) as error:
        return f"{MANIFEST} cannot be read ({error})"
    return None if "state.json" in digests else f"{MANIFEST} does not list its files"


def restore(
    path: Path, model: nn.Module, optimisers: Optimisers, average: dict[str, Tensor] | None, data: str
) -> State:
    """Put a checkpoint's numbers in place. Raises CheckpointError where it belongs to other data or another model."""
    saved = json.loads((path / "state.json").read_text(encoding="utf-8"))
    if saved.pop("data") != data:
        raise CheckpointError(
            f"{path}: the text, its tokens or the recipe have changed since this run began; train into another --out-dir"
        )
    try:
        weights = load_file(path / "model.safetensors")
        missing, unexpected = model.load_state_dict(weights, strict=False)
        strangers = [name for name in missing if name not in tied_names(model)] + unexpected
        if strangers:
            raise CheckpointError(
                f"{path}: is of another model (tensor {strangers[0]!r}); train into another --out-dir"
            )
        unflatten(optimisers, load_file(path / "optimiser.safetensors"))
        if average is not None:
            for name, value in load_file(path / "average.safetensors").items():
                average[name].copy_(value)
    except (SafetensorError, RuntimeError, KeyError) as error:
        raise CheckpointError(f"{path}: is of another model ({str(error).splitlines()[0]})") from None
    return State(**saved)


def untied(model: nn.Module) -> dict[str, Tensor]:
    """The model's tensors by name, each stored once."""
    return {name: value for name, value in model.state_dict().items() if name not in tied_names(model)}


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
        value.copy_(tensors[key])


def clone(model: nn.Module) -> dict[str, Tensor]:
    """A copy of every parameter, where an average over steps begins."""
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def update_average(average: dict[str, Tensor], model: nn.Module, decay: float, step: int) -> None:
    """Move an exponential moving average of the weights (Polyak and Juditsky 1992) one step, `step` counting from 0.

    The decay grows to its full value over the first steps, so that little is left of the random beginning.
    """
    decay = min(decay, (1 + step) / (10 + step))
    with torch.no_grad():
        torch._foreach_lerp_(list(average.values()), [p for _, p in model.named_parameters()], 1 - decay)
