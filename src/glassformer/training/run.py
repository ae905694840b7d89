"""A whole training run in its folder: from wishes to a recipe, from sources to `best` and `final`, resumable at any step."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import torch

from glassformer.checkpoints.save import SOURCE
from glassformer.config import set_dotted
from glassformer.data.detect import detect_task
from glassformer.data.documents import counted
from glassformer.errors import CheckpointError, ConfigError
from glassformer.evaluate import Score
from glassformer.files import whole_file
from glassformer.generate.reading import is_framed
from glassformer.models import preset
from glassformer.tokenizers import Tokenizer, load_tokenizer, train_tokenizer
from glassformer.tokenizers.roles import MASK, START
from glassformer.training.decide import (
    Decisions,
    Pace,
    choose_loop,
    choose_steps,
    finish_model,
    follow_paper,
    guessed_seconds,
    take_preset,
)
from glassformer.training.film import check_film
from glassformer.training.lock import locked
from glassformer.training.log import Screen
from glassformer.training.loggers import check_loggers
from glassformer.training.machine import choose_device, keep_freed_memory, set_threads
from glassformer.training.plan.budget import Budget, spend
from glassformer.training.plan.timing import timed
from glassformer.training.recipe import DataRecipe, Recipe, TokenizerRecipe
from glassformer.training.resume import RECIPE, read_earlier
from glassformer.training.sitting import Sitting
from glassformer.training.start import follow_start
from glassformer.training.tasks import TASKS, Task, Vocabularies
from glassformer.training.tasks.utterances import Utterances
from glassformer.training.topology import ALONE, Topology
from glassformer.training.unheeded import refuse_idle, refuse_unread
from glassformer.training.wishes import check_wishes

TOKENIZER, SOURCE_TOKENIZER = "tokenizer", "source_tokenizer"


class Ready(NamedTuple):
    """A run about which all is decided, and nothing written."""

    recipe: Recipe
    task: Task  # whose data are in tokens
    device: torch.device
    goes_on: bool  # whether it stands in its folder already


class Trained(NamedTuple):
    """What a run came to: the score of its final model, and the task, which knows what may be done with it."""

    score: Score
    task: Task


def train_run(
    wishes: Mapping[str, Any],
    folder: Path,
    *,
    minutes: float,
    screen: Screen,
    topology: Topology = ALONE,
    allow_changed: bool = False,
    budget: Budget | None = None,
) -> Trained:
    """Train into `folder`, or go on with the run that stands there.

    `wishes`: any part of a Recipe as nested mappings; what is missing is decided. `allow_changed`: go on also where recipe,
    files or tokenizer are no longer those of the checkpoint. `budget`: the time for all, in which the size is chosen too;
    `minutes` counts no more then. Raises the children of GlassformerError; Interrupted when
    stopped by Ctrl-C or SIGTERM, with the state saved.
    """
    folder = folder.resolve()
    with ExitStack() as held:
        if not topology.is_first:
            topology.barrier()  # what the first decides is read from the folder
        if (folder / RECIPE).exists() and topology.is_first:
            held.enter_context(locked(folder))
        recipe, task, device, goes_on = make_ready(
            wishes, folder, minutes, screen, topology, allow_changed=allow_changed, budget=budget
        )
        if topology.is_first and not goes_on:
            held.enter_context(locked(folder))
            if (folder / RECIPE).exists():
                raise CheckpointError(f"{folder}: another run has begun here meanwhile; choose another --out-dir")
            keep_vocabularies(task.vocabularies, folder)
        if topology.is_first and (not goes_on or allow_changed):
            with whole_file(folder / RECIPE) as path:
                path.write_text(recipe.yaml(), encoding="utf-8")
        if topology.is_first:
            topology.barrier()
        task.begin(recipe)
        if topology.is_first:
            tell_skipped(task, folder, screen)
        sitting = Sitting(recipe, task, folder, device, screen, topology, allow_changed=allow_changed)
        return Trained(sitting.train(), task)


def make_ready(
    wishes: Mapping[str, Any],
    folder: Path,
    minutes: float,
    screen: Screen,
    topology: Topology = ALONE,
    *,
    allow_changed: bool = False,
    budget: Budget | None = None,
) -> Ready:
    """All that is decided and looked at before anything is written, to train or to plan. Raises what `train_run` raises for
    wishes, files or a folder with which no run can begin."""
    asked = check_wishes(wishes)
    if not 0 < minutes < math.inf:
        raise ConfigError(f"minutes={minutes} is out of range: expected more than 0")
    if (folder / "final").exists():
        raise CheckpointError(f"{folder} holds a finished run; choose another --out-dir, or delete it to train anew")
    earlier = read_earlier(folder, asked, allow_changed)
    loop = (earlier or asked).get("loop") or {}
    check_loggers(loop.get("loggers"))
    device = choose_device(loop.get("device") or "auto")
    set_threads(loop.get("threads"))
    keep_freed_memory()
    recipe, task = prepare(earlier or asked, folder if earlier else None, minutes, device, screen, budget)
    topology.refuse(recipe, task)
    if not earlier:
        check_film(recipe, task)
    if isinstance(task, Utterances) and recipe.features is not None and recipe.augment is not None:
        task.listen(recipe.features).read_noise(recipe.augment)
    return Ready(recipe, task, device, earlier is not None)


def prepare(
    asked: Mapping[str, Any],
    folder: Path | None,
    minutes: float,
    device: torch.device,
    screen: Screen,
    budget: Budget | None = None,
) -> tuple[Recipe, Task]:
    """The complete recipe, and its task with the data in tokens. `folder`: of the run whose recipe is asked for, if any."""
    data = DataRecipe.parse(asked.get("data") or {}, "data")
    decisions = Decisions(copy.deepcopy(dict(asked)))
    set_dotted(decisions.wishes, "data", data.model_dump(mode="json"))
    if decisions.get("task") is None:
        choose_task(decisions, data)
    if folder is None:
        refuse_unread(asked, decisions.get("task"))
        refuse_idle(asked, decisions)
    task = TASKS[decisions.get("task")](data)
    for note in task.notes:
        screen.note(note)
    if folder is None:
        recipe = decide(decisions, task, minutes, device, screen, budget)
        refuse_idle(asked, decisions)  # now that the rest is decided too
        return recipe, task
    task.encode(kept_vocabularies(folder))
    return Recipe.parse(asked, str(folder / RECIPE)), task


def decide(
    decisions: Decisions, task: Task, minutes: float, device: torch.device, screen: Screen, budget: Budget | None = None
) -> Recipe:
    """Fill the user's wishes up to a complete recipe, telling each choice."""
    decisions.put("seed", decisions.get("seed") or 0)
    choose_shape(decisions, task)
    follow_start(decisions, screen)
    task.choose_tokenizer(decisions)
    tokenizer = TokenizerRecipe.parse(decisions.get("tokenizer"), "tokenizer")
    refuse_two_vocabularies(decisions)
    vocabularies = make_vocabularies(tokenizer, task)
    task.encode(vocabularies)
    vocab_size = vocabularies.target.vocab_size
    set_dotted(decisions.wishes, "tokenizer", tokenizer.model_dump(mode="json"))
    if tokenizer.path is not None:
        decisions.put("tokenizer.kind", vocabularies.target.kind)
        decisions.put("tokenizer.vocab_size", vocab_size)
    elif vocabularies.are_one:  # two have sizes of their own, which the same texts will give again
        decisions.choose("tokenizer.vocab_size", vocab_size, "what the training text supports")
    take_preset(decisions, vocab_size)
    follow_paper(decisions)
    if budget is not None:
        minutes = spend(budget, decisions, task, device, lambda tried: trial_of(tried, task, vocab_size))
    trial = trial_of(decisions, task, vocab_size)
    chosen = budget.chosen if budget is not None else None
    seconds = chosen.seconds_per_step if chosen is not None else None
    pace = Pace(
        1 / max(task.epoch(1), 1e-9), task.most_epochs, lambda: seconds or seconds_per_step(trial, task, device)
    )
    steps = choose_steps(decisions, minutes, pace)
    if budget is not None:
        budget.choose_evaluations(decisions, steps)
    choose_loop(decisions, steps, guessed_seconds(trial.model, task.batch(0).n_tokens, steps), task.rates)
    if decisions.choices:
        screen.note("decided for you (override by flag or --set KEY=VALUE):")
        screen.choices(decisions.choices)
    if budget is not None and budget.spending is not None:
        screen.note(budget.spending.promise())
    return Recipe.parse(decisions.wishes, "recipe")


