"""Filling in masks: probabilities are the model's, texts do not change each other, spaces go with their words."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glassformer.errors import ConfigError
from glassformer.generate import fill
from glassformer.generate.fill import masked_ids
from glassformer.tokenizers import train_tokenizer
from glassformer.tokenizers.roles import MASK

SENTENCES = "the cat sat on the mat. a dog ran to the door, and the bird sang a song of rain. "
TOKENIZERS = {
    kind: train_tokenizer(kind, [SENTENCES * 20], vocab_size=size, special_tokens=("<|start|>", MASK))
    for kind, size in {"characters": None, "words": None, "bytes": None, "bpe": 290}.items()
}
texts = st.lists(st.sampled_from(["the", "cat", "sat", "on", "a", "mat"]), min_size=1, max_size=6).map(
    lambda words: " ".join([*words, MASK])
)


@pytest.fixture(scope="module", params=["rotary", "learned"])
def model(request, random_model):
    vocab_size = TOKENIZERS["characters"].vocab_size
    return random_model(shape="encoder", positions=request.param, vocab_size=vocab_size, max_len=64)


def test_guesses_are_the_most_probable_ordinary_tokens_of_the_model(model):
    tokenizer = TOKENIZERS["characters"]
    (found,) = fill(model, tokenizer, [f"the c{MASK}t s{MASK}t"], top=3)
    mask = tokenizer.special_tokens[MASK]
    ids = [*tokenizer.encode("the c"), mask, *tokenizer.encode("t s"), mask, *tokenizer.encode("t")]
    probabilities = model(torch.tensor([ids]))[0].double().softmax(-1)
    assert len(found.guesses) == 2
    for place, guesses in zip([5, 9], found.guesses, strict=True):
        allowed = {id: p for id, p in enumerate(probabilities[place].tolist()) if id not in tokenizer.special_ids}
        wanted = sorted(allowed, key=lambda id: -allowed[id])[:3]
        assert [guess.id for guess in guesses] == wanted
        assert [guess.probability for guess in guesses] == pytest.approx([allowed[id] for id in wanted])
        assert [guess.text for guess in guesses] == [tokenizer.decode([id]) for id in wanted]
    first, second = (guesses[0].text for guesses in found.guesses)
    assert found.filled == f"the c{first}t s{second}t"


def test_more_guesses_than_tokens_are_all_of_them(model):
    tokenizer = TOKENIZERS["characters"]
    (found,) = fill(model, tokenizer, [MASK], top=10_000)
    assert len(found.guesses[0]) == tokenizer.vocab_size - len(tokenizer.special_tokens)


@settings(max_examples=30)
@given(st.lists(texts, min_size=1, max_size=6), st.randoms())
def test_neither_neighbours_nor_order_change_an_answer(model, asked, draw):
    tokenizer = TOKENIZERS["characters"]
    order = list(range(len(asked)))
    draw.shuffle(order)
    together = fill(model, tokenizer, [asked[number] for number in order], top=4)
    for number, found in zip(order, together, strict=True):
        (alone,) = fill(model, tokenizer, [asked[number]], top=4)
        assert (found.text, found.filled) == (alone.text, alone.filled)
        for mine, its in zip(found.guesses, alone.guesses, strict=True):
            assert [guess.probability for guess in mine] == pytest.approx([g.probability for g in its], rel=1e-3)


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_a_masked_token_stands_where_the_token_stood(kind):
    """Hiding a word that is one token gives the ids of the whole text with that id replaced, as training hides it."""
    tokenizer = TOKENIZERS[kind]
    mask = tokenizer.special_tokens[MASK]
    text = "the cat sat on the mat"
    ids = tokenizer.encode(text)
    for token, id in zip(tokenizer.tokens(text), ids, strict=True):
        piece = token.piece.decode()
        shown = f"{text[: token.start]}{' ' * (len(piece) > 1 and piece[0] == ' ')}{MASK}{text[token.end :]}"
        place = ids[: tokenizer.tokens(text).index(token)]
        assert masked_ids(tokenizer, shown) == [*place, mask, *ids[len(place) + 1 :]], (shown, id)


def test_only_the_mask_is_special_in_a_text():
    tokenizer = TOKENIZERS["characters"]
    assert tokenizer.special_tokens["<|start|>"] not in masked_ids(tokenizer, f"<|start|> {MASK}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the text is empty: there is nothing to read"),
        (" \n", "the text is empty"),
        ("the cat", f"the text 'the cat' has no {MASK}; write one where a word is to be guessed"),
        ("the cat " * 9 + MASK, "has 73 tokens, more than the 64 that the model can read; shorten it"),
    ],
)
def test_a_text_that_cannot_be_filled_in_is_one_sentence(model, text, said):
    with pytest.raises(ConfigError) as error:
        fill(model, TOKENIZERS["characters"], [f"fine {MASK}", text])
    assert said in str(error.value)


def test_a_model_or_a_wish_that_does_not_suit_is_one_sentence(model, random_model):
    tokenizer = TOKENIZERS["characters"]
    with pytest.raises(ConfigError, match="top=0 is out of range: expected 1 or more"):
        fill(model, tokenizer, [MASK], top=0)
    with pytest.raises(ConfigError, match=r"^this model goes on from a text \(ask it with `glassformer generate`\); "):
        fill(random_model(vocab_size=tokenizer.vocab_size), tokenizer, [MASK])
    without = train_tokenizer("characters", [SENTENCES])
    with pytest.raises(ConfigError, match=r"the tokenizer of this model has no <\|mask\|>"):
        fill(model, without, ["the cat"])


def test_no_texts_are_no_answers_and_dropout_is_put_back(model):
    assert fill(model, TOKENIZERS["characters"], []) == []
    model.train()
    fill(model, TOKENIZERS["characters"], [MASK])
    assert model.training
    model.eval()
