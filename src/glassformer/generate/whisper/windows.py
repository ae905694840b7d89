"""A sound of any length through a Whisper: windows of 30 s, each beginning where the text of the one before it ended."""

# N samples, T frames, F bands

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from glassformer.errors import ConfigError
from glassformer.features import FeatureConfig, extract, loudest_band
from glassformer.generate.context import evaluating
from glassformer.generate.transcription import Segment, Transcription
from glassformer.generate.vectors import stride_of
from glassformer.generate.whisper.decoding import Decoded, decode_window, hear_language, is_silence
from glassformer.generate.whisper.settings import WhisperSettings
from glassformer.generate.whisper.sound import Samples, Sound
from glassformer.generate.whisper.tokens import STEP, Tokens
from glassformer.generate.whisper.words import with_words, without_hallucinations
from glassformer.models.encoder_decoder import Memory
from glassformer.tokenizers import Tokenizer

Blocks = Callable[[], Iterable[Samples]]
FORGETFUL = 0.5  # a text drawn at a higher temperature is no guide for the next


@dataclass(frozen=True, slots=True)
class Heard:
    """What one window gave: segments in seconds of the whole, how far the sound has been read, and its language.

    `raw` is the text as the tokens spell it, spaces between segments included.
    """

    segments: tuple[Segment, ...]
    raw: str
    until: float
    language: str | None


def transcribe_sound(
    model: Any,
    tokenizer: Tokenizer,
    features: FeatureConfig,
    generation: Mapping[str, Any],
    blocks: Iterable[Samples],
    settings: WhisperSettings | None = None,
    *,
    again: Blocks | None = None,
    on_window: Callable[[Heard], object] | None = None,
) -> Transcription:
    """What a Whisper hears in a sound, its samples (N each, in [-1, 1] at features.rate) block by block.

    `generation`: the settings of the model's folder. `again` gives the same blocks anew: a sound of several windows is read
    through before, for the loudest of its frames, from which the quietest that are told apart are counted. Without it each
    window has its own. `on_window` is told of every window. Raises ConfigError for settings that this model cannot follow.
    """
    settings = settings or WhisperSettings()
    return joined(windows_heard(model, tokenizer, features, generation, blocks, settings, again), on_window)


def joined(windows: Iterable[Heard], on_window: Callable[[Heard], object] | None = None) -> Transcription:
    """All windows as one; `on_window` is told of each."""
    segments: list[Segment] = []
    texts: list[str] = []
    language, until = None, 0.0
    for heard in windows:
        segments += heard.segments
        texts.append(heard.raw)
        language, until = heard.language, heard.until
        if on_window is not None:
            on_window(heard)
    return Transcription("".join(texts).strip(), tuple(segments), language=language, duration=until)


def windows_heard(
    model: Any,
    tokenizer: Tokenizer,
    features: FeatureConfig,
    generation: Mapping[str, Any],
    blocks: Iterable[Samples],
    settings: WhisperSettings,
    again: Blocks | None = None,
) -> Iterator[Heard]:
    """The same window by window, in memory that does not grow with the length of the sound."""
    with evaluating(model):
        yield from Listener(model, tokenizer, features, generation, settings).listen(Sound(blocks), again)


