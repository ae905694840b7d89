"""What was said, as data: words and segments with their times in seconds, and the whole of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from glassformer.generate.beam import BeamHypothesis


@dataclass(frozen=True, slots=True)
class Word:
    """A word, from when to when it was said, in seconds, and how sure the model is of it, 0 to 1. `text` has no spaces."""

    text: str
    start: float
    end: float
    probability: float


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of speech that was read at once: its times in seconds, its text and tokens, and its words where asked for.

    The optional fields are those that Whisper tells of each segment, under its own names; None where nobody measured them.
    """

    start: float
    end: float
    text: str
    ids: tuple[int, ...]
    words: tuple[Word, ...] = ()
    temperature: float | None = None
    avg_logprob: float | None = None
    compression_ratio: float | None = None
    no_speech_prob: float | None = None


@dataclass(frozen=True, slots=True)
class Transcription:
    """The best text found, its segments in order, its score, and whatever else was found, best first.

    `score`: the mean of what the search maximised, a log probability by the length; None where nothing was searched.
    `texts` and `hypotheses`: all that were asked for, of one window of sound; empty where several were joined. `language`:
    what was spoken, where the model tells. `duration`: of the sound, in seconds, where it is known.
    """

    text: str
    segments: tuple[Segment, ...] = ()
    score: float | None = None
    notes: tuple[str, ...] = ()
    language: str | None = None
    duration: float | None = None
    texts: tuple[str, ...] = ()
    hypotheses: tuple[BeamHypothesis, ...] = field(default=(), compare=False)

    @property
    def words(self) -> tuple[Word, ...]:
        """All words in order, where their times were asked for."""
        return tuple(word for segment in self.segments for word in segment.words)

    def to_dict(self) -> dict[str, Any]:
        """As `verbose_json` of the transcription interfaces has it: text, language, duration, segments and their words."""
        return {
            "text": self.text,
            "language": self.language,
            "duration": self.duration,
            "segments": [segment_dict(number, segment) for number, segment in enumerate(self.segments)],
        }


def segment_dict(number: int, segment: Segment) -> dict[str, Any]:
    """A segment as JSON, what nobody measured left out."""
    measured = {
        name: value
        for name in ("temperature", "avg_logprob", "compression_ratio", "no_speech_prob")
        if (value := getattr(segment, name)) is not None
    }
    found: dict[str, Any] = {
        "id": number,
        "start": segment.start,
        "end": segment.end,
        "text": segment.text,
        "tokens": list(segment.ids),
        **measured,
    }
    if segment.words:
        found["words"] = [
            {"word": word.text, "start": word.start, "end": word.end, "probability": word.probability}
            for word in segment.words
        ]
    return found
