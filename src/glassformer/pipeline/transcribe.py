"""From files of sound, samples or vectors to what was said in them, however long they are, and to the labels of short ones."""

# N samples, T vectors, F channels of each

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glassformer.data.sound import heard_part, read_sound, resample, sound_blocks, trimmed
from glassformer.data.utterances import Utterance, read_vectors
from glassformer.errors import ConfigError, DataError
from glassformer.features import FeatureConfig, extract
from glassformer.generate import Beam, Labelling, classify_vectors, transcribe
from glassformer.generate.purpose import refuse_unfit
from glassformer.generate.transcribe import Method
from glassformer.generate.transcription import Segment, Transcription, Word
from glassformer.generate.vectors import most_vectors
from glassformer.pipeline.windows import Cut, Joiner, cuts

if TYPE_CHECKING:
    from glassformer.pipeline.pipeline import Pipeline

Spoken = str | Path | bytes | BinaryIO | NDArray[Any] | Tensor | Utterance
Vectors = TypeVar("Vectors", Tensor, NDArray[np.float32])
LEAST_SECONDS = 0.5  # of a window
WINDOW_SECONDS = 30.0  # of long sound that are read at once, at most; fewer where the model was made for less
CUTS_AT_ONCE = 16  # from however many files


@dataclass(frozen=True)
class Hearing:
    """How sound is to be written down; see `generate.transcribe.transcribe`. `window`: seconds that are read at once, None
    for as many as the model reads, up to 30. `rate`: of samples that do not come from a file, None for the model's own."""

    beam: Beam
    method: Method | None = None
    ctc_weight: float | None = None
    words: bool | Literal["ctc", "attention"] = False
    window: float | None = None
    rate: int | None = None


class Gathered:
    """What has been heard of one source so far. `a_second`: how many of its samples, or vectors, there are in one."""

    def __init__(self, a_second: float, *, keeps_words: bool) -> None:
        self.a_second, self.keeps_words = a_second, keeps_words
        self.joiner = Joiner()
        self.segments: list[Segment] = []
        self.scores: list[float] = []
        self.notes: list[str] = []
        self.seconds = 0.0
        self.only: Transcription | None = None  # where it was read at once

    def add(self, cut: Cut, heard: Transcription) -> list[Segment]:
        """Take what was heard in the next window. Returns the segments that are certain now."""
        start, seconds = cut.start / self.a_second, len(cut.samples) / self.a_second
        is_whole = cut.is_last and cut.start == cut.before
        self.seconds = start + seconds + cut.behind / self.a_second
        self.only = heard if is_whole else None
        self.notes += [note if is_whole else f"from {start:.1f} s: {note}" for note in heard.notes]
        self.scores += [] if heard.score is None else [heard.score]
        certain: list[Segment] = []
        for segment in heard.segments or (Segment(0.0, seconds, "", ()),):
            certain += self.joiner.push(placed(segment, start, seconds), cut.overlap / self.a_second)
        certain += self.joiner.finish() if cut.is_last else []
        if not self.keeps_words:
            certain = [replace(segment, words=()) for segment in certain]
        self.segments += certain
        return certain

    def whole(self) -> Transcription:
        """All of it. The score of several windows is the mean of theirs."""
        return Transcription(
            " ".join(segment.text for segment in self.segments),
            tuple(self.segments),
            sum(self.scores) / len(self.scores) if self.scores else None,
            tuple(self.notes),
            duration=self.seconds,
            texts=() if self.only is None else self.only.texts,
            hypotheses=() if self.only is None else self.only.hypotheses,
        )


def placed(segment: Segment, start: float, seconds: float) -> Segment:
    """A segment of a window that lasts `seconds`, at its place in the whole: the last frame may reach behind the end."""

    def at(time: float) -> float:
        return round(start + min(time, seconds), 3)

    words = tuple(Word(word.text, at(word.start), at(word.end), word.probability) for word in segment.words)
    return replace(segment, start=at(segment.start), end=at(segment.end), words=words)


def transcribe_each(pipe: Pipeline, sources: Iterable[Spoken], hearing: Hearing) -> Iterator[Transcription]:
    """What was said in each source, in order, long ones window by window; memory does not grow with their length.

    Raises DataError, naming the file, for what cannot be read, and ConfigError as `generate.transcribe.transcribe` does.
    """
    for gathered, is_last, _ in heard_in(pipe, sources, hearing):
        if is_last:
            yield gathered.whole()


