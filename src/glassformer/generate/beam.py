"""Beam search: the most probable texts, many prompts at once. Knows ids only; text lives in `text.py`."""

# S sources, K beams, V vocabulary; row r of a batch is beam r % K of source r // K

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, Self

import torch
from pydantic import model_validator
from torch import Tensor

from glassformer.config import Config
from glassformer.errors import ConfigError
from glassformer.generate.candidates import Candidate, best_candidates, normalisers
from glassformer.generate.constraints import Constraints, refuse_forced
from glassformer.generate.context import (
    LanguageModel,
    Memory,
    Reader,
    Window,
    evaluating,
    refuse_foreign_ids,
    sources_of,
)
from glassformer.generate.tree import BeamTree, Recorder, State
from glassformer.tokenizers.roles import Writing


class Beam(Config):
    """How the search goes. The score of a text is its log probability over its number of new tokens to the power of
    `length_penalty` (Wu et al. 2016, without their constants); eos counts as a token.

    `early_stopping` ends the search for a source:
    "exact" when no hypothesis can still come among the `n_best`, whatever follows within `max_new_tokens`;
    "likely" when none would come among them if it ended as it stands;
    "settled" when none would come among the best `num_beams` so, as many having finished (the habit of `transformers`);
    "first" when `num_beams` of them have finished.
    A beam of one is greedy: it ends with the first that finishes. Raises ConfigError for a value out of range.
    """

    num_beams: int = 4
    length_penalty: float = 1.0
    early_stopping: Literal["exact", "likely", "settled", "first"] = "exact"
    n_best: int = 1
    no_repeat_ngram_size: int = 0
    min_new_tokens: int = 0
    max_new_tokens: int = 200

    @model_validator(mode="after")
    def check(self) -> Self:
        """Raise ConfigError, with the value and the range, for a setting that cannot be meant."""
        for name, (is_valid, expected) in RANGES.items():
            if not is_valid(getattr(self, name)):
                raise ConfigError(f"{name}={getattr(self, name)} is out of range: expected {expected}")
        if self.n_best > self.num_beams:
            raise ConfigError(f"n_best={self.n_best} is more than num_beams={self.num_beams} can hold")
        if self.min_new_tokens > self.max_new_tokens:
            raise ConfigError(f"min_new_tokens={self.min_new_tokens} is more than max_new_tokens={self.max_new_tokens}")
        return self

    def score(self, log_probability: float, length: int) -> float:
        """The score of a text of `length` new tokens."""
        return log_probability / length**self.length_penalty


RANGES: dict[str, tuple[Callable[[float], bool], str]] = {
    "num_beams": (lambda k: k >= 1, "1 or more"),
    "length_penalty": (lambda p: -20 <= p <= 20, "-20 to 20"),  # so that no power of a length leaves float64
    "n_best": (lambda n: n >= 1, "1 or more"),
    "no_repeat_ngram_size": (lambda n: n >= 0, "0 or more"),
    "min_new_tokens": (lambda n: n >= 0, "0 or more"),
    "max_new_tokens": (lambda n: n >= 0, "0 or more"),
}


@dataclass(frozen=True, slots=True)
class BeamHypothesis:
    """A text that was found: `ids` holds every new token, a final eos included. `node` is its end in the tree."""

    ids: tuple[int, ...]
    score: float
    log_probability: float
    finish: Literal["eos", "length"]
    node: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class BeamResult:
    """The best texts after one prompt, best first."""

    hypotheses: tuple[BeamHypothesis, ...]
    notes: tuple[str, ...] = ()
    tree: BeamTree | None = field(default=None, compare=False)


@dataclass(slots=True, eq=False)
class Live(Window):
    """A hypothesis that may still grow. One whose sum is -inf only fills its place in the batch."""

    cumulative: float = -math.inf
    node: int | None = None

    def grown(self, token: int, cumulative: float = -math.inf, node: int | None = None) -> Live:
        """The hypothesis with one token more."""
        return Live([*self.tokens, token], self.start, self.note, self.source, cumulative, node)


class Scorer(Protocol):
    """Who has a say beside the model: what each token adds to the sum of each live hypothesis, R V, never more than 0, of the
    model's log probabilities, R V."""

    def __call__(self, log_p: Tensor, live: Sequence[Window]) -> Tensor: ...


