"""The flags of ``glassformer train``: how they, --set and recipes come together, and what is said of a wrong one."""

from __future__ import annotations

import inspect
import json
import shlex

import pytest
import yaml
from typer.models import OptionInfo

from glassformer.cli import train as room
from glassformer.cli.train import name_of
from glassformer.training import Recipe
from glassformer.training.recipe import keys
from running import QUICK, SENTENCES

OF_ROWS = (*QUICK[:6], *QUICK[10:])  # rows are as long as they are, and a batch of them is told in tokens

pytestmark = pytest.mark.usefixtures("swift")


@pytest.fixture
def text(tmp_path):
    (tmp_path / "words.txt").write_text(SENTENCES * 20)
    return tmp_path / "words.txt"


@pytest.fixture
def wished(command, monkeypatch):
    """What a command line asks of a run: the wishes, the run folder and the minutes."""

    def ask(*arguments) -> tuple[dict, str, float]:
        asked = []
        monkeypatch.setattr(room, "run", lambda wishes, folder, minutes, *more: asked.append((wishes, folder, minutes)))
        done = command("train", *arguments)
        assert done.code == 0, done.err
        (found,) = asked
        return found

    return ask


@pytest.mark.parametrize(
    ("flags", "key", "value"),
    [
        (("--steps", "--max-steps", "--max-iters", "--iters", "--max_iters"), "loop.steps", 7),
        (("--grad-accum", "--gradient-accumulation-steps"), "loop.grad_accum", 2),
        (("--n-layers", "--layers", "--n-layer", "--n_layer"), "model.n_layers", 3),
        (("--d-model", "--dim", "--n-embd", "--n_embd"), "model.d_model", 64),
        (("--n-heads", "--heads", "--n-head"), "model.n_heads", 4),
        (("--n-kv-heads", "--kv-heads"), "model.n_kv_heads", 2),
        (("--d-ff", "--ffn-dim"), "model.d_ff", 96),
        (("--max-len", "--context", "--block-size", "--block_size"), "model.max_len", 32),
        (("--positions", "--pos"), "model.positions", "alibi"),
        (("--mlp", "--act"), "model.mlp", "relu"),
        (("--optimiser", "--optimizer"), "optimiser.name", "adamw"),
        (("--lr", "--learning-rate", "--learning_rate"), "optimiser.lr", 0.25),
        (("--warmup-steps", "--lr-warmup-steps"), "optimiser.warmup_steps", 3),
        (("--grad-clip", "--max-grad-norm"), "optimiser.grad_clip", 0.5),
        (("--eval-every", "--eval-interval"), "loop.eval_every", 4),
        (("--keep", "--save-total-limit"), "loop.keep", 1),
        (("--batch-tokens", "--max-tokens", "--batch_tokens"), "loop.batch_tokens", 512),
    ],
)
def test_every_name_of_a_flag_sets_its_key(wished, flags, key, value):
    room_name, name = key.split(".")
    for flag in flags:
        wishes, _, _ = wished("words.txt", flag, value)
        assert wishes == {"data": {"sources": ["words.txt"]}, room_name: {name: value}}


def test_the_run_folder_and_the_minutes_have_more_names_too(wished):
    for folder in ("-o", "--out-dir", "--save-dir", "--out_dir"):
        for minutes in ("--minutes", "--max-time"):
            _, out, asked = wished("words.txt", folder, "here", minutes, 2.5)
            assert (str(out), asked) == ("here", 2.5)


def test_every_flag_of_a_recipe_sets_a_key_that_recipes_have(wished):
    """Every option that is not about the command itself, given a value of its type, lands on a known key."""
    itself = {"out_dir", "demo", "config", "assignments", "print_config", "minutes", "nproc", "allow_changed"}
    itself |= {"budget", "dry_run", "as_json"}
    known = {key for key, _, _, _ in keys(Recipe)}
    for name, parameter in inspect.signature(room.train, eval_str=True).parameters.items():
        options = [part for part in getattr(parameter.annotation, "__metadata__", ()) if isinstance(part, OptionInfo)]
        if name in itself or not options:
            continue
        wishes, _, _ = wished("words.txt", options[0].default, 1)
        del wishes["data"]["sources"]
        flat = {f"{room_name}.{key}" for room_name, part in wishes.items() if isinstance(part, dict) for key in part}
        flat |= {key for key, part in wishes.items() if not isinstance(part, dict)}
        assert len(flat) == 1, name
        assert flat <= known, name


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (("--task", "fill"), {"task": "fill"}),
        (("--start-from", "runs/a"), {"start_from": "runs/a"}),
        (("--init-from", "runs/a"), {"start_from": "runs/a"}),
    ],
)
def test_what_a_run_is_for_and_where_it_begins_are_flags(wished, arguments, wanted):
    assert wished("words.txt", *arguments)[0] == {"data": {"sources": ["words.txt"]}, **wanted}


