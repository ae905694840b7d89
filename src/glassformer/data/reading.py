"""From sources (files, folders, globs, standard input, built-in text) to one corpus of documents, with notes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from glassformer.data.corpora import BUILT_IN, BUILT_IN_PAIRS
from glassformer.data.decoding import decompress
from glassformer.data.documents import Corpus, Document, counted, readable_size
from glassformer.data.notes import it_or_them, sentences, shortened
from glassformer.data.opening import open_file
from glassformer.data.readers import reader_for
from glassformer.data.source_file import Notes, SourceFile, with_unix_line_ends
from glassformer.data.sources import BUILT_IN_PREFIX, STANDARD_INPUT, distinct_sources, one_or_more
from glassformer.errors import DataError, nearest


def read_documents(
    sources: str | Path | Sequence[str | Path],
    *,
    text_key: str = "text",
    encoding: str | None = None,
    stdin: BinaryIO | None = None,
) -> Corpus:
    """Read every source, in the order given, into one corpus.

    A source is a file (text, or a format of `READERS`; each also as .gz or .zst), a folder, a glob pattern, ``-`` for
    `stdin` (default: the standard input), or ``demo:NAME`` for a text of `BUILT_IN`. `text_key` names the key or
    column that holds the text; `encoding` forces one. Raises DataError: missing, empty, binary or broken files.
    """
    notes: Notes = []
    documents: list[Document] = []
    used = distinct_sources(one_or_more(sources), notes)
    names = ["standard input" if source == STANDARD_INPUT else str(source) for source in used]
    for source, name in zip(used, names, strict=True):
        if isinstance(source, str) and source.startswith(BUILT_IN_PREFIX):
            built_in = built_in_corpus(source)
            documents += built_in.documents
            notes += [(source, note) for note in built_in.notes]
            continue
        if source == STANDARD_INPUT:
            content = decompress(read_standard_input(stdin), name)
            documents += documents_of(SourceFile(name, content, text_key, encoding, notes))
        else:
            documents += documents_of(open_file(Path(source), notes, text_key=text_key, encoding=encoding))
    if not names:
        raise DataError(
            "no data named; name a text file, a folder, a pattern such as 'texts/*.txt', or - to read a pipe"
        )
    if not documents:
        raise DataError(f"{shortened(names)}: no text in {it_or_them(names)}; name a file that holds some")
    corpus = Corpus(tuple(documents))
    noun = "file" if all(isinstance(source, Path) for source in used) else "source"
    amount = f"{counted(len(names), noun)}, {counted(len(documents), 'document')}, {readable_size(corpus.n_bytes)}"
    n_copies = len(documents) - len({document.text for document in documents})
    copies = (f"{counted(n_copies, 'document')} the same as an earlier one, kept",) if n_copies else ()
    return replace(corpus, notes=(amount, *sentences(notes), *copies))


def documents_of(file: SourceFile) -> list[Document]:
    """The documents of one file that hold text, with LF line ends. Notes what was left out or changed."""
    documents: list[Document] = []
    n_blank = 0
    old_ends: set[str] = set()
    for document in reader_for(file)(file):
        text, ends = with_unix_line_ends(document.text)
        old_ends |= {ends} if ends else set()
        if text.strip():
            documents.append(document if text is document.text else Document(text, document.where))
        else:
            n_blank += 1
    if not documents:
        file.note("empty, left out")
    elif n_blank:
        file.note(f"{counted(n_blank, 'empty document')} left out")
    if documents and old_ends:
        file.note(f"{' and '.join(sorted(old_ends))} line ends made LF")
    return documents


def read_standard_input(stdin: BinaryIO | None) -> bytes:
    """All that is piped in. Raises DataError with the system's reason."""
    try:
        return (stdin or sys.stdin.buffer).read()
    except OSError as error:
        raise DataError(f"standard input: cannot be read ({error.strerror}); pipe a text into the command") from None


def built_in_corpus(source: str) -> Corpus:
    """The corpus behind ``demo:NAME``. Raises DataError with the nearest name."""
    name = source.removeprefix(BUILT_IN_PREFIX)
    if name in BUILT_IN_PAIRS:
        raise DataError(f"{source}: holds pairs and no text; for text there is {BUILT_IN_PREFIX}{next(iter(BUILT_IN))}")
    if name not in BUILT_IN:
        raise DataError(f"{source}: no built-in text of this name{nearest(name, BUILT_IN)}")
    return BUILT_IN[name]()
