"""``classify``, ``fill`` and ``embed``: what they print of each text, and what they write."""

from __future__ import annotations

import json

import numpy as np
import pytest

from glassformer.pipeline import load

TEXTS = ["the cat sat", "a dog", "song of rain on the mat", "bird"]


def test_a_text_is_printed_behind_its_label_and_the_probability(command, runs):
    found = load(runs("classify")).classify_many(TEXTS)
    done = command("classify", runs("classify"), *TEXTS)
    assert done.out.splitlines() == [
        f"{one.labels[0]} {one.probabilities[one.labels[0]]:.3f}\t{one.text}" for one in found
    ]
    rows = [json.loads(line) for line in command("classify", runs("classify"), *TEXTS, "--json").out.splitlines()]
    assert [row["text"] for row in rows] == TEXTS
    assert [row["labels"] for row in rows] == [list(one.labels) for one in found]
    for row, one in zip(rows, found, strict=True):
        assert row["probabilities"] == pytest.approx(dict(one.probabilities), abs=1e-6)


def test_any_number_of_labels_is_printed(command, runs):
    done = command("classify", runs("several"), *TEXTS)
    for line, one in zip(done.out.splitlines(), load(runs("several")).classify_many(TEXTS), strict=True):
        labels, text = line.split("\t")
        assert text == one.text
        assert labels == (", ".join(f"{name} {one.probabilities[name]:.3f}" for name in one.labels) or "none")


def test_words_are_printed_with_their_tags(command, runs):
    lines = command("classify", runs("tag"), *TEXTS).out.splitlines()
    found = load(runs("tag")).classify_many(TEXTS)
    assert [[word.rpartition("/")[::2] for word in line.split()] for line in lines] == [
        list(zip(one.words, one.tags, strict=True)) for one in found
    ]
    rows = [json.loads(line) for line in command("classify", runs("tag"), *TEXTS, "--json").out.splitlines()]
    assert [row["tags"] for row in rows] == [list(one.tags) for one in found]
    assert all(0.5 <= p <= 1 for row in rows for p in row["probabilities"])  # the likelier of two


def test_masks_are_printed_with_their_guesses_below_the_text_filled_in(command, runs, tmp_path):
    (tmp_path / "masked.txt").write_text("the <|mask|>at\na <|mask|> of <|mask|>\n")
    done = command("fill", runs("fill"), "--file", tmp_path / "masked.txt", "--top", 2)
    found = load(runs("fill")).fill_many(["the <|mask|>at", "a <|mask|> of <|mask|>"], top=2)
    lines = done.out.splitlines()
    assert [line for line in lines if not line.startswith("  mask")] == [one.filled for one in found]
    assert sum(line.startswith("  mask 1:") for line in lines) == 2
    assert f"{found[0].guesses[0][0].probability:.3f}" in lines[1]
    rows = [json.loads(line) for line in command("fill", runs("fill"), "the <|mask|>at", "--json").out.splitlines()]
    assert rows[0]["filled"] == found[0].filled
    assert [len(mask) for mask in rows[0]["masks"]] == [5]


@pytest.mark.parametrize("verb", ["classify", "embed", "translate"])
def test_every_verb_reads_pipes_and_answers_in_order(command, runs, verb):
    arguments = ("--json",) if verb != "embed" else ()
    lines = command(verb, runs(verb), *arguments, stdin="\n".join(TEXTS).encode()).out.splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row.get("text" if verb != "translate" else "source") for row in rows] == TEXTS


def test_vectors_are_printed_and_written(command, runs, tmp_path):
    vectors = load(runs("embed")).embed(TEXTS)
    rows = [json.loads(line) for line in command("embed", runs("embed"), *TEXTS).out.splitlines()]
    assert [row["text"] for row in rows] == TEXTS
    np.testing.assert_allclose([row["vector"] for row in rows], vectors, atol=1e-6)
    for name in ("v.npy", "v.jsonl"):
        done = command("embed", runs("embed"), *TEXTS, "-o", tmp_path / name)
        assert done.out == f"{tmp_path / name}: 4 vectors of 16 numbers\n"
    written = np.load(tmp_path / "v.npy")
    assert written.dtype == np.float32
    np.testing.assert_allclose(written, vectors, atol=1e-6)
    lines = (tmp_path / "v.jsonl").read_text().splitlines()
    np.testing.assert_array_equal(np.array([json.loads(line)["vector"] for line in lines], np.float32), written)


def test_the_cosines_of_texts_are_a_table(command, runs):
    vectors = load(runs("embed")).embed(TEXTS)
    lines = command("embed", runs("embed"), *TEXTS, "--similar").out.splitlines()
    assert lines[0].split() == ["1", "2", "3", "4"]
    for number, (line, text) in enumerate(zip(lines[1:], TEXTS, strict=True)):
        assert line.endswith(text)
        cells = [float(cell) for cell in line.split()[1:5]]
        np.testing.assert_allclose(cells, vectors @ vectors[number], atol=1e-3)
    found = json.loads(command("embed", runs("embed"), *TEXTS, "--similar", "--json").out)
    assert found["texts"] == TEXTS
    np.testing.assert_allclose(found["cosines"], vectors @ vectors.T, atol=1e-5)


@pytest.mark.parametrize(
    ("verb", "flags", "said"),
    [
        ("embed", ("a", "-o", "v.txt"), "v.txt: vectors are written as .npy or .jsonl; choose a name that ends so"),
        ("embed", ("a", "-o", "v.npy", "--similar"), "--out writes vectors and --similar prints cosines; ask for one"),
        ("fill", ("a <|mask|>", "--top", 0), "invalid value for '--top'"),
    ],
)
def test_flags_that_do_not_fit_are_one_sentence(command, runs, verb, flags, said):
    done = command(verb, runs(verb), *flags)
    assert done.code == 2
    assert done.sentence.startswith(said)
    assert done.err.count("\n") == 1
