"""From every kind of source to a whole run folder."""

from __future__ import annotations

import gzip
import json

import pytest
import torch
import zstandard

from glassformer.pipeline import load
from glassformer.training import Recipe
from glassformer.training.recipe import DataRecipe
from glassformer.training.tasks import running
from glassformer.training.tasks.text import Text
from running import QUICK, SENTENCES
from shards import prepared as shards_of
from shards import write_inputs

TEXT = SENTENCES * 30


def as_text(folder):
    (folder / "my.txt").write_text(TEXT)
    return folder / "my.txt"


def as_folder(folder):
    inner = folder / "texts"
    (inner / "more").mkdir(parents=True)
    (inner / "a.txt").write_text(TEXT)
    (inner / "more" / "b.md").write_text(TEXT)
    return inner


def as_glob(folder):
    as_folder(folder)
    return folder / "texts" / "**" / "*.md"


def as_json_lines(folder):
    rows = [json.dumps({"text": f"{number}. {SENTENCES}"}) for number in range(30)]
    (folder / "my.jsonl").write_text("\n".join(rows))
    return folder / "my.jsonl"


def as_csv(folder):
    rows = [f'{number},"{number}. {SENTENCES.strip()}"' for number in range(30)]
    (folder / "my.csv").write_text("\n".join(["id,text", *rows]))
    return folder / "my.csv"


def as_tsv(folder):
    rows = [f"{number}\t{number}. {SENTENCES.strip()}" for number in range(30)]
    (folder / "my.tsv").write_text("\n".join(["id\ttext", *rows]))
    return folder / "my.tsv"


def as_parquet(folder):
    pyarrow = pytest.importorskip("pyarrow", reason="Parquet needs the extra `parquet`")
    from pyarrow import parquet

    texts = [f"{number}. {SENTENCES}" for number in range(30)]
    parquet.write_table(pyarrow.table({"id": list(range(30)), "text": texts}), folder / "my.parquet")
    return folder / "my.parquet"


def as_gzip(folder):
    (folder / "my.txt.gz").write_bytes(gzip.compress(TEXT.encode()))
    return folder / "my.txt.gz"


def as_zstd(folder):
    (folder / "my.txt.zst").write_bytes(zstandard.compress(TEXT.encode()))
    return folder / "my.txt.zst"


def as_pipe(folder):
    return "-"


SOURCES = (as_text, as_folder, as_glob, as_json_lines, as_csv, as_tsv, as_parquet, as_gzip, as_zstd, as_pipe)
CONTENTS = {"recipe.yaml", "log.jsonl", "best", "final", "plots", "samples", "tokenizer", "checkpoints"}
LOG_KEYS = {"step", "epoch", "loss", "lr", "grad_norm", "tok_per_s", "seconds", "seconds_left"}


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.__name__.removeprefix("as_"))
def test_every_source_becomes_a_whole_run(command, tmp_path, source):
    run = tmp_path / "run"
    every = ("--sample-every", 2, "--eval-every", 3, "--save-every", 2)
    done = command("train", source(tmp_path), *QUICK, *every, "--out-dir", run, stdin=TEXT.encode())
    assert done.code == 0, done.err
    assert {path.name for path in run.iterdir()} == CONTENTS

    recipe = Recipe.read(run / "recipe.yaml")
    assert recipe.yaml() == (run / "recipe.yaml").read_text()
    assert (recipe.loop.steps, recipe.model.d_model, recipe.loop.eval_every) == (6, 16, 3)

    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    steps, scores = ([row for row in rows if key in row] for key in ("loss", "val_loss"))
    assert [row["step"] for row in steps] == [1, 2, 3, 4, 5, 6]
    assert all(set(row) == LOG_KEYS for row in steps)
    assert [row["step"] for row in scores] == [3, 6]
    assert all(set(row) == {"step", "val_loss", "perplexity", "bpb"} for row in scores)

    picture = (run / "plots" / "loss.png").read_bytes()
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    assert picture.endswith(b"IEND\xaeB`\x82")
    assert sorted(path.name for path in (run / "samples").iterdir()) == ["step-00000002.txt", "step-00000004.txt"]
    for name in ("best", "final"):
        assert load(run / name).generate("The", max_new_tokens=3, seed=1) is not None
    assert f"glassformer generate {run}" in done.out


