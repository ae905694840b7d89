"""What the tasks share whose rows are utterances: how sound becomes vectors, sizes of the model, batches of vectors."""

# B rows, S vectors of an utterance, F channels of each

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from glassformer.data.examples import Skipped
from glassformer.data.utterances import Utterance, UtteranceCorpus, Wanted, read_utterances, split_utterances
from glassformer.errors import ConfigError
from glassformer.features import FeatureConfig
from glassformer.generate.vectors import most_vectors, padded_vectors
from glassformer.models import ModelConfig
from glassformer.training.decide import Decisions, heads_for
from glassformer.training.hearing import Hearing, one_thread, usual_rate
from glassformer.training.recipe import AugmentRecipe, DataRecipe, Recipe
from glassformer.training.tasks.rows import Rows
from glassformer.training.tasks.task import Vocabularies, derived_seed, fingerprint

LONGEST_SECONDS = 30.0  # of an utterance, by default
LEAST_POSITIONS = 256  # that a model has, so that one of short words hears a sentence too
SPARE = 1.25  # of positions, since what is heard later may be slower


class Utterances(Rows):
    """Rows of sound, or of vectors from files, with a text or a label each."""

    unit = "utterance"
    preset = ("small-speech", "a small encoder that learns from minutes to hours of speech")
    most_epochs = 120
    rates: ClassVar[Mapping[str, float]] = {}
    wanted: ClassVar[Wanted] = "text"

    def __init__(self, data: DataRecipe) -> None:
        corpus = self.read(data, data.sources)
        held_back = self.read(data, data.validation) if data.validation else None
        train, validation, note = split_utterances(
            corpus, data.validation_fraction, validation=held_back, hold_back=data.hold_back
        )
        self.rows: dict[str, Sequence[Utterance]] = {"train": train, "validation": validation}
        self.unread = [*corpus.skipped, *(held_back.skipped if held_back else ())]
        self.notes = [*corpus.notes, *(held_back.notes if held_back else ()), note]
        self.corpus, self.n_bytes = corpus, sum(len(row.text.encode()) for row in train)
        self.hearing: Hearing | None = None

    def read(self, data: DataRecipe, sources: Sequence[str]) -> UtteranceCorpus:
        """The utterances of some sources."""
        return read_utterances(
            sources,
            wanted=self.wanted,
            path_key=data.path_key,
            text_key=data.text_key,
            label_key=data.label_key,
            name_pattern=data.name_pattern,
            replace=data.replace,
            encoding=data.encoding,
        )

    def texts(self) -> Iterator[str]:
        return (row.text for row in self.rows["train"])

    def encode(self, vocabularies: Vocabularies) -> None:
        self.vocabularies, self.tokenizer = vocabularies, vocabularies.target
        self.ids = {side: self.tokenizer.encode_batch([row.text for row in rows]) for side, rows in self.rows.items()}
        places = [f"{row.path}|{row.part}|{row.offset}|{row.duration}" for rows in self.rows.values() for row in rows]
        rows = (np.array(ids, np.int64) for side in self.ids.values() for ids in side)
        self.said = fingerprint([*rows, np.array([*places, *(row.text for row in self.rows["train"])])])
        self.fingerprint = self.said

    # --- what is decided from the data --------------------------------------------------------------------------------

    def choose_sizes(self, decisions: Decisions) -> None:
        """Features, what is changed in training, and how many vectors the encoder takes at once."""
        features = self.choose_features(decisions)
        self.listen(features)
        self.choose_rates(decisions)
        self.choose_augment(decisions, features)
        assert self.hearing is not None
        seconds = self.hearing.seconds
        frames = self.hearing.frames("train")
        decisions.put("model.vectors", {**(decisions.get("model.vectors") or {}), "size": features.channels})
        strides = decisions.choose("model.vectors.strides", *self.strides(frames))
        layers, d_model, heads = next(size for least, *size in SIZES if seconds >= least)
        reason = f"{seconds / 60:,.0f} minutes to learn from" if self.hearing.is_sound else f"{frames.sum():,} vectors"
        self.choose_layers(decisions, layers, reason)
        if decisions.get("model.d_model") is not None:
            heads = heads_for(int(decisions.get("model.d_model")), 32)
        elif decisions.get("model.n_heads") is not None:
            d_model = 32 * int(decisions.get("model.n_heads"))
        decisions.choose("model.d_model", d_model, reason)
        decisions.choose("model.n_heads", heads, "heads of 32 channels or about that")
        slowest = max(1.0, *(1 / speed for speed in decisions.get("augment.speeds") or (1.0,)))
        usual = math.ceil(LONGEST_SECONDS * features.rate / features.hop) if self.hearing.is_sound else 8192
        longest = min(int(frames.max()) * slowest, usual)
        self.choose_positions(
            decisions, math.ceil(longest * SPARE / math.prod(strides)), f"up to {longest:,.0f} vectors"
        )

    def choose_features(self, decisions: Decisions) -> FeatureConfig:
        """How sound becomes vectors: bands of about 50 Hz to 4 or 8 kHz, 100 vectors a second; vectors stay as they are."""
        asked = dict(decisions.get("features") or {})
        if self.corpus.kind == "vectors":
            if asked.get("kind") not in (None, "vectors"):
                raise ConfigError(
                    f"features.kind={asked['kind']} is for sound, and the data hold vectors; leave it out"
                )
            asked |= {"kind": "vectors", "size": self.corpus.channels}
            decisions.put("features", asked)
        else:
            if asked.get("kind") == "vectors":
                raise ConfigError("features.kind=vectors is for files of vectors, and the data are sound; leave it out")
            decisions.choose("features.kind", "log-mel", "the loudness of bands, as hearing divides them")
            if decisions.get("features.kind") != "whisper":
                rate = int(decisions.choose("features.rate", usual_rate(self.corpus.rows), "that of most of the files"))
                decisions.choose("features.n_mels", 40 if rate < 16_000 else 80, f"{rate:,} samples a second")
            if decisions.get("features.kind") == "log-mel":
                decisions.choose("features.normalise", "level", "loudness tells no words apart")
        features = FeatureConfig.parse(decisions.get("features"), "features")
        decisions.put("features", features.model_dump(mode="json"))
        return features

    def choose_augment(self, decisions: Decisions, features: FeatureConfig) -> None:
        """What is changed in training; of vectors whose meaning nobody knows nothing, unless it is asked for."""
        asked = dict(decisions.get("augment") or {})
        if features.kind == "vectors":
            wrong = next((name for name in ("noise_db", "noise") if asked.get(name)), None)
            wrong = "speeds" if tuple(map(float, asked.get("speeds") or (1.0,))) != (1.0,) else wrong
            if wrong:
                raise ConfigError(f"augment.{wrong} is for sound, and the data hold vectors; leave it out")
            unchanged = {"speeds": (1.0,), "time_masks": 0, "frequency_masks": 0}
            asked = {**unchanged, **{name: value for name, value in asked.items() if value is not None}}
            decisions.put("augment", AugmentRecipe.parse(asked, "augment").model_dump(mode="json"))
            return
        decisions.choose("augment.time_masks", 2, "what is hidden must be told from the rest (SpecAugment)")
        decisions.choose("augment.frequency_mask_width", max(1, features.channels // 5), "a fifth of the channels")
        if importlib.util.find_spec("soxr") is None:
            decisions.choose("augment.speeds", [1.0], "others need soxr: pip install 'glassformer[audio]'")
        decisions.choose("augment.speeds", [0.9, 1.0, 1.1], "other voices and paces out of the same recordings")
        asked = {name: value for name, value in decisions.get("augment").items() if value is not None}
        decisions.put("augment", AugmentRecipe.parse(asked, "augment").model_dump(mode="json"))

    def choose_rates(self, decisions: Decisions) -> None:
        """AdamW, which was found to learn speech in fewer seconds than Muon."""
        decisions.choose("optimiser.name", "adamw", "learns speech in fewer seconds than Muon, measured here")
        if decisions.get("optimiser.name") == "adamw":
            decisions.choose("optimiser.lr", 1e-3, "found best for minutes to hours of speech")
            for key, value in ADAMW.items():
                decisions.choose(key, value, "a small encoder of speech leaps without it")

    def strides(self, frames: NDArray[np.int64]) -> tuple[list[int], str]:
        """How far each convolution steps, and why."""
        if self.corpus.kind == "vectors":
            return [], "each vector is a step of its own"
        return [2, 1], "two vectors of 10 ms make one position"

    def choose_layers(self, decisions: Decisions, layers: int, reason: str) -> None:
        """How many blocks the model has."""
        decisions.choose("model.n_layers", layers, reason)

    def choose_positions(self, decisions: Decisions, positions: int, reason: str) -> None:
        """How many positions the encoder has."""
        decisions.choose("model.max_len", max(LEAST_POSITIONS, positions), reason)

    def choose_batch(self, decisions: Decisions) -> None:
        assert self.hearing is not None
        asked = decisions.get("loop.batch_size")
        if asked is not None:
            raise ConfigError(
                f"loop.batch_size={asked} counts windows of running text, and utterances differ in length: "
                "set loop.batch_tokens, in vectors, instead"
            )
        n_vectors = int(self.hearing.frames("train").sum())
        reason = "vectors and tokens of utterances of similar length"
        decisions.choose("loop.batch_tokens", int(min(4096, max(512, n_vectors // 8))), reason)

    # --- rows and batches ---------------------------------------------------------------------------------------------

    def listen(self, features: FeatureConfig) -> Hearing:
        """What is heard of every row, each read once."""
        if self.hearing is None or self.hearing.features != features:
            self.hearing = Hearing(self.rows, features)
            with one_thread():
                self.hearing.read_all()
        return self.hearing

    def begin(self, recipe: Recipe) -> None:
        assert recipe.features is not None
        self.augment = recipe.augment or AugmentRecipe(time_masks=0, frequency_masks=0, speeds=(1.0,))
        self.heard = self.listen(recipe.features)
        self.fingerprint = f"{self.said} {self.heard.digest}"
        super().begin(recipe)

    def frames(self, side: str) -> NDArray[np.int64]:
        """The most vectors that each row can come to have."""
        slowest = min(self.augment.speeds) if side == "train" else 1.0
        return self.heard.frames(side, min(1.0, slowest))

    def lengths(self, side: str) -> NDArray[np.int64]:
        return self.frames(side)[:, None]

    def limits(self, config: ModelConfig) -> Sequence[int]:
        return (most_vectors(config),)

    def too_long(self, of: int, length: int, limit: int) -> str:
        if of == 0:
            return f"{length:,} vectors long, more than the {limit:,} that the encoder takes"
        return super().too_long(of, length, limit)

    def unfit(self, side: str, config: ModelConfig) -> Mapping[int, str]:
        return self.heard.problems[side]

    def none_fits(self, side: str, n_rows: int, config: ModelConfig, skipped: Sequence[Skipped]) -> str:
        return f"none of the {n_rows:,} {side} utterances can be used; {skipped[-1].where}: {skipped[-1].reason}"

    def where(self, side: str, row: int) -> str:
        return self.rows[side][row].where

    def text_of(self, side: str, row: int) -> str:
        return self.rows[side][row].text

    def vectors(self, side: str, rows: Sequence[int], step: int | None) -> tuple[Tensor, Tensor]:
        """Some rows as vectors B S F and positions B S, -1 in the padding; changed where they are of a step."""
        with one_thread():
            if step is None:
                return padded_vectors([self.heard.vectors(side, row) for row in rows])
            return padded_vectors([self.changed(side, row, step) for row in rows])

    def changed(self, side: str, row: int, step: int) -> Tensor:
        """The vectors of a row as a step sees them, which follow from seed, step and row alone."""
        seed = self.recipe.seed
        return self.heard.changed(side, row, self.augment, lambda why: derived_seed(why, seed, step, row))


ADAMW = {"optimiser.beta1": 0.9, "optimiser.beta2": 0.98, "optimiser.eps": 1e-9, "optimiser.grad_clip": 1.0}
SIZES = (  # seconds of training speech from which on a size pays, layers, d_model, heads
    (20 * 3600, 6, 256, 8),
    (2 * 3600, 4, 192, 6),
    (0, 3, 128, 4),
)
