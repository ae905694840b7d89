"""Speech as whole runs: what is decided, what is learnt, what is set aside and said, and what is refused."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from glassformer import train
from glassformer.checkpoints.preprocessor import read_features
from glassformer.data.sound import read_sound
from glassformer.errors import CheckpointError, ConfigError, DataError
from glassformer.models.vectors import subsampled
from glassformer.ops.losses import places_needed
from glassformer.training import Recipe
from glassformer.training import hearing as hearing_room
from glassformer.training import origin as origin_room
from glassformer.training.plan.memory import footprint
from glassformer.training.plan.timing import timed
from toys import TOYS_OF_VECTORS, Notes, prepared, tone, toy_wishes, write_wave

pytestmark = pytest.mark.usefixtures("swift")
METRICS = {"transcribe": {"wer", "cer"}, "classify_vectors": {"accuracy"}}


def run(name: str, folder: Path, source: Path | None = None, **more) -> list[str]:
    """Train on a toy. Returns what was said."""
    screen = Notes()
    train(source or TOYS_OF_VECTORS[name].write(folder), folder / "run", screen=screen, **toy_wishes(name, **more))
    return screen.notes


def rows_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


# Learning


@pytest.mark.parametrize("name", TOYS_OF_VECTORS)
def test_the_loss_falls_and_the_features_are_saved_with_the_model(tmp_path, name):
    run(name, tmp_path, **{"loop.steps": 30, "loop.eval_every": 15, "loop.sample_every": 20, "optimiser.lr": 0.005})
    rows = rows_of(tmp_path / "run")
    losses = [row["loss"] for row in rows if "loss" in row]
    scores = [row for row in rows if "val_loss" in row]
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3])
    assert scores[1]["val_loss"] < scores[0]["val_loss"] < losses[0]
    assert all(row.keys() == {"step", "val_loss", "perplexity"} | METRICS[TOYS_OF_VECTORS[name].task] for row in scores)
    assert (tmp_path / "run" / "samples" / "step-00000020.txt").read_text().count("wanted:") in (3, 4)
    recipe = Recipe.read(tmp_path / "run" / "recipe.yaml")
    assert recipe.features is not None
    assert recipe.model.vectors is not None
    assert read_features(tmp_path / "run" / "final") == recipe.features
    assert recipe.model.vectors.size == recipe.features.channels


@pytest.mark.slow
@pytest.mark.parametrize("name", ["transcribe", "transcribe vectors by CTC"])
def test_what_is_said_is_learnt_to_the_last_word(tmp_path, name):
    run(name, tmp_path, **{"loop.steps": 400, "optimiser.lr": 0.003})
    assert rows_of(tmp_path / "run")[-1]["wer"] < 0.05


@pytest.mark.parametrize("name", TOYS_OF_VECTORS)
def test_the_task_is_known_by_its_data(tmp_path, name):
    recipe, _ = prepared(name, tmp_path, task=None) if "of vectors" not in name else prepared(name, tmp_path)
    assert recipe.task == TOYS_OF_VECTORS[name].task


# What is decided


def test_sound_is_heard_at_its_own_rate_and_vectors_stay_as_they_are(tmp_path):
    recipe, _ = prepared("transcribe", tmp_path)
    assert recipe.features is not None
    assert recipe.augment is not None
    assert (recipe.features.kind, recipe.features.rate, recipe.features.normalise) == ("log-mel", 8000, "level")
    assert recipe.augment.speeds == (0.9, 1.0, 1.1)
    assert recipe.model.ctc_blank is not None
    recipe, _ = prepared("classify_vectors of vectors", tmp_path)
    assert recipe.features is not None
    assert recipe.augment is not None
    assert (recipe.features.kind, recipe.features.channels) == ("vectors", 6)
    assert (recipe.augment.speeds, recipe.augment.time_masks, recipe.augment.frequency_masks) == ((1.0,), 0, 0)
    assert recipe.model.vectors is not None
    assert recipe.model.vectors.strides == ()


def test_attention_alone_has_no_ctc_head(tmp_path):
    recipe, task = prepared("transcribe", tmp_path, **{"optimiser.ctc_weight": 0})
    assert recipe.model.ctc_blank is None
    assert not task.batch(0).options


def test_without_soxr_nothing_is_played_at_another_speed(tmp_path, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "soxr" else found(name, *rest))
    recipe, _ = prepared("transcribe", tmp_path)
    assert recipe.augment is not None
    assert recipe.augment.speeds == (1.0,)


def test_a_recipe_written_out_is_read_again(tmp_path):
    recipe, _ = prepared("classify_vectors", tmp_path)
    (tmp_path / "recipe.yaml").write_text(recipe.yaml())
    assert Recipe.read(tmp_path / "recipe.yaml") == recipe


# Batches


def test_a_step_hears_each_row_at_one_of_the_speeds_and_never_twice_alike(tmp_path):
    _, task = prepared("transcribe", tmp_path)
    rows = list(range(10))
    steps = [task.collate("train", rows, step) for step in range(8)]
    plain = task.collate("train", rows)
    lengths = torch.stack([(batch.inputs["source_at"] >= 0).sum(1) for batch in (*steps, plain)])
    allowed = torch.stack([torch.from_numpy(task.heard.frames("train", speed)[rows]) for speed in (0.9, 1.0, 1.1)])
    assert all((abs(lengths[:, row, None] - allowed[None, :, row]).min(-1).values <= 1).all() for row in rows)
    assert all(len(set(lengths[:-1, row].tolist())) > 1 for row in rows)
    assert torch.equal(lengths[-1], allowed[1])
    assert not torch.equal(steps[0].inputs["source"], steps[1].inputs["source"])
    assert torch.equal(steps[3].inputs["source"], task.collate("train", rows, 3).inputs["source"])


def test_a_row_is_changed_the_same_whatever_stands_beside_it(tmp_path):
    _, task = prepared("classify_vectors", tmp_path)
    together, alone = task.collate("train", [4, 5, 6], 9), task.collate("train", [5], 9)
    n = int((alone.inputs["at"] >= 0).sum())
    assert torch.equal(together.inputs["ids"][1, :n], alone.inputs["ids"][0])


def test_nothing_depends_on_what_is_kept_in_memory(tmp_path, monkeypatch):
    recipe, task = prepared("classify_vectors", tmp_path)
    batches = [task.batch(step) for step in range(4)]
    monkeypatch.setattr(hearing_room, "MOST_KEPT", 0)
    task.hearing = None
    monkeypatch.setattr(hearing_room.Hearing.__init__, "__defaults__", (0,))
    task.begin(recipe)
    assert task.heard.free == 0
    assert not task.heard.kept
    for before, again in zip(batches, map(task.batch, range(4)), strict=True):
        assert torch.equal(before.inputs["ids"], again.inputs["ids"])


def test_noise_comes_out_of_the_files_that_are_named(tmp_path):
    (tmp_path / "noise").mkdir()
    write_wave(tmp_path / "noise" / "hum.wav", tone(100, 900, np.random.default_rng(0)))
    wishes = {"augment.speeds": (1.0,), "augment.time_masks": 0, "augment.frequency_masks": 0}
    noisy = {**wishes, "augment.noise_db": (0, 10), "augment.noise": str(tmp_path / "noise")}
    (tmp_path / "one").mkdir()
    _, task = prepared("transcribe", tmp_path / "one", **noisy)
    batch, again = task.collate("train", [0, 1], 3), task.collate("train", [0, 1], 3)
    plain = task.collate("train", [0, 1])
    assert torch.equal(batch.inputs["source"], again.inputs["source"])
    assert torch.equal(batch.inputs["source_at"], plain.inputs["source_at"])
    louder = (batch.inputs["source"] - plain.inputs["source"])[..., :1]  # the band of the hum
    assert louder[plain.inputs["source_at"] >= 0].mean() > 0.5


NOISY = {"augment.noise_db": (0, 10)}


@pytest.fixture
def under_noise(tmp_path):
    """Spoken rows, a file of noise, and wishes that mix the two."""
    (tmp_path / "noise").mkdir()
    write_wave(tmp_path / "noise" / "hum.wav", tone(100, 900, np.random.default_rng(0)))
    source = TOYS_OF_VECTORS["transcribe"].write(tmp_path)
    return source, tmp_path / "noise", {**NOISY, "augment.noise": str(tmp_path / "noise")}


@pytest.mark.parametrize("content", [b"RIFF", b""])
def test_a_bad_file_of_noise_stops_a_run_before_anything_is_written(tmp_path, under_noise, content):
    source, noise, wishes = under_noise
    (noise / "never drawn.wav").write_bytes(content)
    with pytest.raises(DataError, match=r"never drawn\.wav"):
        run("transcribe", tmp_path, source, **wishes)
    assert not (tmp_path / "run").exists()


def test_noise_without_a_sample_is_refused(tmp_path, under_noise):
    source, noise, wishes = under_noise
    write_wave(noise / "silent.wav", np.zeros(0, np.float32))
    with pytest.raises(DataError, match=r"silent\.wav"):
        run("transcribe", tmp_path, source, **wishes)


@pytest.mark.parametrize("which", ["noise", "voice"])
def test_a_sound_that_has_changed_is_refused_by_its_name(tmp_path, under_noise, which):
    source, noise, wishes = under_noise
    more = {**wishes, "loop.save_every": 2, "loop.eval_every": 6, "loop.sample_every": 6}
    run("transcribe", tmp_path, source, **more)
    shutil.rmtree(tmp_path / "run" / "final")
    changed = noise / "hum.wav" if which == "noise" else sorted(source.glob("*.wav"))[0]
    samples = read_sound(changed, 8000).samples
    write_wave(changed, samples[::-1].copy())
    with pytest.raises(CheckpointError, match=rf"has changed since: {re.escape(str(changed))} \(changed\); undo that"):
        run("transcribe", tmp_path, source, **more)


def test_of_many_files_of_sound_their_folder_is_told(monkeypatch):
    monkeypatch.setattr(origin_room, "MOST_NAMED", 2)
    files = {"a/1.wav": "x", "a/2.wav": "y", "b/1.wav": "z"}
    told = origin_room.in_folders(files)
    assert told.keys() == {"a/", "b/"}
    again = origin_room.in_folders({**files, "a/2.wav": "w"})
    assert [name for name in told if told[name] != again[name]] == ["a/"]
    assert origin_room.in_folders({"a/1.wav": "x"}) == {"a/1.wav": "x"}


def test_evaluations_are_priced_as_writing_all_that_they_write(tmp_path):
    recipe, task = prepared("transcribe", tmp_path)
    timing = timed(recipe, task, torch.device("cpu"), 2)
    tokens, rows = task.measured(whole=True)
    assert rows == len(task.kept["validation"])
    assert timing.writing > 0
    assert timing.evaluation(task) == pytest.approx(timing.asking * tokens + timing.writing * rows)
    assert timing.last_evaluation(task) == 0  # since those on the way measure all
    assert timing.writing * rows > 5 * timing.asking * tokens


def test_what_an_evaluation_takes_at_once_is_counted_in_vectors_and_not_in_their_numbers(tmp_path):
    recipe, task = prepared("transcribe", tmp_path)
    taken = footprint(recipe, task, torch.device("cpu"), None)
    assert 1 < taken.rows_evaluated <= len(task.kept["validation"])


def test_ctc_is_asked_for_the_words_and_attention_for_the_end_too(tmp_path):
    _, task = prepared("transcribe", tmp_path)
    batch = task.collate("train", [0, 1])
    eos = task.tokenizer.eos_id
    for number, row in enumerate((0, 1)):
        spoken = task.tokenizer.encode(task.rows["train"][row].text)
        assert [token for token in batch.targets[number].tolist() if token >= 0] == [*spoken, eos]
    _, alone = prepared("transcribe vectors by CTC", tmp_path)
    batch = alone.collate("train", [0])
    assert batch.targets[0].tolist() == alone.tokenizer.encode(alone.rows["train"][0].text)


# What is set aside


def test_what_cannot_be_heard_is_listed_and_counted(tmp_path):
    source = TOYS_OF_VECTORS["transcribe"].write(tmp_path)
    draw = np.random.default_rng(0)
    broken, long, short = (source / f"{text}_ann_{text[0]}.wav" for text in ("broken", "one", "two three four"))
    broken.write_bytes(b"RIFF")
    write_wave(long, tone(300, 8000 * 12, draw))
    write_wave(short, tone(300, 100, draw))
    notes = run("transcribe", tmp_path, source, **{"model.encoder": {"max_len": 100}})
    told = dict(line.split("\t") for line in (tmp_path / "run" / "skipped.tsv").read_text().splitlines())
    assert told.keys() == {str(broken), str(long), str(short)}
    assert str(broken) in told[str(broken)]
    assert told[str(long)].endswith("vectors long, more than the 100 that the encoder takes")
    assert "and CTC needs" in told[str(short)]
    assert any(note.startswith("left out 3 rows") for note in notes)


def test_rows_of_which_none_can_be_used_are_an_error_that_says_why(tmp_path):
    source = tmp_path / "spoken"
    source.mkdir()
    for number in range(12):
        write_wave(source / f"one two three_ann_{number}.wav", tone(300, 300, np.random.default_rng(0)))
    with pytest.raises(DataError, match=r"none of the \d+ train utterances can be used; .* CTC needs"):
        run("transcribe", tmp_path, source)


@pytest.mark.parametrize("name", ["transcribe", "transcribe vectors by CTC"])
def test_every_row_that_is_kept_has_the_places_that_ctc_needs_at_any_speed(tmp_path, name):
    recipe, task = prepared(name, tmp_path)
    assert recipe.model.vectors is not None
    for step in range(6):
        batch = task.batch(step)
        at = batch.inputs.get("source_at", batch.inputs.get("at"))
        assert at is not None
        places = (subsampled(at, recipe.model.vectors.strides) >= 0).sum(1)
        for row, count in zip(batch.targets.tolist(), places.tolist(), strict=True):
            assert count >= places_needed([token for token in row if token >= 0 and token != task.tokenizer.eos_id])


# What is refused


@pytest.mark.parametrize(
    ("name", "more", "sentence"),
    [
        ("transcribe vectors by CTC", {"augment.speeds": (0.9, 1.1)}, "augment.speeds is for sound"),
        ("transcribe vectors by CTC", {"augment.noise_db": (5, 9)}, "augment.noise_db is for sound"),
        ("transcribe vectors by CTC", {"features.kind": "mfcc"}, "features.kind=mfcc is for sound"),
        ("transcribe", {"features.kind": "vectors"}, "features.kind=vectors is for files of vectors"),
        ("transcribe", {"augment.speeds": (9,)}, "speeds: 9 is out of range"),
        ("transcribe", {"augment.noise_db": (9, 5)}, "noise_db: 9 to 5 runs backwards"),
        ("transcribe", {"augment.noise": "here"}, "noise names files, and noise_db does not say"),
        ("transcribe", {"augment.noise": "nowhere", "augment.noise_db": (5, 9)}, "no file of sound in nowhere"),
        ("transcribe", {"loop.batch_size": 4}, "set loop.batch_tokens, in vectors, instead"),
        ("transcribe", {"film.every": 2}, "film: nothing is filmed of the task transcribe"),
        ("classify_vectors", {"data.hold_back": "text=one"}, "label one does not occur in the training data"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(tmp_path, name, more, sentence):
    with pytest.raises((ConfigError, DataError), match=sentence):
        run(name, tmp_path, **more)
    assert not (tmp_path / "run" / "final").exists()
