"""What is decided for the user: from the data and the machine, never over what was asked for, and always trainable."""

from __future__ import annotations

import copy
import itertools
import json

import pytest

from glassformer import train
from glassformer.config import set_dotted
from glassformer.errors import ConfigError, DataError
from glassformer.models import PRESETS
from glassformer.training import Recipe, check_wishes
from glassformer.training.decide import (
    Choice,
    Decisions,
    Pace,
    choose_loop,
    choose_model,
    choose_steps,
    choose_tokenizer,
    finish_model,
    guessed_seconds,
    take_preset,
)
from glassformer.training.optimisers import OPTIMISERS
from glassformer.training.run import check_portions
from glassformer.training.tasks.text import Text
from running import SENTENCES, quick_settings

pytestmark = pytest.mark.usefixtures("swift")

SECONDS = {0: 0.01}  # that a step takes


def decided(
    n_tokens: int = 5000, vocab_size: int = 30, minutes: float = 5.0, **wishes
) -> tuple[dict, dict[str, Choice]]:
    """Wishes filled up to a whole recipe, and the choices by key."""
    asked: dict = {"data": {"sources": "a.txt"}, "optimiser": {}}
    for key, value in wishes.items():
        set_dotted(asked, key.replace("__", "."), value)
    decisions = Decisions(check_wishes(asked))
    task = Text.__new__(Text)  # which needs no text to choose a batch
    decisions.choose("preset", *task.preset)
    choose_tokenizer(decisions, n_tokens)
    take_preset(decisions, vocab_size)
    choose_model(decisions, n_tokens)
    config = finish_model(decisions, vocab_size)
    task.choose_batch(decisions)
    check_portions(decisions)
    tokens = decisions.get("loop.batch_size") * config.max_len
    pace = Pace(n_tokens / tokens, task.most_epochs, lambda: SECONDS[0])
    steps = choose_steps(decisions, minutes, pace)
    choose_loop(decisions, steps, guessed_seconds(config, tokens, steps))
    set_dotted(decisions.wishes, "model", config.model_dump(mode="json"))
    Recipe.parse(decisions.wishes)
    return decisions.wishes, {choice.key: choice for choice in decisions.choices}


@pytest.fixture(autouse=True)
def pace(monkeypatch):
    """Every step takes this many seconds here."""
    monkeypatch.setitem(SECONDS, 0, 0.01)
    return SECONDS


def test_what_was_asked_for_is_never_chosen_again():
    every = {
        "tokenizer__kind": "words",
        "preset": "tiny",
        "model__n_layers": 3,
        "model__d_model": 24,
        "model__n_heads": 3,
        "model__max_len": 20,
        "loop__batch_size": 6,
        "loop__steps": 33,
        "loop__eval_every": 4,
        "loop__sample_every": 5,
        "loop__save_every": 6,
        "loop__log_every": 7,
        "loop__compile": "yes",
        "optimiser__warmup_steps": 8,
    }
    wishes, choices = decided(**every)
    assert choices == {}
    for key, value in every.items():
        held = wishes
        for name in key.split("__"):
            held = held[name]
        assert held == value


def test_every_choice_has_a_reason_and_is_what_the_recipe_holds():
    wishes, choices = decided()
    assert {"tokenizer.kind", "model.d_model", "loop.steps", "loop.batch_size", "loop.compile"} <= set(choices)
    for key, choice in choices.items():
        assert len(choice.reason.split()) >= 2, key
        assert Decisions(wishes).get(key) == choice.value


@pytest.mark.parametrize(("n_bytes", "kind"), [(100, "characters"), (199_999, "characters"), (200_000, "bpe")])
def test_much_text_is_cut_into_pieces_of_words_and_little_into_characters(n_bytes, kind):
    decisions = Decisions({})
    choose_tokenizer(decisions, n_bytes)
    assert decisions.get("tokenizer.kind") == kind
    given = Decisions({"tokenizer": {"path": "somewhere"}})
    choose_tokenizer(given, n_bytes)
    assert given.choices == []


def test_more_text_never_gets_a_smaller_model():
    sizes = [decided(n)[0]["model"] for n in (200, 5_000, 60_000, 1_000_000, 10_000_000)]
    for smaller, larger in itertools.pairwise(sizes):
        assert smaller["d_model"] <= larger["d_model"]
        assert smaller["n_layers"] <= larger["n_layers"]


def test_minutes_become_steps_at_the_pace_of_the_machine(pace):
    wishes, choices = decided(10_000_000, minutes=2.0)
    assert wishes["loop"]["steps"] == int(120 / 0.01)
    assert "2 minutes at the 10 ms that a step takes here" in choices["loop.steps"].reason
    pace[0] = 1.0
    assert decided(10_000_000, minutes=2.0)[0]["loop"]["steps"] == 120
    pace[0] = 1000.0
    assert decided(10_000_000, minutes=2.0)[0]["loop"]["steps"] == 20


