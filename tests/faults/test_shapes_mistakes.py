"""Wrong input to models that translate, label, tag, embed and fill: one sentence, the right exit code, nothing half done."""

from __future__ import annotations

import pytest

from running import QUICK, SENTENCES

LONG = "the cat sat on the mat " * 9


def refused(done, code, said):
    assert done.code == code, done.err
    assert said in done.sentence, done.sentence
    assert done.out == ""
    assert "Traceback" not in done.err


def test_files_of_different_lengths_are_told_with_both_counts_and_the_line(command, tmp_path):
    sources = [f"Satz Nummer {number} ist {'sehr ' * (number % 7)}lang." for number in range(1, 61)]
    targets = [f"Sentence number {number} is {'very ' * (number % 7)}long." for number in range(1, 61)]
    del targets[29]
    (tmp_path / "train.de").write_text("".join(f"{line}\n" for line in sources))
    (tmp_path / "train.en").write_text("".join(f"{line}\n" for line in targets))
    files = (tmp_path / "train.de", tmp_path / "train.en")
    for verb in (("train", *files, "--task", "translate", "-o", tmp_path / "run"), ("data", "check", *files)):
        done = command(*verb)
        refused(done, 1, f"{files[0]} has 60 lines and {files[1]} 59; they seem to part near line 3")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("kind", "content", "said"),
    [
        ("classify", "text,label\nthe cat,yes\na dog,perhaps\n", ":3: the label 'perhaps' is not among the model's"),
        (
            "classify",
            "text,label\nthe cat,yess\n",
            ":2: the label 'yess' is not among the model's (did you mean 'yes'?)",
        ),
        ("tag", "the O\ncat B-X\n\n", ":1: the label 'B-X' is not among the model's (did you mean 'B-N'?)"),
    ],
)
def test_an_unknown_label_at_evaluation_is_named_with_its_line(command, runs, tmp_path, kind, content, said):
    path = tmp_path / runs.file(kind).name
    path.write_text(content)
    refused(command("evaluate", runs(kind), path), 1, f"{path}{said}")


@pytest.mark.parametrize(
    ("kind", "verb", "said"),
    [
        ("translate", "translate", "has 208 tokens, more than the 60 that the model can read"),
        ("separator", "translate", "has 208 tokens, more than the 119 that the model can read"),
        ("classify", "classify", "has 208 tokens, more than the 60 that the model can read; shorten it"),
        ("tag", "classify", "has 206 tokens, more than the 60 that the model can read; shorten it"),
        ("embed", "embed", "has 208 tokens, more than the 60 that the model can read; shorten it"),
        ("fill", "fill", "has 208 tokens, more than the 16 that the model can read; shorten it"),
    ],
)
def test_a_text_longer_than_the_models_limit_is_told_with_both_numbers(command, runs, tmp_path, kind, verb, said):
    text = LONG + "<|mask|>" * (kind == "fill")
    refused(command(verb, runs(kind), text), 2, said)
    short = "the cat" + "<|mask|>" * (kind == "fill")
    (tmp_path / "texts.txt").write_text(f"{short}\n{text}\n")
    done = command(verb, runs(kind), "--file", tmp_path / "texts.txt")
    refused(done, 1, said)
    assert done.sentence.startswith(f"{tmp_path / 'texts.txt'}:2: the ")


@pytest.mark.parametrize("kind", ["translate", "classify", "tag", "embed"])
def test_an_example_that_the_model_cannot_read_is_named_with_its_line(command, runs, tmp_path, kind):
    rows = {"classify": f"text,label\na,yes\n{LONG},yes\n", "tag": "a O\n\n" + "mat O\n" * 60}
    path = tmp_path / runs.file(kind).name
    path.write_text(rows.get(kind, f"a\tb\nc\td\n{LONG}\tx\n"))
    refused(command("evaluate", runs(kind), path), 1, f"{path}:3: the ")


