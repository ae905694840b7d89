"""A run that was stopped goes on to the very same end; a run that is not the one asked for is refused."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from glassformer import train
from glassformer.errors import CheckpointError, Interrupted
from glassformer.pipeline import load
from glassformer.training import sitting as running_room
from glassformer.training.lock import locked
from glassformer.training.recipe import OptimiserRecipe
from running import QUICK, SENTENCES, quick_settings
from toys import TOYS, toy_of, toy_wishes

pytestmark = pytest.mark.usefixtures("swift")

VARIANTS = {
    "muon": {},
    "adamw": {"optimiser.name": "adamw", "optimiser.lr": 0.01},
    "average": {"optimiser.ema": 0.8},
    "dropout": {"model.dropout": 0.3, "loop.grad_accum": 2},
    "tied": {"model.tied": True, "optimiser.grad_clip": 0.5},
    "wsd": {"optimiser.schedule": "wsd", "optimiser.weight_decay": 0.1},
}
RESULTS = ("final/model.safetensors", "best/model.safetensors", "recipe.yaml", "samples/step-00000004.txt")
WEIGHTS = RESULTS[0]
CLOCK = {"tok_per_s", "seconds", "seconds_left"}


@pytest.fixture
def text(tmp_path) -> Path:
    (tmp_path / "words.txt").write_text(SENTENCES * 20)
    return tmp_path / "words.txt"


@pytest.fixture
def stop_after(monkeypatch):
    """Makes the next runs see a stop request after so many steps of theirs, as the signal handler would set it."""

    def arrange(steps: int | None) -> None:
        asked = 0

        def requested() -> bool:
            nonlocal asked
            asked += 1
            return steps is not None and asked >= steps

        monkeypatch.setattr(running_room, "stop_signals", lambda: contextlib.nullcontext(requested))

    return arrange


EVERY = {"loop.eval_every": 3, "loop.sample_every": 4, "loop.save_every": 2}


def wishes(**more):
    return quick_settings(**EVERY, **more)


def told(folder: Path) -> list[dict]:
    """The rows of a log without what the clock put into them."""
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in CLOCK} for row in rows]


def bits(path: Path) -> object:
    """What a file holds, of weights the bytes of each tensor, since the order of the notes beside them is free."""
    if path.suffix != ".safetensors":
        return path.read_bytes()
    return {name: tensor.numpy().tobytes() for name, tensor in load_file(path).items()}


def check_that_stopping_twice_changes_nothing(source: Path, folder: Path, stop_after, asked: dict) -> None:
    """Run once to the end, once in three sittings, and compare whatever is left."""
    train(source, folder / "whole", **asked)
    for steps in (1, 2):
        stop_after(steps)
        with pytest.raises(Interrupted, match="the same command goes on from there"):
            train(source, folder / "parts", **asked)
    stop_after(None)
    train(source, folder / "parts", **asked)
    for name in RESULTS:
        assert bits(folder / "parts" / name) == bits(folder / "whole" / name), name
    assert told(folder / "parts") == told(folder / "whole")


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_run_stopped_twice_ends_in_the_same_bits(text, tmp_path, stop_after, variant):
    check_that_stopping_twice_changes_nothing(text, tmp_path, stop_after, wishes(**VARIANTS[variant]))


@pytest.mark.parametrize("name", [*TOYS, "transcribe", "classify_vectors"])
def test_a_run_of_any_task_stopped_twice_ends_in_the_same_bits(tmp_path, stop_after, name):
    asked = toy_wishes(name, **EVERY, **{"model.dropout": 0.1})
    check_that_stopping_twice_changes_nothing(toy_of(name).write(tmp_path), tmp_path, stop_after, asked)


def test_a_run_of_two_vocabularies_stopped_twice_ends_in_the_same_bits(tmp_path, stop_after):
    asked = toy_wishes("translate", **EVERY, **{"tokenizer.shared": False, "tokenizer.kind": "characters"})
    check_that_stopping_twice_changes_nothing(TOYS["translate"].write(tmp_path), tmp_path, stop_after, asked)


def test_a_run_that_started_from_another_goes_on_from_its_own_checkpoint(tmp_path, stop_after):
    train(TOYS["fill"].write(tmp_path), tmp_path / "start", **toy_wishes("fill"))
    source = TOYS["classify"].write(tmp_path)
    asked = {"task": "classify", "start_from": str(tmp_path / "start"), "loop.steps": 6, "loop.threads": 1, **EVERY}
    train(source, tmp_path / "whole", **asked)
    stop_after(3)
    with pytest.raises(Interrupted):
        train(source, tmp_path / "parts", **asked)
    stop_after(None)
    shutil.rmtree(tmp_path / "start")  # whose weights are needed once
    train(source, tmp_path / "parts", **asked)
    for name in RESULTS:
        assert bits(tmp_path / "parts" / name) == bits(tmp_path / "whole" / name), name
    assert told(tmp_path / "parts") == told(tmp_path / "whole")


@pytest.mark.parametrize("step", [1, 3, 4, 6])  # an evaluation, a sample and a checkpoint are due at 3, 4 and 6
def test_a_run_may_be_stopped_after_any_step(text, tmp_path, stop_after, step):
    train(text, tmp_path / "whole", **wishes())
    stop_after(step)
    with pytest.raises(Interrupted, match=f"stopped after step {step} of 6"):
        train(text, tmp_path / "parts", **wishes())
    assert not (tmp_path / "parts" / "final").exists()
    stop_after(None)
    train(text, tmp_path / "parts", **wishes())
    assert bits(tmp_path / "parts" / WEIGHTS) == bits(tmp_path / "whole" / WEIGHTS)
    assert told(tmp_path / "parts") == told(tmp_path / "whole")


def test_the_model_that_is_left_is_the_average_where_one_was_asked_for(text, tmp_path, stop_after):
    asked = wishes(**{"optimiser.ema": 0.8})
    stop_after(6)
    with pytest.raises(Interrupted):
        train(text, tmp_path / "run", **asked)
    stop_after(None)
    pipe = train(text, tmp_path / "run", **asked)
    checkpoint = tmp_path / "run" / "checkpoints" / "step-00000006"
    average, latest = (load_file(checkpoint / f"{name}.safetensors") for name in ("average", "model"))
    found = load(tmp_path / "run" / "final").model.state_dict()
    assert pipe.model.config.d_model == 16
    assert found.keys() == average.keys()
    assert all(found[name].equal(average[name]) for name in found)
    assert not all(found[name].equal(latest[name]) for name in found)


def test_a_run_that_died_between_checkpoints_takes_its_steps_again(text, tmp_path, monkeypatch):
    train(text, tmp_path / "whole", **wishes())
    real = running_room.save_model

    def dying(*arguments, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr(
        running_room, "save_model", dying
    )  # at the evaluation of step 3, after the checkpoint of step 2
    with pytest.raises(KeyboardInterrupt):
        train(text, tmp_path / "parts", **wishes())
    assert [row["step"] for row in told(tmp_path / "parts")] == [1, 2, 3]
    monkeypatch.setattr(running_room, "save_model", real)
    train(text, tmp_path / "parts", **wishes())
    assert told(tmp_path / "parts") == told(tmp_path / "whole")
    assert bits(tmp_path / "parts" / WEIGHTS) == bits(tmp_path / "whole" / WEIGHTS)


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(text, tmp_path):
    for name, seed in (("one", 5), ("two", 5), ("three", 6)):
        train(text, tmp_path / name, **wishes(seed=seed, **{"model.dropout": 0.2}))
    one, two, three = (bits(tmp_path / name / WEIGHTS) for name in ("one", "two", "three"))
    assert one == two
    assert one != three


def test_portions_of_a_step_change_nothing_that_can_be_seen(text, tmp_path):
    for portions in (1, 2, 4):
        train(text, tmp_path / str(portions), **wishes(**{"loop.grad_accum": portions, "optimiser.grad_clip": 0.5}))
    whole, *parts = (told(tmp_path / str(portions)) for portions in (1, 2, 4))
    for part in parts:
        for row, expected in zip(part, whole, strict=True):
            assert row == pytest.approx(expected, rel=1e-4)


def test_ctrl_c_leaves_a_state_from_which_the_same_command_goes_on(command, text, tmp_path):
    flags = [*QUICK, "--steps", "300", "--save-every", "1000", "--eval-every", "100", "--set", "loop.log_every=5"]
    child = subprocess.Popen(
        [sys.executable, "-m", "glassformer", "train", str(text), *flags, "--out-dir", str(tmp_path / "parts")],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    log = tmp_path / "parts" / "log.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and child.poll() is None and not (log.exists() and log.stat().st_size):
        time.sleep(0.005)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 75, err
    assert "Traceback" not in err
    last = err.strip().splitlines()[-1]
    assert last.startswith("glassformer: stopped after step ")
    assert last.endswith("of 300; the same command goes on from there")

    again = command("train", text, *flags, "--out-dir", tmp_path / "parts")
    assert again.code == 0, again.err
    assert "going on from step" in again.err
    whole = command("train", text, *flags, "--out-dir", tmp_path / "whole")
    assert whole.code == 0, whole.err
    for name in RESULTS[:3]:
        assert bits(tmp_path / "parts" / name) == bits(tmp_path / "whole" / name), name
    assert told(tmp_path / "parts") == told(tmp_path / "whole")


def test_a_request_to_stop_is_read_by_the_loop_and_a_second_one_stops_at_once():
    from glassformer.training.machine import stop_signals

    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with stop_signals() as requested:
        assert not requested()
        os.kill(os.getpid(), signal.SIGTERM)
        assert requested()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_finished_run_is_not_trained_again(command, text, tmp_path):
    run = tmp_path / "run"
    assert command("train", text, *QUICK, "-o", run).code == 0
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    again = command("train", text, *QUICK, "-o", run)
    assert again.code == 1
    assert again.sentence == f"{run} holds a finished run; choose another --out-dir, or delete it to train anew"
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("option", "key", "had", "asked"),
    [
        (("--steps", 7), "loop.steps", "6", "7"),
        (("--d-model", 32), "model.d_model", "16", "32"),
        (("--set", "optimiser.min_lr=0.5"), "optimiser.min_lr", str(OptimiserRecipe().min_lr), "0.5"),
        (("--preset", "gpt2"), "preset", "modern", "gpt2"),
        (("--tokenizer", "bytes"), "tokenizer.kind", "characters", "bytes"),
    ],
)
def test_another_option_on_an_unfinished_run_is_refused(command, text, tmp_path, stop_after, option, key, had, asked):
    stop_after(2)
    assert command("train", text, *QUICK, "-o", tmp_path / "run").code == 75
    refused = command("train", text, *QUICK, *option, "-o", tmp_path / "run")
    assert refused.code == 1
    expected = f"{tmp_path / 'run'} holds a run with {key}={had}, not {asked}; "
    assert refused.sentence == expected + "give the same options to go on, or another --out-dir"


@pytest.mark.parametrize(
    "option",
    [
        ("--pos", "rope"),
        ("--set", "model.tied=true"),
        ("--set", "optimiser.grad_clip=1"),
        ("--set", "model.window=null"),
        ("--compile", "auto"),
    ],
)
def test_the_same_wish_in_other_words_is_the_same_run(command, text, tmp_path, stop_after, option):
    stop_after(2)
    assert command("train", text, *QUICK, *option, "-o", tmp_path / "run").code == 75
    stop_after(None)
    assert command("train", text, *QUICK, *option, "-o", tmp_path / "run").code == 0


def test_the_recipe_of_an_unfinished_run_goes_on_with_it(command, text, tmp_path, stop_after):
    stop_after(2)
    assert command("train", text, *QUICK, "-o", tmp_path / "run").code == 75
    stop_after(None)
    assert command("train", tmp_path / "run" / "recipe.yaml", "-o", tmp_path / "run").code == 0


CHANGES = {"more": SENTENCES * 21, "other": SENTENCES.replace("cat", "cow") * 20, "line ends": (SENTENCES * 20) + "\n"}


@pytest.mark.parametrize("change", CHANGES)
def test_a_text_that_has_changed_is_refused_by_name(command, text, tmp_path, stop_after, change):
    stop_after(2)
    assert command("train", text, *QUICK, "-o", tmp_path / "run").code == 75
    text.write_text(CHANGES[change])
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    refused = command("train", text, *QUICK, "-o", tmp_path / "run")
    assert refused.code == 1
    assert refused.sentence == (
        f"{tmp_path}/run/checkpoints/step-00000002: what this run follows from has changed since: {text} (changed); "
        "undo that, train into another --out-dir, or go on all the same with --allow-changed"
    )
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_a_tokenizer_that_has_changed_is_refused_by_name(command, text, tmp_path, stop_after):
    stop_after(2)
    assert command("train", text, *QUICK, "-o", tmp_path / "run").code == 75
    path = tmp_path / "run" / "tokenizer" / "tokenizer.json"
    path.write_text(path.read_text() + "\n")
    refused = command("train", text, *QUICK, "-o", tmp_path / "run")
    assert (refused.code, "since: tokenizer/tokenizer.json (changed); undo" in refused.sentence) == (1, True)


def test_a_recipe_that_was_edited_by_hand_is_refused_with_both_values(command, text, tmp_path, stop_after):
    stop_after(2)
    assert command("train", text, *QUICK, "-o", tmp_path / "run").code == 75
    path = tmp_path / "run" / "recipe.yaml"
    path.write_text(
        path.read_text().replace("log_every: 1\n", "log_every: 2\n").replace("eps: 1.0e-10", "eps: 1.0e-09")
    )
    with pytest.raises(
        CheckpointError, match=r"since: optimiser\.eps 1e-10 -> 1e-09, loop\.log_every 1 -> 2; undo that"
    ):
        train(text, tmp_path / "run", **quick_settings())
    stop_after(None)
    train(text, tmp_path / "run", allow_changed=True, **quick_settings())
    changes = ["optimiser.eps 1e-10 -> 1e-09", "loop.log_every 1 -> 2"]
    assert {"step": 2, "allowed_changes": changes} in told(tmp_path / "run")


def test_allow_changed_goes_on_all_the_same_and_logs_what_has_changed(command, text, tmp_path, stop_after):
    stop_after(2)
    assert command("train", text, *QUICK, "-o", tmp_path / "run").code == 75
    stop_after(None)
    text.write_text(SENTENCES * 21)
    changed = ("train", text, *QUICK[:-4], "--steps", 8, "--threads", 1, "-o", tmp_path / "run")
    assert "loop.steps=6, not 8" in command(*changed).sentence
    done = command(*changed, "--allow-changed")
    assert done.code == 0, done.err
    expected = ["loop.steps 6 -> 8", f"{text} (changed)"]
    assert f"going on although this has changed: {', '.join(expected)}" in done.err
    rows = told(tmp_path / "run")
    assert [row for row in rows if "allowed_changes" in row] == [{"step": 2, "allowed_changes": expected}]
    assert [row["step"] for row in rows if "loss" in row] == list(range(1, 9))


def test_two_runs_in_one_folder_are_refused_with_the_other_one_named(command, text, tmp_path, stop_after):
    stop_after(2)
    assert command("train", text, *QUICK, "-o", tmp_path / "run").code == 75
    stop_after(None)
    with locked(tmp_path / "run"):
        refused = command("train", text, *QUICK, "-o", tmp_path / "run")
        other = f"process {os.getpid()} on {socket.gethostname()}"
        assert refused.sentence == (
            f"{tmp_path / 'run'}: another run is training here ({other}); wait for it, stop it, or choose another --out-dir"
        )
    assert command("train", text, *QUICK, "-o", tmp_path / "run").code == 0
