"""Every task as a whole run: what it learns, what it leaves out and says, what it may start from, and what it refuses."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
import torch

from glassformer import train
from glassformer.errors import ConfigError, DataError
from glassformer.models import ModelConfig
from glassformer.pipeline import load
from glassformer.training import Recipe
from glassformer.training.decide import Decisions
from glassformer.training.tasks import TASKS
from glassformer.training.tasks.rows import choose_shape
from toys import SPANISH, TOYS, TOYS_OF_ROWS, Notes, prepared, toy_wishes

pytestmark = pytest.mark.usefixtures("swift")


def run(name: str, folder: Path, run: str = "run", **more):
    """Train on a toy. Returns the pipeline and what was said."""
    screen = Notes()
    pipe = train(TOYS[name].write(folder), folder / run, screen=screen, **toy_wishes(name, **more))
    return pipe, screen.notes


def rows_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


# Learning

METRICS = {"fill": {"accuracy"}, "translate": {"bleu"}, "classify": {"accuracy"}, "tag": {"accuracy"}}
METRICS |= {"embed": {"recall@1"}, "text": set()}


@pytest.mark.parametrize("name", TOYS)
def test_the_loss_of_every_task_falls(tmp_path, name):
    pipe, _ = run(name, tmp_path, **{"loop.steps": 30, "loop.eval_every": 15, "loop.sample_every": 10})
    task, rows = TOYS[name].task, rows_of(tmp_path / "run")
    losses = [row["loss"] for row in rows if "loss" in row]
    scores = [row for row in rows if "val_loss" in row]
    assert sum(losses[-3:]) < 0.7 * sum(losses[:3])
    assert [row["step"] for row in scores] == [15, 30]
    assert scores[1]["val_loss"] < scores[0]["val_loss"] < losses[0]
    for row in scores:
        assert row.keys() == {"step", "val_loss", "perplexity"} | METRICS[task] | (
            {"bpb"} if task in ("text", "translate") else set()
        )
        assert all(row[metric] >= scores[0][metric] for metric in METRICS[task])
    for sample in ("00000010", "00000020"):
        assert (tmp_path / "run" / "samples" / f"step-{sample}.txt").read_text().strip()
    assert pipe.task == task
    assert not (tmp_path / "run" / "skipped.tsv").exists()


@pytest.mark.parametrize("name", TOYS)
def test_what_may_be_typed_next_is_a_command(tmp_path, name):
    _, task = prepared(name, tmp_path)
    commands = [shlex.split(line) for line in task.next_commands("'runs/my run'")]
    assert all((words[0], words[2]) == ("glassformer", "runs/my run") for words in commands)
    assert commands[-1][1] == "info"


@pytest.mark.parametrize("name", ["text", "translate", "classify", "classify by several", "tag"])
def test_the_task_is_known_by_its_data(tmp_path, name):
    recipe, _ = prepared(name, tmp_path, task=None)
    assert recipe.task == TOYS[name].task
    assert recipe.model.shape == TASKS[recipe.task].shapes[0] or "model.shape" in TOYS[name].wishes


def test_plain_text_serves_an_encoder_where_one_is_asked_for(tmp_path):
    recipe, _ = prepared("text", tmp_path, task=None, preset="bert-tiny")
    assert (recipe.task, recipe.model.shape) == ("fill", "encoder")


@pytest.mark.parametrize("d_model", [2, 30, 66, 100, 130, 192, 200, 1000])
def test_whatever_even_width_is_asked_for_the_heads_of_rows_fit_it(d_model):
    decisions = Decisions({"model": {"d_model": d_model}})
    choose_shape(decisions, 10_000)
    config = ModelConfig.parse({"vocab_size": 9, **decisions.get("model")})
    assert config.d_head * config.n_heads == d_model


@pytest.mark.parametrize("n_heads", [1, 3, 6, 7])
def test_whatever_heads_are_asked_for_the_width_of_rows_fits_them(n_heads):
    decisions = Decisions({"model": {"n_heads": n_heads}})
    choose_shape(decisions, 10_000)
    assert ModelConfig.parse({"vocab_size": 9, **decisions.get("model")}).n_heads == n_heads


# Rows that are left out

LONG = " ".join(["two"] * 30)
OVER_LONG = {
    "pairs.tsv": f"{LONG}\t{LONG.replace('two', 'dos')}\n",
    "labelled.csv": f"{LONG},low\n",
    "labelled.jsonl": json.dumps({"text": LONG, "labels": []}) + "\n",
    "tagged.conll": LONG.replace("two", "two EVEN").replace("EVEN ", "EVEN\n") + "\n\n",
}
LIMITS = {
    "translate by a decoder": 11,
    "tag": 5,
}  # the longest of the other rows; elsewhere three words, two spaces, one end


@pytest.mark.parametrize("name", TOYS_OF_ROWS)
def test_rows_that_are_too_long_are_listed_and_counted(tmp_path, name):
    toy = TOYS[name]
    source = toy.write(tmp_path)
    source.write_text(toy.content + OVER_LONG[toy.name])
    first_line = len(toy.content.splitlines()) + 1
    screen, limit = Notes(), LIMITS.get(name, 6)
    train(source, tmp_path / "run", screen=screen, **toy_wishes(name, **{"model.max_len": limit}))
    (line,) = (tmp_path / "run" / "skipped.tsv").read_text().splitlines()
    where, reason = line.split("\t")
    assert where == f"{source}:{first_line}"
    n_tokens = {"translate by a decoder": 119, "tag": 59}.get(name, 60)
    assert reason == f"{n_tokens} tokens long, more than max_len={limit}"
    said = f"left out 1 row, the first {where} ({reason}); all are listed in {tmp_path / 'run' / 'skipped.tsv'}"
    assert screen.notes.count(said) == 1


def test_rows_that_cannot_be_read_are_listed_with_those_that_are_too_long(tmp_path):
    source = TOYS["translate"].write(tmp_path)
    source.write_text(TOYS["translate"].content + "six\t\n" + OVER_LONG["pairs.tsv"])
    screen = Notes()
    train(source, tmp_path / "run", screen=screen, **toy_wishes("translate", **{"model.max_len": 6}))
    listed = [line.split("\t")[0] for line in (tmp_path / "run" / "skipped.tsv").read_text().splitlines()]
    assert listed == [f"{source}:151", f"{source}:152"]
    assert any(
        note.startswith(f"left out 2 rows, the first {source}:151 (the target is empty);") for note in screen.notes
    )


def test_each_side_of_a_pair_has_the_room_of_its_own_stack(tmp_path):
    source = TOYS["translate"].write(tmp_path)
    source.write_text(TOYS["translate"].content + f"{LONG}\tdos\n" + f"two\t{LONG.replace('two', 'dos')}\n")
    wishes = {"model.max_len": 6, "model.encoder": {"max_len": 60}}
    train(source, tmp_path / "run", **toy_wishes("translate", **wishes))
    (line,) = (tmp_path / "run" / "skipped.tsv").read_text().splitlines()
    assert line == f"{source}:152\t60 tokens long, more than max_len=6"


# Two vocabularies


def test_two_vocabularies_train_save_load_and_translate(tmp_path):
    apart = {"tokenizer.shared": False, "tokenizer.kind": "characters", "loop.batch_tokens": 1024}
    pipe, _ = run("translate", tmp_path, **apart, **{"loop.steps": 120, "loop.eval_every": 120})
    assert pipe.source_tokenizer is not None
    source, target = pipe.source_tokenizer, pipe.tokenizer
    assert source.vocab_size != target.vocab_size
    assert (pipe.model.config.source_side().vocab_size, pipe.model.config.vocab_size) == (
        source.vocab_size,
        target.vocab_size,
    )
    again = load(tmp_path / "run" / "final")
    for english, spanish in SPANISH.items():
        assert again.translate(f"{english} two", num_beams=1) == f"{spanish} dos"


def test_the_recipe_of_two_vocabularies_is_the_same_run_again(tmp_path):
    pipe, _ = run("translate", tmp_path, **{"tokenizer.shared": False, "tokenizer.kind": "characters"})
    recipe = Recipe.read(tmp_path / "run" / "recipe.yaml").model_dump(mode="json")
    sources = recipe.pop("data")["sources"]
    again = train(sources, tmp_path / "again", **recipe)
    assert (tmp_path / "again" / "recipe.yaml").read_text() == (tmp_path / "run" / "recipe.yaml").read_text()
    weights = again.model.state_dict()
    assert all(torch.equal(weight, weights[name]) for name, weight in pipe.model.state_dict().items())


# Starting from another model

STILL = {"optimiser.name": "adamw", "optimiser.lr": 1e-30}  # a rate at which no weight moves


@pytest.fixture(scope="module")
def filler(tmp_path_factory):
    """A run of `fill` with a shape of its own, so that it can be told from what would be chosen."""
    folder = tmp_path_factory.mktemp("filler")
    run("fill", folder, **{"model.norm": "layernorm", "model.mlp": "gelu", "model.tied": True})
    return folder / "run"


def started(name: str, folder: Path, start: Path, **more):
    """A toy's run that starts from another model and asks for no size and no tokenizer of its own."""
    follows = ("model.n_layers", "model.d_model", "model.n_heads", "tokenizer.kind")
    wishes = {key: value for key, value in toy_wishes(name, **more).items() if key not in follows}
    screen = Notes()
    pipe = train(TOYS[name].write(folder), folder / "run", screen=screen, start_from=str(start), **wishes)
    return pipe, screen.notes


