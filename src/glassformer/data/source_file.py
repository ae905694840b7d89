"""One file on its way to being read: its name, bytes and line ends, and what was found in it. Formats are read elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePath

from glassformer.data.decoding import COMPRESSED_EXTENSIONS, decode
from glassformer.data.documents import counted

Notes = list[tuple[str, str]]  # of which file or source, what was found


@dataclass(frozen=True)
class SourceFile:
    """One file to be read: its name as the user knows it, its unpacked bytes, and what the user said about it.

    `text_key` names the key or column that holds the text. `notes` collects (name, finding) of all files of a corpus.
    """

    name: str
    content: bytes
    text_key: str = "text"
    encoding: str | None = None
    notes: Notes = field(default_factory=Notes)

    def text(self) -> str:
        """The content as text. Raises DataError; notes what had to be decided."""
        text, note = decode(self.content, self.name, self.encoding)
        if note:
            self.note(note)
        return text

    def text_of_lines(self) -> str:
        r"""The content as text in which only \n ends a line: a CR that ends none would part what belongs together."""
        text, ends = with_unix_line_ends(self.text())
        if ends:
            self.note(f"{ends} line ends made LF")
        n_strays = text.count("\r")
        if n_strays:
            self.note(f"{counted(n_strays, 'carriage return')} inside lines made spaces")
            text = text.replace("\r", " ")
        return text

    def note(self, finding: str) -> None:
        """Remember what was found in this file, to be told to the user."""
        self.notes.append((self.name, finding))


def with_unix_line_ends(text: str) -> tuple[str, str | None]:
    """CRLF to LF; CR alone to LF only where no LF says otherwise. Returns the name of the ends that were replaced."""
    if "\r\n" in text:
        return text.replace("\r\n", "\n"), "CRLF"
    if "\r" in text and "\n" not in text:
        return text.replace("\r", "\n"), "CR"
    return text, None


def lines(text: str) -> Iterator[str]:
    r"""The lines of a text with their ends, cut at \n only (U+2028 ends no row), without a copy of the whole."""
    start = 0
    while start < len(text):
        end = text.find("\n", start) + 1 or len(text)
        yield text[start:end]
        start = end


def extension_of(name: str) -> str:
    """The extension that tells the format: ``.jsonl`` for ``Wiki.JSONL.gz``."""
    path = PurePath(name.lower())
    return PurePath(path.stem).suffix if path.suffix in COMPRESSED_EXTENSIONS else path.suffix