class Search:
    """The beam of one source: what lives in it, what has finished, and when it is done."""

    def __init__(
        self,
        beam: Beam,
        prompt: Window,
        *,
        most: int,
        forced: Sequence[int],
        constraints: Constraints,
        record: bool,
    ) -> None:
        self.beam = beam
        self.most = most  # new tokens
        self.forced = forced
        self.constraints = constraints
        self.prompt = tuple(prompt.tokens)
        self.live = [Live(list(prompt.tokens), source=prompt.source) for _ in range(beam.num_beams)]
        self.live[0].cumulative = 0.0
        self.length = 0  # new tokens of each live hypothesis
        self.ended = 0  # how many have finished
        self.finished: list[BeamHypothesis] = []  # those that matter, best first
        self.wanted = beam.num_beams if beam.early_stopping == "settled" else beam.n_best
        self.notes: dict[str, None] = {}
        self.recorder = Recorder(prompt.tokens) if record else None
        if most == 0:
            self.finished.append(BeamHypothesis((), 0.0, 0.0, "length"))

    def take(self, candidates: Sequence[Candidate], forbidden: Sequence[Candidate] = ()) -> list[int]:
        """Grow by the best of these, best first. Returns the beam that each new one was before.

        Of 2K candidates at most K end, so that K remain to go on with. One that ends is finished only where it is among
        the best K, for otherwise a beam of one would not be greedy. Raises GlassformerError if nothing is left.
        """
        self.length += 1
        is_last = self.length == self.most
        kept: list[tuple[int, Live]] = []
        for rank, candidate in enumerate(candidates, start=1):
            ends = is_last or candidate.token == self.constraints.eos_id
            if ends and rank <= self.beam.num_beams:
                self.finish(candidate, rank)
            elif not ends and len(kept) < self.beam.num_beams:
                node = self.note_down(candidate, rank, "kept")
                kept.append(
                    (candidate.beam, self.live[candidate.beam].grown(candidate.token, candidate.cumulative, node))
                )
            elif self.recorder is not None:
                self.note_down(candidate, rank, "pruned", f"rank {rank} of beam {self.beam.num_beams}")
        for candidate in forbidden:
            why = self.constraints.broken_by(candidate.token, self.length - 1, self.forced)
            self.note_down(candidate, None, "pruned", why)
        if not kept and not self.finished:
            raise self.constraints.dead_end()
        parents = self.settle(kept)
        if self.is_done and self.recorder is not None:
            self.explain_end(self.recorder)
        return parents

    def settle(self, kept: Sequence[tuple[int, Live]]) -> list[int]:
        """Give each new hypothesis a row, where it can be that of its parent, so that few rows of the cache move."""
        parents = list(range(len(self.live)))
        rows: list[Live | None] = [None] * len(parents)
        moving: list[tuple[int, Live]] = []
        for parent, live in kept:
            if rows[parent] is None:
                rows[parent] = live
            else:
                moving.append((parent, live))
        free = [row for row, live in enumerate(rows) if live is None]
        for row, (parent, live) in zip(free, moving, strict=False):
            rows[row], parents[row] = live, parent
        self.live = [new or old.grown(old.tokens[-1]) for new, old in zip(rows, self.live, strict=True)]
        return parents

    def finish(self, candidate: Candidate, rank: int) -> None:
        """A hypothesis has come to its end; it stays if it is among the best."""
        self.ended += 1
        before = self.live[candidate.beam]
        was_cut = self.length == self.most and self.constraints.writing.last is not None
        finish = "eos" if candidate.token == self.constraints.eos_id and not was_cut else "length"
        node = self.note_down(candidate, rank, "finished", finish)
        if before.note:
            self.notes[before.note] = None
        ids = (*before.tokens[len(self.prompt) :], candidate.token)
        score = self.beam.score(candidate.cumulative, self.length)
        insort(
            self.finished,
            BeamHypothesis(ids, score, candidate.cumulative, finish, node),
            key=lambda hypothesis: -hypothesis.score,
        )
        del self.finished[self.wanted :]

    @property
    def is_done(self) -> bool:
        """Whether the search for this source is over."""
        beam = self.beam
        if self.length >= self.most or self.best_live == -math.inf:
            return True
        if beam.early_stopping == "first" or beam.num_beams == 1:
            return self.ended >= beam.num_beams
        return len(self.finished) == self.wanted and self.finished[-1].score >= self.reachable

    @property
    def best_live(self) -> float:
        """The largest sum of a live hypothesis; no text that grows out of the beam has a larger one."""
        return max(live.cumulative for live in self.live)

    @property
    def reachable(self) -> float:
        """A score that no live hypothesis can exceed; with "likely" and "settled", none does as it stands.

        A sum never grows, for log p <= 0. If it stayed as it is, its score would be best at the greatest length where the
        penalty is positive, because it is then divided by most, and otherwise at the next.
        """
        if self.beam.early_stopping in ("likely", "settled"):
            return self.beam.score(self.best_live, self.length)
        return self.beam.score(self.best_live, self.most if self.beam.length_penalty > 0 else self.length + 1)

    def note_down(self, candidate: Candidate, rank: int | None, state: State, why: str = "") -> int | None:
        """The candidate's node in the tree, where one is wanted."""
        if self.recorder is None:
            return None
        parent = self.live[candidate.beam].node
        score = self.beam.score(candidate.cumulative, self.length)
        return self.recorder.add(parent, self.length - 1, *candidate[1:], score, rank, state, why)

    def explain_end(self, recorder: Recorder) -> None:
        """Say of those that still lived why they were not gone on from."""
        if self.beam.early_stopping == "first" or self.beam.num_beams == 1:
            why = f"{self.ended} have finished" if self.ended > 1 else "one has finished"
        else:
            why = f"can reach {self.reachable:.4f} at best, and the finished have {self.finished[-1].score:.4f}"
        for live in self.live:
            if live.cumulative > -math.inf and live.node is not None:
                recorder.prune(live.node, why)

    def result(self) -> BeamResult:
        """What was found."""
        tree = self.recorder.tree() if self.recorder is not None else None
        return BeamResult(tuple(self.finished[: self.beam.n_best]), tuple(self.notes), tree)


