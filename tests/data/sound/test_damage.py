"""WAV and FLAC files damaged in every way that a seed draws: samples or one sentence, in bounded memory and time."""

from __future__ import annotations

import random
import resource
import time

import numpy as np
import pytest

import sound_files
from glassformer.data.sound import read_sound, sound_blocks, sound_info
from glassformer.errors import DataError

MOST_SECONDS, MOST_MEGABYTES = 5.0, 300.0  # of one file; each has less than 20 kB


def originals() -> list[bytes]:
    """WAV in four forms, FLAC in three."""
    mono, stereo = sound_files.tones(0.2, 16000), sound_files.tones(0.1, 8000, 2)
    return [
        sound_files.wav(mono),
        sound_files.wav(stereo, 8000, bits=24, extensible=True),
        sound_files.wav(stereo, 44100, code=3, bits=32, before=sound_files.chunk(b"LIST", b"abc")),
        sound_files.wav(mono, 48000, bits=8),
        sound_files.flac(mono),
        sound_files.flac(stereo, 44100, subtype="PCM_24"),
        sound_files.flac(np.zeros((60_000, 1)), 8000),
    ]


def read_all(seed: int, count: int) -> tuple[int, int]:
    """How many damaged files could be read and how many were refused."""
    whole, draw = originals(), random.Random(seed)
    n_read = n_refused = 0
    for number in range(count):
        content, names = sound_files.mutated(whole[number % len(whole)], draw)
        rate = draw.choice((None, 16000, 8000))
        how = draw.choice(({}, {}, {"offset": 0.05}, {"duration": 0.05}))
        start, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            sound, sentence = read_sound(content, rate, **how), None
        except DataError as error:
            sound, sentence = None, str(error)
        if sound is None:
            n_refused += 1
            assert sentence is not None
            assert sentence.startswith("the bytes given: "), names
            assert "\n" not in sentence, names
        else:
            n_read += 1
            assert sound.samples.dtype == np.float32
            assert len(sound.samples) >= 1, names
            assert np.abs(sound.samples).max() <= 1, names
            assert all("\n" not in note for note in sound.notes)
            blocks = list(sound_blocks(content, rate, 0.1, **how))
            assert sum(map(len, blocks)) == len(sound.samples), names
            assert sound_info(content).channels >= 1
        assert time.process_time() - start < MOST_SECONDS, names
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert grown < MOST_MEGABYTES * 1000, names
    return n_read, n_refused


def test_a_hundred_damaged_files_give_samples_or_one_sentence():
    pytest.importorskip("soundfile")
    pytest.importorskip("soxr")
    n_read, n_refused = read_all(0, 100)
    assert n_read > 20
    assert n_refused > 20


@pytest.mark.slow
def test_two_thousand_damaged_files_give_samples_or_one_sentence():
    pytest.importorskip("soundfile")
    pytest.importorskip("soxr")
    n_read, n_refused = read_all(1, 2000)
    assert n_read > 400
    assert n_refused > 400
