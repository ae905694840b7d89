"""What other tools make of our tokenizers, and we of theirs: `tokenizers`, `transformers` and `tiktoken` give the same ids."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from glassformer.tokenizers import TOKENIZERS, BytePairTokenizer, Tokenizer, load_tokenizer, train_tokenizer
from glassformer.tokenizers.patterns import PATTERNS
from glassformer.tokenizers.schema import document
from glassformer.tokenizers.settled import settled

tokenizers = pytest.importorskip("tokenizers")
tiktoken = pytest.importorskip("tiktoken")

CORPUS = "".join(
    f"the newest of {n} oldest towns isn't the most creative one, they'll say: WE'VE\r\n\n   seen it!  Δοκιμή, 試験 😀👍🏽 é\n"
    for n in range(12345, 12345 + 40)
)
NAMES = ["<|pad|>", "<|endoftext|>", "<|unk|>", "<|user|>", "<|user|><|end|>"]
# Letters newer than Unicode 14 are left out: which library knows them depends on its version.
character = st.characters(exclude_categories=["Cs"]).filter(lambda c: bool(settled()[ord(c)]))
telling = st.lists(
    st.sampled_from([*" \n\r\t'’sSdtreLl1239.,!<|>aéſ😀\u00a0\u3000\u2028\x85\x1c\ufeff", "'ll", "  ", "\r\n"])
)
texts = st.text(character) | telling.map("".join) | st.lists(st.sampled_from(CORPUS.split(" "))).map(" ".join)
CASES = [(kind, "gpt4") for kind in TOKENIZERS if kind != "bpe"] + [("bpe", pattern) for pattern in PATTERNS]


@cache
def trained(kind: str, pattern: str) -> Tokenizer:
    return train_tokenizer(kind, [CORPUS], pattern=pattern, special_tokens=NAMES[3:])  # type: ignore[arg-type]


@cache
def theirs(kind: str, pattern: str) -> Any:
    ours = trained(kind, pattern)
    return tokenizers.Tokenizer.from_str(json.dumps(document(ours.to_schema(), ours.special)))


@pytest.mark.parametrize(("kind", "pattern"), CASES)
@given(texts)
@example("")
@example("It's 12345 (foo).\n\n  x'LL  \n ")
def test_tokenizers_opens_our_file_with_the_same_ids_and_text(kind: str, pattern: str, text: str) -> None:
    ours, other = trained(kind, pattern), theirs(kind, pattern)
    ids = ours.encode(text)
    assert other.encode(text).ids == ids
    assert other.decode(ids, skip_special_tokens=False) == ours.decode(ids)
    assert other.decode(ids, skip_special_tokens=True) == ours.decode(ids, skip_special=True)
    assert other.get_vocab_size() == ours.vocab_size


@pytest.mark.parametrize(("kind", "pattern"), CASES)
@given(st.lists(st.sampled_from(NAMES) | texts).map("".join))
def test_tokenizers_reads_special_tokens_in_text_as_we_do_when_allowed(kind: str, pattern: str, text: str) -> None:
    ours = trained(kind, pattern)
    assert theirs(kind, pattern).encode(text).ids == ours.encode(text, special="allow")


@pytest.mark.parametrize(("kind", "pattern"), CASES)
@given(st.data())
def test_tokenizers_decodes_any_ids_to_the_same_text(kind: str, pattern: str, data: st.DataObject) -> None:
    ours = trained(kind, pattern)
    ids = data.draw(st.lists(st.integers(0, ours.vocab_size - 1)))
    for skip in (False, True):
        assert theirs(kind, pattern).decode(ids, skip_special_tokens=skip) == ours.decode(ids, skip_special=skip)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_tokenizers_learns_the_same_merges(pattern: str, shared_folder: Path) -> None:
    novel = (shared_folder / "data" / "novels" / "Schreiner_Trooper_1897.txt").read_text(encoding="utf-8")
    other = tokenizers.Tokenizer.from_str(theirs("bpe", pattern).to_str())
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=2046,
        min_frequency=2,
        show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    )
    other.train_from_iterator([CORPUS, novel], trainer)
    learned = json.loads(other.to_str())["model"]
    ours = BytePairTokenizer.train([CORPUS, novel], vocab_size=2048, pattern=pattern)
    assert ours.to_schema()["model"]["merges"] == [" ".join(merge) for merge in learned["merges"]]
    assert {text: id for text, id in ours.to_schema()["model"]["vocab"].items() if id < 2046} == learned["vocab"]


@pytest.mark.parametrize(("kind", "pattern"), CASES)
def test_transformers_opens_our_folder(kind: str, pattern: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    ours = trained(kind, pattern)
    ours.save(tmp_path)
    for other in (
        transformers.AutoTokenizer.from_pretrained(tmp_path),
        transformers.PreTrainedTokenizerFast.from_pretrained(tmp_path),
    ):
        ids = ours.encode(CORPUS)
        assert other(CORPUS)["input_ids"] == ids
        assert other.decode(ids) == ours.decode(ids) == CORPUS
        assert (other.pad_token_id, other.eos_token_id, other.unk_token_id) == (ours.pad_id, ours.eos_id, ours.unk_id)
        assert len(other) == ours.vocab_size


@pytest.mark.parametrize("pattern", PATTERNS)
def test_transformers_saves_a_folder_that_we_open(pattern: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    ours = trained("bpe", pattern)
    ours.save(tmp_path / "ours")
    transformers.AutoTokenizer.from_pretrained(tmp_path / "ours").save_pretrained(tmp_path / "theirs")
    again = load_tokenizer(tmp_path / "theirs")
    assert isinstance(again, BytePairTokenizer)
    assert (again.pieces, again.special, again.pattern) == (ours.pieces, ours.special, pattern)


@given(texts)
def test_gpt2_files_of_tokenizers_are_read(text: str) -> None:
    ours, other = read_gpt2()
    assert ours.encode(text) == other.encode(text).ids
    assert ours.decode(ours.encode(text)) == text


@cache
def read_gpt2() -> tuple[Tokenizer, Any]:
    """A file as GPT-2's: ids of special tokens first, the pre-tokenizer inside of ByteLevel, merges as pairs."""
    import tempfile

    other = tokenizers.Tokenizer(tokenizers.models.BPE())
    other.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    other.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=400,
        show_progress=False,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    )
    other.train_from_iterator([CORPUS], trainer)
    with tempfile.TemporaryDirectory() as folder:
        content = json.loads(other.to_str())
        del content["pre_tokenizer"]["use_regex"]  # GPT-2's own file is older than this key
        (Path(folder) / "tokenizer.json").write_text(json.dumps(content))
        ours = load_tokenizer(Path(folder))
    assert ours.eos_id == 0
    return ours, other


