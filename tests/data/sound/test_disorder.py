"""What is said of files of sound in disorder: missing, no sound, cut short, clipped, too long, or a library not there."""

from __future__ import annotations

import re
import sys
import tracemalloc

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import sound_files
from glassformer.data.sound import reading
from glassformer.data.sound.reading import read_sound, sound_blocks, sound_info
from glassformer.errors import DataError
from sound_files import STEREO, TONES, WAV, refused


def test_a_missing_file_is_told_with_the_nearest_name(tmp_path):
    (tmp_path / "hello.wav").write_bytes(WAV)
    assert refused(tmp_path / "helo.wav").endswith("no such file (did you mean 'hello.wav'?)")
    assert "is a folder" in refused(tmp_path)
    assert "no such folder" in refused(str(tmp_path / "x" / "y.wav"))
    assert refused("a\0b.wav") == "'a\\x00b.wav': is no path of a file (embedded null byte)"


NOT_SOUND = {
    b"": "is empty",
    b"RIFF": "is RIFF that cannot be read",
    b"hello, this is text": "is no file of sound that can be read .*convert it to WAV or FLAC",
    sound_files.wav(np.zeros((0, 1))): "is empty: it holds no samples",
    WAV[:44]: "is empty: it holds no samples",
    WAV[:45]: "is empty: it holds no samples",
    WAV[:36]: r"holds no samples \(a WAV file without a data chunk\)",
    WAV[:30]: "its fmt chunk has 10 bytes, expected at least 16",
    WAV[:12] + WAV[36:]: "says nothing of how its samples are written",
    WAV[:22] + b"\0\0" + WAV[24:]: "its header gives 0 channels, expected 1 to 256",
    WAV[:22] + b"\xff\xff" + WAV[24:]: "its header gives 65,535 channels",
    WAV[:24] + bytes(4) + WAV[28:]: "its header gives 0 samples a second, expected 1,000 to 768,000",
    WAV[:34] + b"\x0c\0" + WAV[36:32]: "its fmt chunk has|holds no samples",
    WAV[:34] + b"\x14\0" + WAV[36:]: "gives samples of 20 bits in frames of 2 bytes for 1 channel",
    WAV[:20] + b"\xfe\xff" + WAV[22:]: "extended format that has no number",
    WAV[:12] + sound_files.chunk(b"JUNK", b"") * 10_001: "has over 10,000 chunks before its samples",
    b"fLaC" + bytes(50): "is FLAC that cannot be read",
}


@pytest.mark.parametrize("content", NOT_SOUND, ids=list(map(str, range(len(NOT_SOUND)))))
def test_what_is_no_sound_is_refused_with_its_name_and_what_was_found(soundfile, tmp_path, content):
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    assert re.match(rf"{re.escape(str(path))}: .*({NOT_SOUND[content]})", refused(path))
    assert re.match(f"the bytes given: .*({NOT_SOUND[content]})", refused(content))
    assert re.match(f"the stream given: .*({NOT_SOUND[content]})", refused(sound_files.Piped(content)))


@pytest.mark.parametrize(
    "content", [WAV[:-3000], sound_files.wav(TONES, data_size=TONES.size * 2 + 3000)], ids=["cut", "lied"]
)
def test_a_file_that_was_cut_short_is_read_as_far_as_it_goes(content):
    for source in (content, sound_files.Piped(content)):
        sound = read_sound(source)
        assert_array_equal(sound.samples, read_sound(WAV).samples[: len(sound.samples)])
        (note,) = sound.notes
        assert re.search(r": holds 0\.(16|25) of the 0\.(25|34) s that its header promises; cut short$", note)
    assert sound_info(content).notes == read_sound(content).notes


def test_flac_that_was_cut_short_is_read_as_far_as_it_goes(soundfile):
    samples = sound_files.tones(2, 16000)
    content = sound_files.flac(samples)
    sound = read_sound(content[: len(content) // 2])
    assert 0.5 < sound.seconds < 1.2
    assert_array_equal(sound.samples, read_sound(content).samples[: len(sound.samples)])
    (note,) = sound.notes
    assert re.match(rf"the bytes given: is damaged {sound.seconds:.2f} s from its beginning \(.+\)$", note)


def test_flac_that_does_not_tell_its_length_is_read_to_its_end(soundfile):
    """As encoders write it that cannot go back to the header."""
    content = bytearray(sound_files.flac(sound_files.tones(40, 8000), 8000))
    whole = read_sound(bytes(content)).samples
    content[21] &= 0xF0  # the upper 4 of the 36 bits that count samples
    content[22:26] = bytes(4)
    sound = read_sound(bytes(content))
    assert_array_equal(sound.samples, whole)
    assert (sound.notes, sound_info(bytes(content)).seconds) == ((), None)
    assert_array_equal(read_sound(bytes(content), offset=35, duration=1).samples, whole[280_000:288_000])


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"offset": 0.25}, "lasts 0.25 s, so nothing begins at 0.25 s"),
        ({"offset": -1.0}, "offset=-1 s, expected seconds from its beginning"),
        ({"offset": float("nan")}, "offset=nan s"),
        ({"duration": 0.0}, "duration=0 s, expected more than none"),
        ({"duration": float("inf")}, "duration=inf s"),
        ({"rate": 0}, "cannot be read at 0 samples a second"),
    ],
)
def test_parts_that_no_file_has_are_refused(how, message):
    assert message in refused(WAV, **how)
    if how == {"offset": 0.25}:
        assert "ends before 0.25 s" in refused(sound_files.Piped(sound_files.wav(TONES, data_size=0xFFFFFFFF)), **how)


