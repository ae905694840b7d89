"""``glassformer generate``: the same seed, many samples, stop strings, files of prompts, standard input, a full context."""

from __future__ import annotations

import json

import pytest

from glassformer.pipeline import load

MORE = ("--max-new-tokens", 30)


def test_the_same_seed_gives_the_same_text_and_another_seed_another(command, trained):
    first, again, other = (command("generate", trained, "-p", "The", *MORE, "--seed", seed).out for seed in (1, 1, 2))
    assert first == again
    assert first.startswith("The")
    assert first != other


def test_greedy_is_temperature_zero_whatever_the_seed(command, trained):
    greedy = command("generate", trained, "-p", "The", *MORE, "--greedy").out
    assert greedy == command("generate", trained, "-p", "The", *MORE, "--temp", 0, "--seed", 9).out
    assert greedy == command("generate", trained, "-p", "The", *MORE, "--top-k", 1, "--seed", 4).out


@pytest.mark.parametrize(
    "flags", [(), ("--temperature", 1.3, "--top-p", 0.9), ("--stop", "a"), ("--max-new-tokens", 0)]
)
def test_streaming_prints_what_waiting_prints(command, trained, flags):
    streamed, waited = (
        command("generate", trained, "-p", "The cät", *MORE, *flags, how) for how in ("--stream", "--no-stream")
    )
    assert streamed.code == waited.code == 0
    assert streamed.out == waited.out


def test_samples_differ_and_the_first_is_what_one_alone_would_be(command, trained):
    alone = command("generate", trained, "-p", "The", *MORE, "--seed", 3).out
    many = command("generate", trained, "-p", "The", *MORE, "--seed", 3, "-n", 3).out.split("-" * 40 + "\n")
    assert len(many) == 3
    assert many[0] == alone
    assert len(set(many)) == 3


def test_a_stop_string_ends_the_text_before_it(command, trained):
    for seed in range(9):  # until one is long enough
        flags = ("-p", "The", *MORE, "--seed", seed)
        whole = command("generate", trained, *flags).out.removeprefix("The").removesuffix("\n")
        if len(whole) > 8:
            break
    stop = whole[4:6]
    stopped = command("generate", trained, *flags, "--stop", stop, "--stop", "never")
    assert stopped.out == "The" + whole[: whole.index(stop)] + "\n"


@pytest.mark.parametrize("flags", [(), ("-p", "-")])
def test_a_prompt_may_be_piped_in(command, trained, flags):
    piped = command("generate", trained, *MORE, *flags, stdin=b"\xef\xbb\xbfThe dog")
    assert piped.out == command("generate", trained, "-p", "The dog", *MORE).out


def test_without_a_prompt_a_document_begins(command, trained):
    done = command("generate", trained, *MORE)
    assert done.code == 0
    assert done.out.strip()


@pytest.mark.parametrize(
    ("flags", "settings"),
    [
        (("--num-beams", 3), {"num_beams": 3}),
        (("--beam-size", 2, "--length-penalty", 0.5), {"num_beams": 2, "length_penalty": 0.5}),
        (("--num-beams", 2, "--early-stopping", "likely"), {"num_beams": 2, "early_stopping": "likely"}),
        (("--greedy", "--no-repeat-ngram-size", 2), {"temperature": 0, "no_repeat_ngram_size": 2}),
        (("--greedy", "--min-new-tokens", 9), {"temperature": 0, "min_new_tokens": 9}),
    ],
)
def test_texts_are_searched_for_with_beams_and_rules(command, trained, flags, settings):
    done = command("generate", trained, "-p", "The", "--max-new-tokens", 12, *flags)
    assert done.out == "The" + load(trained).generate("The", max_new_tokens=12, **settings) + "\n"


def test_the_best_texts_of_a_search_are_printed_like_samples(command, trained):
    settings = {"max_new_tokens": 9, "num_beams": 3, "n_best": 2}
    done = command("generate", trained, "-p", "The", "--max-new-tokens", 9, "--num-beams", 3, "--n-best", 2)
    wanted = [f"The{one.text}\n" for one in load(trained).generate_many(["The"], **settings)]
    assert done.out.split("-" * 40 + "\n") == wanted