@pytest.mark.parametrize("pattern", PATTERNS)
@given(texts)
@example("It's 12345 (foo).\n\n  x'LL  \n ")
def test_tiktoken_gives_the_same_ids_with_our_merges(pattern: str, text: str) -> None:
    ours = trained("bpe", pattern)
    encoding = in_tiktoken(pattern)
    assert encoding.encode_ordinary(text) == ours.encode(text)
    assert encoding.encode(text, allowed_special="all") == ours.encode(text, special="allow")


@cache
def in_tiktoken(pattern: str) -> Any:
    ours = trained("bpe", pattern)
    assert isinstance(ours, BytePairTokenizer)
    return tiktoken.Encoding(
        "ours", pat_str=PATTERNS[pattern], mergeable_ranks=ours.vocab, special_tokens=ours.special_tokens
    )


def test_our_gpt4_pattern_cuts_as_the_one_in_tiktoken() -> None:
    """The two are spelled differently; here tiktoken runs its own."""
    openai_public = pytest.importorskip("tiktoken_ext.openai_public")
    source = Path(openai_public.__file__).read_text()
    (pattern,) = re.findall(r'"pat_str": r"""(.*?)"""', source)[:1]
    ours = trained("bpe", "gpt4")
    assert isinstance(ours, BytePairTokenizer)
    encoding = tiktoken.Encoding("ours", pat_str=pattern, mergeable_ranks=ours.vocab, special_tokens={})
    for text in (
        CORPUS,
        "It's 12345 (foo).\n\n  x'LL  \n ",
        "a\r\n\r\nb\t\tc   ",
        "１２３４５ 'Sx 'ſ don’t\u3000\u3000日本",
    ):
        assert encoding.encode_ordinary(text) == ours.encode(text)