def test_a_classifier_starts_from_an_encoder_that_fills_in(tmp_path, filler):
    pipe, notes = started("classify", tmp_path, filler, **STILL)
    start = load(filler)
    assert f"starting from the weights and the tokenizer of {filler / 'best'}" in notes
    assert f"begin at random, since {filler} has none of them: head.linear.weight, head.linear.bias" in notes
    same = ("d_model", "n_layers", "n_heads", "norm", "mlp", "vocab_size", "max_len", "positions")
    config, theirs = pipe.model.config, start.model.config
    assert [getattr(config, name) for name in same] == [getattr(theirs, name) for name in same]
    assert (config.head, config.labels) == ("labels", ("high", "low"))
    assert pipe.tokenizer.encode("The cat sat") == start.tokenizer.encode("The cat sat")
    ours, weights = dict(pipe.model.named_parameters()), dict(start.model.named_parameters())
    taken = [name for name in ours if name.startswith("encoder.")]
    assert taken
    assert all(torch.equal(ours[name], weights[name]) for name in taken)
    assert "Trained from" in (tmp_path / "run" / "final" / "README.md").read_text()


@pytest.mark.parametrize("apart", [False, True], ids=["one vocabulary", "two"])
def test_a_translator_goes_on_from_a_translator(tmp_path, apart):
    wishes = {"tokenizer.shared": not apart, "model.encoder": {"n_layers": 2}, "model.shared_embedding": not apart}
    first, _ = run("translate", tmp_path, "first", **wishes)
    second, notes = started("translate", tmp_path, tmp_path / "first", **STILL)
    assert not any("begin at random" in note for note in notes)
    assert second.model.config == first.model.config
    weights = second.model.state_dict()
    assert all(torch.equal(weight, weights[name]) for name, weight in first.model.state_dict().items())
    assert (second.source_tokenizer is not None) == apart