@torch.inference_mode()
def beam_search(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    beam: Beam,
    *,
    eos_id: int | None,
    pad_id: int = 0,
    vocab_size: int | None = None,
    memory: Memory | None = None,
    sources: Sequence[int] | None = None,
    forced: Sequence[Sequence[int]] | None = None,
    limits: Sequence[int] | None = None,
    writing: Writing | None = None,
    scorer: Scorer | None = None,
    record: bool = False,
    use_cache: bool = True,
) -> list[BeamResult]:
    """The best texts after each prompt, prompts of any length together; each comes out as it would alone.

    `memory` is what an encoder-decoder read, and `sources` the row of it that each prompt belongs to (default: its own
    number). `forced` begins every text of a prompt. `limits` are the most new tokens of each prompt, where they are fewer
    than `max_new_tokens`: the tighter they are, the sooner an exact search is done. `vocab_size` searches the first ids
    only. `writing`: how the family of the model writes. `scorer` says instead of the model's log probabilities what a token
    adds to a text. `record` keeps the tree of the candidates considered. Raises ConfigError for an empty prompt, a prefix
    that does not fit, or an id that the model does not have, and GlassformerError where constraints leave no token.
    """
    vocab_size = vocab_size or model.config.vocab_size
    places = sources_of(prompts, memory, sources)
    windows = [Window(list(prompt), source=source) for prompt, source in zip(prompts, places, strict=True)]
    refuse_foreign_ids(windows, vocab_size)
    most = [min(beam.max_new_tokens, limit) for limit in limits or [beam.max_new_tokens] * len(prompts)]
    if min(most, default=0) < 0:
        raise ConfigError(f"a limit of {min(most)} new tokens cannot be kept: expected 0 or more")
    beginnings = forced or [()] * len(prompts)
    refuse_forced(beginnings, most, eos_id, vocab_size)
    constraints = Constraints(beam.no_repeat_ngram_size, beam.min_new_tokens, eos_id, writing or Writing())
    searches = [
        Search(beam, window, most=limit, forced=beginning, constraints=constraints, record=record)
        for window, limit, beginning in zip(windows, most, beginnings, strict=True)
    ]
    read = Reader(
        model,
        pad_id=pad_id,
        max_new_tokens=max(most, default=0),
        use_cache=use_cache,
        memory=memory,
        beams=beam.num_beams,
    )
    going = [search for search in searches if not search.is_done]
    with evaluating(model):
        while going:
            logits = read([live for search in going for live in search.live])[:, :vocab_size]
            rows: list[int] = []
            still: list[Search] = []
            for number, (search, found) in enumerate(zip(going, consider(logits, going, scorer), strict=True)):
                parents = search.take(*found)
                if not search.is_done:
                    still.append(search)
                    rows.extend(number * beam.num_beams + parent for parent in parents)
            going = still
            if going:
                read.follow(rows, [live for search in going for live in search.live])
    return [search.result() for search in searches]


def consider(
    logits: Tensor, searches: Sequence[Search], scorer: Scorer | None = None
) -> list[tuple[list[Candidate], list[Candidate]]]:
    """For each source the 2K best candidates that its constraints allow, and those of the 2K best of all that they forbid.

    The latter only where they are recorded. logits: S*K V.
    """
    logits = logits.float().cpu()  # where there is float64 for the sums
    sums = normalisers(logits)
    live = [live for search in searches for live in search.live]
    if scorer is not None:
        logits, sums = scorer(logits.double() - sums[:, None], live), torch.zeros_like(sums)
    totals = torch.tensor([hypothesis.cumulative for hypothesis in live], dtype=torch.float64)
    cumulative, first = totals.view(len(searches), -1), searches[0]
    beams = cumulative.shape[1]
    last = [search.length + 1 == search.most for search in searches for _ in search.live]
    allowed = first.constraints(
        logits,
        [hypothesis.tokens for hypothesis in live],
        first.length,
        [search.forced for search in searches for _ in search.live],
        last,
    )
    sums = first.constraints.normalisers(sums, allowed, first.length, last)
    found = best_candidates(allowed, sums, cumulative, 2 * beams)
    if allowed is logits or first.recorder is None:
        return [(candidates, []) for candidates in found]
    wished = best_candidates(logits, sums, cumulative, 2 * beams)
    return [
        (candidates, [wish for wish in wishes if allowed[source * beams + wish.beam, wish.token] == -math.inf])
        for source, (candidates, wishes) in enumerate(zip(found, wished, strict=True))
    ]
