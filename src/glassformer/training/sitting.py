"""One sitting of a run: the model and all that training needs around it, from the newest checkpoint to the last step."""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from glassformer.checkpoints import save_model
from glassformer.data import IGNORED, TokenWindows, evaluation_windows
from glassformer.evaluate import Score, evaluate
from glassformer.files import DiskError, recover, whole_file
from glassformer.generate import Generation, Sampling, generate_text
from glassformer.models import build_model, count_parameters
from glassformer.training.checkpoint import Checkpoints, State, clone, restore
from glassformer.training.compile import compiled
from glassformer.training.log import Log, Screen
from glassformer.training.loop import Services, averaged, train_loop
from glassformer.training.machine import stop_signals
from glassformer.training.material import Material
from glassformer.training.optimisers import Optimisers
from glassformer.training.plot import save_png, terminal_plot
from glassformer.training.recipe import Recipe

EVALUATION_TOKENS = 131_072  # of the validation text, while training; the end result is measured on all of it
SAMPLE_TOKENS = 60


class Sitting:
    """What `train_loop` works on and the services it uses."""

    def __init__(self, recipe: Recipe, material: Material, folder: Path, device: torch.device, screen: Screen) -> None:
        self.recipe, self.material, self.folder, self.screen = recipe, material, folder, screen
        self.model = build_model(recipe.model, recipe.seed).to(device)
        self.optimisers = Optimisers(self.model, recipe.optimiser)
        self.average = clone(self.model) if recipe.optimiser.ema is not None else None
        self.log = Log(folder / "log.jsonl")
        self.checkpoints = Checkpoints(folder / "checkpoints", recipe.loop.keep)
        self.identity = hashlib.sha256((material.fingerprint + recipe.yaml()).encode()).hexdigest()
        self.inputs, self.targets = evaluation_windows(material.validation, recipe.model.max_len)
        self.scores: dict[int, Score] = {}  # by step, of the whole validation text
        self.state = self.resume()
        screen.note(
            f"training {count_parameters(self.model):,} parameters for {recipe.loop.steps:,} steps of "
            f"{self.tokens_per_step:,} tokens on {device.type}, into {folder}"
        )

    @property
    def tokens_per_step(self) -> int:
        """Tokens predicted in one step."""
        return self.recipe.loop.batch_size * self.recipe.model.max_len

    def resume(self) -> State:
        """The state of the newest sound checkpoint, put in place, or that of a new run."""
        recover(self.folder / "best")
        self.checkpoints.sweep()
        sound = self.checkpoints.newest_sound(self.screen.note)
        state = State()
        if sound is not None:
            state = restore(sound, self.model, self.optimisers, self.average, self.identity)
            self.screen.note(f"going on from step {state.step:,} of {self.recipe.loop.steps:,}")
        self.log.resume(state.step)
        return state

    def train(self) -> Score:
        """Train to the end, and leave `best`, `final` and the plot. Returns the score of the final model."""
        with stop_signals() as stop_requested, torch.random.fork_rng(devices=[]):
            services = Services(
                evaluate=self.evaluate_some,
                sample=self.sample,
                save_checkpoint=self.save_checkpoint,
                save_best=self.save_best,
                stop_requested=stop_requested,
                log=self.log,
                screen=self.screen,
            )
            windows = TokenWindows(self.material.train, self.recipe.model.max_len, self.recipe.seed)
            forward = compiled(self.model, self.recipe.loop.compile, self.screen.note)
            try:
                train_loop(
                    self.model, forward, self.optimisers, windows, self.recipe, self.state, self.average, services
                )
            finally:
                self.screen.end()
        score = self.scores.get(self.state.step) or self.evaluate_whole()
        self.save("final", score)
        self.conclude(score)
        return score

    def evaluate_some(self) -> Score:
        """The score over evenly spaced windows, or over all where they are few."""
        wanted = max(1, EVALUATION_TOKENS // self.inputs.shape[1])
        if len(self.inputs) <= wanted:
            return self.evaluate_whole()
        return self.evaluate(np.linspace(0, len(self.inputs) - 1, wanted).astype(int))

    def evaluate_whole(self) -> Score:
        """The score over the whole validation text."""
        score = self.scores[self.state.step] = self.evaluate(np.arange(len(self.inputs)))
        return score

    def evaluate(self, rows: np.ndarray) -> Score:
        """The score over some of the windows, with averaged weights where the recipe asks for them."""
        share = (self.targets[rows] != IGNORED).sum() / (self.targets != IGNORED).sum()
        n_bytes = round(self.material.validation_bytes * share)
        with averaged(self.model, self.average):
            return evaluate(self.model, self.inputs[rows], self.targets[rows], n_bytes)

    def sample(self) -> str:
        """A short completion, also kept in the run's `samples`."""
        prompt = self.recipe.loop.sample_prompt
        if prompt is None:
            beginning = self.material.validation[: max(1, min(16, self.recipe.model.max_len // 4))]
            prompt = self.material.tokenizer.decode(beginning.tolist())
        generation = Generation(max_new_tokens=SAMPLE_TOKENS, sampling=Sampling(temperature=0.8), seed=self.recipe.seed)
        with averaged(self.model, self.average):
            written = generate_text(self.model, self.material.tokenizer, [prompt], generation=generation)
        text = prompt + written[0].text
        with self.disk_permitting("sample"), whole_file(self.sample_file) as path:
            path.write_text(text, encoding="utf-8")
        return text

    @property
    def sample_file(self) -> Path:
        """Where the sample of this step goes."""
        return self.folder / "samples" / f"step-{self.state.step:08d}.txt"

    def save_checkpoint(self, state: State) -> bool:
        """Save a checkpoint, if the disk permits. Returns whether it did."""
        before = self.checkpoints.found()[:1]
        with self.disk_permitting("checkpoint"):
            self.checkpoints.save(self.model, self.optimisers, self.average, state, self.identity)
        return self.checkpoints.found()[:1] != before

    def save_best(self, score: Score) -> None:
        """Write the model folder `best`, if the disk permits."""
        with self.disk_permitting("best model"):
            self.save("best", score)

    @contextmanager
    def disk_permitting(self, what: str) -> Generator[None]:
        """Where the disk refuses, say so and go on training: what was saved before stays, and the next may succeed."""
        try:
            yield
        except DiskError as error:
            self.screen.note(f"{what} not saved: {error}")

    def save(self, name: str, score: Score) -> None:
        """Write the model folder `name`."""
        with averaged(self.model, self.average):
            save_model(
                self.folder / name,
                self.model,
                self.material.tokenizer,
                generation={"temperature": 0.8, "do_sample": True},
                card=self.results(score),
                title=self.folder.name,
            )

    def results(self, score: Score) -> str:
        """The paragraph of a model card that tells how the model came about and what it reached."""
        return (
            f"Trained from scratch for {self.state.step:,} steps of {self.tokens_per_step:,} tokens on "
            f"{', '.join(self.recipe.data.sources)}.\n\nValidation loss {score.loss:.4f} nats per token (perplexity "
            f"{score.perplexity:.2f}, {score.bits_per_byte:.3f} bits per byte) over {score.n_tokens:,} tokens."
        )

    def conclude(self, score: Score) -> None:
        """Draw the plot and say what came out."""
        rows = self.log.rows()
        save_png(rows, self.folder / "plots" / "loss.png", self.folder.name)
        self.screen.note(terminal_plot(rows))
        self.screen.note(
            f"done in {self.state.seconds:.0f} s: validation loss {score.loss:.4f}, perplexity {score.perplexity:.2f}, "
            f"{score.bits_per_byte:.3f} bits per byte over {score.n_tokens:,} tokens"
        )
        if self.state.worse:
            self.screen.note(f"the best model is that of step {self.state.best_step:,}: {self.folder / 'best'}")
