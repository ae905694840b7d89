"""``glassformer plan`` and ``train --budget``: the flags of train, a table or JSON, nothing written, and an exit code."""

from __future__ import annotations

import json
import shutil

import pytest

from glassformer import machine
from glassformer.machine import Memory
from glassformer.training import Recipe
from glassformer.training.screen import clock
from running import QUICK, SENTENCES

pytestmark = pytest.mark.usefixtures("swift")
OF_ROWS = (*QUICK[:6], *QUICK[10:])


@pytest.fixture
def text(tmp_path):
    (tmp_path / "words.txt").write_text(SENTENCES * 20)
    return tmp_path / "words.txt"


def test_a_plan_is_a_table_of_what_it_takes_and_writes_nothing(command, text, tmp_path):
    done = command("plan", text, *QUICK, "-o", tmp_path / "run")
    assert done.code == 0, done.err
    for said in ("parameters", "weights", "gradients", "optimiser", "activations", "logits", "at most at once"):
        assert said in done.out
    for said in ("a checkpoint", "a step", "tokens/s", "once through the data", "in all", "It fits."):
        assert said in done.out
    assert max(map(len, done.out.splitlines())) <= 80
    assert "decided for you" in done.err
    assert list(tmp_path.iterdir()) == [text]


def test_a_plan_as_json_and_a_dry_run_are_the_same(command, text, tmp_path):
    told = json.loads(command("plan", text, *QUICK, "--json", "-o", tmp_path / "run").out)
    again = json.loads(command("train", text, *QUICK, "--dry-run", "--json", "-o", tmp_path / "run").out)
    assert told["fits"]
    assert told["steps"] == 6
    assert told["pace"]["steps_measured"] == 10
    assert told["memory"]["weights"] == 4 * told["parameters"]
    assert told["memory"]["peak"] <= told["memory"]["free"]
    assert told["seconds"]["whole"] >= told["seconds"]["steps"] > 0
    assert (again["recipe"], again["disk"]["total"]) == (told["recipe"], told["disk"]["total"])
    Recipe.parse(told["recipe"])


def test_a_recipe_is_planned_like_files(command, text, tmp_path):
    (tmp_path / "mine.yaml").write_text(f"data: {{sources: {text}}}\nloop: {{steps: 4}}\n")
    told = json.loads(command("plan", tmp_path / "mine.yaml", *QUICK[:-4], "--json").out)
    assert told["steps"] == 4


@pytest.mark.parametrize("kind", ["fill", "translate", "classify", "tag", "embed"])
def test_every_task_has_a_plan(command, runs, tmp_path, kind):
    flags = (*QUICK, "--max-len", 64) if kind == "fill" else OF_ROWS
    done = command("plan", runs.file(kind, held=False), *flags, "--task", kind, "--json", "-o", tmp_path / "run")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert told["memory"]["activations"] > 0
    assert told["seconds"]["whole"] > 0
    assert told["recipe"]["task"] == kind


def test_what_does_not_fit_leaves_with_one_and_says_what_to_change(command, text, tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "memory", lambda: Memory(0, 10**9))
    done = command("plan", text, *QUICK, "-o", tmp_path / "run")
    assert done.code == 1
    assert "It does not fit into memory" in done.out
    assert "--set loop.grad_accum=" in done.out
    assert max(map(len, done.out.splitlines())) <= 80


def test_a_full_disk_is_told_before_training(command, text, tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "free_disk", lambda path: 1000)
    done = command("plan", text, *QUICK, "-o", tmp_path / "run")
    assert done.code == 1
    assert "It does not fit onto the disk" in done.out


def test_a_machine_that_does_not_tell_its_memory_has_a_plan_too(command, text, tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "memory", lambda: None)
    done = command("plan", text, *QUICK, "-o", tmp_path / "run")
    assert done.code == 0, done.err
    assert "is not known" in done.out


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--budget", "soon"), "--budget soon: expected a time, such as 90s, 20m or 1h30m"),
        (("--budget", "1m", "--steps", 5), "loop.steps=5 says how long to train, and so does --budget"),
        (("--set", "loop.stesp=3"), "recipe: unknown key 'loop.stesp' (did you mean 'steps'?)"),
    ],
)
@pytest.mark.parametrize("verb", ["plan", "train"])
def test_a_wish_that_cannot_be_is_one_sentence(command, text, tmp_path, verb, flags, said):
    done = command(verb, text, *flags, "-o", tmp_path / "run")
    assert done.code == 2
    assert done.sentence.startswith(said)
    assert not (tmp_path / "run").exists()


LIKE_TRAINING = [
    (("--log-to", "mlflow"), "loop.loggers"),
    (("--film", 2, "--probe", "The cat sat on the mat, and the dog ran"), "film.probes: "),
    (("--set", "augment.time_masks=1"), "augment.time_masks=1 is for the tasks transcribe and classify_vectors"),
]


