"""Checkpoints of several processes: the same folders, manifests and laws, written and read by agreement."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glassformer.errors import CheckpointError, GlassformerError
from glassformer.files import DiskError, flush, nearest_existing, sha256, whole_folder
from glassformer.training.checkpoint import (
    MANIFEST,
    SCHEMA,
    Checkpoints,
    NotFiniteError,
    Snapshot,
    refuse_non_finite,
    sealed,
)
from glassformer.training.origin import Origin
from glassformer.training.topology import own_part

if TYPE_CHECKING:
    from glassformer.training.distributed.topology import Joined


class JoinedCheckpoints(Checkpoints):
    """The processes agree on which checkpoint is the newest sound one, and whether one was written.

    Where every process holds everything, the first writes it, in the files that one process alone writes. Else every
    process writes its parts, by torch.distributed.checkpoint, and the first seals them with the manifest. All of it may be
    done in a thread of each process: they meet in a group of their own.
    """

    def __init__(self, folder: Path, keep: int, topology: Joined) -> None:
        super().__init__(folder, keep)
        self.topology = topology

    def newest_sound(
        self, note: Callable[[str], None], origin: Origin | None = None, *, allow_changed: bool = False
    ) -> Path | None:
        found = super().newest_sound
        return self.by_first(lambda: found(note, origin, allow_changed=allow_changed))

    def snapshot(self, *what: Any, **more: Any) -> Snapshot:
        found = super().snapshot(*what, **more)
        idle = self.topology.kind == "replicate" and not self.topology.is_first
        return NotWritten(**vars(found)) if idle else found

    def by_first(self, act: Callable[[], Any]) -> Any:
        """What comes of something that the first process does; what it raises is raised in all of them."""
        result, error = attempt(act) if self.topology.is_first else (None, None)
        result, error = self.topology.of_first((result, error), self.topology.saving)
        if error is not None:
            raise ERRORS[error[0]](error[1])
        return result

    def by_all(self, act: Callable[[], Any]) -> list[Any]:
        """What comes of something that every process does; what one raises is raised in all of them."""
        results = self.topology.every(attempt(act), self.topology.saving)
        for _, error in results:
            if error is not None:
                raise ERRORS[error[0]](error[1])
        return [result for result, _ in results]

    def write(self, snapshot: Snapshot) -> Path:
        if self.topology.kind == "replicate":
            write = super().write
            return self.by_first(lambda: write(snapshot))
        from glassformer.training.distributed.parts import METADATA, write_parts

        path = self.folder / f"step-{snapshot.step:08d}"
        parts = {
            file: {name: own_part(value) for name, value in some.items()} for file, some in snapshot.tensors.items()
        }
        self.by_all(lambda: refuse_non_finite(parts))
        tensors = {
            f"{file.removesuffix('.safetensors')}.{name}": value
            for file, some in snapshot.tensors.items()
            for name, value in some.items()
        }
        with ExitStack() as folder:

            def begin() -> Path:
                self.check_room(path, snapshot)
                return folder.enter_context(whole_folder(path))

            def end(files: list[dict[str, Any]]) -> None:
                for name, text in snapshot.texts.items():
                    (draft / name).write_text(text, encoding="utf-8")
                for name in (*snapshot.texts, METADATA):
                    files.append(described(draft / name))
                    self.sign()
                content: dict[str, Any] = {"step": snapshot.step, "world": self.topology.world, "schema": SCHEMA}
                content["files"] = dict(sorted((name, about) for some in files for name, about in some.items()))
                (draft / MANIFEST).write_text(sealed(content), encoding="utf-8")
                folder.close()

            draft: Path = self.by_first(begin)
            mine = f"__{self.topology.rank}_"

            def save() -> dict[str, Any]:
                write_parts(tensors, draft, self.topology)
                found: dict[str, Any] = {}
                for file in sorted(draft.glob(f"{mine}*")):
                    found |= described(file)
                    self.sign()
                return found

            files = self.by_all(save)
            self.by_first(lambda: end(files))
        self.by_first(lambda: self.thin_out(path))
        return path


class NotWritten(Snapshot):
    """What a process has that leaves the writing to the first: it needs no copy while that goes on."""

    def copied(self) -> Snapshot:
        return self


def described(file: Path) -> dict[str, Any]:
    """A file's line in the manifest, once it is on the disk."""
    flush(file)
    return {file.name: {"size": file.stat().st_size, "sha256": sha256(file)}}


def attempt(act: Callable[[], Any]) -> tuple[Any, tuple[str, str] | None]:
    """What comes of an act, or the name and words of what it raised."""
    try:
        return act(), None
    except GlassformerError as error:
        name = next(name for name, kind in ERRORS.items() if isinstance(error, kind))
        return None, (name, str(error))
    except OSError as error:
        place = nearest_existing(Path(error.filename or "."))
        return None, ("DiskError", f"{place}: cannot be written ({error.strerror})")


ERRORS: dict[str, type[GlassformerError]] = {
    "DiskError": DiskError,
    "NotFiniteError": NotFiniteError,
    "CheckpointError": CheckpointError,
    "GlassformerError": GlassformerError,
}
