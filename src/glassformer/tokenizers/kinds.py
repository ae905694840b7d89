"""Which kind of tokenizer it is: the table of kinds, and the one that a name or a file asks for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from glassformer.errors import ConfigError, TokenizerError, nearest
from glassformer.tokenizers import schema
from glassformer.tokenizers.base import Tokenizer
from glassformer.tokenizers.bpe import BytePairTokenizer
from glassformer.tokenizers.byte import ByteTokenizer
from glassformer.tokenizers.characters import CharacterTokenizer
from glassformer.tokenizers.library import LibraryTokenizer
from glassformer.tokenizers.patterns import PatternName
from glassformer.tokenizers.words import WordTokenizer


def train_tokenizer(
    kind: str,
    texts: Iterable[str],
    *,
    vocab_size: int | None = None,
    pattern: PatternName = "gpt2",
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
    document, config, file = schema.read(Path(path))
    return tokenizer_from(document, config, str(file))


def tokenizer_from(
    document: Mapping[str, Any], config: Mapping[str, Any] | None = None, where: str = "tokenizer.json"
) -> Tokenizer:
    """The tokenizer that the contents of a tokenizer.json and a tokenizer_config.json describe: one of `TOKENIZERS` where one
    of them is the same, else a LibraryTokenizer. `where` is the place for messages. Raises TokenizerError.
    """
    config = config or {}
    try:
        file = schema.plain(document, config, where)
    except TokenizerError:
        return LibraryTokenizer(document, config, where)
    try:
        found = (kind.from_schema(file) for kind in TOKENIZERS.values())
        tokenizer = next((tokenizer for tokenizer in found if tokenizer is not None), None)
    except TokenizerError as error:
        try:
            return LibraryTokenizer(document, config, where)
        except TokenizerError:  # ours says more of a file that was meant for one of our kinds
            raise error if str(error).startswith(where) else file.wrong(str(error)) from None
    if tokenizer is None:
        return LibraryTokenizer(document, config, where)
    tokenizer.frame = file.frame
    return tokenizer


TOKENIZERS: dict[str, type[Tokenizer]] = {
    "characters": CharacterTokenizer,
    "words": WordTokenizer,
    "bytes": ByteTokenizer,
    "bpe": BytePairTokenizer,  # after "bytes", whose file is a BPE without merges
}
