"""Loggers of others get the rows of log.jsonl, go on where the run goes on, and never stop a training."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import types
from collections import defaultdict

import pytest

from glassformer import train
from glassformer.training import loggers as room
from glassformer.training.log import Log
from glassformer.training.loggers import LOGGERS, Loggers, identity_of
from running import QUICK, SENTENCES, quick_settings

pytestmark = pytest.mark.usefixtures("swift")


def needs(library: str) -> pytest.MarkDecorator:
    found = importlib.util.find_spec(library) is not None
    return pytest.mark.skipif(not found, reason=f"needs {library}, of the extra {library}")


@pytest.fixture
def text(tmp_path):
    (tmp_path / "words.txt").write_text(SENTENCES * 20)
    return tmp_path / "words.txt"


@pytest.fixture
def kept(monkeypatch):
    """A logger that keeps what it is told, in the place of trackio's; `faults` are raised once it comes to them."""

    class Kept(LOGGERS["trackio"]):
        library = "json"  # which is always there
        told, rows, closed, faults = [], [], [], {}

        def __init__(self, told):
            self.told.append(told)
            self.fail("open")

        def write(self, row):
            self.fail(row["step"])
            self.rows.append(dict(row))

        def close(self):
            self.fail("close")
            self.closed.append(True)

        def fail(self, where):
            if where in self.faults:
                raise self.faults[where]

    monkeypatch.setitem(LOGGERS, "trackio", Kept)
    return Kept


