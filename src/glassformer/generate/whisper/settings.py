"""How a Whisper is asked, checked at birth; the defaults are those of its paper (Radford et al. 2022, section 4.5)."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from glassformer.config import Config
from glassformer.errors import ConfigError

HIGHEST = 1.0  # the last temperature that is tried


class WhisperSettings(Config):
    """How a Whisper is asked. A window is decoded again, each time at a higher temperature, while its text repeats itself
    (compresses better than `compression_ratio_threshold`) or is unlikely (log probability below `logprob_threshold`).

    `language`: by code or English name, by default heard from the first window. `temperature`: one, or all that are tried in
    turn; from one the others follow by `temperature_increment_on_fallback`, None: no second try. `num_beams`: 1 is greedy;
    counts at temperature 0. `best_of`: draws at the others. A window whose first token says "no speech" with a probability
    above `no_speech_threshold`, and whose text is unlikely, is silence. `hallucination_silence_threshold`: text beside
    silences that long is left out where its words are improbable; needs word times.
    """

    language: str | None = None
    task: Literal["transcribe", "translate"] = "transcribe"
    timestamps: bool = True
    word_timestamps: bool = False
    initial_prompt: str | None = None
    condition_on_previous_text: bool = True
    temperature: float | tuple[float, ...] = 0.0
    temperature_increment_on_fallback: float | None = Field(default=0.2, gt=0)
    compression_ratio_threshold: float | None = 2.4
    logprob_threshold: float | None = -1.0
    no_speech_threshold: float | None = 0.6
    hallucination_silence_threshold: float | None = Field(default=None, gt=0)
    num_beams: int = Field(default=1, ge=1, le=100)
    length_penalty: float = Field(default=1.0, ge=-20, le=20)
    best_of: int = Field(default=5, ge=1, le=100)
    max_new_tokens: int | None = Field(default=None, ge=1)
    seed: int = 0

    @model_validator(mode="after")
    def check(self) -> Self:
        """Raise ConfigError for temperatures that cannot be meant and for settings that need another."""
        for one in self.temperatures:
            if not (one == 0 or 1e-6 <= one <= 100):
                raise ConfigError(f"temperature={one:g} is out of range: expected 0, or 0.000001 to 100")
        if self.hallucination_silence_threshold is not None and not self.word_timestamps:
            raise ConfigError("hallucination_silence_threshold looks at the times of words: set word_timestamps")
        return self

    @property
    def temperatures(self) -> tuple[float, ...]:
        """All that are tried, in turn."""
        if isinstance(self.temperature, tuple):
            return self.temperature or (0.0,)
        step = self.temperature_increment_on_fallback
        if step is None:
            return (self.temperature,)
        count = int((HIGHEST - self.temperature) / step + 1e-6)
        return tuple(round(self.temperature + step * number, 6) for number in range(max(0, count) + 1))


def settings_of(asked: dict[str, Any]) -> WhisperSettings:
    """The settings that were asked for. Raises ConfigError for unknown or impossible ones."""
    return WhisperSettings.parse(asked, "transcription")
