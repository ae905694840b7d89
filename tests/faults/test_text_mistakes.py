"""Files that nothing can be trained on, and wishes that a text does not allow: one sentence, and nothing left behind."""

from __future__ import annotations

import pytest

from running import QUICK, SENTENCES

SMALL = QUICK[:6]  # the sizes of the model only


@pytest.mark.parametrize(
    ("content", "flags", "said"),
    [
        (b"", (), "no text in "),
        (b" \n\t\n", (), "no text in "),
        (b"\x7fELF\x00\x01" * 50, (), "{file}: looks like a binary file, not text (a NUL byte at offset 4)"),
        (b"caf\xe9 " * 90, ("--encoding", "utf-8"), "{file}: byte 3 (0xe9) is not utf-8; choose its encoding with"),
        (b"abc" * 90, ("--encoding", "utf-99"), "{file}: --encoding utf-99 is not a text encoding; try utf-8"),
        (b"a", (), "1 character cannot be split"),
        (b"ab", (), "the training text has 1 of the 2 tokens it needs at least"),
        (b"abcdefghij", ("--max-len", 4), "the validation text has 1 of the 2 tokens it needs at least; add text"),
        (
            SENTENCES.encode() * 5,
            ("--max-len", 4000),
            "the training text is 373 tokens long and a context of 4,000 needs 4,001; choose --max-len 372 or less",
        ),
        (
            SENTENCES.encode() * 5,
            ("--tokenizer", "characters", "--vocab-size", 500),
            "vocab_size=500 cannot be had: the text has 20 different characters",
        ),
        (SENTENCES.encode() * 5, ("--tokenizer", "bpe", "--vocab-size", 9000), "vocab_size=9000 cannot be had: "),
        (SENTENCES.encode() * 5, ("--tokenizer", "words", "--vocab-size", 9000), "vocab_size=9000 cannot be had: "),
        (SENTENCES.encode() * 5, ("--val-data", "missing.txt"), "missing.txt: no such file"),
    ],
)
def test_a_text_that_cannot_be_trained_on_is_one_sentence(command, tmp_path, content, flags, said):
    file = tmp_path / "my.txt"
    file.write_bytes(content)
    done = command("train", file, *SMALL, "--steps", 2, "--threads", 1, *flags, "-o", tmp_path / "run")
    assert done.code == 1
    assert said.format(file=file) in done.sentence
    assert "Traceback" not in done.err
    assert not (tmp_path / "run").exists()
    assert file.read_bytes() == content


def test_a_missing_file_is_named_with_the_nearest_that_is_there(command, tmp_path):
    (tmp_path / "shakespeare.txt").write_text(SENTENCES)
    done = command("train", tmp_path / "shakespear.txt", "-o", tmp_path / "run")
    assert done.code == 1
    assert done.sentence == f"{tmp_path / 'shakespear.txt'}: no such file (did you mean 'shakespeare.txt'?)"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (
            "my.jsonl",
            b'{"text": "a"}\n{"txt": "b"}\n',
            "my.jsonl:2: no key 'text', found 'txt'; choose one with --text-key",
        ),
        ("my.jsonl", b'{"text": "a"}\n{"text": \n', "my.jsonl:2: is not valid JSON"),
        (
            "my.csv",
            b"id,body\n1,hello\n",
            "my.csv:1: no column 'text', found 'id', 'body'; choose one with --text-key NAME",
        ),
        ("my.parquet", b"PAR1", "my.parquet: is not a sound Parquet file"),
        ("my.txt.gz", b"\x1f\x8b\x08\x00", "my.txt.gz: holds "),
        ("my.txt.zst", b"\x28\xb5\x2f\xfd\x00", "my.txt.zst: holds "),
    ],
)
def test_a_broken_file_of_rows_is_named_with_its_line(command, tmp_path, name, content, said):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow", reason="Parquet needs the extra `parquet`")
    (tmp_path / name).write_bytes(content)
    done = command("train", tmp_path / name, *QUICK, "-o", tmp_path / "run")
    assert done.code == 1
    assert f"{tmp_path}/{said}" in done.sentence
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("place", ["a file", "inside a file"])
def test_a_run_folder_that_cannot_be_made_is_one_sentence(command, tmp_path, place):
    (tmp_path / "my.txt").write_text(SENTENCES * 20)
    (tmp_path / "taken").write_text("mine")
    run = tmp_path / "taken" if place == "a file" else tmp_path / "taken" / "run"
    done = command("train", tmp_path / "my.txt", *QUICK, "-o", run)
    assert done.code == 1
    assert done.sentence.startswith(f"{run}: cannot be written (")
    assert (tmp_path / "taken").read_text() == "mine"


def test_a_loss_that_is_no_number_is_one_sentence_and_keeps_what_was_learnt(command, tmp_path):
    (tmp_path / "my.txt").write_text(SENTENCES * 20)
    flags = ("--optimiser", "adamw", "--lr", "1e30", "--eval-every", 1)
    done = command("train", tmp_path / "my.txt", *QUICK, *flags, "-o", tmp_path / "run")
    assert done.code == 1
    assert done.sentence.startswith("the loss became nan at step ")
    assert "lower the rates under optimiser (lr, " in done.sentence
    assert done.sentence.endswith("or set optimiser.grad_clip=1.0, and train into another --out-dir")
    assert not (tmp_path / "run" / "final").exists()
