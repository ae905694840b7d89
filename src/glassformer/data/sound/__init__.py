"""Files of sound become samples: WAV by our own reader, other formats through soundfile, other rates through soxr. No torch."""

from __future__ import annotations

from glassformer.data.sound.reading import Sound, SoundInfo, read_sound, sound_blocks, sound_info
from glassformer.data.sound.resampling import resample
from glassformer.data.sound.trimming import heard_part, sounding, trimmed

__all__ = [
    "Sound",
    "SoundInfo",
    "heard_part",
    "read_sound",
    "resample",
    "sound_blocks",
    "sound_info",
    "sounding",
    "trimmed",
]
