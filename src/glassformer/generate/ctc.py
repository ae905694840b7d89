"""Connectionist temporal classification: what the frames of a source say, as text, with its score and its place in time."""

# T frames, V vocabulary, K beams, L tokens of a text, R texts, N states: a blank before, between and after the tokens of a text

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from glassformer.errors import ConfigError

Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class CtcText:
    """A text and its log probability, summed over all the ways in which the frames can spell it."""

    ids: tuple[int, ...]
    log_probability: float


class Aligned(NamedTuple):
    """A token, the first and the last frame in which it is spelled, and its mean probability in them."""

    id: int
    first: int
    last: int
    probability: float


def collapse(path: Sequence[int], blank: int) -> list[int]:
    """The text that a path spells, one token for each frame: repeated ones count once, blanks not (Graves et al. 2006, B)."""
    spoken = [token for place, token in enumerate(path) if place == 0 or token != path[place - 1]]
    return [token for token in spoken if token != blank]


def best_path(log_p: NDArray[Any], blank: int) -> list[int]:
    """The text of the likeliest token in each frame. log_p: T V."""
    return collapse(log_p.argmax(axis=1).tolist(), blank)


def prefix_beam(log_p: NDArray[Any], blank: int, num_beams: int) -> list[CtcText]:
    """The likeliest texts that frames say, at most `num_beams`, best first. log_p: T V.

    Of each frame the `num_beams` likeliest beginnings are gone on from (Graves 2012, section 7.3; Hannun et al. 2014,
    algorithm 1, without a language model). Where they are as many as there are beginnings, all texts are found. The log
    probability of what is found is exact, whatever the search left out.
    """
    frames = checked(log_p, blank)
    tree = PrefixTree()
    node, last = np.zeros(1, np.int64), np.zeros(1, np.int64)  # K: the place in the tree, and its token
    blank_ends, token_ends = np.zeros(1), np.full(1, -math.inf)  # K: of the ways that end in a blank, in that token
    for row in frames:
        both = np.logaddexp(blank_ends, token_ends)
        grown = both[:, None] + row  # K V: each goes on with each token
        beams = np.arange(len(node))
        grown[beams, last] = np.where(
            node > 0, blank_ends + row[last], grown[beams, last]
        )  # a blank must divide equals
        grown[:, blank] = -math.inf
        blank_stays, token_stays = both + row[blank], token_ends + row[last]
        for beam, parent in tree.parents_among(
            node
        ):  # what grows into a beginning that is there already is added to it
            token = last[beam]
            token_stays[beam] = np.logaddexp(token_stays[beam], grown[parent, token])
            grown[parent, token] = -math.inf
        stays = np.logaddexp(blank_stays, token_stays)
        best = largest(np.concatenate((stays, grown.ravel())), num_beams)
        old, new = best[best < len(node)], best[best >= len(node)] - len(node)
        parent, token = np.divmod(new, grown.shape[1])
        blank_ends = np.concatenate((blank_stays[old], np.full(len(new), -math.inf)))
        token_ends = np.concatenate((token_stays[old], grown[parent, token]))
        node = np.concatenate((node[old], tree.grow(node[parent], token)))
        last = np.concatenate((last[old], token))
    texts = [tree.text(int(one)) for one in node]
    sums = text_log_probabilities(frames, texts, blank)
    found = [CtcText(tuple(text), float(log_sum)) for text, log_sum in zip(texts, sums, strict=True)]
    return sorted(found, key=lambda one: -one.log_probability)


class PrefixTree:
    """The beginnings of texts, each a number: 0 is the empty one."""

    def __init__(self) -> None:
        self.parents, self.tokens = [-1], [0]
        self.children: dict[tuple[int, int], int] = {}

    def grow(self, parents: NDArray[np.int64], tokens: NDArray[np.int64]) -> NDArray[np.int64]:
        """The numbers of these beginnings with a token more."""
        grown = np.empty(len(parents), np.int64)
        for row, (parent, token) in enumerate(zip(parents.tolist(), tokens.tolist(), strict=True)):
            number = self.children.setdefault((parent, token), len(self.tokens))
            if number == len(self.tokens):
                self.parents.append(parent)
                self.tokens.append(token)
            grown[row] = number
        return grown

    def parents_among(self, nodes: NDArray[np.int64]) -> list[tuple[int, int]]:
        """Of the nodes whose parents are among them too, the places of both."""
        place = {node: row for row, node in enumerate(nodes.tolist())}
        return [(row, place[self.parents[node]]) for node, row in place.items() if self.parents[node] in place]

    def text(self, node: int) -> list[int]:
        """The tokens of a beginning."""
        found: list[int] = []
        while node:
            found.append(self.tokens[node])
            node = self.parents[node]
        return found[::-1]


def text_log_probability(log_p: NDArray[Any], ids: Sequence[int], blank: int) -> float:
    """The log probability of a text, summed over all the ways to spell it. log_p: T V. -inf where there are too few frames."""
    return float(text_log_probabilities(log_p, [ids], blank)[0])


def text_log_probabilities(log_p: NDArray[Any], texts: Sequence[Sequence[int]], blank: int) -> Scores:
    """The same of many texts at once: R (the forward variables of Graves et al. 2006, equations 5 to 8)."""
    frames = checked(log_p, blank)
    states, leaps = states_of(texts, blank, frames.shape[1])  # R N
    reach = before_the_first(states)
    for row in frames:
        reach = arrivals(reach, leaps) + row[states]
    ends = np.array([2 * len(text) for text in texts], np.int64)
    rows = np.arange(len(texts))
    spoken = np.where(ends > 0, reach[rows, np.maximum(ends - 1, 0)], -math.inf)
    return np.logaddexp(reach[rows, ends], spoken) if len(frames) else np.where(ends == 0, 0.0, -math.inf)