class Listener:
    """A Whisper and how it is asked, on its way through one sound."""

    def __init__(
        self,
        model: Any,
        tokenizer: Tokenizer,
        features: FeatureConfig,
        generation: Mapping[str, Any],
        settings: WhisperSettings,
    ) -> None:
        self.model, self.features, self.settings = model, features, settings
        self.tokens = Tokens.of(tokenizer, generation, model.config.vocab_size)
        self.language = self.tokens.language_for(settings.language, settings.task)
        self.heads = alignment_heads(generation)
        self.step = features.hop * stride_of(model.config)  # samples from one time to the next
        self.window = min(
            (features.chunk_seconds or 30) * features.rate, model.config.source_side().max_len * self.step
        )
        self.margin = (
            -(-features.n_fft // (2 * features.hop)) * features.hop
        )  # samples that a frame reaches over, and more
        self.remembered: list[int] = []
        if settings.initial_prompt and self.tokens.previous is not None:
            self.remembered = tokenizer.encode(" " + settings.initial_prompt.strip())
        self.room = model.config.max_len // 2 - 1  # tokens of what came before
        self.loudest: float | None = None  # of all windows

    def listen(self, sound: Sound, again: Blocks | None = None) -> Iterator[Heard]:
        """What each window gives."""
        start = number = 0
        while True:
            before = min(start, self.margin)
            around = sound.window(start - before, before + self.window + self.margin)
            samples = around[before : before + self.window]
            if number == 0 and again is not None and sound.goes_on(self.window):
                self.loudest = loudest_band(map(torch.from_numpy, again()), self.features)
            if len(samples) < self.features.hop and (number or not len(samples)):
                return
            heard, moved = self.hear(samples, self.read(around, start), start, number)
            start, number = start + moved, number + 1
            yield heard

    def hear(self, samples: Samples, memory: Memory, start: int, number: int) -> tuple[Heard, int]:
        """What a window gives, and by how many samples the next one begins later."""
        if self.language is None:
            self.language, _ = hear_language(self.model, memory, self.tokens)
        found = decode_window(self.model, memory, self.tokens, self.settings, self.prompt(), number)
        rate = self.features.rate
        seconds = start / rate, (start + len(samples)) / rate
        if is_silence(found, self.settings):
            return Heard((), "", seconds[1], self.language), len(samples)
        pieces, moved = self.cut(found, len(samples))
        segments = [segment_of(found, piece, self.tokens, seconds) for piece in pieces]
        if self.settings.word_timestamps:
            prompt = self.tokens.beginning(self.language, self.settings.task, times=False)
            frames = -(-len(samples) // self.step)
            segments = with_words(self.model, memory, self.tokens, prompt, segments, self.heads, frames, seconds)
            segments = without_hallucinations(segments, self.settings.hallucination_silence_threshold, seconds)
        segments = [segment for segment in segments if segment.text]
        ids = [id for segment in segments for id in segment.ids]
        self.remember(ids, found)
        return Heard(tuple(segments), self.tokens.text(ids), seconds[1], self.language), moved

    @torch.inference_mode()
    def read(self, around: Samples, start: int) -> Memory:
        """What the encoder makes of the window from `start` on, filled up with silence to its full length. `around` begins a
        margin earlier, where there is one: the frames reach over the ends of the window as they do in the whole sound."""
        before = min(start, self.margin)
        wave = torch.zeros(before + self.window + self.margin)
        wave[: len(around)] = torch.from_numpy(around)
        first, count = before // self.features.hop, self.window // self.features.hop
        frames = extract(wave, self.features, self.loudest)[first : first + count]
        like = next(self.model.parameters())
        return self.model.read(frames[None].to(like.device, like.dtype))

    def prompt(self) -> list[int]:
        """What the transcript of a window begins after: the end of what came before, and the steering tokens."""
        before: list[int] = []
        if self.remembered and self.tokens.previous is not None:
            before = [self.tokens.previous, *self.remembered[-self.room :]]
        times = self.settings.timestamps
        return before + self.tokens.beginning(self.language, self.settings.task, times=times)

    def remember(self, ids: Sequence[int], found: Decoded) -> None:
        """Keep what the next window is to be told of this one."""
        if not self.settings.condition_on_previous_text or found.temperature > FORGETFUL:
            self.remembered = []
        else:
            self.remembered = [*self.remembered, *ids][-self.room :]

    def cut(self, found: Decoded, n_samples: int) -> tuple[list[tuple[float, float, tuple[int, ...]]], int]:
        """The tokens of a window as segments (start and end in seconds of the window, tokens with their times), and how many
        samples of it are done with: where two times follow on each other, all that is behind is heard again."""
        ids, first = found.ids, self.tokens.first_time
        is_time = [id >= first for id in ids]
        whole = n_samples / self.features.rate
        ends = [at + 1 for at in range(len(ids) - 1) if is_time[at] and is_time[at + 1]]
        is_closed = is_time[-2:] == [False, True]  # one time at the end: there is no speech behind it
        if not ends:
            times = [id - first for id in ids if id >= first]
            end = times[-1] * STEP if times and times[-1] else whole
            return [(0.0, end, ids)], n_samples
        ends += [len(ids)] if is_closed else []
        pieces = [
            ((part[0] - first) * STEP, (part[-1] - first) * STEP, part)
            for part in (ids[begin:end] for begin, end in zip([0, *ends], ends, strict=False))
        ]
        moved = n_samples if is_closed else (ids[ends[-1] - 1] - first) * self.step
        return pieces, min(moved, n_samples) or n_samples


def segment_of(
    found: Decoded, piece: tuple[float, float, tuple[int, ...]], tokens: Tokens, seconds: tuple[float, float]
) -> Segment:
    """A segment at its place in the whole; none reaches behind the end of its window."""
    start, end, ids = piece
    begin = min(seconds[0] + start, seconds[1])
    return Segment(
        round(begin, 3),
        round(max(begin, min(seconds[0] + end, seconds[1])), 3),
        tokens.text(ids).strip() if end > start else "",
        ids,
        temperature=found.temperature,
        avg_logprob=found.avg_logprob,
        compression_ratio=found.compression_ratio,
        no_speech_prob=found.no_speech_prob,
    )


def alignment_heads(generation: Mapping[str, Any]) -> list[tuple[int, int]] | None:
    """The (layer, head) that look at what is being said, as the folder names them. Raises ConfigError for other things."""
    said = generation.get("alignment_heads")
    if not said:
        return None
    try:
        return [(int(layer), int(head)) for layer, head in said]
    except (TypeError, ValueError):
        raise ConfigError(
            f"alignment_heads={str(said)[:60]} of generation_config.json are no pairs of layer and head"
        ) from None