@pytest.mark.parametrize(("flags", "said"), LIKE_TRAINING)
def test_a_plan_refuses_what_training_would_refuse(command, text, tmp_path, flags, said):
    sentences = []
    for verb in ("plan", "train"):
        done = command(verb, text, *QUICK, *flags, "-o", tmp_path / "run")
        assert done.code in (1, 2)
        sentences.append(done.sentence)
    assert sentences[0] == sentences[1]
    assert said in sentences[0]
    assert not (tmp_path / "run").exists()


def test_a_finished_run_is_not_planned_again(command, text, tmp_path):
    (tmp_path / "run" / "final").mkdir(parents=True)
    done = command("plan", text, *QUICK, "-o", tmp_path / "run")
    assert done.sentence == (
        f"{tmp_path / 'run'} holds a finished run; choose another --out-dir, or delete it to train anew"
    )


def test_a_run_that_stands_there_is_planned_as_it_began(command, text, tmp_path):
    flags = (*QUICK, "-o", tmp_path / "run")
    assert command("train", text, *flags).code == 0
    shutil.rmtree(tmp_path / "run" / "final")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    told = json.loads(command("plan", text, *flags, "--json").out)
    assert Recipe.parse(told["recipe"]) == Recipe.read(tmp_path / "run" / "recipe.yaml")
    other = command("plan", text, *flags, "--seed", 5)
    assert other.sentence.startswith(f"{tmp_path / 'run'} holds a run with seed=0, not 5")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_json_without_a_plan_is_refused(command, text, tmp_path):
    done = command("train", text, *QUICK, "--json", "-o", tmp_path / "run")
    assert (done.code, "--json prints a plan" in done.sentence) == (2, True)
    done = command("train", text, *QUICK, "--dry-run", "--nproc", 2, "-o", tmp_path / "run")
    assert (done.code, "--nproc 2: a plan is that of one process" in done.sentence) == (2, True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("verb", [("plan",), ("train", "--dry-run")])
def test_the_spoken_demo_is_planned_without_leaving_anything(command, tmp_path, monkeypatch, verb):
    def speak(folder, tell):
        folder.mkdir()
        for name in ("train", "unseen"):
            (folder / f"{name}.csv").write_text("path,text\n")
        spoken.append(folder)
        return folder / "train.csv", folder / "unseen.csv"

    spoken: list = []
    monkeypatch.setattr("glassformer.data.speaking.speak_commands", speak)
    done = command(*verb, "--demo", "voice", "-o", tmp_path / "run")
    assert done.code == 1
    assert str(spoken[0]) in done.sentence  # which holds no row: what is spoken is what is read
    assert not spoken[0].exists()
    assert not (tmp_path / "run").exists()


def test_nothing_to_plan_is_said(command):
    done = command("plan")
    assert (done.code, done.sentence) == (2, "nothing to train on: name a file, a folder or -, or use --demo")


def test_a_budget_shows_what_was_tried_and_what_to_expect(command, text, tmp_path, monkeypatch):
    monkeypatch.setattr("glassformer.training.plan.budget.LADDER", ((1, 16), (1, 32)))
    monkeypatch.setattr("glassformer.training.plan.budget.MOST_TRIAL", 20)
    flags = ("--budget", "1h", "--threads", 1, "-o", tmp_path / "run")
    done = command("plan", text, *flags)
    assert done.code == 0, done.err
    assert "1 x 16" in done.out
    assert "To expect: " in done.out
    assert "the least loss expected in 3600 s" in done.err
    told = json.loads(command("plan", text, *flags, "--json").out)
    assert told["budget"]["chosen"] in ("1 x 16", "1 x 32")
    assert told["expectation"]["off"] > 0


def test_only_running_text_has_an_expectation(command, runs, tmp_path, monkeypatch):
    monkeypatch.setattr("glassformer.training.plan.budget.OF_ROWS", ((1, 16), (1, 32)))
    done = command("plan", runs.file("classify", held=False), "--budget", "1h", "--threads", 1, "-o", tmp_path / "run")
    assert done.code == 0, done.err
    assert "What quality to expect is not known" in done.out.replace("\n", " ")


def test_training_takes_a_budget(command, text, tmp_path, monkeypatch):
    monkeypatch.setattr("glassformer.training.plan.budget.LADDER", ((1, 16),))
    monkeypatch.setattr("glassformer.training.plan.budget.MOST_TRIAL", 20)
    monkeypatch.setattr("glassformer.training.tasks.text.Text.most_epochs", 1)
    done = command(
        "train", text, "--budget", "1h", "--max-len", 16, "--batch-size", 4, "--threads", 1, "-o", tmp_path / "run"
    )
    assert done.code == 0, done.err
    assert (tmp_path / "run" / "final").is_dir()
    assert Recipe.read(tmp_path / "run" / "recipe.yaml").model.d_model == 16


@pytest.mark.parametrize(("seconds", "shown"), [(4.51, "4.5 s"), (123, "2:03"), (3723, "1:02:03"), (59.99, "60.0 s")])
def test_durations_are_shown_as_clocks(seconds, shown):
    assert clock(seconds) == shown
