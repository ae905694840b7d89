"""What children of `forking` do that no run should: sleep within a step, and write to a disk that is full at some byte."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from forking import command
from running import QUICK

# Epochs end within a run, dropout draws, portions are summed, weights are averaged; saves, evaluations and samples interleave.
MANY_SIDED = (
    *QUICK[:-4],
    *("--threads", "1", "--dropout", "0.1", "--grad-accum", "2", "--ema", "0.9", "--grad-clip", "0.5"),
    *("--eval-every", "7", "--sample-every", "11", "--keep", "2"),
)


def deaf(text: str, run: str) -> None:
    """A run whose third step sleeps for a minute, deaf to everything but a signal."""
    sleeping_at(3, 60.0, Path(run) / "asleep")
    command("train", text, *MANY_SIDED, "--steps", "9", "-o", run)


def hang(text: str, run: str) -> None:
    """A run whose sixth step never ends."""
    sleeping_at(6, 3600.0, Path(run) / "asleep")
    command("train", text, *QUICK[:-4], "--steps", "9", "--threads", "1", "--set", "loop.hang_seconds=0.4", "-o", run)


def sleeping_at(step: int, seconds: float, sign: Path) -> None:
    """Make the batch of a step wait."""
    from glassformer.training.tasks.text import Text

    real = Text.batch

    def sleeping(self, number):
        if number == step:
            sign.touch()
            time.sleep(seconds)
        return real(self, number)

    Text.batch = sleeping


def three_checkpoints(folder: Path) -> tuple[Any, Callable[[int], Path]]:
    """A run folder with three checkpoints, and a call that saves a further one."""
    from glassformer.models import ModelConfig, build_model
    from glassformer.training.checkpoint import Checkpoints, State
    from glassformer.training.optimisers import Optimisers
    from glassformer.training.recipe import OptimiserRecipe

    model = build_model(
        ModelConfig.parse({"vocab_size": 503, "max_len": 8, "d_model": 16, "n_layers": 1, "n_heads": 2})
    )
    optimisers = Optimisers(model, OptimiserRecipe())
    checkpoints = Checkpoints(folder / "run" / "checkpoints", 3)

    def save(step: int) -> Path:
        return checkpoints.save(model, optimisers, None, State(step=step), "data")

    for step in (1, 2, 3):
        save(step)
    return checkpoints, save


def fill_the_disk(folder: str, points: int) -> None:
    """Save while no file may grow beyond so many bytes, at `points` sizes up to the largest; everything else must hold."""
    from glassformer.files import TEMPORARY, DiskError
    from glassformer.training.checkpoint import damage

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    checkpoints, save = three_checkpoints(Path(folder))
    before = checkpoints.found()
    largest = max(file.stat().st_size for file in before[0].iterdir())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    refused = 0
    for point in range(points):
        resource.setrlimit(resource.RLIMIT_FSIZE, (point * largest // points, hard))
        with contextlib.suppress(DiskError):
            try:
                save(4)
                raise AssertionError(f"a file of more than {point * largest // points} bytes was written")
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
                refused += 1
        assert checkpoints.found() == before
        assert [damage(path) for path in before] == [None] * 3
        assert not list(Path(folder).rglob(f"{TEMPORARY}*"))
    assert damage(save(4)) is None
    print(f"refused {refused} of {points}, lost 0, published 0 bad ones")


def fill_a_file_system(folder: str) -> None:
    """Save on a file system of its own with 0, 1, 2, ... pages left, until a whole checkpoint fits; everything else must hold.

    Room is not asked for before, as where others fill the disk meanwhile.
    """
    from glassformer.files import TEMPORARY, DiskError
    from glassformer.training.checkpoint import Checkpoints, damage

    checkpoints, save = three_checkpoints(Path(folder))
    Checkpoints.check_room = lambda *what: None  # type: ignore[method-assign]
    before, filler, page = checkpoints.found(), Path(folder) / "filler", os.statvfs(folder).f_frsize
    for pages in range(10_000):
        filler.write_bytes(b"")
        free = os.statvfs(folder).f_bavail
        filler.write_bytes(bytes((free - pages) * page))
        assert os.statvfs(folder).f_bavail == pages
        try:
            made = save(4)
            break
        except DiskError as error:
            said = str(error)
        assert "the disk is full" in said or "ENOSPC" in said, said
        assert checkpoints.found() == before
        assert [damage(path) for path in before] == [None] * 3
        assert not list(Path(folder).rglob(f"{TEMPORARY}*"))
    assert damage(made) is None
    size = sum(-(-file.stat().st_size // page) for file in made.iterdir())
    assert pages >= size
    print(f"refused {pages} of {pages}, lost 0, published 0 bad ones; a checkpoint takes {size} pages of {page} bytes")