def test_a_part_that_reaches_beyond_the_end_is_noted():
    assert read_sound(WAV, offset=0.2, duration=1).notes == (
        "the bytes given: ends 0.95 s before the part that was asked for does",
    )
    assert read_sound(WAV, duration=0.25).notes == ()


def test_less_than_a_sample_at_the_rate_wanted_is_refused(soxr):
    content = sound_files.wav(TONES[:1], 192_000)
    assert "is too short: at 8,000 samples a second nothing of it is left" in refused(content, 8000)
    with pytest.raises(DataError, match="is too short"):
        list(sound_blocks(content, 8000, 1))
    with pytest.raises(DataError, match=r"blocks of 1e-09 s hold no sample at 8,000 a second"):
        list(sound_blocks(content, 8000, 1e-9))


def test_clipping_and_silence_are_noted():
    assert read_sound(sound_files.wav((TONES * 3).clip(-1, 1))).notes[0].endswith(" % of its samples are clipped")
    assert (
        read_sound(sound_files.wav((TONES * 3).clip(-1, 1), bits=8)).notes[0].endswith(" % of its samples are clipped")
    )
    one_side = STEREO * [3, 0.1]
    assert "clipped" in read_sound(sound_files.wav(one_side.clip(-1, 1))).notes[0]
    assert read_sound(sound_files.wav(TONES * 0)).notes == ("the bytes given: is silent throughout",)


def test_floating_samples_beyond_full_scale_are_cut_and_noted_and_whole_numbers_refused():
    loud = TONES.copy()
    loud[100:110] = 1.5
    sound = read_sound(sound_files.wav(loud, code=3, bits=32))
    assert sound.notes == ("the bytes given: 10 samples beyond full scale, cut to it (up to 1.5)",)
    assert sound.samples.max() == 1
    assert "its samples reach 24,000 where full" in refused(
        sound_files.wav(TONES * 24000 / np.abs(TONES).max(), code=3, bits=64)
    )


@pytest.mark.parametrize("bits", [32, 64])
def test_samples_that_are_no_numbers_are_made_zero_and_noted(bits):
    odd = TONES.copy()
    odd[7], odd[8], odd[9] = np.nan, np.inf, -np.inf
    sound = read_sound(sound_files.wav(odd, code=3, bits=bits))
    assert sound.notes == ("the bytes given: 3 samples no number, made 0",)
    assert (sound.samples[7:10] == 0).all()
    assert_allclose(sound.samples[10:], TONES[10:, 0], atol=1e-6)


def test_too_long_is_refused_before_it_fills_the_memory(soundfile, soxr, monkeypatch, tmp_path):
    monkeypatch.setattr(reading, "MOST_SAMPLES", 96_000)
    path = sound_files.sparse(tmp_path / "long.wav", 100_000, 8000)  # 1.6 GB
    tracemalloc.start()
    assert refused(path, 16000).startswith(
        f"{path}: lasts longer than the 0 minutes that are read at once at 16,000 samples"
    )
    assert "lasts longer" in refused(path)
    assert "lasts longer" in refused(sound_files.flac(np.zeros((400_000, 1))))
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()
    assert read_sound(path, offset=99_995).seconds == 5


def test_a_header_that_claims_gigabytes_takes_no_memory():
    tracemalloc.start()
    for size in (0xFFFFFFF0, 0xFFFFFFFF, 0x7FFFFFFF):
        for source in (
            sound_files.wav(TONES, data_size=size),
            sound_files.Piped(sound_files.wav(TONES, data_size=size)),
        ):
            assert read_sound(source).seconds == 0.25
    for size in (0xFFFFFFF0, 0x7FFFFFFF):
        refused(WAV[:16] + size.to_bytes(4, "little") + WAV[20:])
    assert tracemalloc.get_traced_memory()[1] < 8e6
    tracemalloc.stop()


def test_without_soxr_and_soundfile_wav_at_its_own_rate_is_read(monkeypatch):
    monkeypatch.setitem(sys.modules, "soxr", None)
    monkeypatch.setitem(sys.modules, "soundfile", None)
    assert read_sound(WAV).seconds == read_sound(WAV, 16000).seconds == 0.25
    assert sum(len(block) for block in sound_blocks(WAV, 16000, 0.1)) == 4000
    assert refused(WAV, 8000) == (
        "the bytes given: has 16,000 samples a second where 8,000 are wanted, which needs soxr: pip install 'glassformer[audio]'"
    )
    assert refused(b"fLaC" + bytes(50)) == (
        "the bytes given: is FLAC, which needs soundfile: pip install 'glassformer[audio]'"
    )
    assert "is not WAV, and any other format needs soundfile" in refused(b"what is this?")
    mu_law = WAV[:20] + b"\x07\0" + WAV[22:]
    assert "is WAV with µ-law samples, which needs soundfile" in refused(mu_law)


def test_reading_sound_imports_no_torch_and_no_library_that_is_not_needed(tmp_path):
    import subprocess

    (tmp_path / "a.wav").write_bytes(WAV)
    program = (
        "import sys; from glassformer.data.sound import read_sound; read_sound(sys.argv[1])\n"
        "assert not {'torch', 'soundfile', 'soxr'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "a.wav")], check=True, timeout=100)
