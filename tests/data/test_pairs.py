"""Pairs from aligned files and tables, what is skipped and refused, and their split; laws are in test_data_shapes.py."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest
import zstandard

from glassformer.data import BUILT_IN_PAIRS, Pair, PairCorpus, Skipped, read_documents, read_pairs, split_pairs
from glassformer.errors import ConfigError, DataError

ZWEI = [("Zwei Hunde.", "Two dogs."), ("Ein Mann schläft.", "A man sleeps.")]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(**files: str | bytes) -> None:
    for name, content in files.items():
        path = Path(name.replace("_", "."))
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def sides(corpus: PairCorpus) -> list[tuple[str, str]]:
    return [(pair.source, pair.target) for pair in corpus.pairs]


def said(corpus: PairCorpus) -> str:
    return "\n".join(corpus.notes)


# --- aligned files ----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("folder")
def test_two_files_are_read_line_by_line():
    write(a_de="Zwei Hunde.\nEin Mann schläft.\n", a_en="Two dogs. \nA man sleeps.")
    corpus = read_pairs(["a.de", "a.en"])
    assert corpus.pairs == (Pair(*ZWEI[0], "a.de:1"), Pair(*ZWEI[1], "a.de:2"))
    assert corpus.notes == ("2 files, 2 pairs", "a.de and a.en: source and target, line by line")


@pytest.mark.usefixtures("folder")
def test_the_order_in_which_files_are_named_is_the_direction_and_several_pairs_of_files_are_one_corpus():
    write(a_de="eins\n", a_en="one\n", b_en="two\n", b_de="zwei\n")
    assert sides(read_pairs(["a.en", "a.de", "b.en", "b.de"])) == [("one", "eins"), ("two", "zwei")]
    assert sides(read_pairs(["*.de", "*.en"])) == [("eins", "one"), ("zwei", "two")]
    assert sides(read_pairs("a.*")) == [("eins", "one")]


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress], ids=["gzip", "zstd"])
@pytest.mark.parametrize("change", [b"\n", b"\r\n", b"\xef\xbb\xbf"], ids=["LF", "CRLF", "mark"])
def test_line_ends_marks_and_packing_part_no_lines(folder: Path, pack, change: bytes):
    plain = b"one\ntwo\x0bstill two\xe2\x80\xa8and\x85more\n".replace(b"\x85", "\x85".encode())
    target = change + plain if change == b"\xef\xbb\xbf" else plain.replace(b"\n", change)
    write(a_de="eins\nzwei\n")
    (folder / "a.en.gz").write_bytes(pack(target))
    corpus = read_pairs(["a.de", "a.en.gz"])
    assert [pair.target for pair in corpus.pairs] == ["one", "two\x0bstill two\u2028and\x85more"]


@pytest.mark.usefixtures("folder")
def test_a_stray_carriage_return_parts_no_line_and_is_noted():
    write(a_de="eins\nzwei\n", a_en=b"one\rand more\ntwo\r\r\n")
    corpus = read_pairs(["a.de", "a.en"])
    assert sides(corpus) == [("eins", "one and more"), ("zwei", "two")]
    assert "a.en: 2 carriage returns inside lines made spaces" in said(corpus)


@pytest.mark.usefixtures("folder")
def test_rows_without_text_on_both_sides_are_listed_and_counted():
    write(a_de="eins\n\ndrei\n \n", a_en="one\ntwo\n\n\n\n")
    corpus = read_pairs(["a.de", "a.en"])
    assert sides(corpus) == [("eins", "one")]
    assert corpus.skipped == (
        Skipped("a.de:2", "the source is empty"),
        Skipped("a.de:3", "the target is empty"),
        Skipped("a.de:4", "both sides are empty"),
        Skipped("a.de:5", "both sides are empty"),
    )
    assert "a.de: 2 rows skipped, both sides are empty; the first is a.de:4" in said(corpus)


@pytest.mark.usefixtures("folder")
def test_different_numbers_of_lines_name_both_and_the_line_at_which_the_files_part():
    german = [f"{'sehr ' * (i * 7 % 23)}lang {i}" for i in range(400)]
    english = [f"{'very ' * (i * 7 % 23)}long {i}" for i in range(400) if i != 116]
    write(a_de="\n".join(german), a_en="\n".join(english))
    with pytest.raises(
        DataError, match=r"a\.de has 400 lines and a\.en 399; they seem to part near line 117 \(.*\); mend"
    ):
        read_pairs(["a.de", "a.en"])
    write(a_en="\n".join(english[:300]))
    write(a_de="\n".join(line for i, line in enumerate(german[:310]) if i != 116))
    with pytest.raises(DataError, match=r"309 lines and a\.en 300; they seem to agree up to line 300, the last of"):
        read_pairs(["a.de", "a.en"])
    write(a_en="")
    with pytest.raises(DataError, match=r"a\.de has 309 lines and a\.en 0; they seem to agree up to line 0"):
        read_pairs(["a.de", "a.en"])


@pytest.mark.parametrize("n_lost", [1, 40])
def test_lines_lost_from_a_real_corpus_are_found_within_a_few_lines(shared_folder: Path, folder: Path, n_lost: int):
    paths = [shared_folder / "data" / "multi30k" / f"val.{language}.gz" for language in ("de", "en")]
    if not paths[0].exists():
        pytest.skip(f"needs {paths[0]}")
    lines = gzip.decompress(paths[1].read_bytes()).splitlines(keepends=True)
    for lost in (100, 500, 900):
        (folder / "val.en").write_bytes(b"".join(lines[: lost - 1] + lines[lost - 1 + n_lost :]))
        with pytest.raises(DataError) as error:
            read_pairs([paths[0], "val.en"])
        found = re.search(r"1,014 lines and val\.en [\d,]+; they seem to part near line ([\d,]+)", str(error.value))
        assert found
        assert abs(int(found[1]) - lost) <= 10


# --- tables -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("name", "content", "keys"),
    [
        ("a.tsv", "Zwei Hunde.\tTwo dogs.\nEin Mann schläft.\tA man sleeps.\n", {}),
        ("a.txt", "Zwei Hunde.\tTwo dogs.\tCC-BY\nEin Mann schläft.\tA man sleeps.\tCC-BY\n", {}),
        ("a.tsv", "7\tZwei Hunde.\t8\tTwo dogs.\n9\tEin Mann schläft.\t10\tA man sleeps.\n", {}),
        ("a.tsv", "id\tde\ten\n1\tZwei Hunde.\tTwo dogs.\n2\tEin Mann schläft.\tA man sleeps.\n", {}),
        ("a.csv", "source,target\nZwei Hunde.,Two dogs.\nEin Mann schläft.,A man sleeps.\n", {}),
        ("a.csv", "Tgt;Src\nTwo dogs.;Zwei Hunde.\nA man sleeps.;Ein Mann schläft.\n", {}),
        ("a.csv", "German,English\nZwei Hunde.,Two dogs.\nEin Mann schläft.,A man sleeps.\n", {}),
        ("a.csv", "en,de\nTwo dogs.,Zwei Hunde.\nA man sleeps.,Ein Mann schläft.\n", {"target_key": "en"}),
        ("a.tsv", "Two dogs.\tZwei Hunde.\nA man sleeps.\tEin Mann schläft.\n", {"source_key": "2"}),
        ("a.jsonl", [{"translation": {"de": de, "en": en}} for de, en in ZWEI], {}),
        ("a.jsonl", [{"id": 1, "translation": {"en": en, "de": de}} for de, en in ZWEI], {"source_key": "de"}),
        ("rows", [{"anchor": de, "positive": en} for de, en in ZWEI], {}),
        ("a.jsonl", [{"sentence1": de, "sentence2": en, "score": 1.0} for de, en in ZWEI], {}),
        ("a.jsonl", [{"q": de, "z": 1, "a": en} for de, en in ZWEI], {"source_key": "q", "target_key": "a"}),
    ],
)
def test_tables_as_people_write_them(name: str, content: str | list[object], keys: dict[str, str]):
    if not isinstance(content, str):
        content = "".join(json.dumps(row) + "\n" for row in content)
    Path(name).write_text(content)
    assert sides(read_pairs(name, **keys)) == ZWEI


@pytest.mark.usefixtures("folder")
def test_json_holds_a_list_too():
    write(a_json=json.dumps([{"src": "eins", "tgt": "one"}, {"src": "zwei", "tgt": "two"}]))
    assert read_pairs("a.json").pairs[1] == Pair("zwei", "two", "a.json, item 2")


def test_parquet_holds_translations(folder: Path):
    pyarrow = pytest.importorskip("pyarrow", reason="the parquet extra is not installed")
    rows = [{"de": de, "en": en} for de, en in ZWEI]
    pytest.importorskip("pyarrow.parquet").write_table(pyarrow.table({"translation": rows}), folder / "a.parquet")
    assert sides(read_pairs("a.parquet")) == ZWEI


@pytest.mark.usefixtures("folder")
def test_quotation_marks_in_a_table_with_tabs_swallow_no_rows():
    write(a_tsv='"Hola\tHello\nadiós"\tbye\n"Sí\tYes\nno"\tno\n')
    corpus = read_pairs("a.tsv")
    assert sides(corpus) == [('"Hola', "Hello"), ('adiós"', "bye"), ('"Sí', "Yes"), ('no"', "no")]
    assert "quotation marks taken literally" in said(corpus)
    write(a_tsv='"una\nlínea"\t"a\tline"\nx\ty\n')
    assert sides(read_pairs("a.tsv")) == [("una\nlínea", "a\tline"), ("x", "y")]


@pytest.mark.usefixtures("folder")
def test_rows_of_tables_that_cannot_be_used_are_listed():
    write(
        a_tsv="de\ten\neins\tone\nzwei\n\ndrei\tthree\tIII\n\tfour\n",
        b_jsonl='{"de": "eins", "en": "one"}\n{"de": "zwei"}\n{"de": 3, "en": "three"}\n"four"\n{"de": "a", "en": null}\n',
        c_jsonl='{"translation": {"de": "eins", "en": "one"}}\n{"translation": "zwei"}\n{}\n',
    )
    corpus = read_pairs(["a.tsv", "b.jsonl", "c.jsonl"])
    assert sides(corpus) == [("eins", "one")] * 3
    assert corpus.skipped == (
        Skipped("a.tsv:3", "1 column where the first row has 2"),
        Skipped("a.tsv:4", "a blank line"),
        Skipped("a.tsv:5", "3 columns where the first row has 2"),
        Skipped("a.tsv:6", "the source is empty"),
        Skipped("b.jsonl:2", "no key 'en'"),
        Skipped("b.jsonl:3", "'de' holds a number, expected text"),
        Skipped("b.jsonl:4", "text where an object with keys is expected"),
        Skipped("b.jsonl:5", "the target is empty"),
        Skipped("c.jsonl:2", "text under 'translation' where an object of two languages is expected"),
        Skipped("c.jsonl:3", "no key 'translation' where an object of two languages is expected"),
    )


def test_tatoeba_is_read_whole(shared_folder: Path):
    path = shared_folder / "data" / "tatoeba-eng-spa" / "eng-spa.tsv.gz"
    if not path.exists():
        pytest.skip(f"needs {path}")
    corpus = read_pairs(path)
    assert (len(corpus.pairs), corpus.skipped) == (118_964, ())
    assert sum('"' in pair.source or '"' in pair.target for pair in corpus.pairs) == 311
    parts = split_pairs(corpus, 0.02)
    assert len({pair.source for pair in parts.held_out}) < len(parts.held_out)
    assert not {pair.source for pair in parts.train} & {pair.source for pair in parts.held_out}


# --- sources ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("folder")
def test_built_in_pairs_are_named_like_a_source():
    corpus = read_pairs("demo:translate")
    assert corpus.pairs == BUILT_IN_PAIRS["translate"]().pairs
    assert corpus.notes[0] == "1 source, 20,000 pairs"
    with pytest.raises(DataError, match="demo:translate: holds pairs and no text; for text there is demo:python-docs"):
        read_documents("demo:translate")


@pytest.mark.usefixtures("folder")
def test_what_is_named_twice_is_read_once_and_what_lies_beside_tables_is_left_out(folder: Path):
    write(a_de="eins\n", a_en="one\n")
    (folder / "tables").mkdir()
    (folder / "tables" / "a.tsv").write_text("zwei\ttwo\n")
    (folder / "tables" / "README.md").write_text("All about it.\n")
    corpus = read_pairs(["a.de", "a.en", "tables", "./a.de", "a.en"])
    assert sides(corpus) == [("eins", "one"), ("zwei", "two")]
    assert "a.de and a.en: named more than once, read once" in said(corpus)
    assert "tables/README.md: left out, as it lies beside tables and is none" in said(corpus)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("sources", "keys", "message"),
    [
        ([], {}, r"no pairs named; name the file of the source and then that of its target, for example train\.de"),
        (["-"], {}, r"standard input: pairs are read from files only; save"),
        (["a.de"], {}, r"a\.de: one side only; name the file of the source"),
        (["*.*"], {}, r"\*\.\*: 3 files of text without another side; name"),
        (["a.*", "b.fr"], {}, r"a\.\* is 2 files and b\.fr 1; name the file"),
        (["a.de", "./a.de"], {}, r"a\.de: named as source and as target; name"),
        (["a.de", "a.es"], {}, r"a\.es: no such file \(did you mean 'a\.(en|de)'\?\)"),
        (["blank/a", "blank/b"], {}, r"blank/a, blank/b: no pair in them \(1 row; blank/a:1: both sides are empty\)"),
        (["blank/c.tsv"], {}, r"blank/c\.tsv: no pair in it \(1 row; blank/c\.tsv:1: a blank line\); name files"),
        (["blank/d.jsonl"], {}, r"d\.jsonl: no two columns known .*, found 'x', 'y'; name them with --source-key and"),
        (["blank/e.tsv"], {}, r"e\.tsv: no two columns of text, and no header, found '1', '2'; name them"),
        (["blank/f.csv"], {"source_key": "ed"}, r"f\.csv: no column 'ed', found 'de', 'en', 'fr'; .*--source-key"),
        (["blank/f.csv"], {"target_key": "4"}, r"f\.csv: no column '4', found '1', '2', '3'; .*--target-key"),
        (["blank/f.csv"], {"target_key": "fr"}, r"f\.csv: no two columns known as source and target, found 'de'"),
        (["blank/g.jsonl"], {}, r"g\.jsonl:2: is not valid JSON .*; mend or remove the line"),
        (["demo:translte"], {}, r"demo:translte: no built-in pairs of this name \(did you mean 'translate'\?\)"),
        (["demo:python-docs"], {}, r"demo:python-docs: holds text and no pairs; for pairs there is demo:translate"),
    ],
)
def test_sources_that_are_refused(folder: Path, sources: list[str], keys: dict[str, str], message: str):
    write(a_de="eins\n", a_en="one\n", b_fr="un\n")
    (folder / "blank").mkdir()
    files = {
        "a": "\n",
        "b": "\n",
        "c.tsv": "\n",
        "d.jsonl": '{"x": "1", "y": "2"}\n',
        "e.tsv": "text\t1\nmore\t0\n",
        "f.csv": "de,en,fr\na,b,c\n",
        "g.jsonl": '{"de": "a", "en": "b"}\n{"de": \n',
    }
    for name, content in files.items():
        (folder / "blank" / name).write_text(content)
    with pytest.raises(DataError, match=message):
        read_pairs(sources, **keys)


# --- split ------------------------------------------------------------------------------------------------------------


def corpus_of(*sources: str) -> PairCorpus:
    return PairCorpus(tuple(Pair(source, str(i), f"a:{i}") for i, source in enumerate(sources)))


def test_the_split_says_what_it_did_and_stays_the_same():
    train, held_out, note = split_pairs(corpus_of(*(f"sentence {i // 2}" for i in range(400))), 0.1)
    assert note == "34 of 400 pairs, those of 17 source texts, held back for validation, chosen by hash"
    assert (len(train), len(held_out)) == (366, 34)


def test_few_sources_are_split_nearly_as_asked():
    train, held_out, _ = split_pairs(corpus_of("one", "two"), 0.1)
    assert (len(train), len(held_out)) == (1, 1)
    train, held_out, _ = split_pairs(corpus_of(*"abcdefgh"), 0.25)
    assert (len(train), len(held_out)) == (6, 2)


def test_a_validation_of_the_users_own_is_kept_whole_and_out_of_training():
    train, held_out, note = split_pairs(corpus_of("a", "B  c", "d"), validation=corpus_of("b C", "e"))
    assert [pair.source for pair in train] == ["a", "d"]
    assert [pair.source for pair in held_out] == ["b C", "e"]
    assert note == "validation as given: 2 pairs; 1 training pair found in it left out of training"


def test_splits_that_are_refused():
    with pytest.raises(DataError, match="every training pair is also in the validation text; name different"):
        split_pairs(corpus_of("a"), validation=corpus_of("A"))
    with pytest.raises(DataError, match="the validation text is empty; name different files"):
        split_pairs(corpus_of("a"), validation=PairCorpus(()))
    with pytest.raises(DataError, match="1 distinct source text cannot be split into training and validation; add"):
        split_pairs(corpus_of("a", "A "))
    for fraction in (0.0, 1.0, float("nan")):
        with pytest.raises(ConfigError, match=f"validation fraction is {fraction}, expected .* for example 0.1"):
            split_pairs(corpus_of("a", "b"), fraction)
