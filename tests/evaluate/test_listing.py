"""The file of examples: its order, and that what is read back is what was written."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from glassformer.errors import ConfigError
from glassformer.evaluate import write_examples

ROWS: list[dict[str, Any]] = [
    {"score": 0.5, "where": "a.tsv:1", "text": "middling"},
    {"score": np.float32(0.25), "where": "a.tsv:2", "text": "bad"},
    {"score": math.nan, "where": "a.tsv:3", "text": "not judged"},
    {"score": 0.25, "where": "a.tsv:4", "text": "as bad"},
    {"score": math.inf, "where": "a.tsv:5", "text": "good"},
]


def order(path: Path) -> list[str]:
    return [json.loads(line)["where"][-1] for line in path.read_text(encoding="utf-8").splitlines()]


def test_worst_first_ties_as_given_and_what_has_no_score_last(tmp_path: Path):
    path = tmp_path / "deep" / "examples.jsonl"
    write_examples(path, ROWS)
    assert order(path) == ["2", "4", "1", "5", "3"]
    write_examples(path, iter(ROWS), higher_is_better=False)
    assert order(path) == ["5", "1", "2", "4", "3"]
    assert [json.loads(line)["score"] for line in path.read_text().splitlines()] == [None, 0.5, 0.25, 0.25, None]


def test_a_table_has_every_column_that_some_row_has(tmp_path: Path):
    path = tmp_path / "examples.TSV"
    write_examples(path, [{"score": 1.5, "tags": ["a", "b"]}, {"score": 1, "note": None, "labels": {"y", "x"}}])
    assert path.read_text() == 'score\tnote\tlabels\ttags\n1\t\t"[""x"", ""y""]"\t\n1.5\t\t\t"[""a"", ""b""]"\n'


@settings(max_examples=20)  # the disk is waited for
@given(st.lists(st.text(), min_size=1))
@example(["\r", "\n", '"', "\t", "", 'a"b', "\u2028", "\r\n"])
def test_every_text_is_read_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, texts: list[str]):
    rows = [{"score": i, "text": text} for i, text in enumerate(texts)]
    path = tmp_path_factory.getbasetemp() / "texts.jsonl"
    write_examples(path, rows)
    assert [json.loads(line)["text"] for line in path.read_text(encoding="utf-8").split("\n")[:-1]] == texts
    path = path.with_suffix(".tsv")
    write_examples(path, rows)
    with path.open(encoding="utf-8", newline="") as file:
        table = list(csv.reader(file, delimiter="\t"))
    assert [cells[1] for cells in table[1:]] == texts


def test_half_a_character_is_written_so_that_json_reads_it(tmp_path: Path):
    path = tmp_path / "examples.jsonl"
    write_examples(path, [{"score": 1, "text": "a\ud800b"}])
    assert json.loads(path.read_bytes())["text"] == "a\ud800b"


def test_another_extension_is_refused_before_anything_is_written(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"examples\.xlsx: examples are written as \.jsonl or \.tsv; choose a name"):
        write_examples(tmp_path / "examples.xlsx", ROWS)
    assert list(tmp_path.iterdir()) == []