def segments_of(pipe: Pipeline, source: Spoken, hearing: Hearing) -> Iterator[Segment]:
    """The segments of one source as they become certain. Raises as `transcribe_each` does."""
    for _, _, segments in heard_in(pipe, [source], hearing, at_once=1):
        yield from segments


def heard_in(
    pipe: Pipeline, sources: Iterable[Spoken], hearing: Hearing, at_once: int = CUTS_AT_ONCE
) -> Iterator[tuple[Gathered, bool, list[Segment]]]:
    """For every window of every source what has been heard of the source, whether that is all, and what became certain."""
    features = features_of(pipe, "transcribe")
    windows = windows_of(pipe, sources, features, hearing)
    while batch := list(islice(windows, at_once)):
        loud = [cut for _, cut in batch if not cut.is_silent]
        joins = any(cut.overlap or cut.goes_on for cut in loud)  # by the times of words, whoever else wants them
        found = transcribe(
            pipe.model,
            pipe.tokenizer,
            [vectors_of(cut.samples, features) for cut in loud],
            beam=hearing.beam,
            method=hearing.method,
            ctc_weight=hearing.ctc_weight,
            words=hearing.words or joins,
            seconds=seconds_of(features),
        )
        heard = iter(found)
        for gathered, cut in batch:
            said = Transcription("") if cut.is_silent else next(heard)
            yield gathered, cut.is_last, gathered.add(cut, said)


def windows_of(
    pipe: Pipeline, sources: Iterable[Spoken], features: FeatureConfig, hearing: Hearing
) -> Iterator[tuple[Gathered, Cut]]:
    """The windows of every source. Vectors that come as they are are one window."""
    window = window_of(pipe, features, hearing.window)
    a_second = 1.0 if features.kind == "vectors" else features.rate
    for source in sources:
        gathered = Gathered(a_second, keeps_words=hearing.words is not False)
        if features.kind == "vectors":
            yield gathered, Cut(readable(pipe, source, vectors_in(source, features)), 0)
            continue
        for cut in cuts(blocks_of(source, features.rate, window, gathered.notes, hearing.rate), features.rate, window):
            yield gathered, cut if cut.is_silent else cut.kept(*heard_part(cut.samples, features))


def classify_each(pipe: Pipeline, sources: Sequence[Spoken], rate: int | None = None) -> list[Labelling]:
    """The labels of each source, which is read at once. Raises DataError, naming the file, for what cannot be read."""
    features = features_of(pipe, "classify_vectors")
    vectors = (vectors_of(given_in(source, features, rate), features) for source in sources)
    read = [readable(pipe, source, found) for source, found in zip(sources, vectors, strict=True)]
    return classify_vectors(pipe.model, pipe.tokenizer, read, [name_of(source) for source in sources])


def readable(pipe: Pipeline, source: Spoken, vectors: Vectors) -> Vectors:
    """The vectors of a source. Raises DataError, naming it, where they are more than the model reads."""
    most = most_vectors(pipe.model.config)
    if len(vectors) > most:
        raise DataError(
            f"{name_of(source)}: makes {len(vectors):,} vectors, more than the {most:,} that the model can read at once"
        )
    return vectors


def features_of(pipe: Pipeline, task: str) -> FeatureConfig:
    """How sound becomes the vectors of a model. Raises ConfigError for one that was not made for the task, or does not say."""
    refuse_unfit(pipe.model, pipe.tokenizer, task)
    if pipe.features is None:
        raise ConfigError(
            "the model does not say how sound becomes its vectors: its folder has no preprocessor_config.json"
        )
    return pipe.features


def seconds_of(features: FeatureConfig) -> float:
    """From one vector to the next; 1 for vectors from files, whose time nobody knows, so that it is counted in vectors."""
    return 1.0 if features.kind == "vectors" else features.hop / features.rate


