"""Files of sound in every form against soundfile, parts of them, streams and long ones."""

from __future__ import annotations

import io
import os
import threading
import tracemalloc
import wave
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import sound_files
from glassformer.data.sound.opened import Forward
from glassformer.data.sound.reading import read_sound, sound_blocks, sound_info
from glassformer.data.sound.resampling import resample, resampled
from glassformer.data.sound.wav import PCM, signed_24
from sound_files import STEREO, TONES, WAV, refused

SMALL = settings(max_examples=20, deadline=None)


def as_mono(samples: np.ndarray) -> np.ndarray:
    return samples.mean(1, dtype=np.float32)


# --- every form -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("extensible", [False, True])
@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize("form", sound_files.FORMS)
def test_every_form_of_wav_is_read_as_soundfile_reads_it(soundfile, tmp_path, form, channels, extensible):
    code, bits = sound_files.FORMS[form]
    path = tmp_path / "a.wav"
    samples = sound_files.tones(0.05, 22050, channels)
    path.write_bytes(sound_files.wav(samples, 22050, code=code, bits=bits, extensible=extensible))
    sound = read_sound(path)
    theirs, rate = soundfile.read(path, dtype="float32", always_2d=True)
    assert_allclose(sound.samples, as_mono(theirs), atol=1e-7)
    assert_allclose(sound.samples, samples.mean(1), atol=max(1e-6, 2.0 ** (1 - bits)) if code == PCM else 1e-6)
    assert (sound.rate, sound.notes, sound.samples.dtype) == (rate, (), np.float32)
    assert sound.seconds == len(samples) / 22050
    info = sound_info(path)
    assert (info.rate, info.channels, info.seconds, info.notes) == (rate, channels, sound.seconds, ())
    assert info.format == f"WAV, {form}"


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 44100, 48000, 96000, 192_000])
def test_every_rate_comes_out_at_the_one_wanted(soxr, rate):
    at = np.arange(rate) / rate
    content = sound_files.wav((0.5 * np.sin(2 * np.pi * 440 * at))[:, None], rate)
    sound = read_sound(content, 16000)
    assert (sound.rate, len(sound.samples)) == (16000, 16000)
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    assert_allclose(sound.samples[800:-800], expected[800:-800], atol=2e-3)


@pytest.mark.parametrize("how", [("FLAC", "PCM_16"), ("FLAC", "PCM_24"), ("WAV", "ULAW"), ("WAV", "ALAW"), ("AIFF", "PCM_16"),
                                 ("W64", "PCM_16"), ("RF64", "PCM_16"), ("CAF", "PCM_16"), ("AU", "PCM_16"), ("OGG", "VORBIS"),
                                 ("MP3", "MPEG_LAYER_III"), ("WAV", "IMA_ADPCM")], ids=" ".join)  # fmt: skip
def test_other_formats_are_read_as_soundfile_reads_them(soundfile, tmp_path, how):
    kind, subtype = how
    if kind not in soundfile.available_formats():
        pytest.skip(f"this libsndfile has no {kind}")
    content = sound_files.flac(STEREO, format=kind, subtype=subtype)
    theirs = as_mono(soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)[0])
    path = tmp_path / "a.raw"  # the name tells nothing
    path.write_bytes(content)
    for source in (path, content, io.BytesIO(content), sound_files.Piped(content)):
        if subtype in ("ULAW", "ALAW", "IMA_ADPCM") and isinstance(source, sound_files.Piped):
            assert "cannot be read from a stream; save it first" in refused(source)
        else:
            assert_allclose(read_sound(source).samples, theirs, atol=1e-6)
    part = read_sound(path, offset=0.1, duration=0.05)
    assert_allclose(part.samples, theirs[1600:2400], atol=0.02 if kind == "MP3" else 1e-6)


def test_flac_and_wav_of_one_wave_are_one(soundfile):
    assert_array_equal(read_sound(sound_files.flac(STEREO)).samples, read_sound(sound_files.wav(STEREO)).samples)


