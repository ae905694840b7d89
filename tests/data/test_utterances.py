"""Utterances as people and other programs lay them out: what is read, what is set aside, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from glassformer.data import read_utterances
from glassformer.data.utterances import UtteranceCorpus
from glassformer.data.utterances.names import NamePattern, Replacements
from glassformer.errors import ConfigError, DataError
from spoken import write_npy, write_wav

SAID = [("a", "hello there"), ("b", "good bye"), ("c", "hello again")]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sounds(*names: str) -> None:
    for name in names:
        write_wav(name)


def write(name: str, content: str) -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(content, encoding="utf-8")


def rows(corpus: UtteranceCorpus) -> list[tuple[str, str]]:
    return [(row.path.name, row.text) for row in corpus.rows]


def skipped(corpus: UtteranceCorpus) -> list[tuple[str, str]]:
    return [(row.where, row.reason) for row in corpus.skipped]


# --- manifests --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "keys"),
    [
        ("m.csv", "path,text\nx/a.wav,hello there\nx/b.wav,good bye\nx/c.wav,hello again\n", {}),
        ("m.csv", "text;audio;id\nhello there;x/a.wav;1\ngood bye;x/b.wav;2\nhello again;x/c.wav;3\n", {}),
        ("m.tsv", "path\tsentence\nx/a.wav\thello there\nx/b.wav\tgood bye\nx/c.wav\thello again\n", {}),
        ("m.csv", "x/a.wav,hello there\nx/b.wav,good bye\nx/c.wav,hello again\n", {}),
        ("list.txt", "x/a.wav\thello there\nx/b.wav\tgood bye\nx/c.wav\thello again\n", {}),
        ("list.txt", "x/a.wav|hello there\nx/b.wav|good bye\nx/c.wav|hello again\n", {}),
        ("a.list", "x/a.wav|ann|EN|hello there\nx/b.wav|ben|EN|good bye\nx/c.wav|ann|EN|hello again\n", {}),
        ("list.txt", "path|text\nx/a.wav|hello there\nx/b.wav|good bye\nx/c.wav|hello again\n", {}),
        ("list.txt", "x/a.wav|0|hello there\nx/b.wav|1|good bye\nx/c.wav|0|hello again\n", {}),
        ("m.csv", "wav_filename,wav_filesize,transcript\nx/a.wav,9,hello there\nx/b.wav,9,good bye\nx/c.wav,9,hello again\n", {}),
        ("m.csv", "clip,said\nx/a.wav,hello there\nx/b.wav,good bye\nx/c.wav,hello again\n", {"text_key": "said"}),
        ("m.csv", "clip,words\nx/a,hello there\nx/b,good bye\nx/c,hello again\n", {"path_key": "clip", "text_key": "words"}),
        ("m.csv", "path,text\r\nx\\a.wav,hello  there\r\nx\\b.wav, good bye\r\nx\\c.wav,hello again\r\n", {}),
        ("m.jsonl", "".join(json.dumps({"audio_filepath": f"x/{n}.wav", "text": t}) + "\n" for n, t in SAID), {}),
        ("m.json", json.dumps([{"audio": {"path": f"x/{n}.wav"}, "transcription": t} for n, t in SAID]), {}),
        ("x/metadata.csv", "file_name,transcription\na.wav,hello there\nb.wav,good bye\nc.wav,hello again\n", {}),
    ],
)  # fmt: skip
def test_manifests_as_people_write_them(name: str, content: str, keys: dict[str, Any]):
    sounds("x/a.wav", "x/b.wav", "x/c.wav")
    write(name, content)
    assert rows(read_utterances(name, **keys)) == [(f"{stem}.wav", text) for stem, text in SAID]


def test_what_a_row_tells_beside_its_text():
    sounds("clips/a.wav")
    write("m.tsv", "client_id\tpath\tsentence\tlocale\toffset\tduration\tage\n7f\ta.wav\thello\ten\t0.5\t1.25\t30\n")
    (row,) = read_utterances("m.tsv").rows
    assert (row.speaker, row.offset, row.duration) == ("7f", 0.5, 1.25)
    assert (row.fields["lang"], row.fields["age"], row.where) == ("en", "30", "m.tsv:2")
    assert (row.value_of("speaker"), row.value_of("age"), row.value_of("text")) == ("7f", "30", "hello")


def test_a_stretch_may_be_told_by_its_end():
    sounds("a.wav")
    write("m.csv", "path,text,start,end\na.wav,hello,1.5,4\n")
    (row,) = read_utterances("m.csv").rows
    assert (row.offset, row.duration) == (1.5, 2.5)


def test_labels_and_transcripts_in_one_manifest():
    sounds("a.wav")
    write("m.csv", "path,text,label\na.wav,turn it on,on\n")
    assert rows(read_utterances("m.csv")) == [("a.wav", "turn it on")]
    assert rows(read_utterances("m.csv", wanted="label")) == [("a.wav", "on")]
    write("n.jsonl", '{"path": "a.wav", "label": 3}\n')
    assert rows(read_utterances("n.jsonl", wanted="label")) == rows(read_utterances("n.jsonl")) == [("a.wav", "3")]


def test_what_cannot_be_used_is_set_aside_with_its_line():
    sounds("a.wav")
    write(
        "m.csv",
        "path,text,offset,duration\na.wav,one,,\nno.wav,two,,\na.wav,,,\n\na.wav,four,-1,\na.wav,five,0,nan\n"
        "a.wav,six,x,\na.wav,seven\n,eight,,\na.wav,nine,1,0\n",
    )
    corpus = read_utterances("m.csv")
    assert rows(corpus) == [("a.wav", "one")]
    assert skipped(corpus) == [
        ("m.csv:3", "no such file: no.wav"),
        ("m.csv:4", "the text is empty"),
        ("m.csv:5", "a blank line"),
        ("m.csv:6", "a bad number: 'offset' holds '-1', expected seconds"),
        ("m.csv:7", "a bad number: 'duration' holds 'nan', expected seconds"),
        ("m.csv:8", "a bad number: 'offset' holds 'x', expected seconds"),
        ("m.csv:9", "2 columns where the first row has 4"),
        ("m.csv:10", "'path' holds nothing, expected the name of a file"),
        ("m.csv:11", "a stretch that ends where it begins: 0 seconds"),
    ]
    assert (
        "m.csv: 3 rows skipped, a bad number; the first is m.csv:6 ('offset' holds '-1', expected seconds)"
        in corpus.notes
    )


cells = st.sampled_from(["a.wav", "b.wav", "no.wav", "", "x", "7", "-1", "\x00", "1e999", "..", "/", '"q'])


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(table=st.lists(st.lists(cells, min_size=1, max_size=5), max_size=8), as_json=st.booleans())
def test_no_row_is_lost_whatever_it_holds(table: list[list[str]], as_json: bool):
    sounds("a.wav", "b.wav")
    names = ("path", "text", "offset", "speaker")
    table = [["a.wav", "x", "", ""], *table]
    if as_json:
        write("m.jsonl", "".join(json.dumps(dict(zip(names, row, strict=False))) + "\n" for row in table))
        corpus = read_utterances("m.jsonl")
    else:
        text = "\n".join("\t".join(row) for row in [list(names), *table]).replace("\0", "?").replace('"', "'")
        write("m.tsv", text + "\n")
        corpus = read_utterances("m.tsv")
    assert len(corpus.rows) + len(corpus.skipped) == len(table)
    assert all(row.text and row.path.is_file() for row in corpus.rows)


@pytest.mark.parametrize(
    ("content", "keys", "message"),
    [
        ("path,text\nno.wav,x\n", {}, r"m\.csv: no utterance in it \(1 row; m\.csv:2: no such file: no\.wav\)"),
        (
            "where,text\nx/a,x\n",
            {},
            r"no column that names files of sound or vectors, found 'where', 'text'; .*--path-key",
        ),
        ("path,said\na.wav,x\n", {}, r"no column known as the text, found 'path', 'said'; name it with --text-key"),
        ("path,said\na.wav,x\n", {"wanted": "label"}, r"no column known as the label, .*--label-key"),
        (
            "path,text\na.wav,x\n",
            {"text_key": "txt"},
            r"no column 'txt', found 'path', 'text'; choose one with --text-key",
        ),
        ("path,text\na.wav,x\n", {"path_key": "wav"}, r"no column 'wav', found .*--path-key"),
        ("", {}, r"m\.csv: no utterance in it"),
    ],
)
def test_manifests_that_cannot_be_read_are_one_sentence(content: str, keys: dict[str, Any], message: str):
    sounds("a.wav")
    write("m.csv", content)
    with pytest.raises(DataError, match=message):
        read_utterances("m.csv", **keys)


def test_sound_and_vectors_are_not_mixed():
    sounds("a.wav")
    write_npy("b.npy")
    write("m.csv", "path,text\na.wav,x\nb.npy,y\n")
    with pytest.raises(DataError, match=r"m\.csv:3: is of vectors, and m\.csv:2 of sound"):
        read_utterances("m.csv")


def test_what_holds_no_sound_is_said(tmp_path: Path):
    write("novel.txt", "It was the best of times.\n")
    write("texts/a.txt", "one\n")
    for source in ("novel.txt", "texts", "-", "demo:translate"):
        with pytest.raises(DataError, match=r"manifest|no table"):
            read_utterances(source)
    with pytest.raises(DataError, match=r"novel\.text: no such file \(did you mean 'novel\.txt'\?\)"):
        read_utterances("novel.text")
    with pytest.raises(DataError, match="no file matches"):
        read_utterances("*.wav")
    with pytest.raises(DataError, match="no sound or vectors named"):
        read_utterances([])


# --- corpora that have a layout of their own --------------------------------------------------------------------------


def test_ljspeech():
    sounds("lj/wavs/LJ001-0001.wav", "lj/wavs/LJ001-0002.wav")
    write(
        "lj/metadata.csv",
        'LJ001-0001|"Dr. No" in 1999|"Doctor No" in nineteen\nLJ001-0002|as is|\nLJ001-0003|gone|gone\n',
    )
    for source in ("lj", "lj/metadata.csv"):
        corpus = read_utterances(source)
        assert rows(corpus) == [("LJ001-0001.wav", '"Doctor No" in nineteen'), ("LJ001-0002.wav", "as is")]
        assert skipped(corpus) == [("lj/metadata.csv:3", "no such file: LJ001-0003")]


def test_common_voice():
    sounds("cv/clips/a.wav", "cv/clips/b.wav")
    for side, name in (("train", "a"), ("dev", "b"), ("validated", "a"), ("other", "b")):
        write(f"cv/{side}.tsv", f'client_id\tpath\tsentence\tup_votes\n1\t{name}.wav\t"Hi", he said.\t2\n')
    corpus = read_utterances("cv")
    assert [(row.path.name, row.text, row.speaker) for row in corpus.rows] == [("a.wav", '"Hi", he said.', "1")]
    assert any("train.tsv read" in note for note in corpus.notes)
    assert rows(read_utterances("cv/dev.tsv")) == [("b.wav", '"Hi", he said.')]


def test_librispeech():
    sounds("ls/84/121/84-121-0000.wav", "ls/84/121/84-121-0001.wav", "ls/85/1/85-1-0000.wav")
    write("ls/84/121/84-121.trans.txt", "84-121-0000 GO DO YOU HEAR\n84-121-0001 YES\n84-121-0002 NO\n")
    write("ls/85/1/85-1.trans.txt", "85-1-0000 WELL\n")
    corpus = read_utterances("ls")
    assert [(row.text, row.speaker) for row in corpus.rows] == [("GO DO YOU HEAR", "84"), ("YES", "84"), ("WELL", "85")]
    assert skipped(corpus) == [("ls/84/121/84-121.trans.txt:3", "no such file: 84-121-0002 with .flac or .wav")]


def test_kaldi():
    sounds("wavs/one.wav", "wavs/two.wav")
    write("k/wav.scp", "u1 wavs/one.wav\nu2 ../wavs/two.wav\nu3 sox x.wav -t wav - |\n")
    write("k/text", "u1 hello there\nu2\ngood bye\nu3 piped\nu2 good bye\n\n")
    write("k/utt2spk", "u1 anna\nu2 ben\n")
    corpus = read_utterances("k")
    assert [(row.path.name, row.text, row.speaker) for row in corpus.rows] == [
        ("one.wav", "hello there", "anna"),
        ("two.wav", "good bye", "ben"),
    ]
    assert [reason.partition(":")[0] for _, reason in skipped(corpus)] == [
        "the text is empty",
        "not in wav.scp",
        "wav.scp gives a command, expected a file",
        "a blank line",
    ]
    write("k/text", "s1 hello\ns2 bye\n")
    write("k/segments", "s1 u1 0.1 0.3\ns2 u1 0.3 0.2\n")
    corpus = read_utterances("k")
    assert [(row.text, row.offset, round(row.duration or 0, 6)) for row in corpus.rows] == [("hello", 0.1, 0.2)]
    assert skipped(corpus) == [("k/text:2", "a bad stretch: from 0.3 to 0.2 seconds")]


def test_a_file_whose_extension_says_nothing_is_left_out_with_one_sentence():
    sounds("a.wav", "b.wave", "c.caf", "wavs/u1.wav")
    write("x.m4a", "no sound")
    write("m.csv", "path,text\na.wav,hello\nx.m4a,there\nb.wave,good\nc.caf,bye\n")
    corpus = read_utterances("m.csv")
    assert rows(corpus) == [("a.wav", "hello"), ("b.wave", "good"), ("c.caf", "bye")]
    ((where, reason),) = skipped(corpus)
    assert where == "m.csv:3"
    assert reason.startswith("a file of no known kind: x.m4a: ends in .m4a, which is neither sound (.wav, .wave, ")
    write("k/wav.scp", "u1 ../wavs/u1.wav\nu2 ../x.m4a\n")
    write("k/text", "u1 hello\nu2 there\n")
    corpus = read_utterances("k")
    assert rows(corpus) == [("u1.wav", "hello")]
    assert skipped(corpus)[0][1].startswith("a file of no known kind: ")


def test_a_text_beside_each_file():
    sounds("f/a.wav", "f/b.WAV", "f/c.wav", "f/deep/d.wav")
    for name, text in (("a", "hello\nthere\n"), ("b", "good bye"), ("deep/d", " ")):
        write(f"f/{name}.txt", text)
    corpus = read_utterances("f")
    assert rows(corpus) == [("a.wav", "hello there"), ("b.WAV", "good bye")]
    assert skipped(corpus) == [("f/c.wav", "no text beside it"), ("f/deep/d.wav", "the text is empty")]


def test_folders_of_classes():
    sounds("words/yes/a_theo_0.wav", "words/no/b_anna_0.wav", "words/no/deep/c_anna_1.wav", "words/_noise_/d.wav")
    corpus = read_utterances("words", wanted="label", name_pattern="{id}_{speaker}_{take}")
    found = [(row.text, row.speaker) for row in corpus.rows]
    assert found == [("no", "anna"), ("no", "anna"), ("yes", "theo")]
    sounds("sides/train/yes/a.wav", "sides/test/yes/a.wav")
    with pytest.raises(DataError, match=r"its folders are test, train, which are sides of a split; .*sides/train"):
        read_utterances("sides", wanted="label")


def test_names_of_files_that_tell():
    sounds("f/7_jackson_32.wav", "f/0_theo_1.wav", "f/README_.wav")
    corpus = read_utterances(
        "f", name_pattern="{text}_{speaker}_{take}", replace={"7": "seven", "0": "zero", "5": "five"}
    )
    assert [(row.text, row.speaker, row.fields["take"]) for row in corpus.rows] == [
        ("zero", "theo", "1"),
        ("seven", "jackson", "32"),
    ]
    assert [reason for _, reason in skipped(corpus)] == ["a name that does not fit '{text}_{speaker}_{take}'"]
    assert "replace: '5' found in no text" in corpus.notes
    assert rows(read_utterances("f/*_[jt]*.wav", name_pattern="{text}_{rest}")) != []
    with pytest.raises(DataError, match=r"f: 3 files of sound or vectors and nothing that tells .*--name-pattern"):
        read_utterances("f")
    write("m.csv", "path\nf/0_theo_1.wav\nf/README_.wav\n")
    (row,) = read_utterances("m.csv", name_pattern="{text}_{speaker}_{take}").rows
    assert (row.text, row.speaker) == ("0", "theo")


def test_the_digits_that_are_spoken(shared_folder: Path):
    recordings = shared_folder / "data" / "fsdd" / "recordings"
    if not recordings.is_dir():
        pytest.skip(f"needs {recordings}")
    corpus = read_utterances(recordings, name_pattern="{text}_{speaker}_{take}", replace={"7": "seven"})
    assert (len(corpus.rows), corpus.skipped) == (3000, ())
    assert corpus.notes[0] == "1 source, 3,000 utterances, 6 speakers, 10 different texts"


# --- patterns and replacements ----------------------------------------------------------------------------------------

words = st.text("abcXYZ019", min_size=1, max_size=6)


@given(text=st.lists(words, min_size=1, max_size=3), speaker=words, take=words)
def test_a_pattern_reads_back_what_was_put_into_it(text: list[str], speaker: str, take: str):
    fields = {"text": "_".join(text), "speaker": speaker, "take": take}
    for pattern in ("{text}_{speaker}_{take}", "{take}-{speaker}.{text}", "{speaker}/{take}_{text}"):
        assert NamePattern(pattern).fields_of(Path("/far/away") / f"{pattern.format(**fields)}.wav") == fields


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("{text", "is none"),
        ("text", "no field"),
        ("{text}_{text}", "a field twice"),
        ("{text}{take}", "nothing between"),
        ("{}_{text}", "fields are words"),
        ("{text:3}_{a}", "fields are words"),
        ("{0}_{text}", "fields are words"),
    ],
)
def test_patterns_that_are_none(pattern: str, message: str):
    with pytest.raises(ConfigError, match=message):
        NamePattern(pattern)


def test_whole_texts_are_replaced_first_then_words():
    replace = Replacements({"7": "seven", "7 8": "many", "uh": ""})
    assert [replace(text) for text in ("7", "7 8", "8 7 uh 7", "78", "uh")] == [
        "seven",
        "many",
        "8 seven seven",
        "78",
        "",
    ]
    assert not replace.unused