def align(log_p: NDArray[Any], ids: Sequence[int], blank: int) -> list[Aligned] | None:
    """Where the frames spell each token of a text along the likeliest way (Viterbi 1967). log_p: T V.

    None where they cannot: a text needs a frame for each token and one between equal neighbours.
    """
    frames = checked(log_p, blank)
    (states,), leaps = states_of([ids], blank, frames.shape[1])
    came = np.empty((len(frames), len(states)), np.int8)  # T N: from how many states before
    reach = np.full(len(states) + 2, -math.inf)  # two more in front, from which nothing comes
    reach[2] = 0.0
    for frame, row in enumerate(frames):
        stays, steps, leap = reach[2:], reach[1:-1], reach[:-2] + leaps[0]
        best = np.maximum(stays, steps)
        came[frame] = steps > stays
        came[frame][leap > best] = 2
        reach[2:] = np.maximum(best, leap) + row[states]
    state = len(states) - 1  # after the last blank, or
    if len(states) > 1 and reach[-2] > reach[-1]:
        state -= 1  # after the last token
    if reach[state + 2] == -math.inf:
        return None
    path = np.empty(len(frames), np.int64)
    for frame in range(len(frames) - 1, -1, -1):
        path[frame] = state
        state -= int(came[frame, state])
    found: list[Aligned] = []
    for number, id in enumerate(ids):
        (at,) = np.nonzero(path == 2 * number + 1)
        found.append(Aligned(id, int(at[0]), int(at[-1]), float(np.exp(frames[at, id]).mean())))
    return found


def occupancy(log_p: NDArray[Any], ids: Sequence[int], blank: int) -> Scores | None:
    """How probable it is that a frame spells each token of a text, given that the frames spell that text. log_p: T V. L T.

    The sum over all ways: the forward times the backward variables over the text's probability (Graves et al. 2006,
    equations 5 to 12). What a column lacks to 1 falls to the blanks. None where the frames cannot spell the text.
    """
    frames = checked(log_p, blank)
    total = text_log_probability(frames, ids, blank)
    if total == -math.inf:
        return None
    ways = [], []  # into each state before it speaks, and from each state to the end: T N both
    for kept, text, rows in zip(ways, (ids, ids[::-1]), (frames, frames[::-1]), strict=True):
        states, leaps = states_of([text], blank, frames.shape[1])
        reach = before_the_first(states)
        for row in rows:
            came = arrivals(reach, leaps)
            reach = came + row[states]
            kept.append((came if kept is ways[0] else reach)[0])
    into, onwards = (np.array(way).reshape(len(frames), 2 * len(ids) + 1) for way in ways)
    return np.exp(into + onwards[::-1, ::-1] - total)[:, 1::2].T


def before_the_first(states: NDArray[np.int64]) -> Scores:
    """What reaches each state before any frame: the first, as if a frame had said nothing. R N."""
    reach = np.full(states.shape, -math.inf)
    reach[:, 0] = 0.0
    return reach


def states_of(texts: Sequence[Sequence[int]], blank: int, vocab_size: int) -> tuple[NDArray[np.int64], Scores]:
    """The token of each state of each text, and what it costs to leap into it over the blank before it: 0, or -inf where
    that is no way. R N both. Raises ConfigError for a token that cannot be spelled."""
    wrong = next((id for text in texts for id in text if not 0 <= id < vocab_size or id == blank), None)
    if wrong is not None:
        raise ConfigError(
            f"CTC cannot spell the token {wrong}: expected 0 to {vocab_size - 1}, without the blank {blank}"
        )
    width = 2 * max(map(len, texts), default=0) + 1
    states = np.full((len(texts), width), blank, np.int64)
    for row, text in enumerate(texts):
        states[row, 1 : 2 * len(text) : 2] = text
    leaps = np.full(states.shape, -math.inf)
    leaps[:, 3::2][states[:, 3::2] != states[:, 1:-2:2]] = 0.0
    return states, leaps


def arrivals(reach: Scores, leaps: Scores) -> Scores:
    """What comes into each state from itself, from the one before, and over that one. R N."""
    found = reach.copy()
    found[:, 1:] = np.logaddexp(found[:, 1:], reach[:, :-1])
    found[:, 2:] = np.logaddexp(found[:, 2:], reach[:, :-2] + leaps[:, 2:])
    return found


def largest(scores: Scores, count: int) -> NDArray[np.int64]:
    """The places of the largest finite scores, in the order in which they stand."""
    if len(scores) > count:
        places = np.sort(np.argpartition(-scores, count - 1)[:count])
        return places[scores[places] > -math.inf]
    return np.flatnonzero(scores > -math.inf)


def checked(log_p: NDArray[Any], blank: int) -> Scores:
    """Frames in double precision. Raises ConfigError for what are no log probabilities of a vocabulary with this blank."""
    frames = np.asarray(log_p, np.float64)
    if frames.ndim != 2 or not 0 <= blank < frames.shape[1]:
        raise ConfigError(f"expected log probabilities [T, V] with the blank {blank} in V, found {list(frames.shape)}")
    if np.isnan(frames).any() or (frames > 1e-6).any():
        raise ConfigError("expected log probabilities, found numbers that are not finite or above 0")
    return frames