@pytest.mark.usefixtures("swift")
def test_a_run_of_its_own_recipe_is_the_same_run(command, tmp_path):
    source = as_text(tmp_path)
    command("train", source, *QUICK, "--dropout", 0.1, "--seed", 3, "--out-dir", tmp_path / "first")
    again = command("train", tmp_path / "first" / "recipe.yaml", "--out-dir", tmp_path / "second")
    assert again.code == 0, again.err
    assert "decided for you" not in again.err
    for name in ("recipe.yaml", "final/tokenizer.json"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
    other = command("train", tmp_path / "first" / "recipe.yaml", "--seed", 4, "--out-dir", tmp_path / "third")
    assert other.code == 0
    first, second, third = (load(tmp_path / name / "final").model.state_dict() for name in ("first", "second", "third"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], third[name]) for name in first)


def test_every_choice_is_printed_with_a_reason_and_what_was_asked_for_is_not_chosen(command, tmp_path):
    source = as_text(tmp_path)
    done = command("train", source, "--steps", 2, "--threads", 1, "--out-dir", tmp_path / "run")
    assert done.code == 0, done.err
    recipe = Recipe.read(tmp_path / "run" / "recipe.yaml").model_dump()
    chosen = {}
    for line in done.err.splitlines():
        if (line.startswith("  ") and "." in line.split()[0]) or line.startswith("  preset"):
            key, value, *reason = line.split()
            chosen[key] = (value, " ".join(reason))
    asked_by_nobody = {
        *("tokenizer.kind", "tokenizer.vocab_size", "preset", "model.n_layers", "model.d_model", "model.n_heads"),
        *("model.max_len", "loop.batch_size", "optimiser.warmup_steps", "loop.eval_every", "loop.sample_every"),
        *("loop.save_every", "loop.log_every", "loop.compile"),
    }
    assert set(chosen) == asked_by_nobody
    for key, (value, reason) in chosen.items():
        held = recipe
        for name in key.split("."):
            held = held[name]
        assert value.replace(",", "") == str(held), key
        assert len(reason.split()) >= 2, key


def test_steps_are_chosen_from_minutes_and_text(command, tmp_path):
    source = as_text(tmp_path)
    small = QUICK[: QUICK.index("--steps")]
    done = command("train", source, *small, "--threads", 1, "--minutes", 0.01, "--out-dir", tmp_path / "run")
    assert done.code == 0, done.err
    (line,) = (line for line in done.err.splitlines() if "loop.steps" in line)
    assert "0.01 minutes" in line or "times through the data" in line
    assert Recipe.read(tmp_path / "run" / "recipe.yaml").loop.steps >= 20


@pytest.mark.parametrize(
    "notes",
    [
        ("utf-8-sig", SENTENCES, "byte-order mark"),
        ("utf-16", SENTENCES, "UTF-16"),
        ("cp1252", SENTENCES + "“naïve” – €\n", "cp1252"),
        ("utf-8", SENTENCES.replace("\n", "\r\n"), "CRLF"),
        ("utf-8", SENTENCES.replace("\n", " "), "1 document"),
    ],
    ids=["bom", "utf-16", "cp1252", "crlf", "one line"],
)
@pytest.mark.usefixtures("swift")
def test_what_was_found_in_a_file_is_said(command, tmp_path, notes):
    encoding, text, said = notes
    (tmp_path / "my.txt").write_bytes((text * 20).encode(encoding))
    done = command("train", tmp_path / "my.txt", *QUICK, "--out-dir", tmp_path / "run")
    assert done.code == 0, done.err
    assert said in done.err


def test_empty_files_among_others_are_said_and_left_out(command, tmp_path):
    folder = as_folder(tmp_path)
    (folder / "empty.txt").write_text("")
    done = command("train", folder, *QUICK, "--out-dir", tmp_path / "run")
    assert done.code == 0, done.err
    assert "empty.txt: empty, left out" in done.err


def test_files_to_validate_on_are_taken_whole(command, tmp_path):
    source = as_text(tmp_path)
    (tmp_path / "other.txt").write_text("The bird sat on the dog.\n" * 9)
    done = command("train", source, *QUICK, "--val-data", tmp_path / "other.txt", "--out-dir", tmp_path / "run")
    assert done.code == 0, done.err
    assert "validation as given: 1 document" in done.err
    assert "over 224 targets" in done.err


def test_each_file_beside_shards_is_hashed_once(tmp_path, monkeypatch):
    shards_of(write_inputs(tmp_path / "texts"), tmp_path / "shards")
    held, hashed = tmp_path / "held.txt", []
    held.write_text(SENTENCES)
    monkeypatch.setattr(running, "sha256", lambda path: hashed.append(path) or "its digest")
    task = Text(DataRecipe.parse({"sources": [str(tmp_path / "shards")], "validation": [str(held)]}, "data"))
    assert hashed == [held]
    assert task.digests is not None
    assert task.digests[str(held)] == "its digest"
    assert len(task.digests) > 1