@pytest.mark.parametrize(
    ("kind", "verb", "said"),
    [
        ("translate", "translate", "the source is empty: there is nothing to translate"),
        ("separator", "translate", "the source is empty: there is nothing to translate"),
        ("classify", "classify", "the text is empty: there is nothing to read"),
        ("tag", "classify", "the text is empty: there is nothing to read"),
        ("embed", "embed", "the text is empty: there is nothing to read"),
        ("fill", "fill", "the text is empty: there is nothing to read"),
    ],
)
def test_an_empty_text_is_told_with_its_line(command, runs, tmp_path, kind, verb, said):
    for empty in ("", " \t "):
        refused(command(verb, runs(kind), empty), 2, said)
    fine = "the cat" + "<|mask|>" * (kind == "fill")
    (tmp_path / "texts.txt").write_text(f"{fine}\n\n{fine}\n")
    refused(command(verb, runs(kind), "--file", tmp_path / "texts.txt"), 1, f"texts.txt:2: {said}")
    refused(command(verb, runs(kind), stdin=b"\n"), 1, "standard input: holds no text")


VERBS = {"translate": "translate", "classify": "classify", "tag": "classify", "embed": "embed", "fill": "fill"}


@pytest.mark.parametrize("kind", ["text", *VERBS])
def test_a_model_that_was_made_for_something_else_is_one_sentence(command, runs, kind):
    for verb in dict.fromkeys(VERBS.values()):
        if verb != VERBS.get(kind):
            done = command(verb, runs(kind), "the cat")
            refused(done, 2, f"; `glassformer {verb}` wants one that ")
            assert done.sentence.startswith("this model ")
            assert f"(ask it with `glassformer {VERBS.get(kind, 'generate')}`)" in done.sentence
    if kind != "text":
        refused(
            command("generate", runs(kind), "-p", "the cat"), 2, "`glassformer generate` wants one that goes on from"
        )


def test_a_decoder_given_to_translate_is_one_sentence(command, runs):
    done = command("translate", runs("text"), "the cat")
    assert done.code == 2
    assert done.sentence == (
        "this model goes on from a text (ask it with `glassformer generate`); `glassformer translate` wants one that "
        "turns a source into a target, which `glassformer train --task translate` makes"
    )


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            ("--task", "clasify"),
            "recipe: task: input should be 'text', 'translate', 'classify', 'tag', 'fill', 'embed', 'transcribe' or "
            "'classify_vectors'",
        ),
        (
            ("--task", "text", "--preset", "bert-tiny"),
            "the preset bert-tiny, of shape 'encoder', cannot be trained to text: expected decoder; --task names another",
        ),
        (
            ("--task", "fill", "--preset", "vaswani-base"),
            "the preset vaswani-base, of shape 'encoder_decoder', cannot be trained to fill: expected encoder",
        ),
        (
            ("--task", "fill", "--set", "model.shape=decoder"),
            "model.shape='decoder' cannot be trained to fill: expected encoder",
        ),
    ],
)
def test_a_task_and_a_shape_that_do_not_fit_are_one_sentence(command, tmp_path, flags, said):
    (tmp_path / "my.txt").write_text(SENTENCES * 20)
    refused(command("train", tmp_path / "my.txt", *QUICK, *flags, "-o", tmp_path / "run"), 2, said)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("kind", "content", "said"),
    [
        ("translate", "just one column\n", "no two columns of text"),
        ("classify", "the cat\na dog\n", "no column known as the "),
        ("tag", "\n\n", "no tagged sentence in "),
    ],
)
def test_files_of_another_kind_at_evaluation_are_one_sentence(command, runs, tmp_path, kind, content, said):
    path = tmp_path / runs.file(kind).name
    path.write_text(content)
    refused(command("evaluate", runs(kind), path), 1, said)


def test_several_labels_for_a_model_that_gives_one_are_told(command, runs, tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"text": "a cat", "label": ["yes"]}\n{"text": "b", "label": ["yes", "no"]}\n')
    done = command("evaluate", runs("classify"), tmp_path / "rows.jsonl")
    refused(done, 1, "rows.jsonl:2: 2 labels, and the model gives each text one; leave it out")
