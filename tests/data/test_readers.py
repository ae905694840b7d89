"""What each format may hold and how it fails; what every reader shares is in tests/laws/test_data.py."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from glassformer.data import Corpus, read_documents
from glassformer.errors import DataError


def read(tmp_path: Path, name: str, content: str | bytes, text_key: str = "text") -> Corpus:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_documents([path], text_key=text_key)


def texts(corpus: Corpus) -> list[str]:
    return [document.text for document in corpus.documents]


def places(corpus: Corpus) -> list[str]:
    return [document.where.rpartition("/")[2] for document in corpus.documents]


def test_a_text_file_is_one_document_unless_separator_lines_cut_it(tmp_path: Path):
    whole = read(tmp_path, "whole.txt", "it says <|endoftext|> within a line\n")
    cut = read(tmp_path, "cut.txt", "one\nmore\n<|endoftext|>\ntwo\n<|endoftext|>\n\n<|endoftext|>")
    assert texts(whole) == ["it says <|endoftext|> within a line\n"]
    assert texts(cut) == ["one\nmore\n", "two\n"]
    assert places(cut) == ["cut.txt:1", "cut.txt:4"]
    assert any(note.endswith("cut.txt: 2 documents, separated by lines of <|endoftext|>") for note in cut.notes)


def test_a_json_line_may_be_an_object_or_a_string_and_hold_a_line_separator(tmp_path: Path):
    corpus = read(tmp_path, "a.jsonl", '{"text": "one"}\n\n"two\u2028still two"\n')
    assert texts(corpus) == ["one", "two\u2028still two"]
    assert places(corpus) == ["a.jsonl:1", "a.jsonl:3"]


def test_null_and_empty_rows_are_left_out_and_counted(tmp_path: Path):
    corpus = read(tmp_path, "a.jsonl", '{"text": null}\n{"text": " "}\n{"text": "x"}\n')
    assert texts(corpus) == ["x"]
    assert any(note.endswith("a.jsonl: 2 empty documents left out") for note in corpus.notes)


@pytest.mark.parametrize(
    "content", ['[{"text": "a"}, "b"]', '{"text": "a"}\n{"text": "b"}\n'], ids=["list", "lines in spite of the name"]
)
def test_json_holds_a_list_or_lines(tmp_path: Path, content: str):
    assert texts(read(tmp_path, "a.json", content)) == ["a", "b"]


def test_json_may_be_one_object_over_several_lines(tmp_path: Path):
    assert texts(read(tmp_path, "a.json", json.dumps({"text": "a"}, indent=2))) == ["a"]


@pytest.mark.parametrize("name", ["rows.log", "rows"])
def test_lines_of_json_are_known_without_the_extension(tmp_path: Path, name: str):
    corpus = read(tmp_path, name, '{"text": "a"}\n{"text": "b"}\n')
    assert texts(corpus) == ["a", "b"]
    assert any("read as lines of JSON" in note for note in corpus.notes)
    assert len(read(tmp_path, "config.log", '{"other": 1}\n').documents) == 1


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("header.csv", "id,text\n1,one\n2,two\n", ["one", "two"]),
        ("semicolons.csv", "id;text\n1;one, two\n", ["one, two"]),
        ("quotes.csv", 'text,n\n"a ""b"",\nc",1\n', ['a "b",\nc']),
        ("only.csv", "one\ntwo\n", ["one", "two"]),
        ("crlf.csv", "text,n\r\none,1\r\n", ["one"]),
        ("literal.tsv", 'text\tn\n"so" he said\t1\nan inch: 5"\t2\n', ['"so" he said', 'an inch: 5"']),
        ("quoted.tsv", 'text\tn\n"a\tb"\t1\n', ["a\tb"]),
        ("long.csv", f"text,n\n{'x' * 200_000},1\n", ["x" * 200_000]),
    ],
)
def test_tables_as_people_write_them(tmp_path: Path, name: str, content: str, expected: list[str]):
    assert texts(read(tmp_path, name, content)) == expected


def test_a_table_without_header_is_read_by_column_number(tmp_path: Path):
    assert texts(read(tmp_path, "a.tsv", "so good\t1\nso bad\t0\n", text_key="1")) == ["so good", "so bad"]
    assert texts(read(tmp_path, "a.csv", "1;so good\n0;so bad\n", text_key="2")) == ["so good", "so bad"]
    with pytest.raises(DataError, match=r"b\.csv:1: no column '2', found 'so good'; .*--text-key 1"):
        read(tmp_path, "b.csv", "so good\n", text_key="2")


def test_rows_are_placed_at_the_line_on_which_they_begin(tmp_path: Path):
    corpus = read(tmp_path, "a.csv", 'text,n\n"one\nstill one",1\ntwo,2\n')
    assert places(corpus) == ["a.csv:2", "a.csv:4"]


def test_parquet_without_pyarrow_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"a\.parquet: .*pip install 'glassformer\[parquet\]'"):
        read(tmp_path, "a.parquet", b"PAR1")


@pytest.mark.parametrize("extension", ["jsonl", "csv", "parquet"])
def test_another_text_column_is_chosen_by_name_and_the_error_lists_what_there_is(tmp_path: Path, extension: str):
    path = tmp_path / f"a.{extension}"
    if extension == "parquet":
        pyarrow = pytest.importorskip("pyarrow", reason="the parquet extra is not installed")
        pytest.importorskip("pyarrow.parquet").write_table(pyarrow.table({"id": [1], "body": ["b"]}), path)
    else:
        path.write_text('{"id": 1, "body": "b"}\n' if extension == "jsonl" else "id,body\n1,b\n")
    assert texts(read_documents([path], text_key="body")) == ["b"]
    with pytest.raises(DataError, match=rf"a\.{extension}.*no (key|column) 'text', found 'id', 'body'; .*--text-key"):
        read_documents([path])