def test_an_encoder_may_come_from_an_encoder_decoder(tmp_path):
    wishes = {
        "tokenizer.shared": False,
        "model.encoder": {"d_model": 48, "n_heads": 2},
        "model.shared_embedding": False,
    }
    first, _ = run("translate", tmp_path, "first", **wishes)
    second, _ = started("embed", tmp_path, tmp_path / "first", **STILL)
    assert first.source_tokenizer is not None
    assert second.tokenizer.encode("one two") == first.source_tokenizer.encode("one two")
    weights = first.model.state_dict()
    assert all(torch.equal(weight, weights[name]) for name, weight in second.model.state_dict().items())


def test_a_decoder_takes_its_embedding_from_a_model_that_shares_it(tmp_path):
    first, _ = run("translate", tmp_path, "first", **{"model.max_len": 11})
    second, notes = started("translate by a decoder", tmp_path, tmp_path / "first", **STILL)
    assert second.model.config.shape == "decoder"
    assert not any("begin at random" in note for note in notes)
    weights = first.model.state_dict()
    assert all(torch.equal(weight, weights[name]) for name, weight in second.model.state_dict().items())


def test_a_start_that_clashes_with_what_is_asked_for_is_one_sentence(tmp_path, filler):
    source = TOYS["classify"].write(tmp_path)
    asked = {"task": "classify", "start_from": str(filler), "loop.steps": 2}
    with pytest.raises(ConfigError) as wrong:
        train(source, tmp_path / "run", **asked, **{"model.d_model": 64})
    said = f"model.d_model=64 is not the 32 of {filler / 'best'}, whose weights the run is to start from"
    assert str(wrong.value) == said
    with pytest.raises(ConfigError) as wrong:
        train(TOYS["text"].write(tmp_path), tmp_path / "run", **{**asked, "task": "text"})
    assert str(wrong.value) == (
        f"{filler / 'best'}: holds a model of shape 'encoder', whose weights are of no use to one of 'decoder'"
    )
    assert not (tmp_path / "run").exists()


