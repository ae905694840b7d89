"""Tensors of a checkpoint in parts, each process writing and reading its own; nothing that a file names is ever run."""

from __future__ import annotations

import errno
import io
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint import DefaultLoadPlanner, FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta
from torch.distributed.checkpoint.planner import LoadItemType, LoadPlan, ReadItem

from glassformer.errors import CheckpointError
from glassformer.files import DiskError
from glassformer.training.checkpoint import flatten, untied
from glassformer.training.optimisers import Optimisers

if TYPE_CHECKING:
    from glassformer.training.distributed.topology import Joined

METADATA = ".metadata"


def write_parts(tensors: Mapping[str, Tensor], folder: Path, topology: Joined) -> None:
    """This process's parts into a folder that is new. Raises DiskError."""
    writer = FileSystemWriter(folder, single_file_per_rank=True, sync_files=True)
    try:
        dcp.save(dict(tensors), storage_writer=writer, process_group=topology.saving)
    except CheckpointException as error:  # no Exception, so that few handlers see it
        reasons = [found for found, _ in error.failures.values() if isinstance(found, BaseException)]
        refused = next((found for found in reasons if isinstance(found, OSError)), None)
        if refused is None and not any(sign in str(error) for sign in ("iostream", "No space", "write")):
            raise CheckpointError(f"{folder}: the parts could not be saved ({str(error).splitlines()[-1]})") from None
        number = refused.errno if refused is not None else errno.ENOSPC
        raise DiskError(
            f"{folder.parent}: the checkpoint could not be written ({errno.errorcode.get(number or 0, 'unknown error')}); "
            "nothing was overwritten, make room and run again"
        ) from None


def read_parts(path: Path, model: nn.Module, optimisers: Optimisers, average: dict[str, Tensor] | None) -> None:
    """Put the tensors of a sharded checkpoint in place, on any number of processes; each reads what it needs of them.

    Raises CheckpointError where it is of another model, or holds anything but tensors.
    """
    wanted = {"model": untied(model), "optimiser": flatten(optimisers), "average": average or {}}
    tensors = {f"{part}.{name}": value for part, some in wanted.items() for name, value in some.items()}
    reader = TensorsOnly(path)
    saved = reader.read_metadata().state_dict_metadata
    for name in sorted(tensors.keys() ^ saved.keys()):
        if not name.startswith("average."):
            raise CheckpointError(f"{path}: is of another model (tensor {name!r}); train into another --out-dir")
    for name, target in tensors.items():
        size = getattr(saved.get(name), "size", None)
        if size != target.shape:
            raise CheckpointError(f"{path}: is of another model (tensor {name!r}); train into another --out-dir")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that nobody else takes part, which is meant
            dcp.load(dict(tensors), storage_reader=reader, planner=TensorPlanner(), no_dist=True)
    except CheckpointException as error:
        causes = [cause for cause, _ in error.failures.values()]
        told = str(causes[0] if causes else error).strip().splitlines()
        raise CheckpointError(f"{path}: cannot be read ({told[0] if told else 'no reason given'})") from None


class Allowed(pickle.Unpickler):
    """Reads a pickle that holds nothing but the descriptions of tensors; anything else it names raises CheckpointError."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise CheckpointError(f"{module}.{name} is named in {METADATA}, where only descriptions of tensors belong")
        return super().find_class(module, name)


class TensorsOnly(FileSystemReader):
    """Reads checkpoints without running what a file may ask for: torch's own reader unpickles whatever is in them."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        path = Path(self.path)
        try:
            metadata = Allowed(io.BytesIO((path / METADATA).read_bytes())).load()
            if not isinstance(metadata, Metadata):
                raise CheckpointError(f"{METADATA} holds a {type(metadata).__name__}")
            for info in metadata.storage_data.values():
                if Path(info.relative_path).name != info.relative_path:
                    raise CheckpointError(f"{METADATA} names {info.relative_path!r}, which lies outside")
        except CheckpointError as error:
            raise CheckpointError(f"{path}: cannot be trusted: {error}") from None
        except Exception as error:  # a damaged pickle may raise anything
            raise CheckpointError(f"{path / METADATA}: cannot be read ({type(error).__name__})") from None
        metadata.storage_meta = metadata.storage_meta or StorageMeta()
        metadata.storage_meta.load_id = self.load_id
        return metadata


class TensorPlanner(DefaultLoadPlanner):
    """Asks for tensors and nothing else: torch's own planner unpickles whatever is saved as bytes."""

    def create_local_plan(self) -> LoadPlan:
        plan = super().create_local_plan()
        for item in plan.items:
            self.refuse(item)
        return plan

    def load_bytes(self, read_item: ReadItem, value: io.BytesIO) -> None:
        raise CheckpointError(f"{read_item.dest_index.fqn} is saved as bytes, where a tensor belongs")

    def refuse(self, item: ReadItem) -> None:
        """Raise CheckpointError for what is no tensor."""
        if item.type == LoadItemType.BYTE_IO:
            self.load_bytes(item, io.BytesIO())


ALLOWED = {
    *(
        ("torch.distributed.checkpoint.metadata", name)
        for name in (
            *("Metadata", "StorageMeta", "TensorStorageMetadata", "TensorProperties", "ChunkStorageMetadata"),
            *("MetadataIndex", "_MEM_FORMAT_ENCODING", "BytesStorageMetadata"),
        )
    ),
    ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
    ("torch", "Size"),
    ("torch", "device"),
    ("torch.serialization", "_get_layout"),
    *(("torch", name) for name in ("float32", "float64", "float16", "bfloat16", "int64", "int32", "uint8", "bool")),
    *((module, name) for module in ("pathlib", "pathlib._local") for name in ("PosixPath", "WindowsPath")),
}