def window_of(pipe: Pipeline, features: FeatureConfig, asked: float | None) -> float:
    """How many seconds are read at once. Raises ConfigError for more than the model reads, or hardly any."""
    most = (most_vectors(pipe.model.config) - 1) * seconds_of(features)
    if features.chunk_seconds is not None:
        most = min(most, features.chunk_seconds)
    if asked is None:
        return min(WINDOW_SECONDS, most)
    if not LEAST_SECONDS <= asked <= most:
        raise ConfigError(
            f"window={asked:g} s is out of range: expected {LEAST_SECONDS:g} to {most:g} s for this model"
        )
    return asked


def vectors_of(given: NDArray[np.float32], features: FeatureConfig) -> Tensor:
    """The vectors that a model reads, T F, as in training: of samples, N, or of vectors from a file, T size."""
    return extract(torch.from_numpy(given), features)


def given_in(source: Spoken, features: FeatureConfig, rate: int | None) -> NDArray[np.float32]:
    """All samples of a source, or all its vectors, whichever a model's vectors are made of. Raises DataError."""
    if features.kind == "vectors":
        return vectors_in(source, features)
    return trimmed(samples_of(source, features.rate, rate), features)


def vectors_in(source: Spoken, features: FeatureConfig) -> NDArray[np.float32]:
    """Vectors from a file or an array as they are there, T size. Raises DataError."""
    if isinstance(source, bytes) or hasattr(source, "read"):
        raise DataError("vectors are read from .npy and .npz files, not from a stream; name a file")
    if isinstance(source, str | Path):
        source = Utterance(str(source), Path(source), "")
    found = (
        read_vectors(source) if isinstance(source, Utterance) else np.ascontiguousarray(as_array(source), np.float32)
    )
    if found.ndim != 2 or found.shape[1] != features.size:
        raise DataError(
            f"{name_of(source)}: has the shape {list(found.shape)}, and the model reads vectors of {features.size} numbers"
        )
    if not len(found):
        raise DataError(f"{name_of(source)}: holds no vector")
    return found


def blocks_of(
    source: Spoken, rate: int, seconds: float, notes: list[str], own_rate: int | None
) -> Iterator[NDArray[np.float32]]:
    """The samples of a source, block by block. Raises DataError."""
    if isinstance(source, Utterance):
        part: dict[str, Any] = {"offset": source.offset, "duration": source.duration}
        return sound_blocks(source.path, rate, seconds, notes=notes, **part)
    if isinstance(source, np.ndarray | Tensor):
        return iter([from_array(source, rate, own_rate)])
    return sound_blocks(Path(source) if isinstance(source, str) else source, rate, seconds, notes=notes)


def samples_of(source: Spoken, rate: int, own_rate: int | None) -> NDArray[np.float32]:
    """All samples of a source. Raises DataError."""
    if isinstance(source, Utterance):
        return read_sound(source.path, rate, offset=source.offset, duration=source.duration).samples
    if isinstance(source, np.ndarray | Tensor):
        return from_array(source, rate, own_rate)
    return read_sound(Path(source) if isinstance(source, str) else source, rate).samples


def from_array(source: NDArray[Any] | Tensor, rate: int, own_rate: int | None) -> NDArray[np.float32]:
    """Samples that somebody else read. Raises DataError for what are none in [-1, 1]."""
    samples = as_array(source)
    if samples.ndim != 1 or not len(samples) or samples.dtype.kind != "f":
        found = f"{samples.dtype} of shape {list(samples.shape)}"
        raise DataError(f"samples: expected floating numbers in [-1, 1], one after another, found {found}")
    if not np.isfinite(samples).all():
        raise DataError("samples: some are not finite numbers")
    plain = np.ascontiguousarray(samples, np.float32)
    return plain if own_rate in (None, rate) else resample(plain, own_rate, rate)


def as_array(source: Any) -> NDArray[Any]:
    """The numbers of a tensor, wherever it lies and whatever leads to it; an array as it is."""
    if not isinstance(source, Tensor):
        return np.asarray(source)
    numbers = source.detach().cpu()
    return (numbers.float() if numbers.is_floating_point() else numbers).numpy()  # numpy has no bfloat16


def name_of(source: Spoken) -> str:
    """How an error calls a source."""
    if isinstance(source, Utterance):
        return source.where
    return str(source) if isinstance(source, str | Path) else "samples" if not hasattr(source, "read") else "the stream"
