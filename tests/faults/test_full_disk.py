"""A disk that is full: said with the room that is left; what was saved before stays, and the same command goes on."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
import textwrap

import pytest

from glassformer import files
from glassformer.pipeline import load
from glassformer.training.checkpoint import damage
from glassformer.training.log import Log
from running import QUICK, SENTENCES


class Full:
    """A disk that takes `room` more flushes whose path holds `where`, then none until it is emptied."""

    def __init__(self, where: str, room: int) -> None:
        self.where, self.room = where, room
        self.real = files.flush

    def flush(self, path) -> None:
        if self.where in str(path):
            self.room -= 1
            if self.room < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.real(path)


@pytest.fixture
def text(tmp_path):
    (tmp_path / "my.txt").write_text(SENTENCES * 20)
    return tmp_path / "my.txt"


FLAGS = (*QUICK, "--save-every", 1, "--eval-every", 2)


def test_a_checkpoint_that_finds_no_room_is_said_and_the_earlier_ones_stay(command, text, tmp_path, monkeypatch):
    disk = Full("step-00000003", 0)
    monkeypatch.setattr(files, "flush", disk.flush)
    done = command("train", text, *FLAGS, "--keep", 9, "-o", tmp_path / "run")
    assert done.code == 0
    (said,) = (line for line in done.err.splitlines() if line.startswith("checkpoint not saved: "))
    assert "step-00000003: the disk is full (" in said
    assert "MB free); nothing was overwritten, make room and run again" in said
    found = sorted((tmp_path / "run" / "checkpoints").iterdir())
    assert [path.name for path in found] == ["step-00000001", "step-00000002", "step-00000004", "step-00000005"]
    assert [damage(path) for path in found] == [None] * 4


@pytest.mark.parametrize(("where", "what"), [("best", "best model"), ("samples", "sample")])
def test_what_is_no_checkpoint_may_find_no_room_either_and_training_goes_on(
    command, text, tmp_path, monkeypatch, where, what
):
    monkeypatch.setattr(files, "flush", Full(where, 0).flush)
    done = command("train", text, *FLAGS, "--sample-every", 3, "-o", tmp_path / "run")
    assert done.code == 0, done.err
    assert f"{what} not saved: " in done.err
    assert (tmp_path / "run" / "final").exists()


@pytest.mark.parametrize(("where", "room"), [("final", 0), ("loss.png", 0)])
def test_wherever_the_disk_is_full_the_run_stops_with_a_sentence_and_goes_on_once_there_is_room(
    command, text, tmp_path, monkeypatch, where, room
):
    run = tmp_path / "run"
    disk = Full(where, room)
    monkeypatch.setattr(files, "flush", disk.flush)
    stopped = command("train", text, *FLAGS, "--sample-every", 3, "-o", run)
    assert stopped.code == 1, stopped.err
    assert where in stopped.sentence
    assert "the disk is full (" in stopped.sentence
    assert not list(run.rglob(f"{files.TEMPORARY}*"))
    if (run / "best").exists():
        assert load(run / "best").generate("The", max_new_tokens=2) is not None
    if where == "loss.png":  # the model is whole; only the picture is missing
        assert (run / "final").exists()
        return
    disk.room = 10**6
    assert command("train", text, *FLAGS, "--sample-every", 3, "-o", run).code == 0
    assert (run / "final").exists()


def test_a_log_that_cannot_grow_is_a_sentence(tmp_path, monkeypatch):
    log = Log(tmp_path / "log.jsonl")
    log.write({"step": 1})

    def refuse(*arguments, **more):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("pathlib.Path.open", refuse)
    with pytest.raises(files.DiskError, match=r"log\.jsonl: the disk is full \(\d+ MB free\)"):
        log.write({"step": 2})
    monkeypatch.undo()
    assert log.rows() == [{"step": 1}]


def test_mending_a_log_on_a_full_disk_loses_no_row(tmp_path, monkeypatch):
    log = Log(tmp_path / "log.jsonl")
    for step in (1, 2):
        log.write({"step": step})
    monkeypatch.setattr(files, "flush", Full("log.jsonl", 0).flush)
    with pytest.raises(files.DiskError):
        log.resume(1)
    assert [row["step"] for row in log.rows()] == [1, 2]


def test_a_limit_on_the_size_of_files_is_told_by_the_system_itself(command, text, tmp_path):
    """RLIMIT_FSIZE makes the kernel refuse as a full disk would, below everything that could be replaced in a test."""
    run = tmp_path / "run"
    program = f"""
        import resource, signal, sys
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        sys.argv = ["glassformer", "train", {str(text)!r}, *{tuple(map(str, FLAGS))!r}, "-o", {str(run)!r}]
        from glassformer.cli import main
        import glassformer.training.run
        resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, {resource.getrlimit(resource.RLIMIT_FSIZE)[1]}))
        main()
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "checkpoint not saved: " in done.stderr
    assert "the disk is full (" in done.stderr.splitlines()[-1]
    assert not list(run.rglob(f"{files.TEMPORARY}*"))
    assert command("train", text, *FLAGS, "-o", run).code == 0
