"""A whole training run in its folder: from sources to `best` and `final`, resumable at any step."""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from glassformer.checkpoints import save_model
from glassformer.config import set_dotted
from glassformer.data import IGNORED, TokenWindows, evaluation_windows
from glassformer.errors import CheckpointError, ConfigError
from glassformer.evaluate import Score, evaluate
from glassformer.files import DiskError, explained, whole_file
from glassformer.generate import Generation, Sampling, generate_text
from glassformer.models import Decoder, build_model, count_parameters
from glassformer.tokenizers import load_tokenizer
from glassformer.training.checkpoint import Checkpoints, State, clone, restore
from glassformer.training.compile import compiled
from glassformer.training.decide import Decisions, choose_loop, choose_model, choose_tokenizer
from glassformer.training.log import Log, Screen
from glassformer.training.loop import Services, averaged, train_loop
from glassformer.training.machine import choose_device, set_threads, stop_signals
from glassformer.training.material import Material, make_tokenizer, read_and_split, tokenize
from glassformer.training.optimisers import Optimisers
from glassformer.training.plot import save_png, terminal_plot
from glassformer.training.recipe import DataRecipe, Recipe, TokenizerRecipe
from glassformer.training.resume import RECIPE, read_earlier
from glassformer.training.wishes import check_wishes

EVALUATION_TOKENS = 131_072  # of the validation text, while training; the end result is measured on all of it


def train_run(wishes: Mapping[str, Any], folder: Path, *, minutes: float, screen: Screen) -> Score:
    """Train into `folder`, or go on with the run that stands there. Returns the score of the final model.

    `wishes`: any part of a Recipe as nested mappings; what is missing is decided. Raises the children of GlassformerError;
    Interrupted when stopped by Ctrl-C or SIGTERM, with the state saved.
    """
    asked = check_wishes(wishes)
    if not 0 < minutes < math.inf:
        raise ConfigError(f"minutes={minutes} is out of range: expected more than 0")
    folder = folder.resolve()
    if (folder / "final").exists():
        raise CheckpointError(f"{folder} holds a finished run; choose another --out-dir, or delete it to train anew")
    earlier = read_earlier(folder, asked)
    loop = (earlier or asked).get("loop") or {}
    device = choose_device(loop.get("device") or "auto")
    set_threads(loop.get("threads"))

    data = DataRecipe.parse((earlier or asked).get("data") or {}, "data")
    corpus, parts = read_and_split(data)
    for note in (*corpus.notes, parts.note):
        screen.note(note)
    if earlier:
        recipe = Recipe.parse(earlier, str(folder / RECIPE))
        material = tokenize(parts, load_tokenizer(folder / "tokenizer"))
    else:
        decisions = Decisions(copy.deepcopy(asked))
        set_dotted(decisions.wishes, "data", data.model_dump(mode="json"))
        choose_tokenizer(decisions, corpus.n_bytes)
        tokenizer_recipe = TokenizerRecipe.parse(decisions.get("tokenizer"), "tokenizer")
        material = tokenize(parts, make_tokenizer(tokenizer_recipe, parts))
        recipe = decide(decisions, tokenizer_recipe, material, minutes, device, screen)
        with explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
        material.tokenizer.save(folder / "tokenizer")
        with whole_file(folder / RECIPE) as path:
            path.write_text(recipe.yaml(), encoding="utf-8")
    return run_recipe(recipe, material, folder, device, screen)


