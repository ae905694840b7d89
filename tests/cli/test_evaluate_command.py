"""``glassformer evaluate``: scores with intervals, every example's own, and whether another run differs."""

from __future__ import annotations

import json

import pytest

from runs import TASKS

SHORT = ("--num-beams", 1)
METRICS = {
    "text": ["perplexity", "bits per byte"],
    "fill": ["accuracy", "perplexity", "bits per byte"],
    "translate": ["BLEU", "chrF", "perplexity", "bits per byte"],
    "classify": ["accuracy", "macro F1", "micro F1"],
    "tag": ["accuracy", "macro F1", "micro F1"],
    "embed": ["recall@1", "recall@5", "recall@10", "MRR"],
}


@pytest.fixture(autouse=True)
def fewer_resamples(monkeypatch):
    """As few as tell anything, for here they are looked at for their order alone."""
    monkeypatch.setattr("glassformer.cli.evaluate.RESAMPLES", 79)


@pytest.fixture
def evaluated(command, runs):
    """The JSON of an evaluation."""

    def ask(kind: str, *flags: object):
        searching = SHORT if TASKS[kind] == "translate" else ()
        done = command("evaluate", runs(kind), runs.file(kind), "--json", *searching, *flags)
        assert done.code == 0, done.err
        return json.loads(done.out)

    return ask


@pytest.mark.parametrize("kind", TASKS)
def test_the_model_decides_what_is_measured_and_each_score_lies_in_its_interval(evaluated, kind):
    found = evaluated(kind)
    assert found["task"] == TASKS[kind]
    assert list(found["metrics"]) == METRICS[TASKS[kind]]
    for metric in found["metrics"].values():
        assert metric["low"] <= metric["value"] <= metric["high"]
    if TASKS[kind] not in ("text", "fill"):
        assert found["n_examples"] == 12
    if kind in ("classify", "tag"):
        n = sum(map(sum, found["confusion"]))
        assert sum(label["n"] for label in found["labels"].values()) == n
        right = sum(row[number] for number, row in enumerate(found["confusion"]))
        assert found["metrics"]["accuracy"]["value"] == pytest.approx(right / n)


@pytest.mark.parametrize("kind", TASKS)
def test_the_same_scores_are_printed_for_people(command, runs, evaluated, kind):
    searching = SHORT if TASKS[kind] == "translate" else ()
    done = command("evaluate", runs(kind), runs.file(kind), *searching)
    assert done.code == 0, done.err
    for name, metric in evaluated(kind)["metrics"].items():
        (line,) = [line for line in done.out.splitlines() if line.startswith(f"{name}  ")]
        value = float(line.removeprefix(name).split()[0].replace(",", ""))
        assert value == pytest.approx(metric["value"], abs=0.006)
    assert ("rows: wanted, columns: said" in done.out) == (kind in ("classify", "tag"))


@pytest.mark.parametrize("kind", TASKS)
def test_every_example_is_written_with_its_score_worst_first(command, runs, tmp_path, kind):
    searching = SHORT if TASKS[kind] == "translate" else ()
    path = tmp_path / "examples.jsonl"
    done = command("evaluate", runs(kind), runs.file(kind), "--examples", path, *searching)
    assert done.code == 0, done.err
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    scores = [row["score"] for row in rows]
    assert scores == sorted(scores, reverse=TASKS[kind] in ("text", "fill"))
    if TASKS[kind] not in ("text", "fill"):
        assert len(rows) == 12
        assert len({row["where"] for row in rows}) == 12
        assert all(row["where"].startswith(f"{runs.file(kind)}:") for row in rows)
    tsv = tmp_path / "examples.tsv"
    assert command("evaluate", runs(kind), runs.file(kind), "--examples", tsv, *searching).code == 0
    assert len(tsv.read_text().splitlines()) >= len(rows) + 1


def test_a_run_does_not_differ_from_itself(evaluated, runs):
    for kind in ("classify", "translate", "text", "embed"):
        found = evaluated(kind, "--against", runs(kind))["against"]
        assert list(found) == METRICS[TASKS[kind]]
        for one in found.values():
            assert (one["difference"], one["p_value"]) == (0, 1)


def test_two_ways_to_translate_are_compared_on_the_same_resamples(command, runs):
    done = command("evaluate", runs("translate"), runs.file("translate"), "--against", runs("separator"), *SHORT)
    lines = done.out.split("on the same resamples:\n")[1].splitlines()
    assert [line.split("  ")[0] for line in lines] == METRICS["translate"]
    assert all(" p = " in line for line in lines)


def test_models_with_other_tokens_are_compared_by_bytes(command, runs, tmp_path):
    wishes = ("--tokenizer", "bytes", "--steps", 3, "--d-model", 16, "--n-layers", 1, "--n-heads", 2, "--threads", 1)
    text = runs.file("text", held=False)
    assert command("train", text, *wishes, "--max-len", 12, "--task", "text", "-o", tmp_path / "bytes").code == 0
    # Words and characters would be as many tokens as bytes are here; a letter of two bytes makes the difference.
    (tmp_path / "t.txt").write_text("the cät sang of rain\n" * 9, encoding="utf-8")
    done = command("evaluate", runs("text"), tmp_path / "t.txt", "--against", tmp_path / "bytes")
    assert done.code == 0, done.err
    assert "\nbits per byte  " in done.out.split("on the same resamples:")[1]
    assert "perplexity is not compared: the two models cut the text into different tokens" in done.err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--examples", "e.csv"), "e.csv: examples are written as .jsonl or .tsv; choose a name that ends so"),
        (("--num-beams", 0), "beam search: num_beams=0 is out of range"),
    ],
)
def test_flags_that_do_not_fit_are_one_sentence(command, runs, flags, said):
    done = command("evaluate", runs("translate"), runs.file("translate"), *flags)
    assert done.code == 2
    assert done.sentence.startswith(said)
    assert done.out == ""


def test_models_of_different_tasks_are_not_compared(command, runs):
    done = command("evaluate", runs("translate"), runs.file("translate"), "--against", runs("embed"))
    assert done.code == 2
    assert done.sentence.endswith(
        "was made to translate and " + f"{runs('embed')} to embed; compare models of one task"
    )
