"""Filling in: what the masked tokens of a text may have been, with the probability of each."""

# T tokens, V vocabulary

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from glassformer.errors import ConfigError
from glassformer.generate.purpose import refuse_unfit
from glassformer.generate.reading import answers, refuse_unreadable
from glassformer.tokenizers import Tokenizer
from glassformer.tokenizers.roles import MASK


@dataclass(frozen=True, slots=True)
class Guess:
    """A token that may stand at a mask. `text` is what it stands for, often with the space in front of a word."""

    id: int
    text: str
    probability: float


@dataclass(frozen=True, slots=True)
class Filled:
    """A text with its masks filled in: `filled` by the likeliest of each, `guesses` for each mask, likeliest first."""

    text: str
    filled: str
    guesses: tuple[tuple[Guess, ...], ...]


@torch.inference_mode()
def fill(model: Any, tokenizer: Tokenizer, texts: Sequence[str], top: int = 5) -> list[Filled]:
    """For every ``<|mask|>`` of each text the `top` likeliest tokens (Devlin et al. 2019).

    The masks of a text are filled in independently of each other. Special tokens are never guessed, though probabilities
    count them. Raises ConfigError for `top` below 1, else as `rows_to_fill` does.
    """
    rows = rows_to_fill(model, tokenizer, texts)
    if top < 1:
        raise ConfigError(f"top={top} is out of range: expected 1 or more")
    mask = mask_id(tokenizer)
    found: dict[int, Filled] = {}
    for number, logits in answers(model, rows):
        places = [place for place, id in enumerate(rows[number]) if id == mask]
        guesses = tuple(likeliest(tokenizer, logits[place], top) for place in places)
        ids = list(rows[number])
        for place, best in zip(places, guesses, strict=True):
            ids[place] = best[0].id
        found[number] = Filled(texts[number], tokenizer.decode(ids), guesses)
    return [found[number] for number in range(len(texts))]


def rows_to_fill(model: Any, tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """The tokens of each text.

    Raises ConfigError for a model that was not made for it, and for a text that is empty, has no mask or is too long.
    """
    refuse_unfit(model, tokenizer, "fill")
    rows = [masked_ids(tokenizer, text) for text in texts]
    refuse_unreadable(texts, rows, model.config.max_len)
    for text in texts:
        if MASK not in text:
            raise ConfigError(f"the text {text[:40]!r} has no {MASK}; write one where a word is to be guessed")
    return rows


def masked_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """The tokens of a text whose masks are tokens of their own; whatever else looks like a special token stays text.

    Where the space before a word belongs to the word's token, the space before a mask belongs to the token that is masked.
    """
    mask, joins = mask_id(tokenizer), joins_spaces(tokenizer)
    *before, last = text.split(MASK)
    ids: list[int] = []
    for part in before:
        ids += [*tokenizer.encode(part.removesuffix(" ") if joins else part), mask]
    return ids + tokenizer.encode(last)


def mask_id(tokenizer: Tokenizer) -> int:
    """The id of the mask. Raises ConfigError for a tokenizer without one."""
    if MASK not in tokenizer.special_tokens:
        raise ConfigError(f"the tokenizer of this model has no {MASK}; train one with `glassformer train --task fill`")
    return tokenizer.special_tokens[MASK]


def joins_spaces(tokenizer: Tokenizer) -> bool:
    """Whether some token is a space and the beginning of a word."""
    return any(piece.startswith(b" ") and piece.strip() for piece in tokenizer.pieces)


def likeliest(tokenizer: Tokenizer, logits: Tensor, top: int) -> tuple[Guess, ...]:
    """The `top` most probable of the ordinary tokens. logits: V."""
    probabilities = logits.double().softmax(-1)[: tokenizer.vocab_size]
    ordinary = probabilities.clone()
    ordinary[list(tokenizer.special_ids)] = -1.0
    best = ordinary.topk(min(top, len(ordinary) - len(tokenizer.special_ids))).indices.tolist()
    return tuple(Guess(id, tokenizer.decode([id]), float(probabilities[id])) for id in best)
