"""When each word of a window was said, and the segments that were made up beside silence."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import regex
import torch

from glassformer.generate.timestamps import Stretch, attention_stretches, spellings
from glassformer.generate.transcription import Segment, Word
from glassformer.generate.whisper.tokens import STEP, Tokens
from glassformer.tokenizers import Tokenizer

USUAL = 0.7  # seconds of a word: the longest median that is believed
SENTENCE_ENDS = (".", "!", "?", "\u3002", "\uff01", "\uff1f")
SAYS = regex.compile(r"[\p{L}\p{M}\p{N}\ufffd]")  # a letter, a digit, or half of a character
# What makes a word odd (thresholds of the released program): improbable, hardly there, or endless.
IMPROBABLE, SHORTEST, LONGEST, LOOKED_AT, ODD = 0.15, 0.133, 2.0, 8, 3.0


@torch.inference_mode()
def with_words(
    model: Any,
    memory: Any,
    tokens: Tokens,
    prompt: Sequence[int],
    segments: Sequence[Segment],
    heads: Sequence[tuple[int, int]] | None,
    n_frames: int,
    seconds: tuple[float, float],
) -> list[Segment]:
    """The segments of a window with their words, which begin and end them. `n_frames`: of the encoder, behind which there is
    silence; `seconds`: when the window begins and ends."""
    ids = [[id for id in segment.ids if id < tokens.end] for segment in segments]
    flat = [id for of_segment in ids for id in of_segment]
    if not flat:
        return list(segments)
    stretches = attention_stretches(model, memory, prompt, flat, n_frames=n_frames, heads=heads)
    found: list[Segment] = []
    at = 0
    for segment, own in zip(segments, ids, strict=True):
        of_segment = stretches[at : at + len(own)]
        at += len(own)
        words = limited(spoken(tokens.tokenizer, own, of_segment, seconds))
        found.append(bounded(segment, words) if words and segment.text else segment)
    return found


def spoken(
    tokenizer: Tokenizer, ids: Sequence[int], stretches: Sequence[Stretch], seconds: tuple[float, float]
) -> list[Word]:
    """The words of a segment. What follows its last letter or digit takes up the pause behind a word, not the word itself."""
    found: list[Word] = []
    for word in spellings(tokenizer, ids) if ids else ():
        own = range(word.first, word.last + 1)
        last = next((at for at in reversed(own) if SAYS.search(tokenizer.decode([ids[at]]))), word.last)
        times = (seconds[0] + STEP * frame for frame in (stretches[word.first].first, stretches[last].end))
        begin, end = (round(min(time, seconds[1]), 3) for time in times)
        found.append(Word(word.text, begin, end, sum(stretches[at].probability for at in own) / len(own)))
    return found


def limited(words: Sequence[Word]) -> list[Word]:
    """The words, those that begin or end a sentence cut on that side where they take in a pause: they are long beside others."""
    lengths = [word.end - word.start for word in words if word.end > word.start]
    most = 2 * min(USUAL, statistics.median(lengths)) if lengths else 0.0
    found: list[Word] = []
    begins = True
    for word in words:
        ends = word.text.endswith(SENTENCE_ENDS)
        if word.end - word.start > most and ends:
            word = replace(word, end=round(word.start + most, 3))
        elif word.end - word.start > most and begins:
            word = replace(word, start=round(word.end - most, 3))
        found.append(word)
        begins = ends
    return found


def bounded(segment: Segment, words: Sequence[Word]) -> Segment:
    """A segment with its words, which begins and ends with them."""
    return replace(segment, words=tuple(words), start=words[0].start, end=max(words[-1].end, words[0].start))


def without_hallucinations(
    segments: Sequence[Segment], silence: float | None, seconds: tuple[float, float]
) -> list[Segment]:
    """The segments without those whose words are odd and that have silence of so many seconds before or behind them."""
    if silence is None:
        return list(segments)
    kept: list[Segment] = []
    for number, segment in enumerate(segments):
        before = kept[-1].end if kept else seconds[0]
        behind = next((other.start for other in segments[number + 1 :] if other.words), seconds[1])
        alone = segment.start - before > silence or behind - segment.end > silence
        if not (alone and is_odd(segment.words)):
            kept.append(segment)
    return kept


def is_odd(words: Sequence[Word]) -> bool:
    """Whether hardly any of the first words of a segment can have been said."""
    looked_at = words[:LOOKED_AT]
    score = sum(oddness(word) for word in looked_at)
    return bool(looked_at) and (score >= ODD or score + 0.01 >= len(looked_at))


def oddness(word: Word) -> float:
    """How little a word can have been said."""
    length = word.end - word.start
    odd = 1.0 if word.probability < IMPROBABLE else 0.0
    odd += (SHORTEST - length) * 15 if length < SHORTEST else 0.0
    return odd + (length - LONGEST if length > LONGEST else 0.0)
