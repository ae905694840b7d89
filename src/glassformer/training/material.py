"""What a run trains on: documents read, split, and turned into token ids."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glassformer.data import Corpus, Document, Split, read_documents, split
from glassformer.errors import ConfigError, DataError
from glassformer.tokenizers import Tokenizer, load_tokenizer, train_tokenizer
from glassformer.training.recipe import DataRecipe, TokenizerRecipe


@dataclass(frozen=True)
class Material:
    """What a run trains on: token ids and what they stand for."""

    tokenizer: Tokenizer
    train: NDArray[np.integer[Any]]
    validation: NDArray[np.integer[Any]]
    validation_bytes: int
    fingerprint: str  # of text, split and tokenizer


def read_and_split(data: DataRecipe) -> tuple[Corpus, Split]:
    """The documents of a recipe, and which of them are held back."""
    corpus = read(data.sources, data)
    return corpus, split(
        corpus, data.validation_fraction, validation=read(data.validation, data) if data.validation else None
    )


def read(sources: tuple[str, ...], data: DataRecipe) -> Corpus:
    """The documents of some sources."""
    return read_documents(sources, text_key=data.text_key, encoding=data.encoding)


def make_tokenizer(recipe: TokenizerRecipe, parts: Split) -> Tokenizer:
    """The tokenizer of a path, or a new one trained on the training text."""
    if recipe.path is not None:
        known = load_tokenizer(Path(recipe.path))
        if recipe.vocab_size not in (None, known.vocab_size):
            found = f"{recipe.path} holds a tokenizer of {known.vocab_size:,} tokens, not of {recipe.vocab_size:,}"
            raise ConfigError(f"{found}; leave out --vocab-size, or train a tokenizer instead of naming one")
        return known
    texts = (document.text for document in parts.train)
    return train_tokenizer(recipe.kind, texts, vocab_size=recipe.vocab_size, pattern=recipe.pattern)


def tokenize(parts: Split, tokenizer: Tokenizer) -> Material:
    """Both sides of a split as one array of ids each, with an end token behind each document where there are several."""
    several = len(parts.train) > 1

    def encode(documents: tuple[Document, ...]) -> NDArray[np.integer[Any]]:
        end = np.array([tokenizer.eos_id] if several else [], dtype=np.int64)
        arrays = [array for document in documents for array in (tokenizer.encode_array(document.text), end)]
        dtype = np.uint16 if tokenizer.vocab_size <= 2**16 else np.uint32
        return np.concatenate(arrays).astype(dtype)

    train, validation = encode(parts.train), encode(parts.validation)
    for name, array in (("training", train), ("validation", validation)):
        if len(array) < 2:
            raise DataError(f"the {name} text has {len(array)} of the 2 tokens it needs at least; add text")
    digest = hashlib.sha256(train.tobytes() + b"|" + validation.tobytes()).hexdigest()
    return Material(tokenizer, train, validation, sum(len(d.text.encode()) for d in parts.validation), digest)
