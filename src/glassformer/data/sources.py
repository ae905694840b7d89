"""From what the user names (files, folders, globs, standard input, built-in text) to one corpus with notes."""

from __future__ import annotations

import glob
import itertools
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from glassformer.data.corpora import BUILT_IN
from glassformer.data.decoding import COMPRESSED_EXTENSIONS, decompress, signs_of_binary
from glassformer.data.documents import Corpus, Document, counted, readable_size
from glassformer.data.readers import READERS, SourceFile, extension_of, reader_for
from glassformer.errors import DataError, nearest

STANDARD_INPUT = "-"
BUILT_IN_PREFIX = "demo:"
Notes = list[tuple[str, str]]  # of which file or source, what was found
N_SNIFFED = 8192  # bytes that decide whether a file of unknown extension in a folder is text


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
    used = distinct_sources([sources] if isinstance(sources, str | Path) else sources, notes)
    names = ["standard input" if source == STANDARD_INPUT else str(source) for source in used]
    for source, name in zip(used, names, strict=True):
        if isinstance(source, str) and source.startswith(BUILT_IN_PREFIX):
            built_in = built_in_corpus(source)
            documents += built_in.documents
            notes += [(source, note) for note in built_in.notes]
            continue
        content = read_standard_input(stdin) if source == STANDARD_INPUT else read_bytes(Path(source))
        documents += documents_of(SourceFile(name, decompress(content, name), text_key, encoding, notes))
    if not names:
        raise DataError(
            "no data named; name a text file, a folder, a pattern such as 'texts/*.txt', or - to read a pipe"
        )
    if not documents:
        shown = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
        raise DataError(f"{shown}: no text in {'it' if len(names) == 1 else 'them'}; name a file that holds some")
    corpus = Corpus(tuple(documents))
    noun = "file" if all(isinstance(source, Path) for source in used) else "source"
    amount = f"{counted(len(names), noun)}, {counted(len(documents), 'document')}, {readable_size(corpus.n_bytes)}"
    n_copies = len(documents) - len({document.text for document in documents})
    copies = (f"{counted(n_copies, 'document')} the same as an earlier one, kept",) if n_copies else ()
    return replace(corpus, notes=(amount, *sentences(notes), *copies))


def sentences(notes: Notes) -> list[str]:
    """One sentence for each finding, naming its files: twenty CRLF files are one line, not twenty."""
    names_of: dict[str, dict[str, None]] = {}
    for name, finding in notes:
        names_of.setdefault(finding, {})[name] = None
    told: list[str] = []
    for finding, found_in in names_of.items():
        names = list(found_in)
        named = ", ".join(names) if len(names) <= 3 else f"{names[0]} and {len(names) - 1:,} more files"
        told.append(f"{named}: {finding}")
    return told


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


def with_unix_line_ends(text: str) -> tuple[str, str | None]:
    """CRLF to LF; CR alone to LF only where no LF says otherwise. Returns the name of the ends that were replaced."""
    if "\r\n" in text:
        return text.replace("\r\n", "\n"), "CRLF"
    if "\r" in text and "\n" not in text:
        return text.replace("\r", "\n"), "CR"
    return text, None


def distinct_sources(sources: Sequence[str | Path], notes: Notes) -> list[str | Path]:
    """Each file (or ``-``, or ``demo:NAME``) once, however often and in whatever spelling the sources name it."""
    distinct: dict[str, str | Path] = {}
    for source in itertools.chain.from_iterable(expand(source, notes) for source in sources):
        identity = os.path.realpath(source) if isinstance(source, Path) else source
        if identity in distinct:
            notes.append((str(distinct[identity]), "named more than once, read once"))
        distinct.setdefault(identity, source)
    return list(distinct.values())


def expand(source: str | Path, notes: Notes) -> list[Path] | list[str]:
    """The files that one source stands for. Raises DataError when there are none."""
    if str(source) == STANDARD_INPUT or str(source).startswith(BUILT_IN_PREFIX):
        return [str(source)]
    path = Path(source).expanduser()
    if path.is_dir():
        return files_of_folder(path, notes)
    if path.exists():
        return [path]
    if glob.has_magic(str(path)):
        files = [Path(name) for name in sorted(glob.glob(str(path), recursive=True)) if not Path(name).is_dir()]
        if files:
            return files
        raise DataError(f"{source}: no file matches this pattern; try **/ for folders inside folders")
    raise missing(path)


def files_of_folder(folder: Path, notes: Notes) -> list[Path]:
    """The text files of a folder and the folders in it, sorted, hidden ones passed over. Raises DataError if none."""
    texts: list[Path] = []
    others: list[str] = []
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and not is_run(Path(root, name)))
        for path in (Path(root, name) for name in sorted(names) if not name.startswith(".")):
            if is_wanted(path):
                texts.append(path)
            else:
                others.append(str(path.relative_to(folder)))
    shown = ", ".join(others[:3]) + (", …" if len(others) > 3 else "")
    if not texts:
        found = f"{counted(len(others), 'file')} of other kinds: {shown}" if others else "no file at all"
        raise DataError(f"{folder}: no text file in this folder, found {found}; name a folder or file that holds text")
    if others:
        notes.append((str(folder), f"{counted(len(others), 'file')} left out, not known as text: {shown}"))
    return texts


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a training run, whose samples and logs are nothing to train on."""
    return (folder / "recipe.yaml").exists() and (folder / "tokenizer").is_dir()


def is_wanted(path: Path) -> bool:
    """Whether a file met in a folder counts as data: by its extension, or, uncompressed, because it looks like text."""
    if not path.is_file():  # a broken link, a socket, a pipe that would be waited for
        return False
    if extension_of(path.name) in READERS:
        return True
    if path.name.lower().endswith(COMPRESSED_EXTENSIONS):
        return False
    return signs_of_binary(read_bytes(path, N_SNIFFED)) is None


def read_bytes(path: Path, limit: int = -1) -> bytes:
    """The bytes of a file, at most `limit` where one is given. Raises DataError with the system's reason."""
    try:
        with path.open("rb") as stream:
            return stream.read(limit)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check that you may read it") from None


def read_standard_input(stdin: BinaryIO | None) -> bytes:
    """All that is piped in. Raises DataError with the system's reason."""
    try:
        return (stdin or sys.stdin.buffer).read()
    except OSError as error:
        raise DataError(f"standard input: cannot be read ({error.strerror}); pipe a text into the command") from None


def missing(path: Path) -> DataError:
    """The error for a file that is not there, with the nearest name in its folder."""
    folder = path.parent
    if not folder.is_dir():
        return DataError(f"{path}: no such file, and no such folder {folder}; check the path")
    names = [name for name in os.listdir(folder) if not name.startswith(".")]
    return DataError(f"{path}: no such file{nearest(path.name, names)}")


def built_in_corpus(source: str) -> Corpus:
    """The corpus behind ``demo:NAME``. Raises DataError with the nearest name."""
    name = source.removeprefix(BUILT_IN_PREFIX)
    if name not in BUILT_IN:
        raise DataError(f"{source}: no built-in text of this name{nearest(name, BUILT_IN)}")
    return BUILT_IN[name]()
