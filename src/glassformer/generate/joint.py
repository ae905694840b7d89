"""Attention and CTC asked together, token by token, inside one beam search."""

# R rows of a batch of hypotheses, T frames, V vocabulary

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glassformer.errors import ConfigError
from glassformer.generate.context import Window
from glassformer.generate.ctc import Scores, checked

FLOOR = -10_000.0  # log probability of what cannot be, so that sums of it can still be subtracted from each other


@dataclass(frozen=True, slots=True)
class Spelled:
    """How a beginning can have been spelled by the first 0 to T frames: log probabilities of the ways that end in its last
    token and in a blank, T+1 each; and that of all texts that begin with it."""

    in_token: Scores
    in_blank: Scores
    prefix: float


class JointScorer:
    """What each next token adds to a hypothesis: (1 - weight) of what attention says and `weight` of what CTC says.

    CTC's score of a beginning is the probability of all texts that begin so, and with eos that of the text itself
    (Watanabe et al. 2017, section IV-A, equations 13 to 17 and algorithm 2, for every token of the vocabulary at once). It
    never grows, so what holds of searches in which sums never grow holds of these.

    log_p: for each source T V. `prompt` is the number of tokens before the first that is written.
    """

    def __init__(
        self, log_p: Sequence[NDArray[Any]], *, blank: int, eos_id: int, weight: float, prompt: int = 1
    ) -> None:
        if not 0 <= weight <= 1:
            raise ConfigError(f"ctc_weight={weight} is out of range: expected 0 to 1")
        self.blank, self.eos_id, self.weight, self.prompt = blank, eos_id, weight, prompt
        self.log_p = [checked(frames, blank).clip(FLOOR) for frames in log_p]
        self.p = [np.exp(frames) for frames in self.log_p]
        self.spelled = [nothing_spelled(frames[:, blank]) for frames in self.log_p]
        self.known: dict[tuple[int, tuple[int, ...]], Spelled] = {}

    def __call__(self, log_p: Tensor, live: Sequence[Window]) -> Tensor:
        """What each token adds to each hypothesis: R V, float64, of what attention says, R V. The hypotheses are those of the
        last call with a token more."""
        known: dict[tuple[int, tuple[int, ...]], Spelled] = {}
        added = np.zeros(log_p.shape)
        for row, window in enumerate(live):
            assert window.source is not None
            text = tuple(window.tokens[self.prompt :])
            key = (window.source, text)
            if key not in known:
                before = self.known.get((window.source, text[:-1])) if text else None
                if text and before is None:
                    continue  # a place that nobody holds
                frames = self.log_p[window.source]
                known[key] = self.spelled[window.source] if before is None else grown(before, text, frames, self.blank)
            prefix = known[
                key
            ].prefix  # -inf where the frames are too few for the text, and so for all that begins with it
            added[row] = -math.inf if prefix == -math.inf else self.prefixes(window.source, known[key], text) - prefix
        self.known = known
        if self.weight == 0:
            return log_p.double()
        found = torch.from_numpy(added).mul_(self.weight)
        return found if self.weight == 1 else found.add_(log_p, alpha=1 - self.weight)

    def prefixes(self, source: int, spelled: Spelled, text: Sequence[int]) -> Scores:
        """The log probability of all texts that begin with this one and each token: V."""
        p = self.p[source]
        found = summed(ways_on(spelled, divided=False), p)
        if text:  # between equal tokens a blank must be
            last = text[-1]
            found[last] = summed(ways_on(spelled, divided=True), p[:, last : last + 1])[0]
        found[self.blank] = -math.inf
        found[self.eos_id] = np.logaddexp(spelled.in_token[-1], spelled.in_blank[-1])
        return found


def nothing_spelled(blanks: Scores) -> Spelled:
    """The empty beginning: so far all frames were blank. blanks: T, log probabilities."""
    in_blank = np.concatenate(([0.0], np.cumsum(blanks)))
    return Spelled(np.full(len(in_blank), -math.inf), in_blank, 0.0)


def ways_on(spelled: Spelled, *, divided: bool) -> Scores:
    """The log probability of having spelled a beginning before each frame: T; `divided`: with a blank at its end."""
    return (spelled.in_blank if divided else np.logaddexp(spelled.in_blank, spelled.in_token))[:-1]


def grown(before: Spelled, text: Sequence[int], log_p: Scores, blank: int) -> Spelled:
    """A beginning with a token more, `text` being all of it."""
    ways = ways_on(before, divided=len(text) > 1 and text[-1] == text[-2])
    in_token = run(ways, log_p[:, text[-1]])
    in_blank = run(in_token[:-1], log_p[:, blank])
    return Spelled(in_token, in_blank, float(np.logaddexp.reduce(ways + log_p[:, text[-1]], initial=-math.inf)))


def run(ways: Scores, log_p: Scores) -> Scores:
    """x[t] = (x[t-1] + ways[t]) p[t] for all frames at once, in logarithms: T+1, from x[0] = 0. ways, log_p: T.

    Divided by the product of all p so far it is a running sum.
    """
    products = np.cumsum(log_p)
    sums = np.logaddexp.accumulate(ways - (products - log_p)) if len(ways) else ways
    return np.concatenate(([-math.inf], products + sums))


def summed(ways: Scores, p: Scores) -> Scores:
    """log of the sum over frames of exp(ways) p: V. ways: T, p: T V. What is 10^300 times less likely than the rest is 0."""
    most = ways.max(initial=-math.inf)
    if most == -math.inf:
        return np.full(p.shape[1], -math.inf)
    with np.errstate(divide="ignore"):
        return most + np.log(np.exp(ways - most) @ p)
