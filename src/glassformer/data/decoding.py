"""From the bytes of a file to its text: decompression and character encodings. Formats are read elsewhere."""

from __future__ import annotations

import codecs
import gzip
import zlib
from collections.abc import Callable

import zstandard

from glassformer.data.documents import counted
from glassformer.errors import DataError

BLOCK = 1 << 20
WINDOW = 1 << 31  # what `zstd --long=31` writes
GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"  # how their files begin
TEXT_BYTES = bytes(set(range(0x20, 0x100)) - {0x7F} | set(b"\a\b\t\n\v\f\r\x1b"))  # ESC: coloured logs are text too
BYTE_ORDER_MARKS = {  # UTF-32 first: its little-endian mark begins with that of UTF-16
    codecs.BOM_UTF8: "UTF-8",
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


def decompress(content: bytes, name: str) -> bytes:
    """Unpack what begins with the magic of a known compression, whatever its name; anything else is returned as it is.

    Raises DataError when the packed data is damaged or was cut short.
    """
    for magic, (kind, unpack) in COMPRESSIONS.items():
        if content.startswith(magic):
            try:
                return unpack(content)
            except EOFError:
                found = f"{kind} data that was cut short"
            except (OSError, zlib.error, zstandard.ZstdError) as error:
                found = f"damaged {kind} data ({error})"
            raise DataError(f"{name}: holds {found}; copy or download the file again")
    return content


def decompress_beginning(beginning: bytes, limit: int) -> bytes:
    """At most `limit` bytes of what the first bytes of a file unpack to; nothing where they are damaged."""
    try:
        if beginning.startswith(GZIP):
            return zlib.decompressobj(wbits=31).decompress(beginning, limit)
        if beginning.startswith(ZSTD):
            return zstandard.ZstdDecompressor(max_window_size=WINDOW).decompressobj().decompress(beginning)[:limit]
    except (zlib.error, zstandard.ZstdError):
        return b""
    return beginning[:limit]


def decode(content: bytes, name: str, encoding: str | None = None) -> tuple[str, str | None]:
    """The text of a file, and a finding about its encoding where there is something to say.

    `encoding` forces one. Otherwise, in this order: a byte-order mark, UTF-8, UTF-8 with a few damaged bytes (each
    becomes U+FFFD), cp1252, Latin-1. Raises DataError for binary data and where the encoding named does not fit.
    """
    if encoding is not None:
        return decode_as(encoding, content, name), None
    for mark, marked in BYTE_ORDER_MARKS.items():
        if content.startswith(mark):
            return decode_as(marked, content, name), f"{marked} with byte-order mark, removed"
    if evidence := signs_of_binary(content):
        raise DataError(f"{name}: looks like a binary file, not text ({evidence}){way_out_of_binary(content)}")
    try:
        return content.decode("utf-8"), None
    except UnicodeDecodeError as error:
        return decode_other_than_utf8(content, first=error.start)


def decode_as(encoding: str, content: bytes, name: str) -> str:
    """Decode strictly, without the byte-order mark. Raises DataError naming the byte offset, or an unknown encoding."""
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        found = f"byte {error.start} (0x{content[error.start]:02x}) is not {encoding}"
        raise DataError(f"{name}: {found}; choose its encoding with --encoding, for example cp1252 or utf-16") from None
    except (LookupError, UnicodeError):
        raise DataError(f"{name}: --encoding {encoding} is not a text encoding; try utf-8, utf-16 or cp1252") from None
    if "\0" in text:
        raise DataError(f"{name}: looks like a binary file, not text (NUL characters when read as {encoding})")
    return text.removeprefix("\ufeff")


def decode_other_than_utf8(content: bytes, first: int) -> tuple[str, str]:
    """Tell UTF-8 with damage from an 8-bit encoding: letters of the latter hardly ever form valid UTF-8 sequences."""
    repaired = content.decode("utf-8", "replace")
    damaged = repaired.count("\ufffd")
    sound = len(repaired) - len(repaired.encode("ascii", "ignore")) - damaged
    if sound > damaged:
        return repaired, f"{counted(damaged, 'damaged UTF-8 character')}, the first at byte {first:,}, made U+FFFD"
    advice = "if letters look wrong, name its encoding with --encoding"
    try:
        return content.decode("cp1252"), f"not UTF-8, read as cp1252 ({advice})"
    except UnicodeDecodeError:  # cp1252 leaves five bytes undefined, Latin-1 none
        return content.decode("latin-1"), f"not UTF-8, read as Latin-1 ({advice})"


def signs_of_binary(content: bytes) -> str | None:
    """Why these bytes are not text in an encoding that extends ASCII: a NUL, or over 1 % control bytes."""
    nul = content.find(0)
    if nul >= 0:
        return f"a NUL byte at offset {nul}"
    n_controls = len(content.translate(None, TEXT_BYTES))
    return f"{n_controls} control bytes" if n_controls * 100 > len(content) else None


def way_out_of_binary(content: bytes) -> str:
    """UTF-16 without a mark looks binary: in European text every other byte is NUL."""
    sample = content[:4096]
    even, odd = sample[0::2].count(0), sample[1::2].count(0)
    if len(sample) >= 8 and max(even, odd) > 0.4 * len(sample) / 2 and min(even, odd) < 0.1 * max(even, odd):
        return f"; if it is UTF-16 text, say so with --encoding {'utf-16-le' if odd > even else 'utf-16-be'}"
    return "; save its text as a .txt file, or leave it out"


def unpack_zstd(content: bytes) -> bytes:
    """All frames of a zstd file. Raises EOFError when the last is cut short (zstandard's own reader returns a part)."""
    unpacker = zstandard.ZstdDecompressor(max_window_size=WINDOW)
    frame = unpacker.decompressobj()
    pieces: list[bytes] = []
    for start in range(0, len(content), BLOCK):
        block = content[start : start + BLOCK]
        while block:
            if frame.eof:
                frame = unpacker.decompressobj()
            pieces.append(frame.decompress(block))
            block = frame.unused_data
    if not frame.eof:
        raise EOFError
    return b"".join(pieces)


Unpacker = Callable[[bytes], bytes]
COMPRESSIONS: dict[bytes, tuple[str, Unpacker]] = {  # magic: name, how to unpack
    GZIP: ("gzip", gzip.decompress),
    ZSTD: ("zstd", unpack_zstd),
}
COMPRESSED_EXTENSIONS = (".gz", ".zst")
