"""What files are made for, where that is beyond doubt; everything else is text."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from glassformer.data import detect_task, read_pairs
from glassformer.errors import DataError

FILES = {
    "a.de": "eins\nzwei\n",
    "a.en": "one\ntwo",
    "b.en": "one\n",
    "c.src": "eins\nzwei\n",
    "c.tgt": "one\ntwo\n",
    "novel.txt": "It was the best of times,\nit was the worst of times.\n",
    "poem.md": "# Title\n",
    "notes.tsv": "1\tsome words\n2\tother words\n",
    "pairs.tsv": "Zwei Hunde.\tTwo dogs.\nEin Mann.\tA man.\n",
    "spa.txt": "Go.\tVe.\tCC-BY\nHi.\tHola.\tCC-BY\n",
    "pairs.csv": "id,de,en\n1,a,b\n",
    "pairs.jsonl": '{"translation": {"de": "a", "en": "b"}}\n',
    "source.jsonl": '{"source": "a", "target": "b"}\n',
    "alike.jsonl": '{"anchor": "a", "positive": "b"}\n',
    "text.jsonl": '{"text": "a", "id": "b"}\n',
    "sentiment.csv": "text,label\nso good,1\n",
    "phrases.csv": "phrase,label\nso good,1\n",
    "reviews.tsv": "so good\t1\nso bad\t0\nvery bad\t0\ngreat\t1\n",
    "moods.tsv": "I loved every minute of it\tpos\nI hated every minute of it\tneg\n",
    "ner.txt": "-DOCSTART- O\n\nEU B-ORG\nrejects O\n\nPeter B-PER\n",
    "pos.conll": "EU NNP\nrejects VBZ\n",
    "tags.jsonl": '{"tokens": ["a"], "tags": ["X"]}\n',
    "reviews/pos/1.txt": "good\n",
    "reviews/neg/1.txt": "bad\n",
    "authors/austen/1.txt": "It is a truth\n",
    "authors/dickens/1.txt": "It was the best\n",
    "tables/train.csv": "text,label\nso good,1\n",
    "tables/test.csv": "text,label\nso good,1\n",
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, content in FILES.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(content)
    Path("z.de.gz").write_bytes(gzip.compress(b"eins\nzwei\n"))
    Path("binary.bin").write_bytes(b"\0\1\2")
    return tmp_path


@pytest.mark.parametrize(
    ("sources", "task"),
    [
        (["a.de", "a.en"], "translate"),
        (["z.de.gz", "a.en"], "translate"),
        (["c.src", "c.tgt"], "translate"),
        (["c.tgt", "c.src"], "text"),
        (["a.de", "b.en"], "text"),
        (["a.de", "novel.txt"], "text"),
        (["a.de"], "text"),
        ("novel.txt", "text"),
        (["novel.txt", "poem.md"], "text"),
        ("notes.tsv", "text"),
        ("pairs.tsv", "translate"),
        ("spa.txt", "translate"),
        ("pairs.csv", "translate"),
        ("pairs.jsonl", "translate"),
        ("source.jsonl", "translate"),
        ("alike.jsonl", "text"),
        ("text.jsonl", "text"),
        ("sentiment.csv", "classify"),
        ("phrases.csv", "classify"),
        ("reviews.tsv", "classify"),
        ("moods.tsv", "text"),
        (["sentiment.csv", "novel.txt"], "text"),
        ("ner.txt", "tag"),
        ("pos.conll", "tag"),
        ("tags.jsonl", "tag"),
        ("reviews", "classify"),
        ("authors", "text"),
        ("tables", "classify"),
        ("binary.bin", "text"),
        ("demo:translate", "translate"),
        ("demo:python-docs", "text"),
        ("-", "text"),
        ([], "text"),
    ],
)
def test_sure_cases_and_all_others(sources: str | list[str], task: str):
    found = detect_task(sources)
    assert (found.task, bool(found.reason)) == (task, True)


def test_files_of_one_name_are_meant_to_be_aligned_even_where_a_line_is_missing():
    Path("l.de").write_text("eins\n" * 100)
    Path("l.en").write_text("one\n" * 99)
    assert detect_task(["l.de", "l.en"]).task == "translate"
    Path("m.en").write_text("one\n" * 99)
    assert detect_task(["l.de", "m.en"]).task == "text"


def test_a_long_file_is_judged_by_its_beginning_and_a_row_that_is_cut_does_no_harm():
    row = f'"{"word " * 30_000}","x"\n'
    Path("long.csv").write_text("text,label\n" + row * 4)
    assert detect_task("long.csv").task == "classify"


def test_missing_files_are_named():
    with pytest.raises(DataError, match=r"novel\.text: no such file \(did you mean 'novel\.txt'\?\)"):
        detect_task("novel.text")


def test_real_data(shared_folder: Path):
    data = shared_folder / "data"
    for sources, task in (
        ([data / "multi30k" / "train.de.gz", data / "multi30k" / "train.en.gz"], "translate"),
        (data / "tatoeba-eng-spa" / "eng-spa.tsv.gz", "translate"),
        (data / "sst2" / "train.tsv", "classify"),
        (data / "novels", "text"),
    ):
        if not data.is_dir():
            pytest.skip(f"needs {data}")
        assert detect_task(sources).task == task


def test_aligned_files_of_one_name_are_pairs_however_far_their_lengths_differ(tmp_path):
    (tmp_path / "train.en").write_text("a house\n" * 60)
    (tmp_path / "train.es").write_text("una casa\n" * 30)
    sources = [str(tmp_path / "train.en"), str(tmp_path / "train.es")]
    assert detect_task(sources).task == "translate"
    with pytest.raises(DataError, match=r"60 lines .* 30"):
        read_pairs(sources)
