"""The file model.bin of CTranslate2: named variables one after the other, every size held against the file before it is
believed."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from io import FileIO
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from glassformer.checkpoints.stored import Stored
from glassformer.errors import CheckpointError

MODEL = "model.bin"
VERSION = 6  # of the container: that of CTranslate2 since it knows Whisper
KINDS = {0: "F32", 1: "I8", 2: "I16", 3: "I32", 4: "F16", 5: "BF16"}  # number types by their id in the file
BYTES = {"F32": 4, "I8": 1, "I16": 2, "I32": 4, "F16": 2, "BF16": 2}
INTEGERS = {"I8": np.dtype("<i1"), "I16": np.dtype("<i2"), "I32": np.dtype("<i4")}
QUANTISED = ("I8", "I16")
SCALE = "_scale"  # what the name of the variable ends in by which a quantised one was multiplied
MOST_VARIABLES, MOST_DIMENSIONS, LONGEST_NAME = 1 << 15, 4, 256
U8, U16, U32 = struct.Struct("<B"), struct.Struct("<H"), struct.Struct("<I")


@dataclass(frozen=True)
class ModelFile:
    """A model.bin whose head and variables have been walked through; open as long as it is used."""

    where: str
    spec: str
    revision: int
    variables: Mapping[str, Stored]

    def number(self, name: str, default: int | None = None) -> int:
        """A variable that is one whole number. Raises CheckpointError."""
        one = self.variables.get(name)
        if one is None and default is not None:
            return default
        if one is None or one.shape not in ((), (1,)) or one.kind not in INTEGERS:
            raise self.wrong(f"{name} is {'missing' if one is None else 'no whole number'}")
        return int(self.integers(one)[0])

    def shape(self, name: str, dimensions: int) -> tuple[int, ...]:
        """The shape of a variable of so many dimensions. Raises CheckpointError."""
        one = self.variables.get(name)
        if one is None or len(one.shape) != dimensions:
            raise self.wrong(f"{name} is {'missing' if one is None else f'of shape {one.shape}'}")
        return one.shape

    def read(self, name: str) -> Tensor:
        """The values of a variable: as stored, or, where it is quantised, float32 (q over its scale). Raises CheckpointError."""
        one = self.variables[name]
        if one.kind not in QUANTISED:
            return one.read()
        values = torch.from_numpy(self.integers(one).reshape(one.shape)).float()
        scale = self.scale_of(name)
        return values.div_(scale.view(-1, *[1] * (values.ndim - 1)) if scale.numel() > 1 else scale)

    def scale_of(self, name: str) -> Tensor:
        """By what a quantised variable was multiplied: one number for each row, or one for all. Raises CheckpointError."""
        one, scale = self.variables[name], self.variables.get(name + SCALE)
        rows = one.shape[0] if one.shape else 1
        if scale is None or prod(scale.shape) not in (1, rows) or scale.kind != "F32":
            raise self.wrong(f"{name} is quantised and has no {name + SCALE} that fits it")
        values = scale.read().view(-1)
        if not bool((values.isfinite() & (values != 0)).all()):
            raise self.wrong(f"{name + SCALE} holds numbers that cannot be divided by")
        return values

    def integers(self, one: Stored) -> np.ndarray:
        """The whole numbers of a variable, in a row. Raises CheckpointError."""
        found = np.empty(prod(one.shape), INTEGERS[one.kind])
        view = memoryview(found.view(np.uint8).data) if found.size else memoryview(b"")
        try:
            one.file.seek(one.offset)
            count = one.file.readinto(view)
        except OSError as error:
            raise CheckpointError(f"{self.where}: {one.name} cannot be read ({error.strerror or error})") from None
        if count != len(view):
            raise CheckpointError(f"{self.where}: ended before {one.name} did; copy or download it again")
        return found

    def wrong(self, reason: str) -> CheckpointError:
        """The error for a file that is not what it says it is."""
        return wrong(self.where, reason)


def wrong(where: str, reason: str) -> CheckpointError:
    """The error for a file that is no sound model.bin."""
    return CheckpointError(f"{where}: is no sound {MODEL} of CTranslate2 ({reason}); copy or download it again")


class Walk:
    """A place in the file that moves on; nothing beyond the end is ever believed."""

    def __init__(self, path: Path, file: FileIO, size: int) -> None:
        self.path, self.file, self.size, self.at = path, file, size, 0

    def take(self, count: int, what: str) -> bytes:
        """The next bytes. Raises CheckpointError where the file ends before."""
        start = self.skip(count, what)
        self.file.seek(start)
        found = self.file.read(count)
        if len(found) != count:
            raise wrong(str(self.path), f"it ended before {what} did")
        return found

    def skip(self, count: int, what: str) -> int:
        """Step over bytes; where they begin. Raises CheckpointError where the file ends before."""
        start = self.at
        if count > self.size - start:
            raise wrong(str(self.path), f"{what} at byte {start:,} calls for {count:,} bytes of {self.size - start:,}")
        self.at = start + count
        return start

    def number(self, layout: struct.Struct, what: str) -> int:
        """One plain number."""
        return layout.unpack(self.take(layout.size, what))[0]

    def name(self, what: str) -> str:
        """A name, which ends with a zero byte. Raises CheckpointError where it is none."""
        length = self.number(U16, what)
        text = self.take(length, what)
        try:
            name = text[:-1].decode("ascii")
        except UnicodeDecodeError:
            name = ""
        if not 1 < length <= LONGEST_NAME or text[-1:] != b"\0" or not name.isprintable():
            raise wrong(str(self.path), f"{what} at byte {self.at - length:,} is no name")
        return name

    def variable(self) -> Stored:
        """One variable, its numbers stepped over."""
        name = self.name("the name of a variable")
        rank = self.number(U8, name)
        if rank > MOST_DIMENSIONS:
            raise wrong(str(self.path), f"{name} has {rank} dimensions")
        shape = tuple(self.number(U32, name) for _ in range(rank))
        kind, held = KINDS.get(self.number(U8, name)), self.number(U32, name)
        if kind is None:
            raise wrong(str(self.path), f"{name} has an unknown number type")
        if held != prod(shape) * BYTES[kind]:
            raise wrong(str(self.path), f"{name} of {shape} takes {prod(shape) * BYTES[kind]:,} bytes, not {held:,}")
        return Stored(self.path, self.file, name, kind, shape, self.skip(held, name), held)


def walked(path: Path, file: FileIO) -> ModelFile:
    """The variables of an open model.bin, those under a second name too. Raises CheckpointError."""
    where, walk = str(path), Walk(path, file, file.seek(0, 2))
    version = walk.number(U32, "the version")
    if version != VERSION:
        raise CheckpointError(
            f"{where}: is no {MODEL} of CTranslate2 that is read here (it begins with version {version:,}, expected {VERSION})"
        )
    spec, revision = walk.name("the kind of model"), walk.number(U32, "the revision")
    count = walk.number(U32, "the number of variables")
    if count > MOST_VARIABLES:
        raise wrong(where, f"it claims {count:,} variables")
    variables: dict[str, Stored] = {}
    for _ in range(count):
        one = walk.variable()
        if variables.setdefault(one.name, one) is not one:
            raise wrong(where, f"it has {one.name} twice")
    n_aliases = walk.number(U32, "the number of second names")
    if n_aliases > MOST_VARIABLES:
        raise wrong(where, f"it claims {n_aliases:,} second names")
    for _ in range(n_aliases):
        alias, name = walk.name("a second name"), walk.name("what a second name stands for")
        if name not in variables or alias in variables:
            raise wrong(where, f"{alias} is a second name for {name}")
        variables[alias] = variables[name]
    if walk.at != walk.size:
        raise wrong(where, f"{walk.size - walk.at:,} bytes follow after its end")
    return ModelFile(where, spec, revision, variables)