def test_a_short_text_is_not_learnt_by_heart_however_many_minutes_there_are():
    wishes, choices = decided(5000, minutes=600.0)
    tokens = wishes["loop"]["steps"] * wishes["loop"]["batch_size"] * wishes["model"]["max_len"]
    assert tokens <= 100 * 5000
    assert "times through the data" in choices["loop.steps"].reason


@pytest.mark.parametrize(("steps", "mode"), [(1000, "no"), (10**9, "yes")])
@pytest.mark.parametrize("asked", [{}, {"loop__compile": "auto"}])
def test_compiling_is_for_runs_that_are_long_enough_to_pay_for_it(steps, mode, asked):
    wishes, choices = decided(loop__steps=steps, **asked)
    assert wishes["loop"]["compile"] == choices["loop.compile"].value == mode


def test_a_context_longer_than_the_text_is_refused_with_the_longest_that_fits():
    with pytest.raises(DataError, match=r"is 50 tokens long and a context of 50 needs 51; choose --max-len 49 or less"):
        decided(50, model__max_len=50)
    assert decided(50, model__max_len=49)[0]["model"]["max_len"] == 49


def test_the_shortest_text_of_all_gets_a_context_that_fits():
    for n_tokens in (2, 3, 4, 5, 9):
        assert decided(n_tokens)[0]["model"]["max_len"] < n_tokens


def test_portions_that_do_not_divide_a_step_are_refused():
    with pytest.raises(ConfigError, match=r"loop.batch_size=6 does not divide into loop.grad_accum=4 portions"):
        decided(loop__batch_size=6, loop__grad_accum=4)


def test_checking_wishes_changes_none_of_them():
    asked = {"loop": {"steps": "5", "early_stop": None}, "data": {"sources": "a.txt"}, "model": {"positions": "rope"}}
    before = copy.deepcopy(asked)
    assert check_wishes(asked) == {
        "loop": {"steps": 5, "early_stop": None},
        "data": {"sources": ["a.txt"]},
        "model": {"positions": "rotary"},
    }
    assert asked == before


TASK_OF_SHAPE = {"decoder": "text", "encoder": "fill", "encoder_decoder": "translate"}


@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_learns_with_every_optimiser(tmp_path, preset, optimiser):
    task = TASK_OF_SHAPE[PRESETS[preset].get("shape", "decoder")]
    (tmp_path / "words.txt").write_text(SENTENCES * 20)
    (tmp_path / "pairs.tsv").write_text("".join(f"the cat {n}\tel gato {n}\n" for n in range(30)))
    source = tmp_path / ("pairs.tsv" if task == "translate" else "words.txt")
    wishes = quick_settings(**{"preset": preset, "model.n_kv_heads": 2, "optimiser.name": optimiser, "loop.steps": 12})
    wishes |= {"task": task, "optimiser.lr": 0.02}
    if task == "fill":
        wishes["loop.batch_size"] = 32  # of four windows, ten tokens would be hidden: too few to see learning in
    if task == "translate":
        del wishes["loop.batch_size"]
    train(source, tmp_path / "run", **wishes)
    rows = map(json.loads, (tmp_path / "run" / "log.jsonl").read_text().splitlines())
    losses = [row["loss"] for row in rows if "loss" in row]
    assert len(losses) == 12
    assert sum(losses[-3:]) < sum(losses[:3])


@pytest.mark.slow
def test_a_compiled_run_learns_what_a_plain_one_learns(tmp_path):
    (tmp_path / "words.txt").write_text(SENTENCES * 20)
    losses = []
    for mode in ("no", "yes"):
        train(tmp_path / "words.txt", tmp_path / mode, **quick_settings(**{"loop.compile": mode}))
        rows = (tmp_path / mode / "log.jsonl").read_text().splitlines()
        losses.append(float(rows[-1].split('"val_loss": ')[1].split(",")[0]))
    assert losses[1] == pytest.approx(losses[0], abs=1e-3)


@pytest.mark.parametrize("d_model", [2, 30, 66, 96, 100, 128, 130, 384, 1000])
def test_whatever_even_width_is_asked_for_the_heads_fit_it(d_model):
    wishes, _ = decided(model__d_model=d_model)
    assert wishes["model"]["d_model"] == d_model
    assert wishes["model"]["d_head"] % 2 == 0


@pytest.mark.parametrize("n_heads", [1, 3, 6, 7])
def test_whatever_heads_are_asked_for_the_width_fits_them(n_heads):
    wishes, _ = decided(model__n_heads=n_heads)
    assert wishes["model"]["n_heads"] == n_heads
