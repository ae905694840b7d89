"""What the loop says and does on the way: best models, overfitting, early stops, losses that are no numbers, the compiler."""

from __future__ import annotations

import itertools
import json

import pytest
import torch

from glassformer.errors import GlassformerError, Interrupted
from glassformer.evaluate import Score
from glassformer.models import ModelConfig, build_model
from glassformer.ops.losses import cross_entropy
from glassformer.training.checkpoint import State, clone
from glassformer.training.compile import compiled
from glassformer.training.log import Log
from glassformer.training.loop import Services, train_loop
from glassformer.training.optimisers import Optimisers
from glassformer.training.recipe import Recipe
from glassformer.training.tasks import Batch
from toys import Notes

FIELDS = {"vocab_size": 23, "max_len": 8, "d_model": 16, "n_layers": 1, "n_heads": 2}


class Repeating:
    """The same windows at every step, which any model soon knows by heart."""

    def batch(self, step: int) -> Batch:
        ids = torch.randint(0, 23, (2, 9), generator=torch.Generator().manual_seed(1))
        return Batch({"ids": ids[:, :-1]}, ids[:, 1:], 16, 16)

    def epoch(self, step: int) -> float:
        return float(step)

    def loss(self, answers, batch: Batch, smoothing: float = 0.0):
        return cross_entropy(answers, batch.targets, smoothing)


class Loop:
    """A loop on a small model, whose evaluations give the losses listed."""

    def __init__(self, folder, losses=(), stop_at=None, saves=True, ema=None, **loop) -> None:
        steps = loop.pop("steps", max(1, len(losses)))
        every = {"eval_every": 1, "sample_every": 100, "save_every": 100, "log_every": 1}
        self.recipe = Recipe.parse(
            {
                "data": {"sources": "words.txt"},
                "tokenizer": {},
                "model": FIELDS,
                "optimiser": {"name": "adamw", "lr": 0.003, "ema": ema},
                "loop": {"steps": steps, "batch_size": 2, **every, **loop},
            }
        )
        self.model = build_model(self.recipe.model)
        self.state = State()
        self.screen = Notes()
        self.log = Log(folder / "log.jsonl")
        self.bests: list[float] = []
        self.saved: list[int] = []
        self.sampled: list[int] = []
        scores = iter(
            score if isinstance(score, Score) else Score(score, 10, 20) for score in (*losses, *[9.0] * steps)
        )
        self.services = Services(
            evaluate=lambda: next(scores),
            sample=lambda: self.sampled.append(self.state.step) or "text",
            save_checkpoint=lambda state: self.saved.append(state.step) or saves,
            save_best=lambda score: self.bests.append(score.loss),
            stop_requested=lambda: self.state.step == stop_at,
            log=self.log,
            screen=self.screen,
        )

    def run(self, forward=None) -> Loop:
        average = clone(self.model) if self.recipe.optimiser.ema else None
        optimisers = Optimisers(self.model, self.recipe.optimiser)
        forward = forward or self.model
        train_loop(self.model, forward, optimisers, Repeating(), self.recipe, self.state, average, self.services)
        return self


def test_the_best_model_is_kept_each_time_it_is_better(tmp_path):
    loop = Loop(tmp_path, [3.0, 2.5, 2.7, 2.4, 2.4]).run()
    assert loop.bests == [3.0, 2.5, 2.4]
    assert (loop.state.best_loss, loop.state.best_step, loop.state.worse) == (2.4, 4, 1)


def test_the_best_model_is_the_one_of_fewest_errors_where_they_are_counted(tmp_path):
    scores = [Score(loss, 10, 0, errors=errors) for loss, errors in ((3.0, 0.5), (2.0, 0.6), (3.5, 0.4), (3.2, 0.4))]
    loop = Loop(tmp_path, scores).run()
    assert loop.bests == [3.0, 3.5, 3.2]  # of equal errors, that of the lower loss
    assert (loop.state.best, loop.state.best_loss, loop.state.best_step, loop.state.worse) == (0.4, 3.2, 4, 0)


def test_learning_by_heart_is_said_once_with_what_would_help(tmp_path):
    loop = Loop(tmp_path, [4.0, 4.1, 4.2, 4.3, 4.4, 4.5]).run()
    (said,) = loop.screen.notes
    assert said.startswith("overfitting: no better on what was held back since step 1 ")
    assert "--dropout" in said


def test_a_bad_start_is_not_called_overfitting(tmp_path):
    assert Loop(tmp_path, [0.1, 0.2, 0.3, 0.4, 0.5]).run().screen.notes == []  # the training loss is above all of these


def test_an_early_stop_counts_evaluations_and_says_which_step_was_best(tmp_path):
    loop = Loop(tmp_path, [3.0, 2.9, 3.1, 3.2, 3.3, 3.4], early_stop=2, save_every=4).run()
    assert loop.state.step == 4
    assert loop.screen.notes == ["stopped early: no better for 2 evaluations; best was step 2"]
    assert loop.saved == []  # nothing to go on with


