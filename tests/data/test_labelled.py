"""Texts with labels and sentences with tags: what is read, what is skipped and refused; laws are in test_data_shapes.py."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from glassformer.data import (
    Labelled,
    LabelledCorpus,
    Skipped,
    Tagged,
    TaggedCorpus,
    read_labelled,
    read_tagged,
    split_labelled,
    split_tagged,
)
from glassformer.errors import ConfigError, DataError

REVIEWS = [("So good.", ("pos",)), ("So very bad.", ("neg",)), ("Good again.", ("pos",))]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(files: dict[str, str]) -> None:
    for name, content in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(content)


def rows(corpus: LabelledCorpus) -> list[tuple[str, tuple[str, ...]]]:
    return [(row.text, row.labels) for row in corpus.rows]


def said(corpus: LabelledCorpus | TaggedCorpus) -> str:
    return "\n".join(corpus.notes)


# --- labelled texts ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "keys"),
    [
        ("a.tsv", "So good.\tpos\nSo very bad.\tneg\nGood again.\tpos\n", {}),
        ("a.tsv", "pos\tSo good.\nneg\tSo very bad.\npos\tGood again.\n", {}),
        ("a.txt", "So good.\tpos\nSo very bad.\tneg\nGood again.\tpos\n", {}),
        ("a.csv", "id,Review,Sentiment\n1,So good.,pos\n2,So very bad.,neg\n3,Good again.,pos\n", {}),
        ("a.csv", "label;phrase\npos;So good.\nneg;So very bad.\npos;Good again.\n", {}),
        ("a.csv", "pos,x,So good.\nneg,x,So very bad.\npos,x,Good again.\n", {}),
        (
            "a.csv",
            "a,b,c\nSo good.,pos,x\nSo very bad.,neg,x\nGood again.,pos,y\n",
            {"text_key": "a", "label_key": "b"},
        ),
        ("a.csv", "So good.,pos,x\nSo very bad.,neg,x\nGood again.,pos,y\n", {"label_key": "2"}),
        ("a.jsonl", "".join(json.dumps({"content": text, "class": label}) + "\n" for text, (label,) in REVIEWS), {}),
        ("a.json", json.dumps([{"sentence": text, "labels": labels} for text, labels in REVIEWS]), {}),
        ("rows", "".join(json.dumps({"text": text, "category": label}) + "\n" for text, (label,) in REVIEWS), {}),
    ],
)
def test_tables_as_people_write_them(name: str, content: str, keys: dict[str, str]):
    write({name: content})
    assert rows(read_labelled(name, **keys)) == REVIEWS


def test_the_notes_tell_the_columns_and_the_labels():
    write({"a.tsv": "So good.\tpos\nSo very bad.\tneg\nGood again.\tpos\n"})
    assert read_labelled("a.tsv").notes == (
        "1 source, 3 texts with 2 labels: pos (2), neg (1)",
        "a.tsv: no header, column '1' is the text and '2' its label",
    )


def test_a_folder_of_classes():
    write(
        {
            "reviews/pos/1.txt": "So good.\n",
            "reviews/pos/deep/2.txt": "Good\r\nagain.\n",
            "reviews/neg/1.txt": "So very bad.\n",
            "reviews/neg/2.txt": " \n",
            "reviews/README.txt": "All about it.\n",
        }
    )
    corpus = read_labelled("reviews")
    assert corpus.rows == (
        Labelled("So very bad.", ("neg",), "reviews/neg/1.txt"),
        Labelled("So good.", ("pos",), "reviews/pos/1.txt"),
        Labelled("Good\nagain.", ("pos",), "reviews/pos/deep/2.txt"),
    )
    assert corpus.skipped == (Skipped("reviews/neg/2.txt", "the text is empty"),)
    assert "reviews/README.txt: left out, as it lies in no folder of a class" in said(corpus)


def test_several_labels_are_a_list_or_a_cell_that_is_cut():
    write(
        {
            "a.jsonl": '{"text": "a", "labels": ["x", "y", "x"]}\n{"text": "b", "labels": []}\n{"text": "c", "labels": 1}\n',
            "b.csv": 'text,labels\na,"x, y"\nb,\nc,z\n',
        }
    )
    assert rows(read_labelled("a.jsonl")) == [("a", ("x", "y")), ("b", ()), ("c", ("1",))]
    assert rows(read_labelled("b.csv", separator=",")) == [("a", ("x", "y")), ("b", ()), ("c", ("z",))]
    assert rows(read_labelled("b.csv")) == [("a", ("x, y",)), ("c", ("z",))]


def test_numbers_and_truth_are_labels_too():
    write(
        {"a.jsonl": "".join(f'{{"text": "t", "label": {label}}}\n' for label in ("1", "1.0", "0.5", "true", '" x "'))}
    )
    assert [row.labels for row in read_labelled("a.jsonl").rows] == [("1",), ("1",), ("0.5",), ("true",), ("x",)]


def test_rows_that_cannot_be_used_are_listed():
    write(
        {
            "a.jsonl": '{"text": "a", "label": "x"}\n{"text": "", "label": "x"}\n{"text": "b", "label": null}\n'
            '{"text": "c"}\n{"label": "x"}\n{"text": 7, "label": "x"}\n{"text": "d", "label": {}}\n\n["e", "x"]\n',
            "b.csv": "text,label\na,x\nb, \nc\n",
        }
    )
    corpus = read_labelled(["a.jsonl", "b.csv"])
    assert rows(corpus) == [("a", ("x",))] * 2
    assert corpus.skipped == (
        Skipped("a.jsonl:2", "the text is empty"),
        Skipped("a.jsonl:3", "the label is empty"),
        Skipped("a.jsonl:4", "no key 'label'"),
        Skipped("a.jsonl:5", "no key 'text'"),
        Skipped("a.jsonl:6", "'text' holds a number, expected text"),
        Skipped("a.jsonl:7", "'label' holds an object, expected a label"),
        Skipped("a.jsonl:8", "a blank line"),
        Skipped("a.jsonl:9", "a list where an object with keys is expected"),
        Skipped("b.csv:3", "the label is empty"),
        Skipped("b.csv:4", "1 column where the first row has 2"),
    )
    assert "b.csv: 1 row skipped, the label is empty; the first is b.csv:3" in said(corpus)


def test_a_folder_of_train_and_test_tables_is_read_with_a_word_about_it():
    write({"data/train.csv": "text,label\na,x\n", "data/test.csv": "text,label\nb,y\n"})
    corpus = read_labelled("data")
    assert rows(corpus) == [("b", ("y",)), ("a", ("x",))]
    assert "data: test.csv read like its other files; to measure with them, name files one by one" in said(corpus)


@pytest.mark.parametrize(
    ("sources", "keys", "message"),
    [
        ([], {}, r"no labelled text named; name a CSV, TSV or JSONL file"),
        ("-", {}, r"standard input: these are read from files only; name a CSV, TSV"),
        ("demo:translate", {}, r"demo:translate: no table; name a CSV"),
        ("prose.txt", {}, r"prose\.txt: no table; name a CSV"),
        ("a.cvs", {}, r"a\.cvs: no such file \(did you mean 'a\.csv'\?\)"),
        ("a.csv", {}, r"a\.csv: no column known as the text, found 'id', 'words', 'label'; name it with --text-key"),
        ("a.csv", {"text_key": "word"}, r"a\.csv: no column 'word', found 'id', .*; choose one with --text-key"),
        ("a.csv", {"label_key": "4"}, r"a\.csv: no column '4', found '1', '2', '3'; choose one with --label-key"),
        ("b.csv", {}, r"b\.csv: no column known as the label, found 'text', 'mood', 'x'; name it with --label-key"),
        ("many.tsv", {}, r"many\.tsv: no column known as the label, found '1', '2'; name it with --label-key"),
        ("blank.csv", {}, r"blank\.csv: no labelled text in it \(1 row; blank\.csv:2: the text is empty\); name files"),
        ("imdb", {}, r"imdb: its folders are test, train, which are sides of a split.*; name one .* example imdb/test"),
    ],
)
def test_sources_that_are_refused(sources: str | list[str], keys: dict[str, str], message: str):
    write(
        {
            "prose.txt": "It was the best of times.\n",
            "a.csv": "id,words,label\n1,a,x\n",
            "b.csv": "text,mood,x\na,b,c\n",
            "blank.csv": "text,label\n,x\n",
            "many.tsv": "".join(f"text {i}\tlabel {i}\n" for i in range(30)),
            "imdb/train/pos/1.txt": "a\n",
            "imdb/test/pos/1.txt": "b\n",
        }
    )
    with pytest.raises(DataError, match=message):
        read_labelled(sources, **keys)


def test_sst2_is_read_without_a_header(shared_folder: Path):
    path = shared_folder / "data" / "sst2" / "train.tsv"
    if not path.exists():
        pytest.skip(f"needs {path}")
    corpus = read_labelled(path)
    assert Counter(row.labels for row in corpus.rows) == {("1",): 3610, ("0",): 3310}
    assert corpus.skipped == ()


# --- tagged sentences -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.conll", "-DOCSTART- -X- O\n\nEU NNP B-ORG\nrejects VBZ O\n\n\nPeter NNP B-PER\n"),
        ("a.txt", "EU\tB-ORG\r\nrejects\tO\r\n\t\r\nPeter\tB-PER"),
        ("a.tsv", "# id = 1\nEU\tB-ORG\nrejects\tO\n\nPeter\tB-PER\n\n"),
        (
            "a.jsonl",
            '{"tokens": ["EU", "rejects"], "tags": ["B-ORG", "O"]}\n{"tokens": ["Peter"], "tags": ["B-PER"]}\n',
        ),
        (
            "a.json",
            '[{"words": ["EU", "rejects"], "ner_tags": ["B-ORG", "O"]}, {"words": ["Peter"], "ner_tags": ["B-PER"]}]',
        ),
    ],
)
def test_tokens_and_tags_as_people_write_them(name: str, content: str):
    write({name: content})
    corpus = read_tagged(name)
    assert [(row.tokens, row.tags) for row in corpus.rows] == [
        (("EU", "rejects"), ("B-ORG", "O")),
        (("Peter",), ("B-PER",)),
    ]
    assert corpus.notes[0] == "1 file, 2 sentences, 3 tokens, 3 tags"


def test_universal_dependencies_are_words_and_their_kinds():
    row = "\t_" * 6
    write(
        {"a.conllu": f"# text = vámonos\n1-2\tvámonos\t_\t_{row}\n1\tvamos\tir\tVERB{row}\n2\tnos\tnos\tPRON{row}\n\n"}
    )
    assert read_tagged("a.conllu").rows == (Tagged(("vamos", "nos"), ("VERB", "PRON"), "a.conllu:3"),)


def test_a_sentence_with_a_line_that_cannot_be_used_is_listed():
    write(
        {
            "a.conll": "a X\nb Y\n\nc X\nd\ne Y\n\nf X\n",
            "b.jsonl": '{"tokens": ["a"], "tags": ["X"]}\n{"tokens": ["a", "b"], "tags": ["X"]}\n{"tokens": "a b"}\n'
            '{"tokens": [], "tags": []}\n{"tokens": [""], "tags": ["X"]}\n{"tokens": ["a"]}\n',
        }
    )
    corpus = read_tagged(["a.conll", "b.jsonl"])
    assert [row.tokens for row in corpus.rows] == [("a", "b"), ("f",), ("a",)]
    assert corpus.skipped == (
        Skipped("a.conll:5", "1 column, expected 2 as in the first line"),
        Skipped("b.jsonl:2", "not as many tags as tokens"),
        Skipped("b.jsonl:3", "'tokens' holds text, expected a list"),
        Skipped("b.jsonl:4", "no token"),
        Skipped("b.jsonl:5", "a token or tag that is empty or no text"),
        Skipped("b.jsonl:6", "no key 'tags', expected a list"),
    )


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ([], "no tagged sentences named; name a file with a token and its tag on each line"),
        ("-", "-: tagged sentences are read from files only; name a file"),
        (
            "prose.txt",
            r"prose\.txt: no tagged sentence in it \(1 row; prose\.txt:1: 1 column, expected a token and its tag",
        ),
        ("a.jsonl", r"a\.jsonl: no columns known as tokens and tags, found 'x'; call them 'tokens' and 'tags'"),
    ],
)
def test_tagged_sources_that_are_refused(source: str | list[str], message: str):
    write({"prose.txt": "Prose\n", "a.jsonl": '{"x": 1}\n'})
    with pytest.raises(DataError, match=message):
        read_tagged(source)


# --- splits -----------------------------------------------------------------------------------------------------------


def labelled(*rows: tuple[str, str]) -> LabelledCorpus:
    return LabelledCorpus(tuple(Labelled(text, tuple(label.split()), "") for text, label in rows))


def test_every_label_is_held_back_alike():
    corpus = labelled(*((f"text {i}", "rare" if i % 10 == 0 else "frequent") for i in range(1000)))
    sides = split_labelled(corpus, 0.2)
    assert Counter(row.labels[0] for row in sides.held_out) == {"rare": 20, "frequent": 180}
    assert sides.note == "200 of 1,000 texts held back for validation, of each label alike, chosen by hash"


def test_no_label_is_lost_from_training_and_the_share_holds_where_labels_are_many():
    corpus = labelled(*((f"text {i}", f"{i // 5}") for i in range(500)))
    train, held_out, _ = split_labelled(corpus, 0.1)
    assert len(held_out) == 50
    assert {row.labels for row in train} == {row.labels for row in corpus.rows}


def test_a_text_with_several_labels_counts_for_the_rarest():
    corpus = labelled(*((f"text {i}", "common rare" if i < 40 else "common") for i in range(400)))
    assert sum("rare" in row.labels for row in split_labelled(corpus, 0.1).held_out) == 4


def test_splits_that_are_given_or_refused():
    given = split_labelled(labelled(("a", "x"), ("b", "y")), validation=labelled(("B ", "y")))
    assert [row.text for row in given.train] == ["a"]
    assert given.note == "validation as given: 1 text; 1 training text found in it left out of training"
    with pytest.raises(DataError, match="every training text is also in the validation text; name different files"):
        split_labelled(labelled(("a", "x")), validation=labelled(("a", "x")))
    with pytest.raises(DataError, match=r"2 distinct texts, no two of one label, cannot be split into .*; add more"):
        split_labelled(labelled(("a", "x"), ("b", "y")))
    with pytest.raises(ConfigError, match=r"validation fraction is 1\.0, expected"):
        split_labelled(labelled(("a", "x"), ("b", "x")), 1.0)
    train, held_out, _ = split_labelled(labelled(("a", "x"), ("b", "x")))
    assert len(train) == len(held_out) == 1


def test_sentences_are_split_like_texts():
    corpus = TaggedCorpus(tuple(Tagged(("w", str(i)), ("O", "B-X" if i < 20 else "O"), "") for i in range(200)))
    train, held_out, note = split_tagged(corpus, 0.1)
    assert (len(train), len(held_out)) == (180, 20)
    assert sum("B-X" in row.tags for row in held_out) == 2
    assert note == "20 of 200 sentences held back for validation, of each tag alike, chosen by hash"
    assert len(split_tagged(corpus, validation=TaggedCorpus(corpus.rows[:5])).train) == 195
