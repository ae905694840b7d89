"""Plans: bytes that can be counted are counted, what cannot is near what a run takes, and a budget is kept."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from glassformer import machine, train
from glassformer.errors import ConfigError
from glassformer.machine import Memory
from glassformer.models import PRESETS, build_model, count_parameters
from glassformer.training import Silence
from glassformer.training.optimisers import Optimisers
from glassformer.training.plan import budget as budget_room
from glassformer.training.plan import planning
from glassformer.training.plan.budget import Budget, Tried, best, passed_the_best, seconds_in
from glassformer.training.plan.expectation import CHARACTERS, PIECES, Reached, expected, worth
from glassformer.training.plan.memory import footprint, largest_batch, measure, standing_of
from glassformer.training.plan.planning import plan_run
from glassformer.training.plan.timing import Timing, timed
from glassformer.training.run import prepare
from running import SENTENCES, quick_settings

pytestmark = pytest.mark.usefixtures("swift")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("plan") / "words.txt"
    path.write_text(SENTENCES * 60)
    return path


def wishes(text, **more):
    from glassformer.config import set_dotted

    found: dict = {}
    for key, value in quick_settings(**{"data.sources": [str(text)], **more}).items():
        set_dotted(found, key, value)
    return found


def prepared(text, **more):
    recipe, task = prepare(wishes(text, **more), None, 1.0, CPU, Silence())
    task.begin(recipe)
    return recipe, task


@pytest.mark.parametrize("optimiser", ["muon", "adamw"])
@pytest.mark.parametrize("ema", [None, 0.9])
def test_what_follows_from_the_shapes_is_exact(text, tmp_path, optimiser, ema):
    more = {"optimiser.name": optimiser, "optimiser.ema": ema, "loop.save_every": 3, "loop.async_save": "no"}
    recipe, _ = prepared(text, **more)
    still = standing_of(recipe)
    model = build_model(recipe.model)
    states = [value for part in Optimisers(model, recipe.optimiser).parts for s in part.state for value in s.values()]
    assert still.parameters == count_parameters(model)
    assert still.weights == still.gradients == 4 * still.parameters
    assert still.optimiser == sum(value.nbytes for value in states)
    assert still.average == (0 if ema is None else still.weights)
    train(text, tmp_path / "run", **quick_settings(**more))
    (folder,) = (tmp_path / "run" / "checkpoints").iterdir()
    written = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    header = 20_000  # names and shapes
    assert still.checkpoint <= written <= still.checkpoint + header


@pytest.mark.parametrize("preset", [name for name in PRESETS if PRESETS[name].get("shape", "decoder") == "decoder"])
def test_sizes_are_found_without_memory_for_any_preset(text, preset):
    recipe, _ = prepared(text, preset=preset, **{"model.n_kv_heads": 2})
    assert standing_of(recipe).parameters == count_parameters(build_model(recipe.model))


def test_nothing_heavy_is_imported_to_find_sizes_without_memory(text):
    program = (
        "import sys; from pathlib import Path; from glassformer.training import Silence, Recipe\n"
        "from glassformer.training.plan.memory import standing_of\n"
        "from glassformer.training.recipe import *\n"
        "from glassformer.models import ModelConfig\n"
        "model = ModelConfig.parse({'vocab_size': 9, 'n_layers': 1, 'd_model': 8, 'n_heads': 2, 'max_len': 8})\n"
        "loop = LoopRecipe(steps=1, eval_every=1, sample_every=1, save_every=1, batch_size=1)\n"
        "recipe = Recipe(data=DataRecipe(sources='a'), tokenizer=TokenizerRecipe(), model=model,\n"
        "                optimiser=OptimiserRecipe(), loop=loop)\n"
        "standing_of(recipe)\n"
        "print([name for name in ('sympy', 'torch._dynamo', 'torch._inductor') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr


@pytest.mark.parametrize("recompute", [False, True])
def test_what_is_kept_grows_by_the_row_so_two_rows_tell_of_many(text, recompute):
    recipe, task = prepared(text, **{"loop.batch_size": 7, "loop.recompute": recompute})
    taken = footprint(recipe, task, CPU, None)
    assert taken.rows == 7
    if not recompute:
        whole = measure(build_model(recipe.model), task, recipe, largest_batch(task))
        assert taken.step(7).kept == pytest.approx(sum(whole.kept), rel=0.01)
        assert taken.step(7).logits == whole.logits == 7 * 16 * recipe.model.vocab_size * 4


def test_forgetful_blocks_keep_less(text):
    kept = []
    for recompute in (False, True):
        recipe, task = prepared(text, **{"loop.recompute": recompute, "model.n_layers": 3})
        kept.append(footprint(recipe, task, CPU, None).step(4).kept)
    assert kept[1] < 0.6 * kept[0]


def test_a_model_too_large_to_make_is_measured_on_shallower_ones(text):
    recipe, task = prepared(text, **{"model.n_layers": 5})
    whole, carried = footprint(recipe, task, CPU, None), footprint(recipe, task, CPU, 1000)
    assert (whole.carried, carried.carried) == (False, True)
    assert carried.step(4).kept == pytest.approx(whole.step(4).kept, rel=0.01)
    assert carried.standing == whole.standing


def test_a_plan_writes_nothing_and_is_what_training_decides(text, tmp_path):
    before = sorted(text.parent.rglob("*"))
    made = plan_run(wishes(text), tmp_path / "run", minutes=1, screen=Silence())
    assert list(tmp_path.iterdir()) == []
    assert sorted(text.parent.rglob("*")) == before
    train(text, tmp_path / "run", **quick_settings())
    from glassformer.training import Recipe

    assert Recipe.read(tmp_path / "run" / "recipe.yaml") == made.recipe


def test_the_disk_that_a_run_takes_is_what_was_planned(text, tmp_path):
    more = {"loop.save_every": 2, "loop.eval_every": 2, "film.every": 2, "film.probes": ["the cat"], "loop.keep": 1}
    made = plan_run(wishes(text, **more), tmp_path / "run", minutes=1, screen=Silence())
    train(text, tmp_path / "run", **quick_settings(**more))
    film = (tmp_path / "run" / "film.gff").stat().st_size if (tmp_path / "run" / "film.gff").exists() else None
    files = sum(file.stat().st_size for file in (tmp_path / "run").rglob("*.safetensors"))
    assert made.disk.kept == 1
    assert files <= made.disk.total
    assert film is None or made.disk.film <= film <= made.disk.film + 5000


@pytest.fixture
def cramped(monkeypatch):
    """A machine on which a run may take so many bytes beside what the process holds."""

    def limit(beside: int) -> None:
        def memory() -> Memory:
            process = machine.held() + planning.LATER
            return Memory(int((process + beside) / planning.ROOM - process), 1)

        monkeypatch.setattr(machine, "memory", memory)

    return limit


def test_what_does_not_fit_comes_with_changes_that_do(text, tmp_path, cramped):
    asked = wishes(text, **{"loop.batch_size": 64, "model.max_len": 64})
    cramped(3_000_000)
    made = plan_run(asked, tmp_path / "run", minutes=1, screen=Silence())
    assert not made.fits
    assert made.timing is None
    remedy = made.remedies[-1]
    assert remedy.fits
    assert set(remedy.settings) == {"loop.grad_accum"}
    assert 64 % remedy.settings["loop.grad_accum"] == 0
    cramped(3_500_000)
    again = wishes(text, **{"loop.batch_size": 64, "model.max_len": 64, **remedy.settings})
    fitting = plan_run(again, tmp_path / "run", minutes=1, screen=Silence())
    assert fitting.memory.activations < made.memory.activations


def test_remedies_go_from_the_cheapest_to_a_smaller_model(text, tmp_path, cramped, monkeypatch):
    asked = wishes(text, **{"loop.batch_size": 2, "model.max_len": 1024, "model.n_layers": 12})
    seen = []
    for room in (60_000_000, 22_000_000, 12_000_000, 1_000):
        cramped(room)
        made = plan_run(asked, tmp_path / "run", minutes=1, screen=Silence())
        assert made.fits == (room == 60_000_000)
        seen.append([set(remedy.settings) for remedy in made.remedies if remedy.fits])
        assert len(seen[-1]) <= 1
    assert seen == [[], [{"loop.grad_accum"}], [{"loop.recompute"}], []]
    monkeypatch.setattr("glassformer.training.tasks.text.TOKENS_PER_BATCH", 16)
    cramped(4_000_000)
    asked = wishes(text, **{"loop.batch_size": 2, "model.d_model": 64, "model.n_layers": 12})
    (remedy,) = [r for r in plan_run(asked, tmp_path / "run", minutes=1, screen=Silence()).remedies if r.fits]
    assert 0 < remedy.settings["model.n_layers"] < 12


PROGRAM = """
import json, resource, sys
from pathlib import Path
from glassformer.training import Silence
from glassformer.training.plan.planning import plan_run
made = plan_run(json.loads(sys.argv[1]), Path(sys.argv[2]), minutes=1, screen=Silence())
print(made.memory.peak)
"""


def predicted_and_measured(text, folder, **more):
    """The peak of a plan, and that of a real run, each in a process of its own."""
    asked = wishes(text, **more)
    environment = {name: value for name, value in os.environ.items() if name != "GLASSFORMER_KEEP_MEMORY"}
    told = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(asked), str(folder)], capture_output=True, text=True, env=environment
    )
    assert told.returncode == 0, told.stderr
    flags = [
        part
        for name, some in asked.items()
        if isinstance(some, dict) and name != "data"
        for key, value in some.items()
        for part in ("--set", f"{name}.{key}={value}")
    ]
    child = (
        "import resource, subprocess, sys\n"
        "done = subprocess.run([sys.executable, '-m', 'glassformer', 'train', *sys.argv[1:]], capture_output=True)\n"
        "print(done.returncode, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)"
    )
    done = subprocess.run(
        [sys.executable, "-c", child, str(text), *flags, "-o", str(folder)],
        capture_output=True,
        text=True,
        env=environment,
    )
    code, peak = map(int, done.stdout.split())
    assert code == 0, done.stderr
    return int(told.stdout), peak


WIDE = {"model.d_model": 64, "model.n_layers": 2, "model.n_heads": 2, "model.max_len": 64, "loop.steps": 3}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="what a process holds is read from /proc")
def test_the_memory_of_a_real_run_is_near_what_was_planned(text, tmp_path):
    small = predicted_and_measured(text, tmp_path / "small", **WIDE, **{"loop.batch_size": 8})
    large = predicted_and_measured(text, tmp_path / "large", **WIDE, **{"loop.batch_size": 256})
    print(
        f"planned {small[0] / 1e6:.0f} and {large[0] / 1e6:.0f} MB, measured {small[1] / 1e6:.0f} and {large[1] / 1e6:.0f}"
    )
    for planned, measured in (small, large):
        assert planned == pytest.approx(measured, rel=0.15)
    assert large[0] - small[0] == pytest.approx(large[1] - small[1], rel=0.25)


# Budgets.


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("90s", 90),
        ("20m", 1200),
        ("1h", 3600),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("2", 120),
        (" 3M ", 180),
        ("1d", 86400),
    ],
)
def test_times_are_read_as_people_write_them(said, seconds):
    assert seconds_in(said) == seconds


@pytest.mark.parametrize("said", ["", "soon", "1x", "h", "-5m", "1m 2", "0s", "5m!", "nan", "inf"])
def test_what_is_no_time_is_one_sentence(said):
    with pytest.raises(ConfigError, match="--budget"):
        seconds_in(said)


CURVES = [curve for fitted in (PIECES, CHARACTERS) for curve in (fitted.curve, *fitted.others)]
A_CURVE = st.sampled_from(CURVES)


@given(A_CURVE, st.floats(0.01, 100), st.floats(1e3, 1e9), st.floats(1e3, 1e9))
def test_more_numbers_or_more_text_are_never_expected_to_be_worse(curve, numbers, one, other):
    assert curve(numbers * 1e6, max(one, other)) <= curve(numbers * 1e6, min(one, other))
    assert curve(numbers * 2e6, one) <= curve(numbers * 1e6, one)


# From docs/plan.md: numbers in the blocks, tokens, loss, of tiny Shakespeare in characters and of novels in pieces.
MEASURED = {
    "characters": (1.0, 1_003_854, [(94592, 122880, 2.378), (402048, 491520, 1.751), (94592, 1474560, 1.686)]),
    "pieces": (3.6, 3_240_788, [(94592, 122880, 6.005), (804096, 368640, 5.221), (47296, 368640, 5.517)]),
}


@pytest.mark.parametrize("kind", MEASURED)
def test_from_the_shortest_run_the_curve_finds_the_others(kind):
    size, unique, ((numbers, tokens, loss), *others) = MEASURED[kind]
    reached = Reached(numbers, worth(tokens, unique), loss)
    for numbers, tokens, loss in others:
        found = expected(reached, numbers, tokens, unique, size, {})
        assert found.loss == pytest.approx(loss, abs=found.off)
        assert found.off < 0.3


@given(st.floats(1e3, 1e9), st.floats(1e3, 1e9))
def test_text_read_again_is_worth_something_and_never_more_than_new_text(text, unique):
    valued = worth(text, unique)
    assert 0 <= valued <= text * (1 + 1e-9)
    assert valued == pytest.approx(text) if text <= unique else valued >= unique * (1 - 1e-9)
    assert worth(2 * text, unique) >= valued * (1 - 1e-9)


@given(A_CURVE, st.floats(1e4, 1e8), st.floats(1e4, 1e8), st.floats(0.5, 8))
def test_a_moved_curve_goes_through_the_run_that_moved_it(curve, numbers, text, loss):
    moved = curve.through(Reached(numbers, text, loss))
    assert moved(numbers, text) == pytest.approx(loss)
    assert dataclasses.replace(moved, floor=curve.floor) == curve


def tried(bits, steps=100, epochs=1.0, width=64):
    return Tried(2, width, 1000, 0.1, 10.0, steps, 1e5, epochs, 5, bits)


def test_the_size_with_the_least_expected_loss_is_chosen():
    sizes = [tried(2.0, width=64), tried(1.8, width=128), tried(1.9, width=256), tried(1.85, width=384)]
    assert best(sizes).width == 128
    assert not any(passed_the_best(sizes[:n]) for n in (1, 2, 3))
    assert passed_the_best(sizes)
    hasty = tried(1.0, steps=budget_room.FEWEST_STEPS - 1, width=128)
    assert passed_the_best([tried(2.0), hasty])
    assert best([tried(2.0), hasty]).width == 64
    assert best([hasty]) is hasty  # and is refused


def test_without_a_curve_it_is_the_largest_that_passes_often_enough():
    sizes = [tried(None, epochs=9, width=64), tried(None, epochs=4, width=128), tried(None, epochs=2, width=256)]
    assert best(sizes).width == 128
    assert best(sizes[2:]).width == 256
    assert passed_the_best(sizes)


@pytest.fixture
def paced(monkeypatch):
    """A machine whose steps take a thousandth of a second for every so many numbers, without taking them."""

    def set_pace(numbers_per_millisecond: float) -> None:
        def pretend(recipe, task, device, steps, **more):
            seconds = standing_of(recipe).parameters / numbers_per_millisecond / 1000
            tokens = task.batch(0).n_tokens
            return Timing((seconds,) * steps, (tokens,) * steps, seconds / 3 / tokens)

        monkeypatch.setattr(budget_room, "timed", pretend)
        monkeypatch.setattr(budget_room, "short_trial", lambda look, *more: Reached(look.numbers, 1e5, 3.0))

    return set_pace


def choose(text, seconds, **more):
    asked = wishes(
        text, **{"loop.steps": None, "model.d_model": None, "model.n_layers": None, "model.n_heads": None, **more}
    )
    spent = Budget(seconds, time.monotonic())
    recipe, _ = prepare(asked, None, 5.0, CPU, Silence(), spent)
    assert spent.spending is not None
    return recipe, spent.spending


def test_more_time_never_gets_a_smaller_model(text, paced, monkeypatch):
    monkeypatch.setattr("glassformer.training.tasks.text.Text.most_epochs", 10**6)
    paced(3000)
    widths = [choose(text, seconds)[1].chosen for seconds in (30, 300, 3000, 30000)]
    rank = [f"{n} x {d}" for n, d in budget_room.LADDER]
    assert [rank.index(name) for name in widths] == sorted(rank.index(name) for name in widths)
    assert widths[0] != widths[-1]


def test_the_parts_of_a_budget_fit_into_it(text, paced):
    paced(20000)
    recipe, spent = choose(text, 60)
    assert spent.preparing + spent.stepping + spent.evaluating <= 60
    assert recipe.loop.steps * next(t for t in spent.tried if t.name == spent.chosen).seconds_per_step == pytest.approx(
        spent.stepping, rel=0.05
    )
    assert spent.expectation is not None
    assert spent.expectation.loss > 0
    assert spent.expectation.off >= CHARACTERS.residual
    assert dict(spent.expectation.sizes)[spent.chosen] == pytest.approx(spent.expectation.loss)
    assert f"{spent.expectation.loss:.2f}" in str(spent.expectation)


def test_what_was_asked_for_is_not_chosen_by_a_budget(text, paced):
    paced(20000)
    recipe, spent = choose(text, 60, **{"model.n_layers": 3, "model.d_model": 32})
    assert (recipe.model.n_layers, recipe.model.d_model) == (3, 32)
    assert [one.name for one in spent.tried] == ["3 x 32"]
    recipe, _ = choose(text, 60, **{"model.n_layers": 3})
    assert recipe.model.n_layers == 3


def test_steps_and_a_budget_exclude_each_other(text):
    with pytest.raises(ConfigError, match=r"loop.steps=6 says how long to train, and so does --budget"):
        prepare(wishes(text), None, 5.0, CPU, Silence(), Budget(60, time.monotonic()))


def test_a_budget_too_short_for_anything_says_so(text, paced):
    paced(1)
    with pytest.raises(ConfigError, match="give more time"):
        choose(text, 5)


def test_minutes_and_a_budget_find_steps_the_same_way(text, paced):
    """A budget leaves minutes for steps, and from there on both go through `choose_steps`."""
    paced(20000)
    recipe, spent = choose(text, 60, **{"model.n_layers": 1, "model.d_model": 16, "model.n_heads": 2})
    (one,) = spent.tried
    assert recipe.loop.steps == max(20, min(int(one.seconds / one.seconds_per_step), one.steps))


def test_steps_are_measured_until_there_is_no_time(text):
    recipe, task = prepared(text)
    assert len(timed(recipe, task, CPU, 5).seconds) == 5
    found = timed(recipe, task, CPU, 1000, at_most=0.0, least=2)
    assert len(found.seconds) == 2
    assert found.best <= found.usual
    assert found.tokens == (64, 64)
    assert found.asking > 0


def test_measuring_leaves_the_random_state_as_it_was(text):
    recipe, task = prepared(text, **{"model.dropout": 0.1})
    before = torch.get_rng_state()
    timed(recipe, task, CPU, 2)
    footprint(recipe, task, CPU, None)
    assert torch.equal(before, torch.get_rng_state())
