"""What goes wrong in one of two processes: numbers that are none, too little memory, a disk that is full while a thread saves.

Two processes are started as ``python test_processes_gone_wrong.py ACT FOLDER``, and what they found is looked at by many tests.
"""

from __future__ import annotations

import json
import math
import random
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from glassformer.errors import FAILED, GlassformerError
from glassformer.files import DiskError
from glassformer.nn.mlp import GatedMlp
from glassformer.training import Silence, train_run
from glassformer.training.checkpoint import Checkpoints, damage
from glassformer.training.distributed import checkpoints as checkpoints_room
from glassformer.training.distributed.launch import find_seat, taking_part
from glassformer.training.tasks.text import Text
from processes import Pair, run_pair

KINDS = ("replicate", "shard", "tensor")
SPOILT_STEP, SPOILT_ROW = 3, 4  # counted from 0; of six rows the second process has the last three
STEPS = 8


class Notes(Silence):
    """A screen that remembers what it was told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def asked(folder: Path, **loop: Any) -> dict[str, Any]:
    """A recipe of a small run."""
    every = {"eval_every": STEPS, "sample_every": STEPS, "save_every": 2, "log_every": 1, "keep": 9}
    return {
        "data": {"sources": [str(folder / "words.txt")]},
        "model": {"d_model": 8, "n_layers": 1, "n_heads": 2, "max_len": 8, "d_ff": 16, "dropout": 0.0},
        "loop": {"steps": STEPS, "batch_size": 6, "threads": 1, "compile": "no", "async_save": "no", **every, **loop},
    }


def write_words(folder: Path) -> None:
    """Some text to train on."""
    draw = random.Random(0)
    (folder / "words.txt").write_text("".join(" ".join(draw.choices("abcdefgh", k=6)) + ".\n" for _ in range(100)))


class Faults:
    """Puts faults in place of what works, for one run at a time."""

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self.step = -1
        self.rows: dict[int, torch.Tensor] = {}
        self.real = Text.batch, Text.loss, GatedMlp.forward
        self.mend()

    def mend(self) -> None:
        """All as it was, but for a look at which step is under way."""
        real = self.real[0]

        def batch(task: Text, step: int) -> Any:
            made = real(task, step)
            self.step, self.rows[step] = step, made.inputs["ids"]
            return made

        Text.batch, Text.loss, GatedMlp.forward = batch, self.real[1], self.real[2]

    def spoil_a_row(self) -> None:
        """The loss of one row is no number, whoever computes it."""

        def loss(task: Text, answers: Any, batch: Any, smoothing: float = 0.0) -> Any:
            found = self.real[1](task, answers, batch, smoothing)
            row = self.rows[self.step][SPOILT_ROW]
            spoilt = self.step == SPOILT_STEP and torch.is_grad_enabled()
            return found * math.nan if spoilt and (batch.inputs["ids"] == row).all(-1).any() else found

        Text.loss = loss  # type: ignore[method-assign]

    def spoil_a_process(self) -> None:
        """The second process computes wrongly, as a broken chip would."""

        def forward(mlp: GatedMlp, x: Any) -> Any:
            spoilt = self.step == SPOILT_STEP and self.rank == 1 and torch.is_grad_enabled()
            return self.real[2](mlp, x * math.nan if spoilt else x)

        GatedMlp.forward = forward  # type: ignore[method-assign]

    def take_memory(self, rows: int, step: int = 5) -> None:
        """From a step on, the second process has memory for so many rows at once."""

        def loss(task: Text, answers: Any, batch: Any, smoothing: float = 0.0) -> Any:
            if self.step >= step and self.rank == 1 and torch.is_grad_enabled() and len(batch.targets) > rows:
                raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate much")
            return self.real[1](task, answers, batch, smoothing)

        Text.loss = loss  # type: ignore[method-assign]


def train(folder: Path, run: str, topology: Any, **loop: Any) -> Notes:
    """A run, and what was said."""
    screen = Notes()
    train_run(asked(folder, **loop), folder / run, minutes=1, screen=screen, topology=topology)
    return screen


def go_wrong(folder: Path, topology: Any) -> dict[str, Any]:
    """One fault after the other, each in runs of their own."""
    faults, found = Faults(topology.rank), {}
    for name in ("row", "process"):
        for kind in KINDS:
            faults.mend()
            (faults.spoil_a_row if name == "row" else faults.spoil_a_process)()
            try:
                train(folder, f"{name}-{kind}", topology, parallel=kind)
            except GlassformerError as error:
                found[f"{name}-{kind}"] = str(error)
    faults.mend()
    faults.take_memory(1)
    found["memory"] = train(folder, "memory", topology, parallel="replicate").notes
    faults.mend()
    train(folder, "enough", topology, parallel="replicate")
    faults.take_memory(0)
    try:
        train(folder, "none", topology, parallel="replicate")
    except GlassformerError as error:
        found["none"] = str(error)
    faults.mend()
    for kind in ("replicate", "shard"):
        found[f"beside-{kind}"] = save_beside(folder, topology, kind, faults)
    return found


def save_beside(folder: Path, topology: Any, kind: str, faults: Faults) -> dict[str, Any]:
    """Runs that save in a thread, which waits for the next step; the disk of the one that writes is full at first."""
    real, when, failures = checkpoints_room.JoinedCheckpoints.write, [], [1]
    train(folder, f"waiting-{kind}", topology, parallel=kind)
    writer = 0 if kind == "replicate" else 1

    def write(checkpoints: Any, snapshot: Any) -> Path:
        began, deadline = faults.step, time.monotonic() + 30
        while faults.step == began and time.monotonic() < deadline:
            time.sleep(0.01)
        made = real(checkpoints, snapshot)
        when.append((began, faults.step))
        return made

    def refuse(*arguments: Any) -> None:
        if topology.rank == writer and failures:
            failures.pop()
            raise DiskError("the disk is full of something")

    checkpoints_room.JoinedCheckpoints.write = write  # type: ignore[method-assign]
    real_check = checkpoints_room.refuse_non_finite, Checkpoints.check_room
    if kind == "replicate":
        Checkpoints.check_room = refuse  # type: ignore[method-assign]
    else:
        checkpoints_room.refuse_non_finite = refuse
    try:
        notes = train(folder, f"beside-{kind}", topology, parallel=kind, async_save="yes").notes
    finally:
        checkpoints_room.JoinedCheckpoints.write = real  # type: ignore[method-assign]
        checkpoints_room.refuse_non_finite, Checkpoints.check_room = real_check
    return {"when": when, "notes": notes}


def act(what: str, folder: Path) -> None:
    """What each of the two processes does."""
    seat = find_seat()
    assert seat is not None
    with taking_part(seat) as topology:
        if what == "all":
            (folder / f"found-{seat.rank}.json").write_text(json.dumps(go_wrong(folder, topology)))
        elif what == "short":
            Faults(seat.rank).take_memory(1)
            train(folder, "short", topology, parallel="shard")
        else:
            real = checkpoints_room.described

            def slowly(file: Path) -> Any:
                time.sleep(0.2)
                return real(file)

            checkpoints_room.described = slowly
            train(folder, what, topology, parallel="shard", async_save="yes", steps=12)


class Wrong:
    """What two processes left in a folder after all that went wrong."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        write_words(folder)
        faults = Faults(0)
        faults.spoil_a_row()

        def alone() -> None:
            with pytest.raises(GlassformerError):
                train_run(asked(folder), folder / "alone", minutes=1, screen=Silence())

        try:
            run_pair(__file__, "all", folder, meanwhile=alone)
        finally:
            faults.mend()
            Text.batch = faults.real[0]
        self.found = [json.loads((folder / f"found-{rank}.json").read_text()) for rank in (0, 1)]

    def report(self, run: str) -> dict[str, Any]:
        """The report in a run folder."""
        return json.loads((self.folder / run / "failure.json").read_text())


