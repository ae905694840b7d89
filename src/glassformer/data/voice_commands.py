"""Commands to a computer, as people would say them: a small grammar, and which of its sentences are held back."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from glassformer.data.splitting import throw

HELD_BACK = 0.15  # of the sentences, each made of words that others have too

WHOSE = ("my", "the", "all my", "the new", "the old")
THINGS = ("files", "directories", "photos", "songs", "letters", "messages", "programs")
GRAMMAR: tuple[tuple[tuple[str, ...], ...], ...] = (  # of each row one of every column, in order
    (("show me", "find", "open", "close", "copy", "print", "delete"), WHOSE, THINGS, ("", "please")),
    (
        ("check whether",),
        ("the battery", "the program", "the printer", "the computer", "the music"),
        ("ran", "ran down", "stopped", "is ready", "is open"),
        ("", "please"),
    ),
    (("play",), ("my", "the", "all my"), ("song", "songs", "music", "messages"), ("", "again", "please")),
    (("turn",), ("the music", "the volume", "the light"), ("up", "down"), ("", "again", "please")),
    (
        ("open", "close", "stop", "start"),
        ("the",),
        ("program", "printer", "computer", "music"),
        ("", "again", "please"),
    ),
    (("tell me",), ("what time it is", "what day it is", "how many files there are"), ("", "again", "please")),
)


def sentences() -> Iterator[str]:
    """Every sentence of the grammar, once."""
    said = (" ".join(filter(None, words)) for columns in GRAMMAR for words in itertools.product(*columns))
    return iter(dict.fromkeys(said))


def is_held_back(sentence: str) -> bool:
    """Whether a sentence is kept for testing; "please" behind it makes it no other, so both are on one side."""
    return throw(sentence.removesuffix(" please"), seed=0) < HELD_BACK * 2**64
