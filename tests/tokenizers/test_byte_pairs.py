"""Byte pair encoding: the worked example of newest, oldest and creative, chosen sizes, engines, and very long pieces."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from glassformer.errors import ConfigError, TokenizerError
from glassformer.tokenizers import BytePairTokenizer, Merge, load_tokenizer, train_tokenizer
from glassformer.tokenizers.bpe import usual_vocab_size
from glassformer.tokenizers.fast import load_gigatoken
from glassformer.tokenizers.pairs import MergeTable, extend_vocab, first_vocab
from glassformer.tokenizers.patterns import PATTERNS, PatternName, compiled, pieces

WORDS = ["newest", "oldest", "creative"]
LONG = {"letters": "a", "spaces": " ", "lines": "\n", "emoji": "😀", "unlike letters": "etaoinshrdlu"}


def test_newest_oldest_creative() -> None:
    """'e' and 's' are the most frequent pair, then 'es' and 't'; nothing else occurs twice."""
    tokenizer = BytePairTokenizer.train(WORDS)
    assert tokenizer.merges == [(b"e", b"s"), (b"es", b"t")]
    assert tokenizer.vocab_size == 256 + 2 + 2
    tokens = tokenizer.tokens("newest")
    assert [(token.piece, token.start, token.end) for token in tokens] == [
        (b"n", 0, 1),
        (b"e", 1, 2),
        (b"w", 2, 3),
        (b"est", 3, 6),
    ]
    assert tokens[3].merges == (Merge(b"e", b"s", 0), Merge(b"es", b"t", 1))
    assert [token.piece for token in tokenizer.tokens("oldest")] == [b"o", b"l", b"d", b"est"]
    assert [token.piece for token in tokenizer.tokens("creative")] == [bytes([byte]) for byte in b"creative"]


def test_equally_frequent_pairs_merge_in_the_order_of_their_ids() -> None:
    tokenizer = BytePairTokenizer.train(["ba ab cd", "cd ab ba"], pattern="gpt2")
    assert tokenizer.merges[:3] == [(b"a", b"b"), (b"b", b"a"), (b"c", b"d")]


def test_merges_never_reach_across_pieces_or_documents() -> None:
    assert BytePairTokenizer.train(["ab", "ab", "ab"]).merges == [(b"a", b"b")]
    tokens = BytePairTokenizer.train(["to be, or to be " * 9]).tokens("to be, to be")
    assert [token.piece for token in tokens] == [b"to", b" be", b",", b" to", b" be"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("gpt2", ["It", "'s", " 12345", " (", "foo", ").", "\n\n ", " x", "'", "LL", " \n "]),
        ("gpt4", ["It", "'s", " ", "123", "45", " (", "foo", ").\n\n", " ", " x", "'LL", " \n "]),
        ("llama3", ["It", "'s", " ", "123", "45", " (", "foo", ").\n\n", " ", " x", "'LL", " \n", " "]),
    ],
)
def test_patterns_cut_as_their_models_do(pattern: str, expected: list[str]) -> None:
    assert compiled(PATTERNS[pattern]).findall("It's 12345 (foo).\n\n  x'LL \n ") == expected


def test_every_pattern_is_one_that_recipes_and_the_command_line_know() -> None:
    from glassformer.cli.tokenizer import train
    from glassformer.training.recipe import TokenizerRecipe

    assert get_args(PatternName) == tuple(PATTERNS)
    assert [TokenizerRecipe(pattern=name).pattern for name in get_args(PatternName)] == list(PATTERNS)
    told = get_type_hints(train, include_extras=True)["pattern"].__metadata__[0].help
    assert all(name in told for name in PATTERNS)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_tokenizer_is_trained_saved_and_opened_with_each_pattern(pattern: PatternName, tmp_path: Path) -> None:
    text = "The cat's 123 sat on GLASSFormer's mat 4567.\n  It'll rain, don't\tthey? éÀ 北京 "
    made = train_tokenizer("bpe", [text * 9], vocab_size=290, pattern=pattern)
    made.save(tmp_path)
    again = load_tokenizer(tmp_path)
    assert again.encode(text) == made.encode(text)
    assert made.decode(made.encode(text)) == text
    assert getattr(again, "pattern", None) == pattern


@pytest.mark.parametrize("pattern", PATTERNS)
def test_long_texts_are_cut_into_windows_without_a_trace(pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "It's 12345 (foo).\n\n  x'LL \n  and  so on ,  a\t b   " * 5
    whole = compiled(PATTERNS[pattern]).findall(text)
    for window in range(1, 40):
        monkeypatch.setattr("glassformer.tokenizers.patterns.WINDOW", window)
        windows = list(pieces(PATTERNS[pattern], text))
        assert len(windows) > 3
        assert [piece for window in windows for piece in window] == whole


def test_a_size_out_of_reach_is_refused_with_the_size_in_reach() -> None:
    with pytest.raises(TokenizerError, match=r"vocab_size=300 cannot be had: .* after 260 tokens"):
        BytePairTokenizer.train(WORDS, vocab_size=300)
    assert BytePairTokenizer.train(WORDS, vocab_size=260).vocab_size == 260
    assert BytePairTokenizer.train(WORDS, vocab_size=258).merges == []
    with pytest.raises(TokenizerError, match="vocab_size=200 is too small"):
        BytePairTokenizer.train(WORDS, vocab_size=200)
    for nothing in ([], ["", ""]):
        with pytest.raises(TokenizerError, match="no text to learn from"):
            BytePairTokenizer.train(nothing)


def test_the_chosen_size_grows_with_the_root_of_the_text() -> None:
    sizes = [usual_vocab_size(n) for n in (0, 10_000, 1_115_394, 15_000_000, 100_000_000, 10**12)]
    assert sizes == [512, 512, 2048, 8192, 16384, 32768]


def test_merges_out_of_order_are_refused() -> None:
    merges = [(b"ab", b"c"), (b"a", b"b")]
    vocab = extend_vocab(first_vocab(), merges) | {b"ab": 257}
    with pytest.raises(TokenizerError, match="before the merge that makes"):
        MergeTable(vocab, merges)


def test_engines_are_named_and_refuse_what_they_cannot_do() -> None:
    with pytest.raises(ConfigError, match="did you mean 'gigatoken'"):
        BytePairTokenizer.train(WORDS, engine="gigatokens")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="did you mean 'gpt4'"):
        BytePairTokenizer.train(WORDS, pattern="gtp4")
    with pytest.raises(TokenizerError, match="gpt2 pattern only"):
        BytePairTokenizer.train(WORDS, pattern="gpt4", engine="gigatoken")
    assert BytePairTokenizer.train(WORDS, engine="definition").fast is None


def test_without_the_library_the_definition_runs_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = BytePairTokenizer.train(WORDS * 9, pattern="gpt2")
    monkeypatch.setitem(sys.modules, "gigatoken", None)
    load_gigatoken.cache_clear()
    try:
        with pytest.warns(UserWarning, match="our own definition"):
            tokenizer = BytePairTokenizer.train(WORDS * 9, pattern="gpt2")
        # Said once: under the tests' rule that warnings are errors, a second one would raise here.
        assert tokenizer.encode("newest") == expected.encode("newest")
        assert tokenizer.encode_batch(["oldest"]) == expected.encode_batch(["oldest"])
        assert tokenizer.encode_array("oldest").tolist() == expected.encode("oldest")
        tokenizer.engine = "gigatoken"
        del tokenizer.fast
        with pytest.raises(TokenizerError, match="cannot run here"):
            tokenizer.encode("newest")
    finally:
        load_gigatoken.cache_clear()


def test_training_writes_nothing_to_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    BytePairTokenizer.train(["some words and some words"], pattern="gpt2")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("unit", LONG.values(), ids=LONG.keys())
@pytest.mark.parametrize("engine", ["definition", "gigatoken"])
def test_one_endless_piece_takes_time_in_proportion(unit: str, engine: str) -> None:
    """Ten times the text may take up to 25 times as long; a quadratic algorithm takes 100 times."""
    tokenizer = BytePairTokenizer.train([unit * 2000, "a a\n\n  b " * 40], engine="definition")
    encode: Callable[[str], object] = tokenizer.encode_slowly if engine == "definition" else tokenizer.encode
    short, long = (unit * (size // len(unit.encode())) for size in (100_000, 1_000_000))
    encode(short)

    def fastest(text: str, rounds: int) -> float:
        times: list[float] = []
        for _ in range(rounds):
            before = time.process_time()
            encode(text)
            times.append(time.process_time() - before)
        return min(times)

    assert fastest(long, 1) <= 25 * max(fastest(short, 3), 1e-3)