def run_recipe(recipe: Recipe, material: Material, folder: Path, device: torch.device, screen: Screen) -> Score:
    """Build or restore the model, train it, and leave `best`, `final` and the plots."""
    model = build_model(recipe.model, recipe.seed).to(device)
    optimisers = Optimisers(model, recipe.optimiser)
    average = clone(model) if recipe.optimiser.ema is not None else None
    log = Log(folder / "log.jsonl")
    checkpoints = Checkpoints(folder / "checkpoints", recipe.loop.keep)
    identity = hashlib.sha256((material.fingerprint + recipe.yaml()).encode()).hexdigest()
    state = State()
    checkpoints.sweep()
    sound = checkpoints.newest_sound(screen.note)
    if sound is not None:
        state = restore(sound, model, optimisers, average, identity)
        screen.note(f"going on from step {state.step:,} of {recipe.loop.steps:,}")
    log.resume(state.step)
    screen.note(
        f"training {count_parameters(model):,} parameters for {recipe.loop.steps:,} steps of "
        f"{recipe.loop.batch_size * recipe.model.max_len:,} tokens on {device.type}, into {folder}"
    )
    inputs, targets = evaluation_windows(material.validation, recipe.model.max_len)
    some = np.linspace(0, len(inputs) - 1, min(len(inputs), max(1, EVALUATION_TOKENS // inputs.shape[1]))).astype(int)
    whole = len(some) == len(inputs)
    measured: dict[int, Score] = {}  # by step, so that the last evaluation, if of the whole text, is also the result

    def measure(rows: Any) -> Score:
        share = (targets[rows] != IGNORED).sum() / (targets != IGNORED).sum()
        with averaged(model, average):
            score = evaluate(model, inputs[rows], targets[rows], round(material.validation_bytes * share))
        if whole:
            measured[state.step] = score
        return score

    def save(name: str, score: Score) -> None:
        with averaged(model, average):
            save_model(
                folder / name,
                model,
                material.tokenizer,
                generation={"temperature": 0.8, "do_sample": True},
                card=results(recipe, score, state),
            )

    with stop_signals() as stop_requested, torch.random.fork_rng(devices=[]):
        services = Services(
            evaluate=lambda: measure(some),
            sample=lambda: sample(model, material, recipe, folder, state),
            save_checkpoint=saver(checkpoints, model, optimisers, average, identity, screen),
            save_best=lambda score: save("best", score),
            stop_requested=stop_requested,
            log=log,
            screen=screen,
        )
        windows = TokenWindows(material.train, recipe.model.max_len, recipe.seed)
        forward = compiled(model, recipe.loop.compile, screen.note)
        try:
            train_loop(model, forward, optimisers, windows, recipe, state, average, services)
        finally:
            screen.end()
    score = measured[state.step] if state.step in measured else measure(slice(None))
    save("final", score)
    finish(folder, log, score, state, screen)
    return score


def finish(folder: Path, log: Log, score: Score, state: State, screen: Screen) -> None:
    """Draw the plots and say what came out and what to do next."""
    save_png(log.rows(), folder / "plots" / "loss.png", folder.name)
    screen.note(terminal_plot(log.rows()))
    screen.note(
        f"done in {state.seconds:.0f} s: validation loss {score.loss:.4f}, perplexity {score.perplexity:.2f}, "
        f"{score.bits_per_byte:.3f} bits per byte over {score.n_tokens:,} tokens"
    )
    if state.best_loss is not None and state.best_step != 0 and state.worse:
        screen.note(f"the best model is that of step {state.best_step:,}: {folder / 'best'}")


def decide(
    decisions: Decisions,
    tokenizer: TokenizerRecipe,
    material: Material,
    minutes: float,
    device: torch.device,
    screen: Screen,
) -> Recipe:
    """Fill the user's wishes up to a complete recipe, telling each choice."""
    vocab_size = material.tokenizer.vocab_size
    set_dotted(decisions.wishes, "tokenizer", tokenizer.model_dump(mode="json"))
    if tokenizer.path is None:
        decisions.choose("tokenizer.vocab_size", vocab_size, "what the training text supports")
    config = choose_model(decisions, len(material.train), vocab_size)
    choose_loop(decisions, config, len(material.train), minutes, device)
    set_dotted(decisions.wishes, "model", config.model_dump(mode="json"))
    if decisions.choices:
        screen.note("decided for you (override by flag or --set KEY=VALUE):")
        screen.choices(decisions.choices)
    return Recipe.parse(decisions.wishes, "recipe")


def sample(model: Decoder, material: Material, recipe: Recipe, folder: Path, state: State) -> str:
    """A short completion, also kept in the run's `samples`."""
    prompt = recipe.loop.sample_prompt
    if prompt is None:
        prompt = material.tokenizer.decode(material.validation[: max(1, min(16, recipe.model.max_len // 4))].tolist())
    generation = Generation(max_new_tokens=60, sampling=Sampling(temperature=0.8), seed=recipe.seed)
    model.eval()
    text = prompt + generate_text(model, material.tokenizer, [prompt], generation=generation)[0].text
    with whole_file(folder / "samples" / f"step-{state.step:08d}.txt") as path:
        path.write_text(text, encoding="utf-8")
    return text


def saver(
    checkpoints: Checkpoints,
    model: Decoder,
    optimisers: Optimisers,
    average: dict[str, Tensor] | None,
    identity: str,
    screen: Screen,
) -> Callable[[State], bool]:
    """Saving that says so and goes on when the disk refuses: the last good checkpoint stays, and the next may succeed."""

    def save(state: State) -> bool:
        try:
            checkpoints.save(model, optimisers, average, state, identity)
        except DiskError as error:
            screen.note(f"checkpoint not saved: {error}")
            return False
        return True

    return save


def results(recipe: Recipe, score: Score, state: State) -> str:
    """The paragraph of a model card that tells how the model came about and what it reached."""
    return (
        f"Trained from scratch for {state.step:,} steps of {recipe.loop.batch_size * recipe.model.max_len:,} tokens on "
        f"{', '.join(recipe.data.sources)}.\n\nValidation loss {score.loss:.4f} nats per token (perplexity "
        f"{score.perplexity:.2f}, {score.bits_per_byte:.3f} bits per byte) over {score.n_tokens:,} tokens."
    )
