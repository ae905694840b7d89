"""What counts as a hang: the watchdog by a clock of the test's own, and what a sitting tells it."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from glassformer import train
from glassformer.files import DiskError
from glassformer.models import ModelConfig, build_model
from glassformer.training import sitting as sitting_room
from glassformer.training.checkpoint import Checkpoints, Snapshot
from glassformer.training.sitting import Sitting
from glassformer.training.tasks.text import Text
from glassformer.training.topology import Alone
from glassformer.training.watchdog import (
    EVALUATION,
    FEWEST,
    FIRST_TIMES,
    IDLE,
    SAVE,
    SPINNING,
    STEP,
    TIMES,
    WAIT,
    Watchdog,
    stacks_file,
)
from running import SENTENCES, quick_settings

LEAST, PAUSE = 120.0, 5.0


class Clocked:
    """A watchdog, and a machine on which time passes when it is told to."""

    def __init__(self, folder) -> None:
        self.now = self.computed = 0.0
        self.dog = Watchdog(folder / "stacks.txt", LEAST, lambda: self.now, lambda: self.computed)

    def take(self, seconds: float, kind: str, times: int = 1) -> None:
        """What is under way takes so long, so many times."""
        for _ in range(times):
            self.now += seconds
            self.dog.alive() if kind == STEP else self.dog.sign(kind)

    def barks_after(self, computing: float = 0.0, most: float = 1e6) -> float:
        """Seconds until it would bark, while the process computes for a share of the time."""
        began, look = self.now, self.dog.first_look()
        while not self.dog.is_hung(look):
            assert self.now - began < most
            self.now += PAUSE
            self.computed += computing * PAUSE
            look = self.dog.look(look, PAUSE)
        return self.now - began


@pytest.fixture
def clocked(tmp_path):
    return Clocked(tmp_path)


def test_until_some_steps_are_known_thirty_times_the_least_is_allowed(clocked):
    clocked.take(1.0, STEP, FEWEST - 1)
    assert clocked.dog.limit(STEP) == FIRST_TIMES * LEAST
    clocked.take(1.0, STEP)
    assert clocked.dog.limit(STEP) == LEAST


def test_a_step_may_take_ten_times_the_median_and_anything_else_ten_times_the_longest(clocked):
    clocked.take(400.0, STEP)  # which compiled
    clocked.take(20.0, STEP, FEWEST)
    assert clocked.dog.limit(STEP) == TIMES * 20
    with clocked.dog.busy(EVALUATION):
        for seconds in (1.0, 31.0, 2.0, 1.0, 1.0):
            clocked.take(seconds, EVALUATION)
        assert clocked.dog.limit(EVALUATION) == TIMES * 31


def test_batches_of_an_evaluation_are_signs_so_that_all_of_it_may_take_any_time(clocked):
    model = nn.Linear(2, 2)
    with clocked.dog.following(model, EVALUATION):
        for _ in range(100):
            clocked.now += 50
            model(torch.ones(1, 2))
            assert clocked.dog.under_way == (EVALUATION, clocked.now)
    assert clocked.dog.longest[EVALUATION] == 50
    assert clocked.dog.under_way.kind == STEP
    assert not model._forward_hooks


def test_who_waits_is_ended_and_who_computes_has_ten_times_as_long(clocked):
    clocked.take(1.0, STEP, FEWEST)
    assert LEAST < clocked.barks_after() <= LEAST + 2 * PAUSE
    clocked.take(1.0, STEP)
    assert LEAST < clocked.barks_after(computing=IDLE / 2) <= LEAST + 2 * PAUSE
    clocked.take(1.0, STEP)
    assert SPINNING * LEAST < clocked.barks_after(computing=0.5) <= SPINNING * LEAST + 2 * PAUSE


def test_seconds_in_which_the_whole_process_was_stopped_do_not_count(clocked):
    clocked.take(1.0, STEP, FEWEST)
    look = clocked.dog.first_look()
    clocked.now += 100 * LEAST
    look = clocked.dog.look(look, PAUSE)
    assert look.waited <= 2 * PAUSE


def test_what_has_just_begun_is_not_charged_for_what_came_before(clocked):
    clocked.take(1.0, STEP, FEWEST)
    look = clocked.dog.first_look()
    for _ in range(20):
        clocked.now += PAUSE
        look = clocked.dog.look(look, PAUSE)
    with clocked.dog.busy(SAVE):
        clocked.now += PAUSE / 2
        assert clocked.dog.look(look, PAUSE).spent == PAUSE / 2


def test_a_sign_of_what_is_not_under_way_counts_for_nothing(clocked):
    before = clocked.dog.under_way
    clocked.now += 10
    clocked.dog.sign(SAVE)  # of a save beside the training
    assert clocked.dog.under_way is before
    with clocked.dog.busy(SAVE):
        clocked.now += 10
        clocked.dog.sign(SAVE)
        assert clocked.dog.under_way == (SAVE, clocked.now)


def test_kind_and_beginning_are_never_of_two_things(tmp_path):
    dog = Watchdog(tmp_path / "stacks.txt", LEAST)
    dog.clock = iter(range(10**9)).__next__  # ever later, so that a beginning belongs to one kind
    over, seen = threading.Event(), {}

    def look() -> None:
        while not over.is_set():
            kind, began = dog.under_way
            assert seen.setdefault(began, kind) == kind

    watcher = threading.Thread(target=look)
    watcher.start()
    for _ in range(3000):
        with dog.busy(SAVE):
            pass
        dog.alive()
    over.set()
    watcher.join()


def test_without_a_least_time_nothing_is_watched(tmp_path):
    before = threading.active_count()
    with Watchdog(tmp_path / "stacks.txt", None).on_duty():
        assert threading.active_count() == before


def test_several_processes_write_stacks_of_their_own(tmp_path):
    assert stacks_file(tmp_path, 0, 1).name == "stacks.txt"
    assert [stacks_file(tmp_path, rank, 2).name for rank in (0, 1)] == ["stacks-0.txt", "stacks-1.txt"]


def test_evaluations_and_saves_are_watched_to_the_end_of_the_run(tmp_path, swift, monkeypatch):
    (tmp_path / "words.txt").write_text(SENTENCES * 20)
    dogs, seen = [], []

    class Seen(Watchdog):
        def __init__(self, *what) -> None:
            super().__init__(*what)
            dogs.append(self)

    def told(real, name):
        def act(*what, **more):
            seen.append((name, dogs[-1].under_way.kind, any(t.name == "watchdog" for t in threading.enumerate())))
            return real(*what, **more)

        return act

    monkeypatch.setattr(sitting_room, "Watchdog", Seen)
    monkeypatch.setattr(sitting_room, "save_model", told(sitting_room.save_model, "save"))
    monkeypatch.setattr(Text, "evaluate", told(Text.evaluate, "evaluate"))
    monkeypatch.setattr(Text, "measures_all", False)
    more = {"loop.eval_every": 3, "loop.save_every": 3, "loop.async_save": "yes"}
    train(tmp_path / "words.txt", tmp_path / "run", **quick_settings(**more))
    assert [name for name, *_ in seen][-2:] == ["evaluate", "save"]  # those of the end
    assert {name: kind for name, kind, _ in seen} == {"evaluate": EVALUATION, "save": SAVE}
    assert all(watched for *_, watched in seen)
    assert dogs[-1].known[EVALUATION] > 3  # batches, and not only evaluations
    assert dogs[-1].known[STEP] == 6


class Second(Alone):
    """The second process, which tells when it meets the first."""

    rank, world = 1, 2

    def __init__(self, dog: Watchdog) -> None:
        self.dog, self.met = dog, []

    def gather(self, model):
        return {}

    def barrier(self) -> None:
        self.met.append(self.dog.under_way.kind)


def test_others_wait_calmly_while_the_first_saves(tmp_path):
    dog = Watchdog(tmp_path / "stacks-1.txt", LEAST)
    topology = Second(dog)
    model = build_model(ModelConfig.parse({"vocab_size": 5, "max_len": 4, "d_model": 8, "n_layers": 1, "n_heads": 2}))
    other = Sitting.__new__(Sitting)
    vars(other).update(watchdog=dog, topology=topology, model=model, average=None)
    other.save("best", SimpleNamespace())
    assert topology.met == [WAIT]
    assert dog.limit(WAIT) >= 100 * LEAST
    assert not list(tmp_path.iterdir())


def test_a_save_that_fails_leaves_nobody_waiting(tmp_path, monkeypatch):
    dog = Watchdog(tmp_path / "stacks.txt", LEAST)
    topology = Second(dog)
    model = build_model(ModelConfig.parse({"vocab_size": 5, "max_len": 4, "d_model": 8, "n_layers": 1, "n_heads": 2}))
    first = Sitting.__new__(Sitting)
    vars(first).update(watchdog=dog, topology=topology, model=model, average=None)
    topology.world = topology.rank = 0
    topology.world = 1

    def full(*what) -> None:
        raise DiskError("the disk is full")

    monkeypatch.setattr(first, "write", full)
    with pytest.raises(DiskError):
        first.save("best", SimpleNamespace())
    assert topology.met == [SAVE]


def test_each_file_of_a_checkpoint_is_a_sign(tmp_path, swift):
    checkpoints, signs = Checkpoints(tmp_path / "run" / "checkpoints", 2), []
    checkpoints.sign = lambda: signs.append(1)
    checkpoints.write(Snapshot(1, {"model.safetensors": {}, "optimiser.safetensors": {}}, {"state.json": "{}"}))
    assert len(signs) == 2
