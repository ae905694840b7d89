"""Transcription: an utterance is heard, and what is said in it is written, by attention, by CTC, or by both together."""

# B rows, S vectors of an utterance, T target tokens

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glassformer.data import IGNORED
from glassformer.evaluate.transcription import character_errors, word_errors
from glassformer.generate.beam import Beam
from glassformer.generate.reading import padded, with_end
from glassformer.generate.transcribe import transcribe
from glassformer.models import Model, ModelConfig
from glassformer.models.vectors import subsampled
from glassformer.ops.losses import cross_entropy, ctc, places_needed
from glassformer.tokenizers.roles import START
from glassformer.training.decide import Decisions
from glassformer.training.hearing import one_thread
from glassformer.training.tasks.task import Batch, Vocabularies
from glassformer.training.tasks.utterances import Utterances, most_vectors

SHOWN = 3  # utterances in a sample
LONGEST = 448  # tokens of a transcript, by default
SPARE_TOKENS = 8  # beyond the longest transcript, in validation: a model that has learnt nothing would never end
LEAST_TOKENS = 64  # that a model can write, so that one of short texts writes somewhat longer ones too
READY_SHARE = 0.99  # of the utterances must be long enough for what is said in them, after the convolutions


class Transcribe(Utterances):
    """Sound or vectors with transcripts, by an encoder-decoder with CTC beside it, or by an encoder with CTC alone."""

    specials = (START,)
    shapes = ("encoder_decoder", "encoder")

    def encode(self, vocabularies: Vocabularies) -> None:
        super().encode(vocabularies)
        self.needed = {side: np.array([places_needed(ids) for ids in rows]) for side, rows in self.ids.items()}
        self.targets = {side: with_end(self.tokenizer, [row.text for row in rows]) for side, rows in self.rows.items()}

    # --- what is decided from the data --------------------------------------------------------------------------------

    def choose_sizes(self, decisions: Decisions) -> None:
        decisions.put("model.head", "tokens")
        weight = decisions.choose("optimiser.ctc_weight", 0.3, "CTC teaches attention to go from left to right")
        if decisions.get("model.shape") == "encoder" or float(weight) > 0:
            decisions.put("model.ctc_blank", self.tokenizer.pad_id)
        if decisions.get("model.shape") == "encoder_decoder":
            longest = max(map(len, self.targets["train"]))
            reason = f"the longest transcript has {longest:,} tokens"
            decisions.choose("model.max_len", min(max(longest * 2, LEAST_TOKENS), LONGEST), reason)
        super().choose_sizes(decisions)

    def strides(self, frames: NDArray[np.int64]) -> tuple[list[int], str]:
        """Four vectors of sound to a position where that leaves CTC a place for every token of nearly every utterance."""
        for strides in ([2, 2], [2, 1]):
            at = torch.arange(int(frames.max()) + 1)[None]
            places = (subsampled(at, strides)[0][-1:] + 1).item()
            share = float((frames * places / len(at[0]) >= self.needed["train"]).mean())
            if share >= READY_SHARE:
                n = strides[0] * strides[1]
                return strides, f"{n} vectors make one position, and transcripts fit into these"
        return [1, 1], "utterances are hardly longer than their transcripts"

    def choose_layers(self, decisions: Decisions, layers: int, reason: str) -> None:
        if decisions.get("model.shape") == "encoder":
            decisions.choose("model.n_layers", layers, reason)
            return
        if (asked := decisions.get("model.n_layers")) is None:
            decisions.choose(
                "model.n_layers",
                max(2, layers // 2),
                "writing takes fewer layers than hearing, and one learns late to look in order",
            )
        else:
            layers = int(asked)
        decisions.choose("model.encoder.n_layers", layers, reason)

    def choose_positions(self, decisions: Decisions, positions: int, reason: str) -> None:
        if decisions.get("model.shape") == "encoder":
            super().choose_positions(decisions, positions, reason)
        else:
            decisions.choose("model.encoder.max_len", max(LONGEST, positions), reason)

    # --- rows and batches ---------------------------------------------------------------------------------------------

    def lengths(self, side: str) -> NDArray[np.int64]:
        return np.stack([self.frames(side), [len(target) for target in self.targets[side]]], 1)

    def limits(self, config: ModelConfig) -> Sequence[int]:
        writes = config.max_len if config.shape == "encoder_decoder" else most_vectors(config)
        return (most_vectors(config), writes)

    def unfit(self, side: str, config: ModelConfig) -> Mapping[int, str]:
        """Rows that cannot be read, or are too short for CTC when they are played fastest."""
        found = dict(super().unfit(side, config))
        if config.ctc_blank is None:
            return found
        fastest = max(1.0, *self.augment.speeds) if side == "train" else 1.0
        strides = strides_of(config)
        for row, (n, needed) in enumerate(zip(self.heard.frames(side, fastest), self.needed[side], strict=True)):
            places = int(subsampled(torch.arange(int(n))[None], strides).shape[1])
            if places < needed and row not in found:
                found[row] = f"{n:,} vectors make {places:,} positions, and CTC needs {needed:,} for its transcript"
        return found

    def collate(self, side: str, rows: Sequence[int], step: int | None = None) -> Batch:
        vectors, at = self.vectors(side, rows, step)
        targets = [self.targets[side][row] for row in rows]
        n_targets, n_heard = sum(map(len, targets)), int((at >= 0).sum())
        if self.recipe.model.shape == "encoder":
            spoken, spoken_at = padded([self.ids[side][row] for row in rows])
            wanted = spoken.masked_fill(spoken_at < 0, IGNORED)
            return Batch({"ids": vectors, "at": at}, wanted, int((spoken_at >= 0).sum()), n_heard)
        start = self.tokenizer.special_tokens[START]
        ids, _ = padded([[start, *target[:-1]] for target in targets])
        wanted, wanted_at = padded(targets)
        inputs = {"ids": ids, "source": vectors, "source_at": at}
        options = {"both": True} if self.recipe.model.ctc_blank is not None else {}
        return Batch(inputs, wanted.masked_fill(wanted_at < 0, IGNORED), n_targets, n_heard + n_targets, options)

    def loss(self, answers: Any, batch: Batch, smoothing: float = 0.0) -> Tensor:
        """(1 - w) attention + w CTC, w = `optimiser.ctc_weight` (Watanabe et al. 2017, equation 11); either alone where the
        model has one of them."""
        model, weight = self.recipe.model, self.recipe.optimiser.ctc_weight
        if model.ctc_blank is None:
            return cross_entropy(answers, batch.targets, smoothing)
        at = batch.inputs["at" if model.shape == "encoder" else "source_at"]
        places = (subsampled(at, strides_of(model)) >= 0).sum(1)
        spoken = batch.targets.masked_fill(batch.targets == self.tokenizer.eos_id, IGNORED)
        if model.shape == "encoder":
            return ctc(answers, spoken, places, model.ctc_blank)
        written, heard = answers
        attention = cross_entropy(written, batch.targets, smoothing)
        return (1 - weight) * attention + weight * ctc(heard, spoken, places, model.ctc_blank)

    # --- scores and samples -------------------------------------------------------------------------------------------

    def answers(self, rows: Sequence[int], said: Tensor) -> dict[int, object]:
        return dict.fromkeys(rows, True)  # which rows were measured

    def measure(self, model: Model, answers: dict[int, object]) -> dict[str, float]:
        rows = sorted(answers)
        said, wanted = self.transcribed(model, rows), [self.rows["validation"][row].text for row in rows]
        return {"wer": word_errors(said, wanted).value, "cer": character_errors(said, wanted).value}

    def rows_written(self, rows: Sequence[int]) -> Sequence[int]:
        return rows

    def write_some(self, model: Model, rows: int) -> int:
        kept = self.kept["validation"]
        chosen = kept[:: -(-len(kept) // rows)].tolist()
        self.transcribed(model, chosen)
        return len(chosen)

    def errors(self, metrics: Mapping[str, float]) -> float | None:
        return metrics["wer"]

    def sample(self, model: Model) -> str:
        rows = self.kept["validation"][:: -(-len(self.kept["validation"]) // SHOWN)].tolist()
        wanted = [self.rows["validation"][row].text for row in rows]
        lines = zip(rows, self.transcribed(model, rows), wanted, strict=True)
        return "\n".join(f"{self.where('validation', row)} -> {said} (wanted: {text})" for row, said, text in lines)

    def transcribed(self, model: Model, rows: Sequence[int]) -> list[str]:
        """Greedy transcripts of rows held back, CTC having a say where there is one."""
        with one_thread():
            vectors = [self.heard.vectors("validation", row) for row in rows]
        longest = max(len(self.targets["validation"][row]) for row in rows)
        beam = Beam(num_beams=1, max_new_tokens=min(self.recipe.model.max_len, longest + SPARE_TOKENS))
        found = transcribe(model, self.tokenizer, vectors, beam=beam)
        return [transcription.text for transcription in found]

    def next_commands(self, place: str) -> Iterable[str]:
        example = self.rows["validation"][0].path
        return (f"glassformer transcribe {place} {shlex.quote(str(example))}", f"glassformer info {place}")

    @property
    def generation(self) -> Mapping[str, Any]:
        return {"num_beams": 5}


def strides_of(config: ModelConfig) -> tuple[int, ...]:
    """How far each convolution of a model's encoder steps."""
    side = config.source_side() if config.shape == "encoder_decoder" else config
    assert side.vectors is not None
    return side.vectors.strides
