"""Files of sound become samples: WAV by our own reader, other formats through soundfile, other rates through soxr. No torch."""

from __future__ import annotations

from glassformer.data.sound.levels import Levels, clipped_share, level, measure, peak, silent_share
from glassformer.data.sound.reading import Sound, SoundInfo, read_sound, sound_blocks, sound_info
from glassformer.data.sound.resampling import resample
from glassformer.data.sound.trimming import sounding, trim

__all__ = [
    "Levels",
    "Sound",
    "SoundInfo",
    "clipped_share",
    "level",
    "measure",
    "peak",
    "read_sound",
    "resample",
    "silent_share",
    "sound_blocks",
    "sound_info",
    "sounding",
    "trim",
]