def trial_of(decisions: Decisions, task: Task, vocab_size: int) -> Recipe:
    """Decide on model and batch; a recipe that is complete but for the length of the run, which `task` begins, since only
    the task knows how its batches come about."""
    task.choose_sizes(decisions)
    decisions.put("model", finish_model(decisions, vocab_size).model_dump(mode="json"))
    task.choose_batch(decisions)
    check_portions(decisions)
    trial = copy.deepcopy(decisions.wishes)
    for key in ("steps", "eval_every", "sample_every", "save_every"):
        trial["loop"][key] = trial["loop"].get(key) or 1
    trial.setdefault("optimiser", {})
    recipe = Recipe.parse(trial, "recipe")
    task.begin(recipe)
    return recipe


def choose_task(decisions: Decisions, data: DataRecipe) -> None:
    """The task that the data seem to be made for; plain text serves an encoder too, where one is asked for."""
    found = detect_task(data.sources, name_pattern=data.name_pattern)
    if found.task == "text" and asked_shape(decisions)[0] == "encoder":
        decisions.choose("task", "fill", "an encoder learns from plain text by filling in what is hidden")
    else:
        decisions.choose("task", found.task, found.reason)


def asked_shape(decisions: Decisions) -> tuple[str | None, str]:
    """The shape that the user asked for, by name or by that of a preset, and how."""
    shape, name = decisions.get("model.shape"), decisions.get("preset")
    if shape is None and name is not None:
        shape = preset(name).get("shape")
        return shape, f"the preset {name}, of shape {shape!r},"
    return shape, f"model.shape={shape!r}"


