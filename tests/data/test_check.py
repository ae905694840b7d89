"""Every kind of finding is found where it was put, with its line, and not where all is well."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from glassformer.data import Report, check_files
from glassformer.data.check import CHECKS
from glassformer.data.detect import TASKS
from glassformer.errors import DataError

GERMAN = [f"Der Mann {i} ist mit dem Hund auf der Straße und sieht das Haus" for i in range(60)]
ENGLISH = [f"The man {i} is on the street with the dog and he looks at the house" for i in range(60)]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_pairs(name: str, rows: list[tuple[str, str]]) -> None:
    Path(name).write_text("".join(f"{source}\t{target}\n" for source, target in rows))


def found(report: Report) -> dict[str, list[tuple[str, str]]]:
    kinds: dict[str, list[tuple[str, str]]] = {}
    for finding in report.findings:
        kinds.setdefault(finding.kind, []).append((finding.where, finding.what))
    return kinds


def test_every_task_has_checks():
    assert set(CHECKS) == set(TASKS)


def test_data_in_which_all_is_well():
    write_pairs("a.tsv", list(zip(GERMAN, ENGLISH, strict=True)))
    report = check_files("a.tsv")
    assert (report.task, report.n_rows, report.n_found, report.findings) == ("translate", 60, 0, ())
    assert set(report.counts) == {"encoding", "unusable row", *CHECKS["translate"]}
    assert "duplicate: none" in report.lines()


def test_what_is_wrong_with_pairs_is_found_with_its_line():
    rows = list(zip(GERMAN, ENGLISH, strict=True))
    rows += [
        rows[3],  # line 61
        (GERMAN[4], "Something else about the dog and the man, who is at home with it"),
        (ENGLISH[5], ENGLISH[5].upper()),
        ("The dog is with you", "The dog is with me"),
        (f"{ENGLISH[6]}!", f"{GERMAN[6]}!"),
        ("Ein Hund ist das", "Это собака и человек"),
        ("Das ist ein sehr langer Satz", "It"),
        ("Das Ã¼bliche ist das", "That is the usual"),
        ("Was ist das \ufffd?", "What is that of it?"),
        ("Und das ist zu lang " * 110, "And that is too long " * 110),
        ("nur eine Seite", ""),
    ]
    write_pairs("a.tsv", rows)
    report = check_files("a.tsv")
    assert report.n_rows == len(rows) - 1
    assert found(report) == {
        "unusable row": [("a.tsv:71", "the target is empty")],
        "damaged text": [
            ("a.tsv:68", "'Ã¼', as UTF-8 looks that was read in another encoding"),
            ("a.tsv:69", "1 character lost in decoding (U+FFFD)"),
        ],
        "duplicate": [("a.tsv:61", "the same as a.tsv:4")],
        "several targets": [("a.tsv:62", f"a.tsv:5 has '{ENGLISH[4][:59]}…' for the same text")],
        "copied side": [("a.tsv:63", "both sides are the same")],
        "other language": [
            ("a.tsv:63", "the source seems to be English, most are German"),
            ("a.tsv:64", "the source seems to be English, most are German"),
            ("a.tsv:65", "the sides seem swapped (English → German)"),
        ],
        "other script": [("a.tsv:66", "the target is in Cyrillic letters, most are in Latin")],
        "odd length": [("a.tsv:67", "the target is much shorter than usual (28 → 2 characters)")],
        "over-long": [("a.tsv:70", "2,309 characters, more than 2,000")],
    }
    told = report.lines()
    assert "copied side: 1" in told
    assert f"  a.tsv:67: the target is much shorter than usual (28 → 2 characters)  '{rows[66][0]}' → 'It'" in told


def test_leaks_are_found_between_files_by_their_names_and_in_what_is_given_as_validation():
    write_pairs("train.tsv", list(zip(GERMAN, ENGLISH, strict=True)))
    write_pairs("val.tsv", [(GERMAN[7], ENGLISH[1]), (GERMAN[8].upper(), ENGLISH[2]), ("Neu ist das", "New is that")])
    leaks = [
        ("val.tsv:1", "trained on at train.tsv:8"),
        ("val.tsv:2", "trained on, but for case and spacing, at train.tsv:9"),
    ]
    assert found(check_files(["train.tsv", "val.tsv"]))["leak"] == leaks
    Path("val.tsv").rename("other.tsv")
    report = check_files("train.tsv", validation="other.tsv")
    assert found(report)["leak"] == [(where.replace("val", "other"), what) for where, what in leaks]
    assert report.n_rows == 63
    assert "leak" not in found(check_files(["train.tsv", "other.tsv"]))


def test_only_the_first_few_of_a_kind_are_shown_and_all_are_counted():
    write_pairs("a.tsv", [(GERMAN[0], ENGLISH[0])] * 10)
    report = check_files("a.tsv", "translate")
    assert report.reason == "as asked for"
    assert report.counts["duplicate"] == 9
    assert len(found(report)["duplicate"]) == 5
    assert "  and 4 more" in report.lines()


def test_encodings_are_told_by_file():
    Path("a.de").write_bytes("\n".join(GERMAN).encode("cp1252"))
    Path("a.en.gz").write_bytes(gzip.compress(b"\xef\xbb\xbf" + "\n".join(ENGLISH).encode()))
    encodings = found(check_files(["a.de", "a.en.gz"], "translate"))["encoding"]
    assert [where for where, _ in encodings] == ["a.de", "a.en.gz"]
    assert encodings[0][1].startswith("not UTF-8, read as cp1252")
    assert encodings[1][1] == "UTF-8 with byte-order mark, removed"


def test_what_is_wrong_with_labels():
    Path("train.csv").write_text("text,label\ngood,1\ngood ,0\nbad,0\nbad,0\nodd,2\n")
    Path("dev.csv").write_text("text,label\nfine,3\nfair,3\nBad,0\n")
    report = check_files(["train.csv", "dev.csv"])
    assert report.task == "classify"
    assert found(report) == {
        "duplicate": [("train.csv:5", "the same as train.csv:4")],
        "leak": [("dev.csv:4", "trained on, but for case and spacing, at train.csv:4")],
        "several labels": [("train.csv:3", "train.csv:2 has '1' for the same text")],
        "lonely label": [
            ("train.csv:2", "no other row is labelled '1'"),
            ("train.csv:6", "no other row is labelled '2'"),
            ("dev.csv:2", "no training row is labelled '3'"),
            ("dev.csv:3", "no training row is labelled '3'"),
        ],
    }


def test_what_is_wrong_with_tags_and_with_text():
    Path("train.conll").write_text("EU B-ORG\nis O\n\nEU O\nis O\n")
    assert found(check_files("train.conll")) == {
        "several taggings": [("train.conll:4", "train.conll:1 has 'B-ORG O' for the same text")]
    }
    Path("a.txt").write_text("the same")
    Path("b.txt").write_text("the same")
    assert found(check_files(["a.txt", "b.txt"])) == {"duplicate": [("b.txt", "the same as a.txt")]}


def test_columns_are_named_as_for_the_readers():
    Path("a.csv").write_text("q,a,z\neins,one,x\nzwei,two,x\n")
    report = check_files("a.csv", "translate", source_key="q", target_key="a", text_key=None, label_key="z")
    assert report.n_rows == 2


def test_files_that_cannot_be_read_are_one_sentence():
    Path("a.de").write_text("eins\nzwei\n")
    Path("a.en").write_text("one\n")
    with pytest.raises(DataError, match=r"a\.de has 2 lines and a\.en 1"):
        check_files(["a.de", "a.en"], "translate")