# What does not go together


@pytest.mark.parametrize(
    ("name", "wishes", "said"),
    [
        (
            "translate",
            {"preset": "bert-tiny"},
            "the preset bert-tiny, of shape 'encoder', cannot be trained to translate: expected encoder_decoder or decoder; "
            "--task names another task",
        ),
        (
            "text",
            {"preset": "small-seq2seq"},
            "the preset small-seq2seq, of shape 'encoder_decoder', cannot be trained to text: expected decoder; "
            "--task names another task",
        ),
        (
            "classify",
            {"model.shape": "decoder"},
            "model.shape='decoder' cannot be trained to classify: expected encoder; --task names another task",
        ),
        (
            "classify",
            {"tokenizer.shared": False},
            "tokenizer.shared=false gives source and target a vocabulary each, as in an encoder-decoder that translates: "
            "the task classify on shape='encoder' has one for all; leave it out",
        ),
        (
            "translate by a decoder",
            {"tokenizer.shared": False},
            "tokenizer.shared=false gives source and target a vocabulary each, as in an encoder-decoder that translates: "
            "the task translate on shape='decoder' has one for all; leave it out",
        ),
        (
            "embed",
            {"loop.grad_accum": 2},
            "loop.grad_accum: each text is compared with the whole batch, which cannot be cut in portions",
        ),
        (
            "translate",
            {"loop.batch_size": 4},
            "loop.batch_size=4 counts windows of running text, and pairs differ in length: set loop.batch_tokens instead",
        ),
        (
            "text",
            {"loop.batch_tokens": 64},
            "loop.batch_tokens=64 is for rows of many lengths, and windows of running text have one: "
            "set loop.batch_size instead",
        ),
        (
            "classify by several",
            {"model.several_labels": False},
            "labelled.jsonl:2: has 2 labels, and model.several_labels=false allows just one; leave that out",
        ),
    ],
)
def test_wishes_that_do_not_go_together_are_one_sentence(tmp_path, monkeypatch, name, wishes, said):
    monkeypatch.chdir(tmp_path)
    TOYS[name].write(tmp_path)
    with pytest.raises(ConfigError) as wrong:
        train(TOYS[name].name, "run", **toy_wishes(name, **wishes))
    assert str(wrong.value) == said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["fill", "translate", "classify", "embed"])
