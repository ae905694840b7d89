"""Tokenizers: characters, words, bytes and byte pairs, trained here or read from tokenizer.json. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from glassformer.errors import ConfigError, TokenizerError, nearest
from glassformer.tokenizers import schema
from glassformer.tokenizers.base import Merge, Token, Tokenizer
from glassformer.tokenizers.bpe import BytePairTokenizer
from glassformer.tokenizers.byte import ByteTokenizer
from glassformer.tokenizers.characters import CharacterTokenizer
from glassformer.tokenizers.stream import StreamDecoder
from glassformer.tokenizers.words import WordTokenizer

__all__ = [
    "TOKENIZERS",
    "BytePairTokenizer",
    "ByteTokenizer",
    "CharacterTokenizer",
    "Merge",
    "StreamDecoder",
    "Token",
    "Tokenizer",
    "WordTokenizer",
    "load_tokenizer",
    "train_tokenizer",
]


def train_tokenizer(
    kind: str,
    texts: Iterable[str],
    *,
    vocab_size: int | None = None,
    pattern: Literal["gpt2", "gpt4", "llama3"] = "gpt2",
    special_tokens: Sequence[str] = (),
) -> Tokenizer:
    """A tokenizer of that kind for documents. Raises ConfigError for an unknown kind or pattern, TokenizerError when the
    text does not allow `vocab_size`, which counts the special tokens; None chooses a size that it does.
    """
    if kind not in TOKENIZERS:
        raise ConfigError(f"tokenizer kind {kind!r} is unknown{nearest(kind, TOKENIZERS)}")
    return TOKENIZERS[kind].train(texts, vocab_size=vocab_size, special_tokens=special_tokens, pattern=pattern)


def load_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of a tokenizer.json, given as the file or as its folder. Raises TokenizerError with file and reason."""
    file = schema.read(Path(path))
    try:
        found = (kind.from_schema(file) for kind in TOKENIZERS.values())
        tokenizer = next((tokenizer for tokenizer in found if tokenizer is not None), None)
    except TokenizerError as error:
        raise error if str(error).startswith(str(file.path)) else file.wrong(str(error)) from None
    if tokenizer is None:
        raise file.wrong(
            f"a {file.model.get('type')!r} model with this pre_tokenizer is none of {', '.join(TOKENIZERS)}"
        )
    return tokenizer


TOKENIZERS: dict[str, type[Tokenizer]] = {
    "characters": CharacterTokenizer,
    "words": WordTokenizer,
    "bytes": ByteTokenizer,
    "bpe": BytePairTokenizer,  # after "bytes", whose file is a BPE without merges
}
