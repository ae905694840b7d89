"""Opening a model wherever it is: a folder (of Whisper also in CTranslate2's layout), a run, a .gguf file, or, where it is
asked for, the hub."""

from __future__ import annotations

from pathlib import Path

import torch

from glassformer.checkpoints.ctranslate2 import is_ctranslate2, load_ctranslate2
from glassformer.checkpoints.hub import ASKED, fetch, looks_like_name
from glassformer.checkpoints.load import Loaded, load_model
from glassformer.checkpoints.run_folder import model_folder
from glassformer.checkpoints.weight_files import PICKLED, SAFE
from glassformer.checkpoints.weights import Progress
from glassformer.errors import CheckpointError

GGUF = b"GGUF"  # what such a file begins with


def open_model(
    target: str | Path,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
    hub: bool = False,
) -> Loaded:
    """The model of a model folder (or one with CTranslate2's model.bin), of a run folder (its best), of a .gguf file, or of
    the hub.

    The hub is asked only for a name that begins with ``hub:``, or, with `hub`, for ``org/name`` where there is no such
    folder. `dtype` None keeps the number type of the file. `progress` is told the bytes that were read and the bytes in
    all. Raises CheckpointError, TokenizerError.
    """
    path = place_of(target, ask_hub=hub)
    if not path.is_file():
        folder = model_folder(path)
        if is_ctranslate2(folder):
            return load_ctranslate2(folder, dtype=dtype, device=device, progress=progress)
        return load_model(folder, dtype=dtype, device=device, progress=progress)
    if not is_gguf(path):
        raise CheckpointError(
            f"{path}: is a file, expected a model folder, a run folder or a .gguf file{instead(path)}"
        )
    from glassformer.checkpoints.gguf import load_gguf  # the tables of a format that most calls have no use for

    return load_gguf(path, dtype=dtype, device=device, progress=progress)


def place_of(target: str | Path, *, ask_hub: bool = False) -> Path:
    """Where a model is on this machine, once it is here. Raises CheckpointError for what can be no model."""
    name = target.as_posix() if isinstance(target, Path) else target
    if name.startswith(ASKED):
        return fetch(name.removeprefix(ASKED))
    path = Path(target)
    if path.exists() or not looks_like_name(name):
        return path
    if ask_hub:
        return fetch(name)
    if path.parent.is_dir():  # the name of a neighbour, misspelt: `load_model` offers the nearest
        return path
    raise CheckpointError(
        f"{name}: there is no such folder; to fetch the model of that name from the Hugging Face hub, write {ASKED}{name}"
    )


def is_gguf(path: Path) -> bool:
    """Whether a file is a GGUF file, by its name or its first bytes. Raises CheckpointError."""
    if path.suffix.lower() == ".gguf":
        return True
    try:
        with path.open("rb") as file:
            return file.read(len(GGUF)) == GGUF
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None


def instead(path: Path) -> str:
    """What to name instead of a file that is no model by itself, as a clause."""
    if path.suffix == ".glass":
        return "; a trace is opened with `glassformer verify`, or from Python with open_glass"
    if path.suffix in (SAFE, *PICKLED, ".json"):
        return f"; name the folder that holds it, {path.parent}"
    return ""