def test_what_is_due_happens_and_at_the_end_only_what_is_of_use(tmp_path):
    loop = Loop(tmp_path, steps=6, eval_every=4, sample_every=3, save_every=2, log_every=4).run()
    assert loop.saved == [2, 4]
    assert loop.sampled == [3]
    assert [row["step"] for row in loop.log.rows()] == [4, 4, 6, 6]


def test_a_stop_saves_and_says_how_to_go_on(tmp_path):
    loop = Loop(tmp_path, steps=5, stop_at=3)
    with pytest.raises(Interrupted, match=r"^stopped after step 3 of 5; the same command goes on from there$") as stop:
        loop.run()
    assert loop.saved == [3]
    assert stop.value.exit_code == 75


def test_a_stop_whose_state_could_not_be_saved_does_not_promise_it(tmp_path):
    with pytest.raises(Interrupted, match="goes on from the last checkpoint that could be saved"):
        Loop(tmp_path, steps=5, stop_at=3, saves=False).run()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("ema", [None, 0.9])
def test_a_loss_that_is_no_number_stops_before_it_reaches_the_weights(tmp_path, value, ema):
    loop = Loop(tmp_path, steps=5, ema=ema)
    before = {}

    def forward(ids):
        if loop.state.step == 2:
            before.update(clone(loop.model))
            return loop.model(ids) * value
        return loop.model(ids)

    with pytest.raises(GlassformerError, match=r"^the loss became (nan|inf) at step 3; the weights were not touched"):
        loop.run(forward)
    assert all(torch.equal(parameter, before[name]) for name, parameter in loop.model.named_parameters())
    assert loop.state.step == 2


def test_the_rate_in_the_log_is_the_rate_of_the_optimiser(tmp_path):
    rows = [row for row in Loop(tmp_path, steps=5).run().log.rows() if "loss" in row]
    assert rows[0]["lr"] == pytest.approx(0.003)
    assert all(0 < later["lr"] < earlier["lr"] for earlier, later in itertools.pairwise(rows))
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5]
    assert rows[-1]["seconds_left"] == 0
    assert rows[-1]["tok_per_s"] == pytest.approx(5 * 16 / rows[-1]["seconds"], rel=1e-6)
    assert rows[-1]["loss"] < rows[0]["loss"]


# The log


def test_a_last_line_that_was_cut_is_left_out_and_the_file_mended(tmp_path):
    log = Log(tmp_path / "log.jsonl")
    for step in (1, 2, 3):
        log.write({"step": step, "loss": 1.0})
    with log.path.open("a") as file:
        file.write('{"step": 4, "lo')
    assert [row["step"] for row in log.rows()] == [1, 2, 3]
    log.resume(2)
    assert [json.loads(line)["step"] for line in log.path.read_text().splitlines()] == [1, 2]
    log.write({"step": 3})
    assert [row["step"] for row in log.rows()] == [1, 2, 3]


def test_a_log_that_is_not_there_is_empty(tmp_path):
    assert Log(tmp_path / "log.jsonl").rows() == []


# The compiler


@pytest.fixture
def model():
    return build_model(ModelConfig.parse(FIELDS))


def never(model):
    raise RuntimeError("Dynamo is not supported on this Python\nwith more lines")


def later(model):
    def call(**inputs):
        raise RuntimeError("no C++ compiler found")

    return call


@pytest.mark.parametrize(("compiler", "reason"), [(never, "on this Python"), (later, "no C\\+\\+ compiler found")])
def test_where_nothing_can_be_compiled_the_plain_model_goes_on_with_one_sentence(model, monkeypatch, compiler, reason):
    monkeypatch.setattr(torch, "compile", compiler)
    notes = Notes()
    forward = compiled(model, "yes", notes.note)
    ids = torch.arange(8)[None]
    for _ in range(3):
        assert torch.equal(forward(ids=ids), model(ids))
    assert len(notes.notes) == 2  # that it begins, and how it ended
    assert notes.notes[1].startswith("torch.compile cannot be used here (")
    assert notes.notes[1].endswith("); going on without it")
    assert reason.replace("\\", "") in notes.notes[1]


def test_what_can_be_compiled_is_compiled_once(model, monkeypatch):
    calls = []
    monkeypatch.setattr(torch, "compile", lambda module: calls.append(module) or (lambda **inputs: module(**inputs)))
    forward = compiled(model, "yes", Notes().note)
    for _ in range(3):
        forward(ids=torch.arange(8)[None])
    assert calls == [model]


def test_an_error_of_the_model_itself_is_not_taken_for_the_compilers(model, monkeypatch):
    monkeypatch.setattr(torch, "compile", later)
    forward = compiled(model, "yes", Notes().note)
    with pytest.raises(IndexError):
        forward(ids=torch.tensor([[99]]))


def test_without_compiling_the_model_itself_is_called(model):
    assert compiled(model, "no", lambda _: pytest.fail("was told something")) is model
