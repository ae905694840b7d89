"""Writing files and folders whole or not at all: into a temporary neighbour, flushed to the disk, then renamed."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from glassformer.errors import FAILED, GlassformerError

TEMPORARY = ".tmp-"  # what names of unfinished things begin with; they may be deleted at any time


class DiskError(GlassformerError):
    """The disk is full, read-only or failing; what stood there before is untouched."""

    exit_code = FAILED


@contextmanager
def whole_file(path: Path) -> Generator[Path]:
    """A temporary path to write; it becomes `path` when the block ends well, and vanishes when it does not."""
    temporary = path.with_name(f"{TEMPORARY}{path.name}-{uuid.uuid4().hex[:8]}")
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            flush(temporary)
            os.replace(temporary, path)
            flush(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Generator[Path]:
    """A temporary folder to fill; it takes the place of `path` when the block ends well, and vanishes when it does not.

    A folder cannot be replaced in one stroke: between two renames the old one stands beside it, where `recover` finds it.
    """
    temporary = path.with_name(f"{TEMPORARY}{path.name}-{uuid.uuid4().hex[:8]}")
    try:
        with explained(path):
            recover(path)
            temporary.mkdir(parents=True)
            yield temporary
            for inner in sorted(temporary.rglob("*")):
                flush(inner)
            flush(temporary)
            if path.exists():
                os.rename(path, replaced(path))
            os.rename(temporary, path)
            flush(path.parent)
    finally:
        recover(path)
        shutil.rmtree(temporary, ignore_errors=True)


def recover(path: Path) -> None:
    """Bring back the folder that an interrupted replacement left beside `path`, or delete it where the new one stands."""
    old = replaced(path)
    if not old.exists():
        return
    if path.exists():
        shutil.rmtree(old, ignore_errors=True)
    else:
        os.rename(old, path)


def replaced(path: Path) -> Path:
    """Where the folder that `path` takes the place of stands meanwhile."""
    return path.with_name(f".old-{path.name}")


@contextmanager
def explained(path: Path) -> Generator[None]:
    """Turn the operating system's refusals into one sentence with the path and the space that is left."""
    try:
        yield
    except Exception as error:
        number = refusal(error)
        if number is None:
            raise
        if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            free = shutil.disk_usage(nearest_existing(path)).free
            raise DiskError(
                f"{path}: the disk is full ({free / 1e6:.0f} MB free); nothing was overwritten, make room and run again"
            ) from None
        raise DiskError(f"{path}: cannot be written ({os.strerror(number) if number else error})") from None


def refusal(error: Exception) -> int | None:
    """The operating system's number for what went wrong, 0 where it gave none, None where it had no part in it."""
    if isinstance(error, OSError):
        return error.errno or 0
    told = re.search(r"\(os error (\d+)\)", str(error))  # how libraries in Rust report it, safetensors among them
    return int(told[1]) if told else None


def nearest_existing(path: Path) -> Path:
    """The path itself or the closest folder above it that exists."""
    return next(place for place in (path, *path.absolute().parents) if place.exists())


def flush(path: Path) -> None:
    """Force a file or a folder's list of names to the disk, so that a power cut after this keeps it."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256(path: Path) -> str:
    """The hexadecimal digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