def test_a_file_of_prompts_is_answered_as_json_lines(command, trained, tmp_path):
    (tmp_path / "prompts.txt").write_bytes("\ufeffThe cat\r\n\n  \nA dög\n".encode())
    rows = [json.dumps({"prompt": prompt, "id": 1}) for prompt in ("The cat", "A dög")]
    (tmp_path / "prompts.jsonl").write_text("\n".join(rows) + "\n")
    answers = [
        command("generate", trained, "--prompts", tmp_path / name, *MORE, "-n", 2, "--seed", 5)
        for name in ("prompts.txt", "prompts.jsonl")
    ]
    assert answers[0].out == answers[1].out
    found = [json.loads(line) for line in answers[0].out.splitlines()]
    assert [row["prompt"] for row in found] == ["The cat", "The cat", "A dög", "A dög"]
    assert all(set(row) == {"prompt", "text", "finish"} for row in found)
    assert {row["finish"] for row in found} <= {"length", "eos"}
    alone = command("generate", trained, "-p", "The cat", *MORE, "--seed", 5, "--no-stream").out
    assert alone == "The cat" + found[0]["text"] + "\n"


def test_a_prompt_may_hold_any_separator_and_a_broken_one_is_named_by_its_own_line(command, trained, tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text(json.dumps({"prompt": "one\u2028two"}, ensure_ascii=False) + "\n", encoding="utf-8")
    done = command("generate", trained, "--prompts", path, *MORE)
    assert json.loads(done.out)["prompt"] == "one\u2028two"
    path.write_text('\n\n{"prompt": "fine"}\n\nbroken\n')
    assert f"{path}:5: expected a JSON object" in command("generate", trained, "--prompts", path).err


@pytest.mark.parametrize("flags", [("--stream",), ("--no-stream",), ("-n", 2)])
def test_a_full_context_is_said_once_on_the_error_stream(command, trained, flags):
    done = command("generate", trained, "-p", "The", "--greedy", "--max-new-tokens", 60, *flags)
    assert done.code == 0
    assert done.err.strip() == "the context of 16 tokens is full: going on with the last 12"
    assert "context" not in done.out


def test_a_prompt_longer_than_the_context_is_gone_on_from_and_said(command, trained):
    prompt = "The cat sat on the mat. " * 5
    done = command("generate", trained, "-p", prompt, "--max-new-tokens", 3)
    assert done.code == 0
    assert done.out.startswith(prompt)
    assert "is full: going on with the last 12" in done.err


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (("-p", "a", "--prompts", "b"), 2, "--prompt and --prompts exclude each other"),
        (("-p", "a", "--temperature", -1), 2, "generation: temperature=-1.0 is out of range"),
        (("-p", "a", "--top-p", 1.5), 2, "generation: top_p=1.5 is out of range: expected more than 0 and at most 1"),
        (("-p", "a", "--top-k", 0), 2, "generation: top_k=0 is out of range: expected 1 or more"),
        (("-p", "a", "--stop", ""), 2, "generation: stop='' would end every text before it begins"),
        (("-p", "a", "--device", "cuda:99"), 2, "device 'cuda:99' cannot be used here"),
        (("-p", "a", "--device", "abacus"), 2, "device 'abacus' cannot be used here"),
    ],
)
def test_a_setting_that_cannot_be_is_one_sentence(command, trained, flags, code, said):
    done = command("generate", trained, *flags)
    assert done.code == code
    assert done.sentence.startswith(said)
    assert done.err.count("\n") == 1
    assert done.out == ""


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("p.txt", b" \n", ": holds no prompts"),
        ("p.txt", b"\xff\xfe", ": is not UTF-8 text"),
        ("p.jsonl", b'{"prompt": "a"}\n{"text": "b"}\n', ':2: expected a JSON object with a "prompt" that is text'),
        ("p.jsonl", b'{"prompt": 5}\n', ':1: expected a JSON object with a "prompt" that is text'),
        ("p.jsonl", b"{\n", ':1: expected a JSON object with a "prompt" that is text'),
        ("missing.txt", None, ": cannot be read (No such file or directory)"),
    ],
)
def test_a_broken_file_of_prompts_is_one_sentence(command, trained, tmp_path, name, content, said):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    done = command("generate", trained, "--prompts", tmp_path / name)
    assert done.code == 1
    assert done.sentence == f"{tmp_path / name}{said}"


def test_a_pipe_that_is_no_text_is_one_sentence(command, trained):
    for arguments in (("generate", trained), ("tokenizer", "encode", trained), ("tokenizer", "decode", trained)):
        done = command(*arguments, stdin=b"ab\xff")
        assert done.code == 1
        assert done.sentence.startswith("standard input: byte 2 is not UTF-8 text")
