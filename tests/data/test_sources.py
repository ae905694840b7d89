"""Files, folders, globs, standard input and built-in text; what is said about them and what is refused."""

from __future__ import annotations

import gzip
import io
import os
from pathlib import Path

import pytest

from glassformer.data import BUILT_IN, Corpus, Document, read_documents
from glassformer.errors import DataError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    files = {
        "b.txt": b"bee\n",
        "a.md": b"ay\n",
        "deep/er/c.py": b"print('sea')\n",
        "rows.jsonl": b'{"text": "row"}\n',
        "picture.png": b"\x89PNG\0\0",
        "old.tar.gz": gzip.compress(b"tar"),
        ".hidden.txt": b"hidden\n",
        ".git/config.txt": b"hidden\n",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def texts(corpus: Corpus) -> list[str]:
    return [document.text for document in corpus.documents]


def test_a_folder_is_read_in_order_without_hidden_and_binary_files(folder: Path):
    corpus = read_documents([folder])
    assert texts(corpus) == ["ay\n", "bee\n", "row", "print('sea')\n"]
    assert corpus.notes[0] == "4 files, 4 documents, 23 bytes"
    assert corpus.notes[1].endswith("2 files left out, not known as text: old.tar.gz, picture.png")


def test_a_training_run_inside_the_folder_is_not_read(folder: Path):
    (folder / "runs" / "mine" / "tokenizer").mkdir(parents=True)
    (folder / "runs" / "mine" / "recipe.yaml").write_text("seed: 0\n")
    (folder / "runs" / "mine" / "samples.txt").write_text("what a model wrote\n")
    assert len(read_documents(folder).documents) == 4


def test_links_that_lead_nowhere_or_in_a_circle_do_no_harm(folder: Path):
    try:
        (folder / "broken.txt").symlink_to("nowhere.txt")
        (folder / "deep" / "circle").symlink_to(folder, target_is_directory=True)
    except OSError:
        pytest.skip("this system makes no links")
    assert len(read_documents(folder).documents) == 4


def test_globs_and_sources_that_overlap_read_each_file_once(folder: Path):
    assert texts(read_documents("**/*.py")) == ["print('sea')\n"]
    corpus = read_documents(["*.txt", "b.txt", folder / "deep" / ".." / "b.txt"])
    assert texts(corpus) == ["bee\n"]
    assert corpus.notes[1] == "b.txt: named more than once, read once"


def test_a_file_whose_name_is_a_pattern_is_that_file(folder: Path):
    (folder / "a[1].txt").write_text("one")
    assert texts(read_documents("a[1].txt")) == ["one"]


def test_the_same_finding_in_many_files_is_told_once(folder: Path):
    for i in range(5):
        (folder / f"{i}.txt").write_bytes(b"\xef\xbb\xbf" + f"{i}\n".encode())
    notes = read_documents("[0-9].txt").notes
    assert notes[1:] == ("0.txt and 4 more files: UTF-8 with byte-order mark, removed",)


@pytest.mark.parametrize("content", [b"piped\n", gzip.compress(b"piped\n")], ids=["plain", "gzip"])
def test_standard_input(content: bytes):
    corpus = read_documents(["-"], stdin=io.BytesIO(content))
    assert corpus.documents == (Document("piped\n", "standard input"),)
    assert corpus.notes == ("1 source, 1 document, 6 bytes",)


def test_lines_of_json_on_standard_input():
    assert texts(read_documents("-", stdin=io.BytesIO(b'{"text": "one"}\n'))) == ["one"]


def test_empty_files_are_left_out_and_copies_are_noted(folder: Path):
    (folder / "empty.txt").write_text(" \n")
    (folder / "copy.txt").write_text("bee\n")
    corpus = read_documents(["empty.txt", "b.txt", "copy.txt"])
    assert texts(corpus) == ["bee\n", "bee\n"]
    assert corpus.notes[1:] == ("empty.txt: empty, left out", "1 document the same as an earlier one, kept")


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ([], r"no data named; name a text file, a folder"),
        (["b.text"], r"b\.text: no such file \(did you mean 'b\.txt'\?\)"),
        (["nowhere/b.txt"], r"nowhere/b\.txt: no such file, and no such folder nowhere"),
        (["*.rst"], r"\*\.rst: no file matches this pattern; try"),
        (["picture.png"], r"picture\.png: looks like a binary file, not text"),
        (["demo:python-doc"], r"demo:python-doc: .*did you mean 'python-docs'"),
        (["empty"], r"empty: no text file in this folder, found no file at all; name"),
        (["images"], r"images: no text file in this folder, found 1 file of other kinds: i\.png; name"),
        (["blank.txt"], r"blank\.txt: no text in it; name a file that holds some"),
        (["blank.txt", "-"], r"blank\.txt, standard input: no text in them; name a file"),
    ],
)
def test_sources_that_are_refused(folder: Path, sources: list[str], message: str):
    (folder / "empty").mkdir()
    (folder / "images").mkdir()
    (folder / "images" / "i.png").write_bytes(b"\0")
    (folder / "blank.txt").write_text("\n")
    with pytest.raises(DataError, match=message):
        read_documents(sources, stdin=io.BytesIO(b""))


def test_a_file_that_may_not_be_read(folder: Path):
    os.chmod(folder / "b.txt", 0)
    if os.access(folder / "b.txt", os.R_OK):
        pytest.skip("this user may read every file")
    with pytest.raises(DataError, match=r"b\.txt: cannot be read \(Permission denied\); check"):
        read_documents("b.txt")


def test_the_fingerprint_knows_texts_their_order_and_their_bounds_but_not_their_place():
    def fingerprint(*texts: str, where: str = "a") -> str:
        return Corpus(tuple(Document(text, where) for text in texts)).fingerprint

    assert fingerprint("ab", "c") == fingerprint("ab", "c", where="b")
    assert len({fingerprint("ab", "c"), fingerprint("a", "bc"), fingerprint("c", "ab"), fingerprint("abc")}) == 4


def test_built_in_text_is_named_like_a_source(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(BUILT_IN, "little", lambda: Corpus((Document("é", "here"),), ("a little",)))
    corpus = read_documents("demo:little")
    assert texts(corpus) == ["é"]
    assert corpus.notes == ("1 source, 1 document, 2 bytes", "demo:little: a little")