@pytest.mark.parametrize(
    ("arguments", "source"),
    [
        (("--demo",), "demo:python-docs"),
        (("--demo", "python-docs"), "demo:python-docs"),
        (("--demo", "translate"), "demo:translate"),
        (("--demo", "voice"), "demo:voice"),
        (("--demo", "--minutes", 2), "demo:python-docs"),
        (("--demo", "translate", "--minutes", 2), "demo:translate"),
    ],
)
def test_what_is_built_in_is_trained_on_by_name(wished, arguments, source):
    assert wished(*arguments)[0] == {"data": {"sources": [source]}}


def test_a_name_that_is_not_built_in_is_one_sentence(command):
    done = command("train", "--demo", "translat")
    assert done.code == 2
    assert done.sentence == "--demo translat: nothing built in has this name (did you mean 'translate'?)"


@pytest.mark.parametrize(
    ("kind", "verb"),
    [("translate", "translate"), ("classify", "classify"), ("tag", "classify"), ("embed", "embed"), ("fill", "fill")],
)
def test_the_commands_that_come_next_are_those_of_the_task(command, runs, tmp_path, kind, verb):
    flags = (*QUICK, "--max-len", 64) if kind == "fill" else OF_ROWS
    done = command("train", runs.file(kind), *flags, "--task", kind, "-o", tmp_path / "run")
    assert done.code == 0, done.err
    first, *others = (shlex.split(line) for line in done.out.splitlines())
    assert first[:3] == ["glassformer", verb, str(tmp_path / "run")]
    for words in (first, *others):
        assert command(*words[1:]).code == 0, words


def test_the_files_decide_on_the_task_where_nobody_does(command, runs, tmp_path):
    for kind in ("translate", "classify", "tag"):
        done = command("train", runs.file(kind), *OF_ROWS, "-o", tmp_path / kind)
        assert done.code == 0, done.err
        assert Recipe.read(tmp_path / kind / "recipe.yaml").task == kind


def test_a_tokenizer_is_a_kind_or_a_place(wished, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "bpe").mkdir()
    assert wished("a.txt", "--tokenizer", "words")[0]["tokenizer"] == {"kind": "words"}
    assert wished("a.txt", "--tokenizer", "bpe")[0]["tokenizer"] == {"kind": "bpe"}
    assert wished("a.txt", "--tokenizer", "mine")[0]["tokenizer"] == {"path": "mine"}


def test_flags_win_over_a_recipe_and_set_wins_over_flags(wished, tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(yaml.safe_dump({"seed": 1, "data": {"sources": "a.txt"}, "loop": {"steps": 5, "keep": 4}}))
    for named in ((recipe,), ("--config", recipe), ("-c", recipe)):
        wishes, _, _ = wished(*named, "--steps", 6, "--set", "loop.steps=7", "--seed", 2)
        assert wishes == {"seed": 2, "data": {"sources": "a.txt"}, "loop": {"steps": "7", "keep": 4}}
    wishes, _, _ = wished("b.txt", "c.txt", "--config", recipe)
    assert wishes["data"]["sources"] == ["b.txt", "c.txt"]


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("my.txt", "my"),
        ("my.txt.gz", "my"),
        ("texts/", "texts"),
        ("a/b/*.txt", "b"),
        ("a/**/*.md", "a"),
        ("*.txt", "run"),
        (".", "run"),
        ("..", "run"),
        ("/", "run"),
        ("-", "stdin"),
        ("demo:python-docs", "python-docs"),
    ],
)
def test_a_run_is_named_after_its_source(source, name):
    assert name_of(source) == name


def test_a_run_lands_in_runs_under_the_name_of_its_source(command, text, monkeypatch):
    monkeypatch.chdir(text.parent)
    done = command("train", "words.txt", *QUICK)
    assert done.code == 0, done.err
    assert (text.parent / "runs" / "words" / "final").is_dir()
    assert done.out.splitlines()[0] == "glassformer generate runs/words -p 'Once upon a time'"


