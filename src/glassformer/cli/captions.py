"""Transcriptions as files: plain text, JSON, the subtitles of SubRip and WebVTT, and a table of times."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from glassformer.generate.transcription import Segment, Transcription, Word

ALL = "all"


def as_text(found: Transcription) -> str:
    """A line for each segment."""
    return "".join(f"{one_line(segment.text)}\n" for segment in found.segments) or "\n"


def as_json(found: Transcription) -> str:
    """Text, language, duration, segments with their tokens and measures, and words."""
    return json.dumps(found.to_dict(), ensure_ascii=False) + "\n"


def as_srt(found: Transcription) -> str:
    """SubRip: numbered, comma before the milliseconds, each word in turn underlined where their times are known."""
    return "".join(
        f"{number}\n{clock(start, ',', hours=True)} --> {clock(end, ',', hours=True)}\n{text}\n\n"
        for number, (start, end, text) in enumerate(cues(found, "<u>{}</u>"), start=1)
    )


def as_vtt(found: Transcription) -> str:
    """WebVTT (W3C): a head, a point before the milliseconds, hours only where there are any; signs of markup escaped."""
    return "WEBVTT\n\n" + "".join(
        f"{clock(start, '.')} --> {clock(end, '.')}\n{text}\n\n"
        for start, end, text in cues(found, "<u>{}</u>", escaped)
    )


def as_tsv(found: Transcription) -> str:
    """Start and end in milliseconds, and the text."""
    rows = (
        f"{round(1000 * segment.start)}\t{round(1000 * segment.end)}\t{one_line(segment.text)}\n"
        for segment in found.segments
    )
    return "start\tend\ttext\n" + "".join(rows)


def cues(
    found: Transcription, marked: str, write: Callable[[str], str] = lambda text: text
) -> Iterator[tuple[float, float, str]]:
    """What is shown from when to when: segments, or, where times of words are known, the segment with each word marked."""
    for segment in found.segments:
        if not segment.words:
            yield segment.start, segment.end, write(one_line(segment.text)).replace("-->", "->")
            continue
        for number, word in enumerate(segment.words):
            until = segment.words[number + 1].start if number + 1 < len(segment.words) else segment.end
            yield word.start, max(until, word.end), with_mark(segment, segment.words, number, marked, write)


def with_mark(
    segment: Segment, words: tuple[Word, ...], marked_number: int, marked: str, write: Callable[[str], str]
) -> str:
    """The text of a segment with one of its words marked; words stand as they do in the text, with or without spaces."""
    text, at, parts = one_line(segment.text), 0, []
    for number, word in enumerate(words):
        found = text.find(word.text, at)
        if found < 0:  # the text was changed since
            continue
        shown = write(word.text)
        parts += [write(text[at:found]), marked.format(shown) if number == marked_number else shown]
        at = found + len(word.text)
    return "".join([*parts, write(text[at:])]).replace("-->", "->")


def escaped(text: str) -> str:
    """Text as WebVTT wants it."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def clock(seconds: float, point: str, *, hours: bool = False) -> str:
    """``00:00:01,500``."""
    whole = max(0, round(1000 * seconds))
    minutes, rest = divmod(whole, 60_000)
    shown = f"{rest // 1000:02}{point}{rest % 1000:03}"
    if hours or minutes >= 60:
        return f"{minutes // 60:02}:{minutes % 60:02}:{shown}"
    return f"{minutes:02}:{shown}"


def one_line(text: str) -> str:
    """A text without line breaks and tabs, which would end a cue or a cell."""
    return " ".join(text.split())


FORMATS: dict[str, Callable[[Transcription], str]] = {
    "txt": as_text,
    "json": as_json,
    "srt": as_srt,
    "vtt": as_vtt,
    "tsv": as_tsv,
}
