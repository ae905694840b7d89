"""The fast path of byte pair encoding: the library gigatoken behind the interface of our definition, held to its ids."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sys
import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from glassformer.tokenizers import schema
from glassformer.tokenizers.pairs import extend_vocab, first_vocab
from glassformer.tokenizers.patterns import PATTERNS
from glassformer.tokenizers.settled import stretches, unsettled_places

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Merges = Sequence[tuple[bytes, bytes]]

# What gigatoken has compiled code for, where it is spelled otherwise than ours (same language, different notation).
SPELLINGS = {"gpt4": PATTERNS["gpt4"].replace("{1,3}|", "{1,3}+|")}


class Gigatoken(Protocol):
    """The part of gigatoken's tokenizer that is used here."""

    def encode(self, input: str) -> npt.NDArray[np.uint32]: ...
    def encode_batch_list(self, inputs: list[str]) -> list[list[int]]: ...


@functools.cache
def load_gigatoken() -> Any | None:
    """The library, or None with one warning where it cannot be imported."""
    try:
        import gigatoken
    except ImportError as error:
        warnings.warn(
            f"gigatoken cannot be imported ({error}); byte pair encoding runs on our own definition, which gives the same "
            "ids more slowly (`pip install gigatoken` brings the speed back)",
            stacklevel=2,
        )
        return None
    return gigatoken


class FastEncoder:
    """Encodes as `definition` does, which it calls for the stretches of text where the library might not agree."""

    def __init__(self, library: Gigatoken, definition: Callable[[str], list[int]]) -> None:
        self.library = library
        self.definition = definition

    def encode(self, text: str) -> npt.NDArray[np.uint32]:
        """The ids of text, in which nothing is special."""
        places = unsettled_places(text)
        if not places:
            return self.library.encode(text)
        import numpy as np

        parts = [
            self.library.encode(stretch) if settled else np.array(self.definition(stretch), dtype=np.uint32)
            for stretch, settled in stretches(text, places)
        ]
        return np.concatenate(parts)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, on all cores."""
        if any(map(unsettled_places, texts)):
            return [self.encode(text).tolist() for text in texts]
        return self.library.encode_batch_list(list(texts))


def open_library(pattern: str, vocab: Mapping[bytes, int], merges: Merges) -> Gigatoken | None:
    """The library's tokenizer for these merges, or None where it is missing or does not take them."""
    gigatoken = load_gigatoken()
    if gigatoken is None:
        return None
    cut = schema.split(SPELLINGS.get(pattern, PATTERNS[pattern]))
    parts = bpe_parts(cut, {schema.spell(piece): id for piece, id in vocab.items()}, merges)
    # No special tokens: gigatoken would find them in any text, and text must not forge them.
    content = json.dumps(schema.document(parts, schema.SpecialTokens({})))
    try:
        return gigatoken.Tokenizer.from_json(content)
    except (RuntimeError, ValueError):  # a vocabulary of a shape it does not know
        return None


def bpe_parts(cut: Mapping[str, Any], vocab: Mapping[str, int], merges: Merges) -> dict[str, Any]:
    """The parts of a tokenizer.json for byte-level BPE over pieces that `cut` makes."""
    plain = schema.byte_level(use_regex=False)
    return {
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [cut, plain]},
        "decoder": plain,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": vocab,
            "merges": [f"{schema.spell(left)} {schema.spell(right)}" for left, right in merges],
        },
    }


def learn_merges_fast(texts: Sequence[str], n_tokens: int, pattern: str) -> list[tuple[bytes, bytes]] | None:
    """The merges of `learn_merges`, or None where gigatoken is missing or could differ from it.

    It cuts pieces by GPT-2's pattern only. Asked for more merges than there are pairs that occur twice, it goes on with
    pairs that never occur; counts only fall from one merge to the next, so it is enough that the last token occurs twice.
    """
    if pattern != "gpt2" or n_tokens < 1 or any(map(unsettled_places, texts)):
        return None
    gigatoken = load_gigatoken()
    if gigatoken is None:
        return None
    separator = b"\xff"  # no UTF-8 text has it, and no piece reaches across it
    data = separator.join(text.encode() for text in texts)
    with quiet():
        _, merges = gigatoken.train_bpe(data, 256 + n_tokens, [], tie_breaking="huggingface", separator=separator)
    vocab = extend_vocab(first_vocab(), merges)
    if len(merges) != n_tokens or len(vocab) != 256 + n_tokens:
        return None
    library = open_library(pattern, vocab, merges)
    return merges if library is not None and occurs_twice(vocab[b"".join(merges[-1])], texts, library) else None


def occurs_twice(id: int, texts: Sequence[str], library: Gigatoken) -> bool:
    """Whether the texts have the id at least twice."""
    seen = 0
    for text in texts:
        seen += int((library.encode(text) == id).sum())
        if seen >= 2:
            return True
    return False


@contextlib.contextmanager
def quiet() -> Generator[None]:
    """Hold back what a library writes past Python, to the process's own standard output and error."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    try:
        kept = [os.dup(1), os.dup(2)]
    except OSError:  # a process without them has nothing to hold back
        yield
        return
    sink = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        yield
    finally:
        for original, descriptor in zip(kept, (1, 2), strict=True):
            os.dup2(original, descriptor)
        for descriptor in (*kept, sink):
            os.close(descriptor)