def test_set_gives_every_key_its_type(command, text, tmp_path):
    pairs = (
        "loop.log_every=2",
        "model.tied=true",
        "optimiser.min_lr=0.5",
        "optimiser.grad_clip=1",
        "loop.early_stop=null",
    )
    flags = [part for pair in pairs for part in ("--set", pair)]
    done = command("train", text, *QUICK, *flags, "-o", tmp_path / "run")
    assert done.code == 0, done.err
    recipe = Recipe.read(tmp_path / "run" / "recipe.yaml")
    assert recipe.loop.log_every == 2
    assert recipe.model.tied is True
    assert recipe.optimiser.min_lr == 0.5
    assert recipe.optimiser.grad_clip == 1.0
    assert recipe.loop.early_stop is None
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "loss" in row] == [2, 4, 6]
    assert all(row["grad_norm"] > 0 for row in rows if "loss" in row)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--set", "loop.stesp=3"), "recipe: unknown key 'loop.stesp' (did you mean 'steps'?)"),
        (("--set", "optimizer.lr=3"), "recipe: unknown key 'optimizer' (did you mean 'optimiser'?)"),
        (("--set", "steps"), "--set steps: expected KEY=VALUE, for example --set model.d_model=64"),
        (("--set", "loop.steps=abc"), "recipe: loop.steps: input should be a valid integer"),
        (("--set", "model.max_len=1.5"), "recipe: model.max_len: input should be a valid integer"),
        (("--set", "loop.threads=0"), "recipe: loop.threads: input should be greater than or equal to 1, found '0'"),
        (("--set", "model.tied=perhaps"), "recipe: model.tied: input should be a valid boolean"),
        (("--set", "tokenizer=bpe"), "recipe: tokenizer: expected keys and values below it, found 'bpe'"),
        (("--set", "model.rotary_scaling.kind=cubic"), "recipe: model.rotary_scaling.kind: input should be 'linear'"),
        (("--steps", -5), "recipe: loop.steps: input should be greater than or equal to 1, found -5"),
        (("--batch-size", 0), "recipe: loop.batch_size: input should be greater than or equal to 1, found 0"),
        (("--lr", -1), "recipe: optimiser.lr: input should be greater than 0, found -1.0"),
        (("--dropout", 1), "recipe: model.dropout: input should be less than 1, found 1.0"),
        (("--preset", "gtp2"), "unknown preset 'gtp2' (did you mean 'gpt2'?)"),
        (("--pos", "rotery"), "recipe: model.positions: 'rotery' is not one of none, sinusoidal, "),
        (("--act", "gelo"), "recipe: model.mlp: 'gelo' is not one of "),
        (("--tokenizer", "bpee"), "recipe: tokenizer.kind: input should be 'characters', 'words', 'bytes', "),
        (
            ("--lr-schedule", "step"),
            "recipe: optimiser.schedule: input should be 'linear', 'cosine', 'wsd', 'noam' or 'constant'",
        ),
        (("--compile", "maybe"), "recipe: loop.compile: input should be 'auto', 'yes' or 'no'"),
        (("--device", "gpu"), "device 'gpu' cannot be used here"),
        (("--d-model", 17), "model: d_model=17 does not divide among n_heads=2; change one of them or set d_head"),
        (("--n-kv-heads", 3), "model: n_heads=2 do not share n_kv_heads=3 evenly"),
        (("--batch-size", 4, "--grad-accum", 3), "loop.batch_size=4 does not divide into loop.grad_accum=3 portions"),
        (("--set", "model.vocab_size=5"), "model.vocab_size=5 is smaller than the tokenizer's "),
        (("--minutes", "inf"), "minutes=inf is out of range: expected more than 0"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_a_wish_that_cannot_be_is_one_sentence_and_leaves_nothing_behind(command, text, tmp_path, flags, said):
    done = command("train", text, *QUICK, *flags, "-o", tmp_path / "run")
    assert done.code == 2
    assert done.sentence.startswith(said)
    assert done.out == ""
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("loop: [1", "mine.yaml:1: is not valid YAML"),
        ("- a\n- b\n", "mine.yaml: expected keys and values, found list"),
        ("loop: 3\ndata: {sources: a.txt}\n", "recipe: loop: expected keys and values below it, found 3"),
        ("data: a.txt\n", "recipe: data: expected keys and values below it, found 'a.txt'"),
        ("data: {sources: 5}\n", "recipe: data.sources: "),
        ("", "nothing to train on: name a file, a folder or -, or use --demo"),
        ("data: {sources: []}\n", "recipe: data.sources: tuple should have at least 1 item"),
        ("data: null\n", "nothing to train on"),
        ("modle: {}\n", "recipe: unknown key 'modle' (did you mean 'model'?)"),
    ],
)
def test_a_broken_recipe_is_one_sentence(command, tmp_path, content, said):
    (tmp_path / "mine.yaml").write_text(content)
    done = command("train", tmp_path / "mine.yaml", "-o", tmp_path / "run")
    assert done.code == 2
    assert said in done.sentence
    assert not (tmp_path / "run").exists()


def test_a_recipe_that_is_not_there_is_one_sentence(command, tmp_path):
    done = command("train", "--config", tmp_path / "mine.yaml")
    assert done.code == 2
    assert done.sentence == f"{tmp_path / 'mine.yaml'}: cannot be read (No such file or directory)"


def test_nothing_to_train_on_is_said(command):
    done = command("train")
    assert done.code == 2
    assert done.sentence == "nothing to train on: name a file, a folder or -, or use --demo"


def test_every_key_is_printed_with_its_type_and_default(command):
    done = command("train", "--print-config")
    assert done.code == 0
    lines = {line.split()[0]: line for line in done.out.splitlines()}
    assert list(lines) == [key for key, _, _, _ in keys(Recipe)]
    assert lines["loop.keep"].split()[1:3] == ["int", "2"]
    assert {"data.sources", "model.d_model", "optimiser.lr", "loop.steps", "seed"} <= set(lines)


@pytest.mark.parametrize("also", [["--demo"], ["recipe.yaml"], ["recipe.yaml", "--config", "recipe.yaml"]])
def test_only_one_thing_can_be_trained_on(command, text, also, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.yaml").write_text("seed: 1\n")
    done = command("train", *([text] if "--config" not in also else []), *also)
    assert done.code == 2
    assert "not several of them" in done.err
