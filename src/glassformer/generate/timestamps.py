"""When each word was said: by where CTC spells it, or by where the decoder looks as it writes it."""

# T frames of what an encoder made, N tokens, H heads, V vocabulary

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import regex
import torch
from numpy.typing import NDArray

from glassformer.errors import ConfigError
from glassformer.generate.context import evaluating
from glassformer.generate.ctc import align
from glassformer.generate.transcription import Word
from glassformer.nn.cache import Memory
from glassformer.tokenizers import Tokenizer
from glassformer.tokenizers.stream import StreamDecoder
from glassformer.trace import watch

SMOOTHED_OVER = 7  # frames whose median is taken, as Whisper does
UNSPACED = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}]")  # written without spaces: each character is a word


class Stretch(NamedTuple):
    """The frames of a token, from `first` up to before `end`, and how sure the model is of it."""

    first: float
    end: float
    probability: float


class Spelling(NamedTuple):
    """A word and the tokens that spell it, from number `first` to number `last`."""

    text: str
    first: int
    last: int


def spellings(tokenizer: Tokenizer, ids: Sequence[int]) -> list[Spelling]:
    """The words of a text and the tokens of each, special tokens left out. Spaces divide words, whichever token they are in."""
    stream = StreamDecoder(tokenizer, skip_special=True)
    letters: list[Spelling] = []
    first = 0  # of the tokens whose text has not come yet
    for number, id in enumerate(ids):
        text = stream.push(id)
        letters += [Spelling(letter, first, number) for letter in text]
        if text or id in tokenizer.special_ids:
            first = number + 1
    letters += [Spelling(letter, min(first, len(ids) - 1), len(ids) - 1) for letter in stream.finish()]
    words: list[Spelling] = []
    goes_on = False
    for letter in letters:
        alone = UNSPACED.match(letter.text) is not None
        if letter.text.isspace():
            goes_on = False
        elif goes_on and not alone:
            words[-1] = Spelling(words[-1].text + letter.text, words[-1].first, letter.last)
        else:
            words.append(letter)
            goes_on = True
    return words


def words_at(
    tokenizer: Tokenizer,
    ids: Sequence[int],
    stretches: Sequence[Stretch],
    seconds: float,
    *,
    start: float = 0.0,
    until: float = math.inf,
) -> tuple[Word, ...]:
    """Words with their times, from the frames of each token. `seconds`: of a frame; `start`: of the first; `until`: after
    which there is nothing more, the last frame being longer than what is left.

    A word's probability is the mean of its tokens'.
    """
    found: list[Word] = []
    for word in spellings(tokenizer, ids):
        of_word = stretches[word.first : word.last + 1]
        begins, ends = start + of_word[0].first * seconds, start + of_word[-1].end * seconds
        probability = sum(one.probability for one in of_word) / len(of_word)
        found.append(Word(word.text, round(min(begins, until), 3), round(min(ends, until), 3), probability))
    return tuple(found)


def ctc_stretches(log_p: NDArray[Any], ids: Sequence[int], blank: int) -> list[Stretch] | None:
    """The frames in which CTC spells each token, log_p: T V; None where there are too few for the text."""
    found = align(log_p, ids, blank)
    return None if found is None else [Stretch(one.first, one.last + 1, one.probability) for one in found]


def attention_stretches(
    model: Any,
    memory: Memory,
    prompt: Sequence[int],
    ids: Sequence[int],
    *,
    n_frames: int | None = None,
    heads: Sequence[tuple[int, int]] | None = None,
) -> list[Stretch]:
    """The frames that the decoder looks at as it writes each token of a text behind `prompt`, each up to where it looks next.

    `memory`: of this source alone, of which `n_frames` are no padding. `heads`: (layer, head) of those that are asked, by
    default all of the upper half of the layers. Raises ConfigError for one that there is not.
    """
    layers = model.config.n_layers
    chosen = heads or [(layer, head) for layer in range(layers // 2, layers) for head in range(model.config.n_heads)]
    wrong = next((one for one in chosen if one[0] >= layers or one[1] >= model.config.n_heads), None)
    if wrong is not None:
        raise ConfigError(f"head {wrong} is not in a decoder of {layers} layers and {model.config.n_heads} heads")
    names = {layer: f"decoder.blocks.{layer}.cross_attention.pattern" for layer, _ in chosen}
    row = torch.tensor([[*prompt, *ids]], device=memory.states.device)
    with evaluating(model), watch(model, list(names.values())) as seen:
        logits = model(row, memory=memory)
    patterns = [seen[names[layer]][0, head, len(prompt) - 1 :, :n_frames] for layer, head in chosen]
    weights = torch.stack(patterns).double().cpu().numpy()  # H N+1 T
    p = logits[0, len(prompt) - 1 :].double().softmax(-1).cpu()
    probabilities = [float(p[number, id]) for number, id in enumerate(ids)]
    starts = looked_at(weights)
    return [
        Stretch(float(first), float(after), probability)
        for first, after, probability in zip(starts, starts[1:], probabilities, strict=False)
    ]


def looked_at(weights: NDArray[np.float64], smoothed_over: int = SMOOTHED_OVER) -> NDArray[np.int64]:
    """The frame at which each token begins, N, from what heads look at as they write it: H N T.

    Weights are made comparable over the tokens, smoothed by a running median over the frames, averaged over the heads, and
    the path along which they are largest, forward in both, is found (Radford et al. 2022, word timestamps of the released
    model).
    """
    spread = weights.std(axis=1, keepdims=True)
    alike = (weights - weights.mean(axis=1, keepdims=True)) / np.where(spread > 0, spread, 1.0)
    tokens, frames = warp(-running_median(alike, smoothed_over).mean(axis=0))
    return frames[np.diff(tokens, prepend=-1) > 0]


def running_median(x: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """The median of `width` (odd) neighbours along the last axis, mirrored at its ends; x itself where it is too short."""
    half = width // 2
    if x.shape[-1] <= half:
        return x
    padded = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(half, half)], mode="reflect")
    return np.median(np.lib.stride_tricks.sliding_window_view(padded, width, axis=-1), axis=-1)


def warp(cost: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The cheapest path through cost [N, T] from corner to corner, in steps of one down, right, or both (dynamic time warping,
    Sakoe and Chiba 1978): its rows and its columns. Of equal ways the one to the right is taken.

    Cells whose rows and columns add up to the same do not depend on each other, so that they are summed at once.
    """
    n, t = cost.shape
    sums = np.full((n + 1, t + 1), np.inf)
    sums[0, 0] = 0.0
    came = np.empty((n + 1, t + 1), np.int8)  # 0: from both, 1: from above, 2: from the left
    for diagonal in range(2, n + t + 1):
        i = np.arange(max(1, diagonal - t), min(n, diagonal - 1) + 1)
        j = diagonal - i
        both, above, left = sums[i - 1, j - 1], sums[i - 1, j], sums[i, j - 1]
        way = np.where((both < above) & (both < left), 0, np.where((above < both) & (above < left), 1, 2))
        came[i, j] = way
        sums[i, j] = cost[i - 1, j - 1] + np.choose(way, (both, above, left))
    came[0, :], came[:, 0] = 2, 1
    rows: list[int] = []
    columns: list[int] = []
    i, j = n, t
    while i > 0 or j > 0:
        rows.append(i - 1)
        columns.append(j - 1)
        way = came[i, j]
        i, j = i - (way != 2), j - (way != 1)
    return np.array(rows[::-1], np.int64), np.array(columns[::-1], np.int64)
