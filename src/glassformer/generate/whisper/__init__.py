"""Transcribing as Whisper does: steering tokens, times among the text, second tries, windows over sound of any length."""

from __future__ import annotations

from glassformer.generate.whisper.settings import WhisperSettings, settings_of
from glassformer.generate.whisper.tokens import is_whispers
from glassformer.generate.whisper.windows import Heard, joined, transcribe_sound, windows_heard

__all__ = [
    "Heard",
    "WhisperSettings",
    "is_whispers",
    "joined",
    "settings_of",
    "transcribe_sound",
    "windows_heard",
]