@pytest.fixture(scope="module")
def wrong(tmp_path_factory: pytest.TempPathFactory) -> Wrong:
    return Wrong(tmp_path_factory.mktemp("wrong"))


def steps_of(run: Path) -> list[str]:
    found = sorted((run / "checkpoints").glob("step-*"))
    assert [damage(path) for path in found] == [None] * len(found)
    return [path.name.removeprefix("step-0000000") for path in found]


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_that_gives_no_number_is_named_as_by_one_process(wrong: Wrong, kind: str) -> None:
    told, alone = wrong.report(f"row-{kind}"), wrong.report("alone")
    for same in ("step", "loss", "first", "found", "rows"):
        assert told[same] == alone[same], same
    assert [row["row"] for row in told["rows"] if row["alone_too"]] == [SPOILT_ROW]
    assert told["found_by"] == ([0, 1] if kind == "tensor" else [1])
    assert steps_of(wrong.folder / f"row-{kind}") == ["2"]
    first, second = (found[f"row-{kind}"] for found in wrong.found)
    assert first == second
    assert f"at step {SPOILT_STEP + 1}; the weights were not touched by it; it begins in the loss itself" in first
    assert f"; see {wrong.folder / f'row-{kind}' / 'failure.txt'}" in first


@pytest.mark.parametrize("kind", KINDS)
def test_a_process_that_computes_wrongly_is_named(wrong: Wrong, kind: str) -> None:
    told = wrong.report(f"process-{kind}")
    assert told["first"] == "decoder.blocks.0.mlp.gate"
    assert told["found_by"] == [1]
    rows = [row["row"] for row in told["rows"] if row["alone_too"]]
    assert rows == ([0, 1, 2, 3, 4, 5] if kind == "tensor" else [3, 4, 5])
    said = (wrong.folder / f"process-{kind}" / "failure.txt").read_text()
    assert "Of the 2 processes, counted from 0, that took it again, 1 found it." in said
    assert wrong.found[0][f"process-{kind}"] == wrong.found[1][f"process-{kind}"]