def rows_of(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def scalars(folder):
    """What TensorBoard itself reads: by name, every step with its value."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    return {name: [(e.step, e.value) for e in events.Scalars(name)] for name in events.Tags()["scalars"]}


def in_log(folder):
    found = defaultdict(list)
    for row in rows_of(folder):
        for name, value in row.items():
            if name != "step":
                found[name].append((row["step"], pytest.approx(value, rel=1e-6)))
    return dict(found)


@needs("tensorboard")
def test_tensorboard_reads_back_every_number_of_the_log(text, tmp_path):
    train(text, tmp_path / "run", **quick_settings(**{"loop.loggers": "tensorboard"}))
    assert scalars(tmp_path / "run") == in_log(tmp_path / "run")
    assert {"loss", "val_loss", "lr", "grad_norm"} <= set(scalars(tmp_path / "run"))


def stopped_and_gone_on(command, text, folder, monkeypatch, *flags):
    """A run of which two steps are taken twice: stopped by force behind the checkpoint, then started again."""
    from glassformer.training.sitting import Sitting

    arguments = ("train", text, *QUICK, "--save-every", 2, "--set", "loop.log_every=1", "-o", folder, *flags)
    begin = Sitting.begin_checkpoint

    def killed(self, state, **more):
        if state.step == 4:
            raise KeyboardInterrupt
        return begin(self, state, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Sitting, "begin_checkpoint", killed)
        assert command(*arguments).code == 130
    assert [row["step"] for row in rows_of(folder)][-1] == 4
    done = command(*arguments)
    assert done.code == 0, done.err
    assert "going on from step 2" in done.err
    return done


@needs("tensorboard")
def test_tensorboard_shows_a_resumed_run_as_one_without_steps_taken_twice(command, text, tmp_path, monkeypatch):
    stopped_and_gone_on(command, text, tmp_path / "run", monkeypatch, "--log-to", "tensorboard")
    assert len(list((tmp_path / "run" / "tensorboard").iterdir())) == 2
    assert scalars(tmp_path / "run") == in_log(tmp_path / "run")


def test_a_logger_gets_the_rows_of_the_log_and_is_closed(kept, text, tmp_path):
    train(text, tmp_path / "run", **quick_settings(**{"loop.loggers": ["trackio"], "loop.log_every": 1}))
    assert kept.rows == rows_of(tmp_path / "run")
    assert kept.closed == [True]
    (told,) = kept.told
    assert (told.step, told.sent, told.folder) == (0, 0, tmp_path / "run")
    assert told.recipe["loop"]["steps"] == 6


def test_a_resumed_run_has_its_name_and_says_from_where_it_goes_on(kept, command, text, tmp_path, monkeypatch):
    stopped_and_gone_on(command, text, tmp_path / "run", monkeypatch, "--log-to", "trackio")
    first, second = kept.told
    assert first.identity == second.identity
    assert (second.step, second.sent) == (2, 4)
    assert identity_of(tmp_path / "run") == first.identity != identity_of(tmp_path)


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("open", "trackio cannot be used (no network); training goes on"),
        (3, "trackio has failed and gets no more rows (no network); training goes on"),
        ("close", "trackio could not be finished (no network); training goes on"),
    ],
)
def test_a_logger_that_fails_is_told_of_once_and_training_goes_on(kept, command, text, tmp_path, where, said):
    kept.faults[where] = OSError("no network\nand more")
    done = command("train", text, *QUICK, "--log-to", "trackio", "--set", "loop.log_every=1", "-o", tmp_path / "run")
    kept.faults.clear()
    assert done.code == 0, done.err
    assert done.err.count("trackio") == 1
    assert said in done.err
    assert [row["step"] for row in rows_of(tmp_path / "run") if "loss" in row] == [1, 2, 3, 4, 5, 6]
    assert {row["step"] for row in kept.rows} == (
        {1, 2} if where == 3 else set() if where == "open" else set(range(1, 7))
    )


def test_one_logger_that_fails_does_not_keep_rows_from_another(kept, tmp_path, monkeypatch):
    class Broken(kept):
        def write(self, row):
            raise ValueError("broken")

    monkeypatch.setitem(LOGGERS, "wandb", Broken)
    notes = []
    log = Loggers(Log(tmp_path / "log.jsonl"), ("wandb", "trackio"), {}, notes.append)
    log.resume(0)
    for step in (1, 2):
        log.write({"step": step, "loss": 1.0})
    assert [row["step"] for row in kept.rows] == [1, 2]
    assert len(notes) == 1


def test_what_a_library_prints_is_no_output_of_the_command(kept, command, text, tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "fail", lambda self, where: print("* hello from a library"))
    done = command("train", text, *QUICK, "--log-to", "trackio", "-o", tmp_path / "run")
    assert "hello" not in done.out
    assert "hello" in done.err


@pytest.mark.parametrize("name", LOGGERS)
def test_a_missing_library_is_one_sentence_before_anything_begins(command, text, tmp_path, monkeypatch, name):
    monkeypatch.setattr(room.importlib.util, "find_spec", lambda library: None)
    done = command("train", text, *QUICK, "--log-to", name, "-o", tmp_path / "run")
    assert done.code == 2
    assert done.sentence == f"loop.loggers: logging to {name} needs {name}: pip install 'glassformer[{name}]'"
    assert done.err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_an_unknown_logger_is_one_sentence(command, text, tmp_path):
    done = command("train", text, *QUICK, "--log-to", "tensorboard,mlflow", "-o", tmp_path / "run")
    assert done.code == 2
    assert "loop.loggers" in done.sentence
    assert "'mlflow'" in done.sentence
    assert "'wandb'" in done.sentence


def test_without_loggers_nothing_is_kept_for_them(trained):
    assert not (trained / "loggers.json").exists()


class Stub(types.ModuleType):
    """wandb as far as it is used here: what it is asked is kept."""

    def __init__(self):
        super().__init__("wandb")
        self.asked, self.rows = {}, []
        self.Settings = lambda **settings: settings

    def init(self, **asked):
        self.asked = asked
        return types.SimpleNamespace(
            log=lambda values, step: self.rows.append({"step": step, **values}), finish=lambda: None
        )


@pytest.mark.parametrize(("mode", "asked"), [(None, "offline"), ("online", None), ("disabled", None)])
def test_wandb_is_offline_unless_its_own_variable_says_otherwise(monkeypatch, tmp_path, mode, asked):
    stub = Stub()
    monkeypatch.setitem(sys.modules, "wandb", stub)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.delenv("WANDB_ERROR_REPORTING", raising=False)
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)  # a key says who, not that anything should be sent
    if mode is not None:
        monkeypatch.setenv("WANDB_MODE", mode)
    logger = LOGGERS["wandb"](room.Told(tmp_path, {"seed": 1}, "abc"))
    logger.write({"step": 3, "loss": 2.5})
    assert stub.asked["mode"] == asked
    assert stub.asked["id"] == "abc"
    assert stub.rows == [{"step": 3, "loss": 2.5}]
    assert os.environ["WANDB_ERROR_REPORTING"] == "false"


# What follows runs the real libraries, each in a process of its own with no network to speak of.
PROGRAM = """
import sys
from pathlib import Path
from glassformer.training.log import Log
from glassformer.training.loggers import Loggers

folder, name = Path(sys.argv[1]), sys.argv[2]
folder.mkdir()
def sitting(since, until):
    log = Loggers(Log(folder / "log.jsonl"), (name,), {"seed": 1, "loop": {"steps": 4}}, lambda note: print("NOTE", note))
    log.resume(since)
    for step in range(since + 1, until + 1):
        log.write({"step": step, "loss": 10.0 / step})
    log.close()
sitting(0, 3)
sitting(2, 4)
"""


def run_alone(tmp_path, name, **environment):
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("WANDB", "TRACKIO"))}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "run"), name],
        env={**inherited, "HOME": str(tmp_path), "HF_HOME": str(tmp_path / "hf"), **environment},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    return tmp_path / "run"


def records(content: bytes):
    """The records of a .wandb file: LevelDB's log format behind a header of seven bytes."""
    at, block, joined = 7, 32768, b""
    while at + 7 <= len(content):
        if block - at % block < 7:
            at += block - at % block
            continue
        size, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        joined += content[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # whole, or the last part
            yield joined
            joined = b""


@needs("wandb")
@pytest.mark.slow
def test_wandb_itself_keeps_the_run_offline_under_one_id(tmp_path):
    from wandb.proto import wandb_internal_pb2

    folder = run_alone(tmp_path, "wandb")
    files = sorted((folder / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len(files) == 2
    assert {file.stem for file in files} == {f"run-{identity_of(folder)}"}
    steps = []
    for file in files:
        for data in records(file.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            if record.WhichOneof("record_type") == "history":
                row = {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in record.history.item}
                steps.append((row["_step"], row["loss"]))
    assert sorted(set(steps)) == [(step, 10.0 / step) for step in (1, 2, 3, 4)]


@needs("trackio")
@pytest.mark.slow
def test_trackio_itself_has_every_step_once_in_one_run(tmp_path):
    folder = run_alone(tmp_path, "trackio", TRACKIO_DIR=str(tmp_path / "tracked"))
    program = (
        "import json, trackio\n"
        "storage = trackio.SQLiteStorage\n"
        "names = storage.get_runs('glassformer')\n"
        "print(json.dumps([names, storage.get_logs('glassformer', names[0])]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "HOME": str(tmp_path), "TRACKIO_DIR": str(tmp_path / "tracked")},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr
    names, rows = json.loads(done.stdout)
    assert names == [f"run-{identity_of(folder)}"]
    assert [(row["step"], row["loss"]) for row in rows] == [(step, 10.0 / step) for step in (1, 2, 3, 4)]
