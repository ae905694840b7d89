"""Pre-tokenization: the published patterns that cut text into pieces before any merge, and where text may be cut freely."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from glassformer.errors import ConfigError, nearest

if TYPE_CHECKING:
    import regex

PatternName = Literal["gpt2", "gpt4", "llama3", "qwen2", "gpt4o", "smollm"]  # the keys of PATTERNS

# Facts, from the models' own releases. gpt4 is cl100k as in tiktoken, without the possessive "+" after {1,3}, which the
# regular expressions of `tokenizers` would read as a repetition.
PATTERNS = {
    "gpt2": r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+""",
    "gpt4": r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*+"""
    r"""|\s++$|\s*[\r\n]|\s+(?!\S)|\s+""",
    "llama3": r"""(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"""
    r"""|\s*[\r\n]+|\s+(?!\S)|\s+""",
    # Qwen 2: Llama 3's, but every digit by itself.
    "qwen2": r"""(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"""
    r"""|\s*[\r\n]+|\s+(?!\S)|\s+""",
    # o200k: capital letters may begin a word, not stand inside of one.
    "gpt4o": r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"""
    r"""|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"""
    r"""|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+""",
    # SmolLM and StarCoder: every digit is cut out first, then GPT-2's pattern works on what is left between digits.
    "smollm": r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?=\p{N})|\s+(?!\S)|\s+""",
}

WINDOW = 1 << 22  # characters split at once: bounds the memory that the list of pieces takes


@functools.cache
def compiled(pattern: str) -> regex.Pattern[str]:
    """The pattern, compiled once by `regex`, which is imported only now."""
    import regex

    return regex.compile(pattern)


def pattern_named(name: str) -> str:
    """The pattern of that name. Raises ConfigError with the nearest name."""
    if name not in PATTERNS:
        raise ConfigError(f"pattern={name!r} is unknown{nearest(name, PATTERNS)}")
    return PATTERNS[name]


def pieces(pattern: str, text: str) -> Iterator[list[str]]:
    """The pieces of text, in order, a window at a time. Joined, they are the text."""
    find: Any = compiled(pattern).findall
    start = 0
    while start < len(text):
        end = next_cut(text, start + WINDOW)
        yield find(text[start:end])
        start = end


def next_cut(text: str, at: int) -> int:
    """The first place from `at` on where every pattern begins a new piece whatever the rest of the text is: before a space
    that follows a sign or letter. No alternative of a pattern goes from one to a space.
    """
    while (at := text.find(" ", max(at, 1))) != -1:
        if not text[at - 1].isspace():
            return at
        at += 1
    return len(text)


def last_cut(text: str, at: int) -> int:
    """The last such place up to `at`, or the start of the text."""
    while (at := text.rfind(" ", 0, at + 1)) > 0:
        if not text[at - 1].isspace():
            return at
        at -= 1
    return 0
