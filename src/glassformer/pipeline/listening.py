"""One source through whichever way its model transcribes: Whisper's, or that of the models trained here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from glassformer.generate.transcription import Segment, Transcription
from glassformer.generate.whisper import Heard, is_whispers, joined, settings_of, windows_heard
from glassformer.generate.whisper.tokens import Tokens
from glassformer.pipeline.transcribe import Spoken, blocks_of, features_of, heard_in

if TYPE_CHECKING:
    from glassformer.pipeline.pipeline import Pipeline

BLOCK_SECONDS = 30.0  # of a file that are read at once
Told = Callable[[Sequence[Segment], float], object]  # what became certain, and how many seconds have been read


def is_whisper(pipe: Pipeline) -> bool:
    """Whether a model is asked as Whisper is."""
    return is_whispers(pipe.tokenizer) and pipe.features is not None and pipe.features.kind == "whisper"


def listen(
    pipe: Pipeline, source: Spoken, settings: Mapping[str, Any] | None = None, told: Told | None = None
) -> Transcription:
    """What is said in one source. `settings`: those of `WhisperSettings`, of a model trained here those of `Pipeline.transcribe`.

    `told` hears of every window. Raises DataError, naming the file, for what cannot be read, and ConfigError for settings
    that the model cannot follow.
    """
    asked = dict(settings or {})
    if not is_whisper(pipe):
        for gathered, is_last, certain in heard_in(pipe, [source], pipe.hearing(asked), at_once=1):
            if told is not None:
                told(certain, gathered.seconds)
            if is_last:
                return gathered.whole()
        return Transcription("")
    notes: list[str] = []
    windows = windows_of_whisper(pipe, source, asked, notes)
    found = joined(windows, None if told is None else lambda heard: told(heard.segments, heard.until))
    return replace(found, notes=tuple(notes))


def whisper_segments(pipe: Pipeline, source: Spoken, settings: Mapping[str, Any]) -> Iterator[Segment]:
    """The segments that a Whisper hears in a source, as they become certain. Raises as `listen` does."""
    for heard in windows_of_whisper(pipe, source, settings, []):
        yield from heard.segments


def windows_of_whisper(
    pipe: Pipeline, source: Spoken, settings: Mapping[str, Any], notes: list[str]
) -> Iterator[Heard]:
    """What a Whisper hears in each window of a source; what was found in the file goes to `notes`."""
    asked = in_whispers_words(settings)
    own_rate = asked.pop("rate", None)
    features, wanted = features_of(pipe, "transcribe"), settings_of(asked)

    def blocks(notes: list[str]) -> Iterator[NDArray[np.float32]]:
        return blocks_of(source, features.rate, BLOCK_SECONDS, notes, own_rate)

    again = None if hasattr(source, "read") else lambda: blocks([])  # a stream is read once
    return windows_heard(pipe.model, pipe.tokenizer, features, pipe.generation, blocks(notes), wanted, again)


def refuse_settings(pipe: Pipeline, settings: Mapping[str, Any]) -> None:
    """Raise ConfigError, before any sound is read or recorded, for settings that a model cannot follow."""
    if not is_whisper(pipe):
        pipe.hearing(settings)
        return
    wanted = settings_of(in_whispers_words(settings))
    tokens = Tokens.of(pipe.tokenizer, pipe.generation, pipe.model.config.vocab_size)
    tokens.language_for(wanted.language, wanted.task)


def in_whispers_words(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Settings under the names that a Whisper has for them: `words` asks for the times of words there too."""
    values = dict(asked)
    if values.get("words") is not None:
        values["word_timestamps"] = bool(values.pop("words"))
    return values