def test_a_tokenizer_without_the_tokens_of_the_task_is_refused(tmp_path, trained, name):
    needed = TASKS[TOYS[name].task].specials[0]
    with pytest.raises(ConfigError) as wrong:
        run(name, tmp_path, **{"tokenizer.path": str(trained / "tokenizer")})
    assert str(wrong.value) == (
        f"{trained / 'tokenizer'}: lacks the special token {needed}, which this task needs; train another"
    )


def test_a_folder_of_one_tokenizer_cannot_give_two(tmp_path):
    run("translate", tmp_path, "first")
    folder = tmp_path / "first" / "best"
    with pytest.raises(ConfigError) as wrong:
        run("translate", tmp_path, **{"tokenizer.path": str(folder), "tokenizer.shared": False})
    assert str(wrong.value) == (
        f"{folder}: holds no folder 'source' with a tokenizer for the sources; leave out tokenizer.shared=false"
    )


@pytest.mark.parametrize(
    ("name", "held_back", "said"),
    [
        (
            "classify",
            "text,label\nsix,low\nseven,odd\n",
            "held.csv:3: label odd does not occur in the training data, which has ",
        ),
        ("tag", "six EVEN\nseven PRIME\n\n", "held.conll:1: tag PRIME does not occur in the training data, which has "),
    ],
)
def test_a_label_that_only_the_validation_data_has_is_named_with_its_place(tmp_path, name, held_back, said):
    held = tmp_path / f"held{Path(TOYS[name].name).suffix}"
    held.write_text(held_back)
    with pytest.raises(DataError) as wrong:
        run(name, tmp_path, **{"data.validation": [str(held)]})
    assert str(wrong.value).startswith(f"{tmp_path}/{said}")
    assert "\n" not in str(wrong.value)


def test_rows_of_several_labels_among_the_validation_data_alone_make_a_model_of_several(tmp_path):
    rows = [json.dumps({"text": f"{word} {n}", "labels": [word]}) for word in ("one", "two") for n in range(9)]
    (tmp_path / "my.jsonl").write_text("\n".join(rows))
    (tmp_path / "held.jsonl").write_text('{"text": "one two", "labels": ["one", "two"]}\n{"text": "x", "labels": []}\n')
    wishes = toy_wishes("classify", **{"data.validation": [str(tmp_path / "held.jsonl")]})
    assert train(tmp_path / "my.jsonl", tmp_path / "run", **wishes).model.config.several_labels


def test_one_label_for_all_is_nothing_to_learn(tmp_path):
    (tmp_path / "my.csv").write_text("text,label\n" + "".join(f"text {n},same\n" for n in range(20)))
    with pytest.raises(DataError, match=r"^every text has the label 'same': there is nothing to tell apart"):
        train(tmp_path / "my.csv", tmp_path / "run", **toy_wishes("classify"))


@pytest.mark.parametrize("name", TOYS_OF_ROWS)
def test_a_context_that_holds_no_row_is_one_sentence(tmp_path, name):
    with pytest.raises(DataError, match=r"^none of the \d+ train \w+ fits into max_len=1; choose a larger --max-len$"):
        run(name, tmp_path, **{"model.max_len": 1})


def test_a_few_words_of_text_are_enough_to_fill_in(tmp_path):
    (tmp_path / "my.txt").write_text("a b c d e f g h i j k l m n")
    wishes = toy_wishes("fill", **{"model.max_len": 8, "data.validation_fraction": 0.12})
    train(tmp_path / "my.txt", tmp_path / "run", **wishes)  # three tokens held back, in a window of eight
    assert rows_of(tmp_path / "run")[-1]["val_loss"] > 0
