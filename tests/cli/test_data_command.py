"""``glassformer data``: what is found in files, and the very batches of training."""

from __future__ import annotations

import json

import pytest
import torch
import yaml

from glassformer.training import Silence, train_run
from glassformer.training.tasks import TASKS as KINDS_OF_TRAINING
from runs import TASKS


@pytest.mark.parametrize("kind", TASKS)
def test_the_batch_that_is_shown_is_the_one_that_training_takes(command, runs, monkeypatch, swift, tmp_path, kind):
    wishes, taken, task = runs.wishes(kind), {}, KINDS_OF_TRAINING[TASKS[kind]]
    make = task.batch
    monkeypatch.setattr(task, "batch", lambda self, step: taken.setdefault(step, make(self, step)))
    train_run(wishes, tmp_path / "run", minutes=1, screen=Silence())
    monkeypatch.undo()
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(wishes))
    for place in (tmp_path / "run", tmp_path / "recipe.yaml"):
        done = command("data", "show", place, "--step", 3, "--rows", 999, "--json")
        assert done.code == 0, done.err
        shown, batch = json.loads(done.out), taken[2]
        assert (shown["tokens"], shown["targets"]) == (batch.n_tokens, batch.n_targets)
        assert [row["ids"]["ids"] for row in shown["batch"]] == batch.inputs["ids"].tolist()
        if "source" in batch.inputs:
            assert [row["source"]["ids"] for row in shown["batch"]] == batch.inputs["source"].tolist()
            assert [row["source"]["at"] for row in shown["batch"]] == batch.inputs["source_at"].tolist()
        if "at" in batch.inputs:
            assert [row["ids"]["at"] for row in shown["batch"]] == batch.inputs["at"].tolist()
        if batch.targets.shape == batch.inputs["ids"].shape:
            asked = [[target != "·" for target in row["targets"]] for row in shown["batch"]]
            assert asked == (batch.targets != -100).tolist()


@pytest.mark.parametrize("kind", TASKS)
def test_a_mask_that_is_shown_is_what_the_model_looks_at(command, runs, kind):
    from glassformer.pipeline import load
    from glassformer.trace import watch
    from glassformer.training.preview import preview

    done = command("data", "show", runs(kind), "--rows", 999, "--json")
    shown = json.loads(done.out)["batch"]
    _, task = preview(runs(kind))
    model = load(runs(kind)).model
    with torch.no_grad(), watch(model, points=["*.blocks.0.attention.pattern"]) as seen:
        model(**task.batch(0).inputs)
    for name, side in (("source", "encoder"), ("ids", "encoder" if model.config.shape == "encoder" else "decoder")):
        if name not in shown[0]:
            continue
        pattern = seen[f"{side}.blocks.0.attention.pattern"]
        for row, weights in zip(shown, pattern, strict=True):
            for place, span in zip(range(weights.shape[1]), row[name]["mask"]["sees"], strict=True):
                looked = (weights[0, place] > 0).nonzero()[:, 0].tolist()
                assert span == [looked[0], looked[-1]]


@pytest.mark.parametrize("kind", TASKS)
def test_a_batch_is_shown_for_people(command, runs, kind):
    done = command("data", "show", runs(kind), "--rows", 2)
    assert done.code == 0, done.err
    assert done.out.startswith(f"step 1 of {TASKS[kind]}, epoch 0.00: ")
    assert done.out.count("\nrow ") == 2
    for word in ("position", "ids", "mask", "target"):
        assert f"\n  {word} " in done.out
    assert max(map(len, done.out.splitlines())) <= 120
    assert done.out.endswith("rows more; --rows shows them\n")


@pytest.mark.parametrize(
    ("content", "code", "said"),
    [
        (None, 2, "recipe.yaml: cannot be read (No such file or directory)"),
        ("seed: 1\n", 2, "recipe.yaml: names no data.sources, and without data there is no batch"),
        ("data: {sources: nowhere.txt}\n", 1, "nowhere.txt: no such file"),
        ("dta: {}\n", 2, "recipe: unknown key 'dta' (did you mean 'data'?)"),
    ],
)
def test_a_recipe_that_cannot_be_shown_is_one_sentence(command, tmp_path, monkeypatch, content, code, said):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / "recipe.yaml").write_text(content)
    done = command("data", "show", "recipe.yaml")
    assert done.code == code
    assert done.sentence.startswith(said)


def test_a_folder_without_a_run_is_one_sentence(command, tmp_path):
    done = command("data", "show", tmp_path)
    assert done.code == 1
    assert done.sentence == f"{tmp_path}: has no recipe.yaml, so it is no run folder; name one, or a recipe"


@pytest.fixture
def pairs(tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_text("en\tes\nthe cat\tel gato\nthe cat\tel gato\na dog\tun perro\n\tvacío\n", encoding="utf-8")
    return path


def test_what_may_be_wrong_is_listed_with_its_line(command, pairs):
    done = command("data", "check", pairs)
    assert done.code == 0
    assert "task: translate" in done.out
    assert "duplicate: 1\n" in done.out
    assert f"{pairs}:3: the same as {pairs}:2" in done.out
    assert f"{pairs}:5: the source is empty" in done.out
    found = json.loads(command("data", "check", pairs, "--json").out)
    assert found["counts"]["duplicate"] == 1
    assert found["n_rows"] == 3
    assert command("data", "check", pairs, "--strict").code == 1


def test_leaks_into_validation_are_found(command, pairs, tmp_path):
    (tmp_path / "val.tsv").write_text("en\tes\nTHE  cat\tel gato\nrain\tlluvia\n")
    done = command("data", "check", pairs, "--val-data", tmp_path / "val.tsv")
    assert f"{tmp_path / 'val.tsv'}:2: trained on, but for case and spacing, at {pairs}:2" in done.out


def test_columns_and_the_task_may_be_named(command, tmp_path):
    (tmp_path / "t.csv").write_text("a,b,c\nthe cat,animal,1\nrain,weather,2\n")
    done = command("data", "check", tmp_path / "t.csv", "--task", "classify", "--text-key", "a", "--label-key", "b")
    assert done.code == 0, done.err
    assert "2 labels" in done.out
    done = command("data", "check", tmp_path / "t.csv", "--task", "clasify")
    assert done.code == 2
    assert done.sentence == "--task clasify: there are no checks for this (did you mean 'classify'?)"
