"""Tensors in safetensors files: written with their metadata, read one at a time from memory-mapped files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from glassformer.checkpoints.families.rules import Shape
from glassformer.checkpoints.json_files import read_json
from glassformer.errors import CheckpointError

WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json", "model.bin", "model.pt", "model.pth")
FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
OURS = "glassformer."  # what our keys in the metadata of a file begin with


class Tensors:
    """The tensors of a model folder by name, whichever of its files holds them."""

    def __init__(self, files: Mapping[Path, Any]) -> None:
        self.where = next(iter(files)) if len(files) == 1 else next(iter(files)).with_name(INDEX)
        self._file = {name: (path, file) for path, file in files.items() for name in file.keys()}  # noqa: SIM118
        self.bytes = sum(path.stat().st_size for path in files)
        self.metadata: dict[str, Any] = {}
        for file in files.values():
            self.metadata |= ours(file.metadata() or {})

    @property
    def names(self) -> set[str]:
        return set(self._file)

    def shape(self, name: str) -> Shape:
        """The shape of a tensor, without reading it. Raises CheckpointError where it does not hold floating numbers."""
        path, file = self._file[name]
        piece = file.get_slice(name)
        if piece.get_dtype() not in FLOATS:
            raise CheckpointError(f"{path}: {name} holds numbers of type {piece.get_dtype()}, expected floating ones")
        return tuple(piece.get_shape())

    def read(self, name: str) -> Tensor:
        """The values of a tensor, as stored. Raises CheckpointError."""
        path, file = self._file[name]
        try:
            return file.get_tensor(name)
        except (SafetensorError, RuntimeError) as error:
            raise CheckpointError(f"{path}: {name} cannot be read ({error})") from None


@contextmanager
def opened(folder: Path) -> Iterator[Tensors]:
    """The tensors of a model folder, in one file or in those that its index names. Raises CheckpointError."""
    with ExitStack() as stack:
        yield Tensors({path: stack.enter_context(open_file(path)) for path in files_of(folder)})


def open_file(path: Path) -> Any:
    """A safetensors file, mapped into memory. Raises CheckpointError where it is missing or damaged."""
    try:
        return safe_open(path, framework="pt")
    except SafetensorError as error:
        raise CheckpointError(f"{path}: is damaged or cut short ({error}); copy or download it again") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from None


def files_of(folder: Path) -> list[Path]:
    """The weight files of a folder. Raises CheckpointError where there are none, or only pickled ones."""
    if (folder / WHOLE).is_file():
        return [folder / WHOLE]
    if (folder / INDEX).is_file():
        return shards(folder / INDEX)
    pickled = [name for name in PICKLED if (folder / name).exists()]
    if pickled:
        raise CheckpointError(
            f"{folder}: holds {pickled[0]} but no {WHOLE}; pickled files can run code and are never opened here, "
            "convert it to safetensors first"
        )
    raise CheckpointError(f"{folder}: has no {WHOLE}, so there are no weights to load")


def shards(index: Path) -> list[Path]:
    """The files that an index names. Raises CheckpointError where one is missing or lies outside the folder."""
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise CheckpointError(f"{index}: expected a 'weight_map' from tensors to file names")
    paths = []
    for name in sorted(set(names.values())):
        if Path(name).name != name:
            raise CheckpointError(f"{index}: names {name!r}, which is not a file of this folder")
        if not (index.parent / name).is_file():
            raise CheckpointError(f"{index}: names {name!r}, which is missing; copy or download it again")
        paths.append(index.parent / name)
    if not paths:
        raise CheckpointError(f"{index}: names no file")
    return paths


def write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """One safetensors file; the metadata is ours, each value as JSON. Raises OSError where the disk refuses."""
    noted = {f"{OURS}{key}": json.dumps(value) for key, value in metadata.items()}
    stored = {name: tensor.detach().to("cpu").contiguous() for name, tensor in tensors.items()}
    try:
        save_file(stored, path, metadata={"format": "pt", **noted})
    except SafetensorError as error:
        refused = re.search(r"\(os error (\d+)\)", str(error))
        if refused is None:
            raise
        raise OSError(int(refused[1]), str(error)) from None


def ours(metadata: Mapping[str, str]) -> dict[str, Any]:
    """The entries that we wrote, without their prefix; one that is not JSON, as where hands changed it, as text."""
    found: dict[str, Any] = {}
    for key, text in metadata.items():
        if key.startswith(OURS):
            try:
                found[key.removeprefix(OURS)] = json.loads(text)
            except ValueError:
                found[key.removeprefix(OURS)] = text
    return found
