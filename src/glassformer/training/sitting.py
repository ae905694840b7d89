"""One sitting of a run: the model and all that training needs around it, from the newest checkpoint to the last step."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import torch

from glassformer.checkpoints import save_model
from glassformer.errors import GlassformerError
from glassformer.evaluate import Score
from glassformer.files import DiskError, recover, whole_file
from glassformer.models import Model, build_model, count_parameters
from glassformer.training.checkpoint import State, clone, refuse_non_finite, restore
from glassformer.training.compile import compiled
from glassformer.training.failures import StartAgain
from glassformer.training.film import FILM, open_film
from glassformer.training.log import Log, NoLog, Screen
from glassformer.training.loggers import with_loggers
from glassformer.training.loop import Services, averaged, train_loop
from glassformer.training.machine import stop_signals
from glassformer.training.optimisers import Optimisers
from glassformer.training.origin import origin_of, read_origin
from glassformer.training.plot import save_png, terminal_plot
from glassformer.training.recipe import Recipe
from glassformer.training.recompute import recompute_blocks
from glassformer.training.report import write_report
from glassformer.training.saving import Saver
from glassformer.training.start import start_from
from glassformer.training.tasks import Task
from glassformer.training.topology import ALONE, Topology
from glassformer.training.watchdog import EVALUATION, SAMPLE, SAVE, WAIT, Watchdog, stacks_file

MEMORY = "memory.json"  # of a run folder: into how many portions steps are to be cut


class Sitting:
    """What `train_loop` works on and the services it uses."""

    def __init__(
        self,
        recipe: Recipe,
        task: Task,
        folder: Path,
        device: torch.device,
        screen: Screen,
        topology: Topology = ALONE,
        *,
        allow_changed: bool = False,
    ) -> None:
        self.recipe, self.task, self.folder, self.screen, self.topology = recipe, task, folder, screen, topology
        self.model = build_model(recipe.model, recipe.seed).to(device)
        log = Log(folder / "log.jsonl") if topology.is_first else NoLog(folder / "log.jsonl")
        others = (recipe.loop.loggers if topology.is_first else None) or ()
        self.log = with_loggers(log, others, recipe.model_dump(mode="json"), screen.note)
        self.checkpoints = topology.checkpoints(folder / "checkpoints", recipe.loop.keep)
        self.saver = Saver(self.checkpoints, recipe.loop.async_save, screen.note)
        self.identity = hashlib.sha256((task.fingerprint + recipe.yaml()).encode()).hexdigest()
        self.origin = origin_of(recipe, task, folder)
        self.watchdog = Watchdog(stacks_file(folder, topology.rank, topology.world), recipe.loop.hang_seconds)
        self.checkpoints.sign = lambda: self.watchdog.sign(SAVE)
        if recipe.start_from is not None and not self.checkpoints.found():
            start_from(self.model, Path(recipe.start_from), screen.note)
        n_parameters = count_parameters(self.model)
        if recipe.loop.recompute:
            recompute_blocks(self.model)
        self.model = topology.prepare(self.model, recipe)
        self.optimisers = Optimisers(self.model, recipe.optimiser)
        self.average = clone(self.model) if recipe.optimiser.ema is not None else None
        self.scores: dict[int, Score] = {}  # by step, of all that was held back
        self.state = self.resume(allow_changed)
        screen.note(
            f"training {n_parameters:,} parameters for {recipe.loop.steps:,} steps of "
            f"{self.amount} on {device.type}, into {folder}"
        )
        self.film = open_film(recipe, task, self.model, folder / FILM, self.state.step, screen.note, topology)

    @property
    def amount(self) -> str:
        """How much one step works on."""
        loop = self.recipe.loop
        if loop.batch_tokens is not None:
            return f"up to {loop.batch_tokens:,} tokens"
        return f"{(loop.batch_size or 0) * self.recipe.model.max_len:,} tokens"

    def resume(self, allow_changed: bool) -> State:
        """The state of the newest sound checkpoint that follows from the same things, put in place, or that of a new run."""
        if self.topology.is_first:
            recover(self.folder / "best")
            self.checkpoints.sweep()
        self.topology.barrier()
        sound = self.checkpoints.newest_sound(self.screen.note, self.origin, allow_changed=allow_changed)
        state = State()
        if sound is not None:
            state = restore(sound, self.model, self.optimisers, self.average, None)
            self.screen.note(f"going on from step {state.step:,} of {self.recipe.loop.steps:,}")
        self.log.resume(state.step)
        self.take_portions(state)
        if sound is not None:
            self.tell_changes(sound, state)
        return state

    def take_portions(self, state: State) -> None:
        """As many as were found out to be needed when all processes last began anew for want of memory."""
        try:
            wanted = int(json.loads((self.folder / MEMORY).read_text(encoding="utf-8"))["portions"])
        except (OSError, ValueError, KeyError, TypeError):
            return
        if wanted > (state.portions or 0):
            state.portions = wanted
            self.screen.note(f"every step is taken in {wanted} portions, since in fewer memory ran out")
            self.log.write({"step": state.step + 1, "grad_accum": wanted, "because": "not enough memory"})

    def begin_again(self, state: State, said: str) -> None:
        """Leave word how many portions are needed, and have all processes start anew from the last checkpoint."""
        with whole_file(self.folder / MEMORY) as path:
            path.write_text(json.dumps({"step": state.step + 1, "portions": state.portions}), encoding="utf-8")
        raise StartAgain(said)

    def tell_changes(self, checkpoint: Path, state: State) -> None:
        """Say and log what has changed since a checkpoint from which the run goes on all the same."""
        earlier = read_origin(checkpoint)
        if earlier is None:
            return
        changes, versions = self.origin.changes_since(earlier), self.origin.newer_versions(earlier)
        if changes:
            self.screen.note(f"going on although this has changed: {', '.join(changes)}")
            self.log.write({"step": state.step, "allowed_changes": changes})
        elif versions:
            self.screen.note(
                f"the checkpoint is of other versions ({', '.join(versions)}): numbers may be rounded otherwise"
            )

    def train(self) -> Score:
        """Train to the end, and leave `best`, `final` and the plot. Returns the score of the final model."""
        with stop_signals() as stop_requested, torch.random.fork_rng(devices=[]), self.watchdog.on_duty():
            services = Services(
                evaluate=lambda: self.evaluate(whole=False),
                sample=self.sample,
                save_checkpoint=self.begin_checkpoint,
                save_best=self.save_best,
                stop_requested=stop_requested,
                log=self.log,
                screen=self.screen,
                save_wanted=self.saver.wanted,
                settle=lambda saved: self.settle() and saved,
                diagnose=self.diagnose,
                begin_again=self.begin_again,
                alive=self.watchdog.alive,
            )
            if self.film is not None:
                services.filming = self.film.step
            forward = compiled(self.model, self.recipe.loop.compile, self.screen.note)
            try:
                train_loop(
                    self.model,
                    forward,
                    self.optimisers,
                    self.task,
                    self.recipe,
                    self.state,
                    self.average,
                    services,
                    self.topology,
                )
                self.settle()
            except GlassformerError:
                with suppress(Exception):  # of two errors the first is told
                    self.settle()
                raise
            finally:
                self.screen.end()
                self.log.close()
            score = self.scores.get(self.state.step) or self.evaluate(whole=True)
            self.save("final", score)
        self.conclude(score)
        return score

    def diagnose(self, step: int, loss: float, norm: float) -> str:
        """Where the numbers of a step went wrong, also written into the run folder."""
        task, portions = self.task, self.state.portions
        with self.watchdog.busy("diagnosis"):
            batch, places, model = task.batch(step), task.rows_of(step), self.topology.whole(self.model)
            about = (self.recipe, step, loss, norm, portions, self.topology)
            return write_report(self.folder, model, task, batch, places, *about)

    def evaluate(self, *, whole: bool) -> Score:
        """The score on what was held back, with averaged weights where the recipe asks for them."""
        with self.watchdog.busy(EVALUATION), averaged(self.model, self.average):
            model = self.topology.whole(self.model)
            with self.watchdog.following(model, EVALUATION):
                found = self.task.evaluate(model, whole=whole)
            with self.watchdog.busy(WAIT):
                score = self.topology.of_first(found)
        if whole or self.task.measures_all:
            self.scores[self.state.step] = score
        return score

    def sample(self) -> str:
        """Something the model says, also kept in the run's `samples`."""
        with self.watchdog.busy(SAMPLE), averaged(self.model, self.average):
            model = self.topology.whole(self.model)
            with self.watchdog.following(model, SAMPLE):
                text = self.task.sample(model)
        if not self.topology.is_first:
            return text
        with self.disk_permitting("sample"), whole_file(self.sample_file) as path:
            path.write_text(text, encoding="utf-8")
        return text

    @property
    def sample_file(self) -> Path:
        """Where the sample of this step goes."""
        return self.folder / "samples" / f"step-{self.state.step:08d}.txt"

    def save_checkpoint(self, state: State) -> bool:
        """Save a checkpoint, if the disk permits, and wait for it. Returns whether it stands."""
        return self.begin_checkpoint(state, wait=True)

    def begin_checkpoint(self, state: State, *, wait: bool = False) -> bool:
        """The same beside the training, where that pays. Returns whether it stands or is on its way."""
        if self.film is not None:
            self.film.keep()
        with self.saving():
            snapshot = self.checkpoints.snapshot(
                self.model, self.optimisers, self.average, state, self.identity, self.origin
            )
            return self.saver.save(snapshot, wait=wait)

    def settle(self) -> bool:
        """Wait for the save under way, if there is one. Returns whether it stands."""
        with self.saving():
            return self.saver.settle()

    def saving(self) -> AbstractContextManager[None]:
        """While the block runs a save is under way, which the first process does, or ends, and the others wait for."""
        return self.watchdog.busy(SAVE if self.topology.is_first else WAIT)

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
        """Have the first process write the model folder `name`. Raises NotFiniteError where a weight is no number."""
        with self.saving(), averaged(self.model, self.average), self.whole_model() as model:
            try:
                if model is not None:
                    self.write(name, model, score)
            finally:
                self.topology.barrier()  # so that nobody waits within the next step, where waiting is a hang

    def write(self, name: str, model: Model, score: Score) -> None:
        """Write the model folder `name`."""
        refuse_non_finite({f"the model {name}": model.state_dict()})
        save_model(
            self.folder / name,
            model,
            self.task.vocabularies.target,
            source_tokenizer=self.task.source_tokenizer,
            generation=self.task.generation,
            features=self.recipe.features,
            card=self.results(score),
            title=self.folder.name,
        )

    @contextmanager
    def whole_model(self) -> Generator[Model | None]:
        """The model as it is saved: itself on one process; of many, its gathered weights on the first, else None."""
        if self.topology.world == 1:
            yield self.model
            return
        weights = self.topology.gather(self.model)
        if not self.topology.is_first:
            yield None
            return
        model = build_model(self.recipe.model)
        model.load_state_dict(weights, strict=False)
        yield model

    def results(self, score: Score) -> str:
        """The paragraph of a model card that tells how the model came about and what it reached."""
        begun = "from scratch" if self.recipe.start_from is None else f"from {self.recipe.start_from}"
        return (
            f"Trained {begun} for {self.state.step:,} steps of {self.amount} on "
            f"{', '.join(self.recipe.data.sources)}.\n\nV{in_words(score)[1:]}."
        )

    def conclude(self, score: Score) -> None:
        """Draw the plot and say what came out."""
        if not self.topology.is_first:
            return
        rows = self.log.rows()
        save_png(rows, self.folder / "plots" / "loss.png", self.folder.name)
        self.screen.note(terminal_plot(rows))
        self.screen.note(f"done in {self.state.seconds:.0f} s: {in_words(score)}")
        if self.film is not None:
            self.screen.note(self.film.cost())
        if self.state.worse:
            self.screen.note(f"the best model is that of step {self.state.best_step:,}: {self.folder / 'best'}")


def in_words(score: Score) -> str:
    """A score as a clause: loss, what follows from it, and the task's own numbers."""
    bits = f", {score.bits_per_byte:.3f} bits per byte" if score.n_bytes else ""
    more = "".join(f", {name} {value:.3f}" for name, value in score.metrics.items())
    return f"validation loss {score.loss:.4f}, perplexity {score.perplexity:.2f}{bits}{more} over {score.n_tokens:,} targets"