def choose_shape(decisions: Decisions, task: Task) -> None:
    """Preset and shape of the model. Raises ConfigError for a shape that the task cannot train."""
    task_name, (shape, named) = decisions.get("task"), asked_shape(decisions)
    decisions.choose("preset", *task.preset)
    if shape not in (None, *task.shapes):
        expected = " or ".join(task.shapes)
        raise ConfigError(f"{named} cannot be trained to {task_name}: expected {expected}; --task names another task")
    decisions.put("model.shape", shape or task.shapes[0])


def check_portions(decisions: Decisions) -> None:
    """Raise ConfigError where a step does not divide into its portions."""
    batch, portions = decisions.get("loop.batch_size"), int(decisions.get("loop.grad_accum") or 1)
    if batch is not None and int(batch) % portions:
        raise ConfigError(f"loop.batch_size={batch} does not divide into loop.grad_accum={portions} portions")


def refuse_two_vocabularies(decisions: Decisions) -> None:
    """Raise ConfigError where source and target were to have vocabularies of their own in a model that has one for all."""
    task, shape = decisions.get("task"), decisions.get("model.shape")
    if decisions.get("tokenizer.shared") is False and (task, shape) != ("translate", "encoder_decoder"):
        raise ConfigError(
            f"tokenizer.shared=false gives source and target a vocabulary each, as in an encoder-decoder that translates: "
            f"the task {task} on shape={shape!r} has one for all; leave it out"
        )


def make_vocabularies(recipe: TokenizerRecipe, task: Task) -> Vocabularies:
    """The tokenizers of a path, or new ones trained on the training text. Raises ConfigError where one does not fit."""
    if recipe.path is not None:
        known = known_tokenizer(Path(recipe.path), task)
        if recipe.vocab_size not in (None, known.vocab_size):
            found = f"{recipe.path} holds a tokenizer of {known.vocab_size:,} tokens, not of {recipe.vocab_size:,}"
            raise ConfigError(f"{found}; leave out --vocab-size, or train a tokenizer instead of naming one")
        if recipe.shared:
            return Vocabularies(known, known)
        if not (Path(recipe.path) / SOURCE).is_dir():
            raise ConfigError(
                f"{recipe.path}: holds no folder {SOURCE!r} with a tokenizer for the sources; leave out tokenizer.shared=false"
            )
        return Vocabularies(known_tokenizer(Path(recipe.path) / SOURCE, task), known)
    if recipe.shared:
        shared = new_tokenizer(recipe, task.texts(), task.specials)
        return Vocabularies(shared, shared)
    source = new_tokenizer(recipe, task.source_texts(), task.specials)
    return Vocabularies(source, new_tokenizer(recipe, task.target_texts(), task.specials))


def known_tokenizer(path: Path, task: Task) -> Tokenizer:
    """The tokenizer of a path. Raises ConfigError where it lacks a token that the task needs."""
    known = load_tokenizer(path)
    published = is_framed(known) and "encoder" in task.shapes  # it has its own ways to begin a text and to hide a token
    stands_in = {START: published, MASK: published and known.special.mask is not None}
    missing = [token for token in task.specials if token not in known.special_tokens and not stands_in.get(token)]
    if missing:
        raise ConfigError(f"{path}: lacks the special token {missing[0]}, which this task needs; train another")
    return known


def new_tokenizer(recipe: TokenizerRecipe, texts: Iterator[str], specials: tuple[str, ...]) -> Tokenizer:
    """A tokenizer trained on texts."""
    size, pattern = recipe.vocab_size, recipe.pattern
    return train_tokenizer(recipe.kind, texts, vocab_size=size, pattern=pattern, special_tokens=specials)


def keep_vocabularies(vocabularies: Vocabularies, folder: Path) -> None:
    """Save the tokenizers of a run in its folder."""
    vocabularies.target.save(folder / TOKENIZER)
    if not vocabularies.are_one:
        vocabularies.source.save(folder / SOURCE_TOKENIZER)


def kept_vocabularies(folder: Path) -> Vocabularies:
    """The tokenizers that a run in this folder began with."""
    target = load_tokenizer(folder / TOKENIZER)
    own = (folder / SOURCE_TOKENIZER).exists()
    return Vocabularies(load_tokenizer(folder / SOURCE_TOKENIZER) if own else target, target)


def tell_skipped(task: Task, folder: Path, screen: Screen) -> None:
    """List what was left out in the run folder, and say how much it is and where it begins."""
    if not task.skipped:
        return
    path = folder / "skipped.tsv"
    with whole_file(path) as draft:
        draft.write_text("".join(f"{row.where}\t{row.reason}\n" for row in task.skipped), encoding="utf-8")
    first = task.skipped[0]
    screen.note(
        f"left out {counted(len(task.skipped), 'row')}, the first {first.where} ({first.reason}); all are listed in {path}"
    )


def seconds_per_step(recipe: Recipe, task: Task, device: torch.device) -> float:
    """How long a step takes here: the best of four on a throw-away model."""
    return timed(recipe, task, device, 4, evaluating=False).best
