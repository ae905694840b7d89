"""Labels for whole texts, or a tag for each word of one, with the probability of each."""

# C labels

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from glassformer.errors import ConfigError
from glassformer.generate.context import evaluating
from glassformer.generate.purpose import refuse_unfit
from glassformer.generate.reading import answers, refuse_unreadable, with_start
from glassformer.generate.vectors import batch_for, batches, refuse_unreadable_vectors
from glassformer.tokenizers import Tokenizer


@dataclass(frozen=True, slots=True)
class Labelling:
    """The labels of a text: the likeliest one, or, where several may apply, all that are more likely than not."""

    text: str  # or the name of what was read instead of one
    labels: tuple[str, ...]
    probabilities: Mapping[str, float]  # of every label, in the order of the model's


@dataclass(frozen=True, slots=True)
class Tagging:
    """The tag of each word, and for each word the probability of every tag."""

    words: tuple[str, ...]
    tags: tuple[str, ...]
    probabilities: tuple[Mapping[str, float], ...]


@torch.inference_mode()
def classify(model: Any, tokenizer: Tokenizer, texts: Sequence[str]) -> list[Labelling]:
    """The labels of each text.

    Probabilities are a softmax over the labels, or a sigmoid of each where several may apply. Raises ConfigError as
    `rows_to_label` does.
    """
    rows = rows_to_label(model, tokenizer, texts)
    names, several = model.config.labels, model.config.several_labels
    found: dict[int, Labelling] = {}
    for number, logits in answers(model, rows):
        found[number] = labelling(texts[number], logits, names, several)
    return [found[number] for number in range(len(texts))]


@torch.inference_mode()
def classify_vectors(
    model: Any, tokenizer: Tokenizer, vectors: Sequence[Tensor], names: Sequence[str] = ()
) -> list[Labelling]:
    """The labels of each source, vectors T F, as `classify` gives them; `names` stand for the sources in place of a text.

    Raises ConfigError for a model that was not made for it, or sources that it cannot read.
    """
    refuse_unfit(model, tokenizer, "classify_vectors")
    refuse_unreadable_vectors(model, vectors)
    config = model.config
    found: dict[int, Labelling] = {}
    with evaluating(model):
        for rows in batches([len(source) for source in vectors]):
            x, at = batch_for(model, [vectors[row] for row in rows])
            said = model(x, at=at)
            for row, logits in zip(rows, said, strict=True):
                name = names[row] if names else ""
                found[row] = labelling(name, logits, config.labels, config.several_labels)
    return [found[row] for row in range(len(vectors))]


def labelling(text: str, logits: Tensor, names: Sequence[str], several: bool) -> Labelling:
    """What scores of all labels [C] say."""
    probabilities = logits.double().sigmoid() if several else logits.double().softmax(-1)
    picked = (logits > 0).nonzero()[:, 0].tolist() if several else [int(logits.argmax())]
    return Labelling(text, tuple(names[label] for label in picked), by_name(names, probabilities))


@torch.inference_mode()
def tag(model: Any, tokenizer: Tokenizer, sentences: Sequence[Sequence[str]]) -> list[Tagging]:
    """The tag of each word of each sentence, which the first token of a word carries. Raises ConfigError as `rows_to_tag`."""
    cut = rows_to_tag(model, tokenizer, sentences)
    names = model.config.labels
    found: dict[int, Tagging] = {}
    for number, logits in answers(model, [in_frame(tokenizer, words) for words in cut]):
        *firsts, _ = accumulate(map(len, cut[number]), initial=len(tokenizer.frame[0]))
        carried = logits[firsts]  # words C
        tags = tuple(names[label] for label in carried.argmax(-1).tolist())
        probabilities = tuple(by_name(names, row) for row in carried.double().softmax(-1))
        found[number] = Tagging(tuple(sentences[number]), tags, probabilities)
    return [found[number] for number in range(len(sentences))]


def rows_to_label(model: Any, tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """The tokens of each text. Raises ConfigError for a model that was not made for it, a text that is empty or too long."""
    refuse_unfit(model, tokenizer, "classify")
    rows = with_start(tokenizer, texts)
    refuse_unreadable(texts, rows, model.config.max_len)
    return rows


def rows_to_tag(model: Any, tokenizer: Tokenizer, sentences: Sequence[Sequence[str]]) -> list[list[list[int]]]:
    """The tokens of each word of each sentence. Raises ConfigError as `rows_to_label` does, and for an empty word."""
    refuse_unfit(model, tokenizer, "tag")
    texts = [" ".join(words) for words in sentences]
    cut = [tokenizer.encode_words(words) for words in sentences]
    refuse_unreadable(texts, [in_frame(tokenizer, words) for words in cut], model.config.max_len)
    for text, words in zip(texts, cut, strict=True):
        if not all(words):
            raise ConfigError(f"word {words.index([]) + 1} of {text[:40]!r} is empty; leave it out")
    return cut


def in_frame(tokenizer: Tokenizer, words: Sequence[Sequence[int]]) -> list[int]:
    """The tokens of all words of a sentence, as the model reads them."""
    return tokenizer.framed([id for word in words for id in word])


def by_name(names: Sequence[str], probabilities: Tensor) -> dict[str, float]:
    """Probabilities [C] under the names of their labels."""
    return dict(zip(names, probabilities.tolist(), strict=True))