def test_files_of_the_standard_library_are_read(tmp_path):
    path = tmp_path / "a.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(np.arange(-100, 100, dtype="<i2").tobytes())
    assert_array_equal(read_sound(path).samples * 32768, np.arange(-100, 100))


def test_recordings_are_read_as_soundfile_reads_them(soundfile, shared_folder):
    paths = sorted((shared_folder / "data" / "fsdd" / "recordings").glob("*.wav"))[::300]
    if not paths:
        pytest.skip("needs the recordings of spoken digits in shared/data/fsdd")
    for path in paths:
        sound = read_sound(path)
        assert_array_equal(sound.samples, soundfile.read(path, dtype="float32")[0])
        assert sound.rate == 8000


@given(value=st.integers(-(2**23), 2**23 - 1))
@SMALL
def test_24_bits_keep_every_value(value):
    assert signed_24((value & 0xFFFFFF).to_bytes(3, "little"))[0] * 2**23 == value


def test_chunks_before_and_behind_the_samples_are_passed_over():
    odd = sound_files.chunk(b"LIST", b"an odd length")
    expected = read_sound(WAV).samples
    assert_array_equal(read_sound(sound_files.wav(TONES, before=odd * 3, behind=odd)).samples, expected)
    assert_array_equal(
        read_sound(sound_files.Piped(sound_files.wav(TONES, before=odd * 3, behind=odd))).samples, expected
    )


def test_sizes_beyond_32_bits_are_read_from_rf64():
    n_bytes = TONES.size * 2
    sizes = sound_files.chunk(b"ds64", (0).to_bytes(8, "little") + n_bytes.to_bytes(8, "little") + bytes(12))
    long = sound_files.wav(TONES, riff=b"RF64", before=sizes, data_size=0xFFFFFFFF, behind=b"more")
    assert_array_equal(read_sound(long).samples, read_sound(WAV).samples)
    promised = sound_files.chunk(b"ds64", bytes(8) + (1 << 62).to_bytes(8, "little") + bytes(12))
    (note,) = read_sound(sound_files.wav(TONES, riff=b"RF64", before=promised, data_size=0xFFFFFFFF)).notes
    assert "holds 0.25 of the " in note


# --- parts, blocks and streams ----------------------------------------------------------------------------------------


@given(offset=st.floats(0, 0.24), duration=st.none() | st.floats(0.001, 0.4), packed=st.booleans())
@SMALL
def test_a_part_is_a_part_of_the_whole(soundfile, offset, duration, packed):
    content = sound_files.flac(TONES) if packed else WAV
    whole, start = read_sound(content).samples, round(offset * 16000)
    end = None if duration is None else start + max(1, round(duration * 16000))
    assert_array_equal(read_sound(content, offset=offset, duration=duration).samples, whole[start:end])


@given(seconds=st.floats(0.001, 0.5), rate=st.sampled_from([None, 8000, 16000, 22050]), source=st.integers(0, 2))
@SMALL
def test_blocks_joined_are_the_whole(soundfile, soxr, seconds, rate, source):
    content = (WAV, sound_files.flac(TONES), sound_files.wav(STEREO, code=3, bits=32))[source]
    whole = read_sound(content, rate)
    blocks = list(sound_blocks(content, rate, seconds))
    size = round(seconds * whole.rate)
    assert [len(block) for block in blocks[:-1]] == [size] * (len(blocks) - 1)
    assert 1 <= len(blocks[-1]) <= size
    assert_allclose(np.concatenate(blocks), whole.samples, atol=1e-6)


@pytest.mark.parametrize(("rate", "wanted"), [(8000, 16000), (44100, 16000), (16000, 8000), (192_000, 16000)])
def test_resampling_in_blocks_is_resampling_at_once(soxr, rate, wanted):
    samples = sound_files.tones(0.5, rate)[:, 0].astype(np.float32)
    at_once = soxr.resample(samples, rate, wanted)
    joined = np.concatenate(list(resampled(np.array_split(samples, 13), rate, wanted, "x")))
    assert_allclose(joined, at_once, atol=1e-6)
    assert_allclose(resample(samples, rate, wanted), at_once, atol=1e-6)


