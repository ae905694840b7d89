"""Prompts in, text out: stop strings, whole characters, special tokens, and the settings that are refused."""

from __future__ import annotations

import pytest
import torch

from glassformer.errors import ConfigError
from glassformer.generate import Generation, Sampling, generate_text, stream_text
from glassformer.generate.text import TextStream
from glassformer.models import Decoder, ModelConfig, build_model
from glassformer.tokenizers import Tokenizer, train_tokenizer


@pytest.fixture
def tokenizer() -> Tokenizer:
    return train_tokenizer("bytes", [], vocab_size=None)


def parrot(tokenizer: Tokenizer, cycle: list[int]) -> Decoder:
    """A model that writes the tokens of `cycle` round and round: the logits depend on the last token only."""
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size,
        max_len=64,
        d_model=512,
        n_layers=0,
        n_heads=1,
        positions="none",
        norm="rmsnorm",
    )
    model = build_model(config)
    with torch.no_grad():
        model.decoder.embedding.token.weight.copy_(torch.eye(512)[: tokenizer.vocab_size])
        model.head.linear.weight.zero_()
        for token, following in zip(cycle, cycle[1:] + cycle[:1], strict=True):
            model.head.linear.weight[following, token] = 1.0
    return model


GREEDY = Sampling(temperature=0)


def stream(model, tokenizer, prompt, **settings) -> list[str]:
    return list(stream_text(model, tokenizer, prompt, generation=Generation(sampling=GREEDY, **settings)))


def test_a_character_is_shown_when_it_is_whole(tokenizer):
    model = parrot(tokenizer, tokenizer.encode("a€😀"))
    assert stream(model, tokenizer, "a", max_new_tokens=8) == ["€", "😀", "a"]


def test_a_character_that_stays_half_is_shown_as_such_at_the_end(tokenizer):
    model = parrot(tokenizer, tokenizer.encode("a€"))
    assert "".join(stream(model, tokenizer, "a", max_new_tokens=2)) == "\ufffd"


def test_nothing_of_a_stop_string_is_shown(tokenizer):
    model = parrot(tokenizer, tokenizer.encode("abcdef"))
    assert stream(model, tokenizer, "a", max_new_tokens=9, stop=("def",)) == ["b", "c"]
    assert stream(model, tokenizer, "a", max_new_tokens=4, stop=("dex",)) == ["b", "c", "de"]
    assert stream(model, tokenizer, "a", max_new_tokens=5, stop=("dex",)) == ["b", "c", "def"]


def test_a_stop_string_ends_the_drawing(tokenizer):
    model = parrot(tokenizer, tokenizer.encode("abcdef"))
    (found,) = generate_text(
        model, tokenizer, ["a"], generation=Generation(max_new_tokens=99, sampling=GREEDY, stop=("de",))
    )
    assert (found.prompt, found.text, found.completion.finish) == ("a", "bc", "stop")
    assert tokenizer.decode(found.completion.ids) == "bcde"


def test_eos_ends_the_text_and_is_not_shown(tokenizer):
    model = parrot(tokenizer, [*tokenizer.encode("abc"), tokenizer.eos_id])
    (found,) = generate_text(model, tokenizer, ["a"], generation=Generation(sampling=GREEDY))
    assert (found.text, found.completion.finish, found.completion.ids[-1]) == ("bc", "eos", tokenizer.eos_id)


def test_an_empty_prompt_begins_where_a_document_begins(tokenizer):
    model = parrot(tokenizer, [tokenizer.eos_id, *tokenizer.encode("xyz")])
    (found,) = generate_text(model, tokenizer, [""], generation=Generation(sampling=GREEDY))
    assert (found.text, found.completion.prompt_ids) == ("xyz", (tokenizer.eos_id,))


def test_a_special_token_in_a_prompt_is_text(tokenizer):
    model = parrot(tokenizer, tokenizer.encode("ab"))
    (found,) = generate_text(model, tokenizer, ["<|endoftext|>"], generation=Generation(max_new_tokens=1))
    assert tokenizer.eos_id not in found.completion.prompt_ids


def test_special_tokens_other_than_eos_are_not_shown_either(tokenizer):
    stream = TextStream(tokenizer)
    ids = [*tokenizer.encode("a"), tokenizer.pad_id, *tokenizer.encode("b")]
    assert "".join([*map(stream.push, ids), stream.finish()]) == "ab"


def test_each_prompt_gets_its_samples_in_order(tokenizer):
    model = build_model(ModelConfig(vocab_size=tokenizer.vocab_size, max_len=32, d_model=16, n_layers=1, n_heads=2))
    generation = Generation(max_new_tokens=12, num_samples=2)
    found = generate_text(model, tokenizer, ["one", "three"], generation=generation)
    assert [completion.prompt for completion in found] == ["one", "one", "three", "three"]
    assert found[0].text != found[1].text
    assert found[2:] == generate_text(model, tokenizer, ["three"], generation=generation)


def test_the_full_context_is_told_once_while_streaming(tokenizer):
    model = parrot(tokenizer, tokenizer.encode("abc"))
    notes: list[str] = []
    generation = Generation(sampling=GREEDY, max_new_tokens=150)
    pieces = stream_text(model, tokenizer, "a", generation=generation, on_note=notes.append)
    assert "".join(pieces) == ("bca" * 50)
    assert notes == ["the context of 64 tokens is full: going on with the last 48"]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"max_new_tokens": -1}, "max_new_tokens=-1 is out of range: expected 0 or more"),
        ({"num_samples": 0}, "num_samples=0 is out of range: expected 1 or more"),
        ({"stop": ("\n", "")}, "stop='' would end every text"),
        ({"sampling": {"top_p": 2}}, "top_p=2.0 is out of range"),
        ({"sampling": {"topp": 0.9}}, "unknown key 'sampling.topp' (did you mean 'top_p'?)"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(setting, message):
    with pytest.raises(ConfigError) as refusal:
        Generation.parse(setting)
    assert message in str(refusal.value)