def losses(run: Path) -> list[float]:
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows if "loss" in row]


def test_where_one_process_lacks_memory_all_take_the_step_again_in_smaller_portions(wrong: Wrong) -> None:
    for found in wrong.found:
        said = [note for note in found["memory"] if note.startswith("not enough memory")]
        assert [note.split(" in ")[-1].split(";")[0] for note in said] == [
            "2 portions instead of 1",
            "4 portions instead of 2",
        ]
        assert "cannot be divided further, since its portions are single rows already" in found["none"]
    rows = [json.loads(line) for line in (wrong.folder / "memory" / "log.jsonl").read_text().splitlines()]
    assert [(row["step"], row["grad_accum"]) for row in rows if "grad_accum" in row] == [(6, 2), (6, 4)]
    assert losses(wrong.folder / "memory") == pytest.approx(losses(wrong.folder / "enough"), rel=1e-4)


@pytest.mark.parametrize("kind", ["replicate", "shard"])
def test_saves_beside_the_training_are_those_that_training_waits_for(wrong: Wrong, kind: str) -> None:
    beside, waiting = (wrong.folder / f"{name}-{kind}" for name in ("beside", "waiting"))
    assert steps_of(waiting) == ["2", "4", "6"]
    assert steps_of(beside) == ["4", "6"]  # the first was refused
    for found in wrong.found:
        when = found[f"beside-{kind}"]["when"]
        assert len(when) == 2
        assert all(end > began for began, end in when)  # steps were taken meanwhile
        assert any("checkpoint not saved: the disk is full of something" in n for n in found[f"beside-{kind}"]["notes"])
    for name in ("4", "6"):
        for file in (beside / "checkpoints" / f"step-0000000{name}").iterdir():
            other = waiting / "checkpoints" / file.parent.name / file.name
            if file.suffix == ".safetensors":
                ours, theirs = load_file(file), load_file(other)
                assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
            elif file.suffix == ".distcp":
                assert file.stat().st_size == other.stat().st_size
    ours, theirs = (load_file(run / "final" / "model.safetensors") for run in (beside, waiting))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_where_processes_wait_for_each_other_they_start_anew_in_smaller_portions(tmp_path: Path) -> None:
    write_words(tmp_path)
    wanted = []
    for attempt in range(3):
        with Pair(__file__, "short", tmp_path) as pair:
            ended = pair.ended()
        if attempt < 2:
            assert [code for code, _ in ended] == [FAILED, FAILED], ended
            assert "process 1: not enough memory at step 6" in ended[1][1]
            wanted.append(json.loads((tmp_path / "short" / "memory.json").read_text())["portions"])
    assert [code for code, _ in ended] == [0, 0], ended
    assert wanted == [2, 4]
    assert len(losses(tmp_path / "short")) == STEPS


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_death_in_the_middle_of_a_save_beside_the_training_leaves_the_older_checkpoint(tmp_path: Path) -> None:
    write_words(tmp_path)
    run_pair(__file__, "quiet", tmp_path)
    folder = tmp_path / "killed" / "checkpoints"
    for victim in (0, 1):
        with Pair(__file__, "killed", tmp_path) as pair:
            began = time.monotonic()
            sound = max((path.name for path in folder.glob("step-*")), default="")
            while not (
                list(folder.glob(".tmp-*")) and max((path.name for path in folder.glob("step-*")), default="") > sound
            ):
                assert time.monotonic() - began < 600
                assert pair.running[0].poll() is None
                time.sleep(0.01)
            pair.running[victim].kill()
            newest = Checkpoints(folder, 9).newest_sound(print)
            assert newest is not None
            assert newest.name > sound
            assert all(code for code, _ in pair.ended())
    run_pair(__file__, "killed", tmp_path)
    ours, theirs = (load_file(tmp_path / run / "final" / "model.safetensors") for run in ("killed", "quiet"))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


if __name__ == "__main__":
    act(sys.argv[1], Path(sys.argv[2]))