def test_what_reaches_beyond_full_scale_between_samples_is_cut(soxr):
    square = np.sign(np.sin(2 * np.pi * 1000 * np.arange(4000) / 16000 + 0.1)).astype(np.float32)
    assert np.abs(soxr.resample(square, 16000, 22050)).max() > 1.05
    assert np.abs(resample(square, 16000, 22050)).max() == 1


@pytest.mark.parametrize("size", [None, 0xFFFFFFFF, 0])
def test_a_stream_is_read_to_its_end_whatever_its_header_promises(size):
    content = sound_files.wav(TONES, data_size=size)
    sound = read_sound(sound_files.Piped(content))
    assert_array_equal(sound.samples, read_sound(WAV).samples)
    assert sound.notes == ()
    assert read_sound(sound_files.Piped(content), offset=0.1, duration=0.1).seconds == 0.1
    assert sound_info(sound_files.Piped(content)).seconds == (0.25 if size is None else None)


@pytest.mark.parametrize("piped", [False, True])
def test_metadata_behind_no_samples_is_no_sound(piped):
    info = sound_files.chunk(b"LIST", b"INFOISFT" + b"\x0e\0\0\0a program here")
    content = sound_files.wav(TONES[:0], behind=info + sound_files.chunk(b"id3 ", b"\x03"))
    assert "is empty: it holds no samples" in refused(sound_files.Piped(content) if piped else content)
    assert sound_info(content).seconds == 0
    unfinished = content[:4] + bytes(4) + content[8:40] + bytes(4) + WAV[44:]  # the recorder told no size at all
    assert_array_equal(read_sound(unfinished).samples, read_sound(WAV).samples)


def test_a_stream_that_was_given_stays_open_and_is_read_from_where_it_stands():
    stream = io.BytesIO(b"before" + WAV)
    stream.seek(6)
    assert_array_equal(read_sound(stream).samples, read_sound(WAV).samples)
    assert not stream.closed


def test_a_block_comes_before_the_stream_has_ended():
    reader, writer = os.pipe()
    samples = np.full((16000, 1), 0.25)
    content = sound_files.wav(np.concatenate([samples, samples]), data_size=0xFFFFFFFF)
    got_first = threading.Event()

    def write() -> None:
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(content[: len(content) // 2 + 100])
            pipe.flush()
            assert got_first.wait(60)
            pipe.write(content[len(content) // 2 + 100 :])

    thread = threading.Thread(target=write)
    thread.start()
    with os.fdopen(reader, "rb") as stream:
        blocks = sound_blocks(stream, 16000, 0.5)
        assert len(next(blocks)) == 8000
        got_first.set()
        assert sum(len(block) for block in blocks) == 24000
    thread.join()


def heaviest(path: Path, rate: int, seconds: float, **how: float) -> tuple[int, int]:
    """How many samples come in blocks, and the most bytes that were taken on the way."""
    tracemalloc.start()
    try:
        n_samples = sum(len(block) for block in sound_blocks(path, rate, seconds, **how))
        return n_samples, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_file(tmp_path):
    path = sound_files.sparse(tmp_path / "long.wav", 1800, 8000)
    n_samples, most = heaviest(path, 8000, 5)
    assert n_samples == 1800 * 8000
    assert most < 6e6  # all at once would be 58 MB
    assert heaviest(path, 8000, 5, offset=1700, duration=20)[0] == 160_000
    assert sound_info(path).seconds == 1800


@pytest.mark.slow
def test_hours_are_resampled_in_bounded_memory(soxr, tmp_path):
    path = sound_files.sparse(tmp_path / "long.wav", 3 * 3600, 44100)
    n_samples, most = heaviest(path, 16000, 30)
    assert n_samples == 3 * 3600 * 16000
    assert most < 20e6


def test_a_stream_is_passed_over_without_being_read_where_it_can_be():
    stream = Forward(io.BytesIO(bytes(range(100))))
    assert stream.peek(4) == bytes(range(4))
    stream.skip(10)
    assert (stream.read(2), stream.left) == (b"\n\x0b", 88)
    stream.skip(1000)
    assert (stream.read(2), stream.left) == (b"", 0)
