"""Encodings and compressions: what is understood, what is said about it, what is refused."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
import zstandard

from glassformer.data import Corpus, read_documents
from glassformer.errors import DataError

TEXT = "Für Élise – and “quotes”\n"


def read(tmp_path: Path, content: bytes, encoding: str | None = None, name: str = "a.txt") -> Corpus:
    (tmp_path / name).write_bytes(content)
    return read_documents([tmp_path / name], encoding=encoding)


@pytest.mark.parametrize(
    ("encoding", "said"),
    [
        ("utf-8", None),
        ("utf-8-sig", "a.txt: UTF-8 with byte-order mark, removed"),
        ("utf-16", "a.txt: UTF-16 with byte-order mark, removed"),
        ("utf-32", "a.txt: UTF-32 with byte-order mark, removed"),
        ("cp1252", "a.txt: not UTF-8, read as cp1252"),
    ],
)
def test_an_encoding_is_recognised_and_said(tmp_path: Path, encoding: str, said: str | None):
    corpus = read(tmp_path, TEXT.encode(encoding))
    assert corpus.documents[0].text == TEXT
    assert len(corpus.notes) == (1 if said is None else 2)
    assert said is None or said in corpus.notes[1]


def test_what_cp1252_leaves_undefined_is_latin_1(tmp_path: Path):
    corpus = read(tmp_path, b"caf\xe9 \x81 and so on")
    assert corpus.documents[0].text == "café \x81 and so on"
    assert "read as Latin-1" in corpus.notes[1]


def test_damage_in_utf8_is_no_reason_to_take_it_for_another_encoding(tmp_path: Path):
    corpus = read(tmp_path, "größer, schöner".encode() + b"\xc3 weiter")
    assert corpus.documents[0].text == "größer, schöner\ufffd weiter"
    assert "a.txt: 1 damaged UTF-8 character, the first at byte 18, made U+FFFD" in corpus.notes[1]


@pytest.mark.parametrize("encoding", ["utf-16-le", "koi8-r", "shift-jis"])
def test_an_encoding_can_be_forced(tmp_path: Path, encoding: str):
    text = "Привет, мир\n"
    assert read(tmp_path, text.encode(encoding), encoding).documents[0].text == text


@pytest.mark.parametrize(
    ("content", "encoding", "message"),
    [
        (b"abc\xff", "utf-8", r"a\.txt: byte 3 \(0xff\) is not utf-8; .*--encoding"),
        (b"abc", "utf-99", r"a\.txt: --encoding utf-99 is not a text encoding; try utf-8"),
        (b"abc", "base64", r"a\.txt: --encoding base64 is not a text encoding; try utf-8"),
        (b"a\0b", "latin-1", r"a\.txt: looks like a binary file"),
        (b"\xef\xbb\xbfabc\xff", None, r"a\.txt: byte 6 \(0xff\) is not UTF-8"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", None, r"a\.txt: looks like a binary file, not text .*NUL.*; save its text"),
        (b"\x01\x02\x03abc", None, r"a\.txt: looks like a binary file, not text \(3 control bytes\)"),
        ("hello".encode("utf-16-le"), None, r"a\.txt: looks like a binary.*--encoding utf-16-le"),
        ("hello".encode("utf-16-be"), None, r"a\.txt: looks like a binary.*--encoding utf-16-be"),
    ],
)
def test_bytes_that_are_no_text(tmp_path: Path, content: bytes, encoding: str | None, message: str):
    with pytest.raises(DataError, match=message):
        read(tmp_path, content, encoding)


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress], ids=["gzip", "zstd"])
def test_packed_files_in_several_parts_cut_short_or_damaged(tmp_path: Path, pack):
    packed = pack(TEXT.encode() * 50)
    assert read(tmp_path, packed + packed, name="a.txt.gz").documents[0].text == TEXT * 100
    with pytest.raises(DataError, match=r"a\.txt\.gz: holds .* cut short; copy or download"):
        read(tmp_path, packed[:-5], name="a.txt.gz")
    with pytest.raises(DataError, match=r"a\.txt\.gz: holds damaged .*; copy or download"):
        read(tmp_path, packed[:12] + bytes(byte ^ 255 for byte in packed[12:]), name="a.txt.gz")


def test_a_packed_name_without_packed_content_is_read_as_it_is(tmp_path: Path):
    assert read(tmp_path, TEXT.encode(), name="a.txt.gz").documents[0].text == TEXT


@pytest.mark.parametrize(("content", "ends"), [(b"a\r\nb\r\n", "CRLF"), (b"a\rb\r", "CR")])
def test_line_ends_are_made_lf_and_said(tmp_path: Path, content: bytes, ends: str):
    corpus = read(tmp_path, content)
    assert corpus.documents[0].text == "a\nb\n"
    assert corpus.notes[1].endswith(f"a.txt: {ends} line ends made LF")
