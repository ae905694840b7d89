"""Checkpoints in parts are read without running what a file asks for, and a damaged or foreign one is told in a sentence."""

from __future__ import annotations

import os
import pickle
import random
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.metadata import BytesStorageMetadata, Metadata

from glassformer.errors import CheckpointError
from glassformer.models import ModelConfig, build_model
from glassformer.training.checkpoint import flatten, untied
from glassformer.training.distributed.parts import METADATA, TensorPlanner, TensorsOnly, read_parts
from glassformer.training.optimisers import Optimisers
from glassformer.training.recipe import OptimiserRecipe
from parts import random_parts

CONFIG = ModelConfig.parse({"d_model": 8, "n_layers": 1, "n_heads": 2, "max_len": 8, "vocab_size": 11})


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """The parts of a checkpoint, as torch writes them."""
    model, optimisers = random_parts(CONFIG, 0)
    tensors = {f"model.{name}": value for name, value in untied(model).items()}
    tensors |= {f"optimiser.{name}": value for name, value in flatten(optimisers).items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.save(tensors, storage_writer=dcp.FileSystemWriter(tmp_path / "parts"), no_dist=True)
    return tmp_path / "parts"


class Calls:
    """Pickled, it asks for a call."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.function, self.arguments


def payloads(mark: Path) -> list[bytes]:
    """Pickles that would leave a file, each by another way."""
    text, leave = str(mark), f"open({str(mark)!r}, 'w')"
    asks: list[Any] = [
        Calls(os.system, f"touch {text}"),
        Calls(os.mkdir, text),
        Calls(eval, leave),
        Calls(exec, leave),
        Calls(open, text, "w"),
        Calls(subprocess.getoutput, f"touch {text}"),
        Calls(subprocess.Popen, ["touch", text]),
        Calls(Path.touch, mark),
        Calls(getattr, mark, "touch"),
        Calls(torch.save, [1], text),
        Calls(torch.load, text),
        Calls(pickle.loads, pickle.dumps(Calls(os.mkdir, text))),
        Calls(map, os.mkdir, [text]),
        Calls(__import__, "os"),
        Calls(compile, leave, "x", "exec"),
    ]
    wrapped = [*asks[:12], {"storage_data": asks[0]}, [asks[1]], Metadata({"model.x": asks[2]})]
    found = [pickle.dumps(ask) for ask in asks] + [pickle.dumps(ask, protocol=2) for ask in wrapped]
    raw = (
        *(b"cos\nsystem\n(S'touch " + text.encode() + b"'\ntR.", b"cbuiltins\nopen\n(V" + text.encode() + b"\nVw\ntR."),
        *(b"cposix\nmkdir\n(V" + text.encode() + b"\ntR.", b"(V" + text.encode() + b"\niposix\nmkdir\n."),
        b"\x80\x04\x8c\x05torch\x8c\x0eserialization\x93.",
        b"ctorch.serialization\nos.mkdir\n(V" + text.encode() + b"\ntR.",
        b"ctorch\nhub.load\n(V" + text.encode() + b"\ntR.",
    )
    return [*found, *raw]


def test_no_hostile_description_is_executed(saved: Path, tmp_path: Path) -> None:
    model, optimisers = random_parts(CONFIG, 1)
    mark = tmp_path / "executed"
    hostile = payloads(mark)
    assert len(hostile) >= 30
    for payload in hostile:
        (saved / METADATA).write_bytes(payload)
        with pytest.raises(CheckpointError, match=r"cannot be trusted|cannot be read"):
            read_parts(saved, model, optimisers, None)
        assert not mark.exists(), payload


def test_the_same_descriptions_are_executed_by_a_plain_reader(tmp_path: Path) -> None:
    """So that the law above holds because of the reader, and not because of the payloads."""
    n_executed = 0
    mark = tmp_path / "executed"
    for number in (0, 1, 5, 7, 9):  # those that leave no file open
        pickle.loads(payloads(mark)[number])  # noqa: S301
        n_executed += mark.exists()
        mark.rmdir() if mark.is_dir() else mark.unlink(missing_ok=True)
    assert n_executed == 5


def test_what_is_saved_as_bytes_is_not_unpickled(saved: Path, tmp_path: Path) -> None:
    model, optimisers = random_parts(CONFIG, 1)
    mark = tmp_path / "executed"
    name = "model.decoder.norm.weight"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.save({name: Calls(os.mkdir, str(mark))}, storage_writer=dcp.FileSystemWriter(saved), no_dist=True)
        assert isinstance(TensorsOnly(saved).read_metadata().state_dict_metadata[name], BytesStorageMetadata)
        with pytest.raises(dcp.api.CheckpointException, match="saved as bytes"):
            dcp.load({name: 0}, storage_reader=TensorsOnly(saved), planner=TensorPlanner(), no_dist=True)
    with pytest.raises(CheckpointError):
        read_parts(saved, model, optimisers, None)
    assert not mark.exists()


def test_parts_come_back_as_they_were(saved: Path) -> None:
    model, optimisers = random_parts(CONFIG, 1)
    read_parts(saved, model, optimisers, None)
    expected, state = random_parts(CONFIG, 0)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), expected.parameters(), strict=True))
    assert all(torch.equal(flatten(optimisers)[name], value) for name, value in flatten(state).items())


def test_parts_of_another_model_are_refused(saved: Path) -> None:
    for change in ({"d_model": 12}, {"n_layers": 2}, {"qk_norm": not CONFIG.qk_norm}):
        model = build_model(CONFIG.updated(change))
        with pytest.raises(CheckpointError, match="is of another model"):
            read_parts(saved, model, Optimisers(model, OptimiserRecipe()), None)


def test_a_file_elsewhere_is_not_read(saved: Path) -> None:
    metadata = TensorsOnly(saved).read_metadata()
    for info in metadata.storage_data.values():
        info.relative_path = "../elsewhere.distcp"
    (saved / METADATA).write_bytes(pickle.dumps(metadata))
    with pytest.raises(CheckpointError, match="lies outside"):
        read_parts(saved, *random_parts(CONFIG, 1), None)


def test_damaged_descriptions_are_one_sentence(saved: Path) -> None:
    sound, draw = (saved / METADATA).read_bytes(), random.Random(0)
    model, optimisers = random_parts(CONFIG, 1)
    n_refused = 0
    for _ in range(60):
        place = draw.randrange(len(sound))
        bad = bytearray(sound)
        bad[place] ^= 1 << draw.randrange(8)
        (saved / METADATA).write_bytes(bytes(bad) if draw.random() < 0.7 else sound[:place])
        try:
            read_parts(saved, model, optimisers, None)
        except CheckpointError:
            n_refused += 1
    assert n_refused > 20  # what is left is for the manifest's digests to find
