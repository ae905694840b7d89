"""Labels and tags: probabilities are the model's, texts do not change each other, tags stand on first tokens."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glassformer.errors import ConfigError
from glassformer.generate import classify, tag
from glassformer.tokenizers import train_tokenizer

SENTENCES = "the cat sat on the mat. a dog ran to the door, and the bird sang a song of rain. "
START = "<|start|>"
TOKENIZER = train_tokenizer("bpe", [SENTENCES * 20], vocab_size=290, special_tokens=(START,))
LABELS = ("good", "bad", "odd")
sentences = st.lists(st.sampled_from(["the", "cat", "sat", "on", "a", "mat", "purring"]), min_size=1, max_size=7)
PLAIN = {"shape": "encoder", "labels": LABELS, "vocab_size": TOKENIZER.vocab_size, "max_len": 64}
MODELS = {
    "labels": {**PLAIN, "head": "labels"},
    "first": {**PLAIN, "head": "labels", "pooling": "first", "positions": "learned"},
    "several": {**PLAIN, "head": "labels", "several_labels": True},
}


@pytest.fixture(scope="module", params=MODELS)
def model(request, random_model):
    return random_model(**MODELS[request.param])


@pytest.fixture(scope="module")
def tagger(random_model):
    return random_model(**PLAIN, head="tags")


def test_probabilities_are_the_models_after_a_start_token(model):
    text = "the cat sat on the door"
    (found,) = classify(model, TOKENIZER, [text])
    logits = model(torch.tensor([[TOKENIZER.special_tokens[START], *TOKENIZER.encode(text)]]))[0].double()
    wanted = logits.sigmoid() if model.config.several_labels else logits.softmax(-1)
    assert found.text == text
    assert tuple(found.probabilities) == LABELS
    assert list(found.probabilities.values()) == pytest.approx(wanted.tolist())
    if model.config.several_labels:
        assert found.labels == tuple(name for name, p in found.probabilities.items() if p > 0.5)
    else:
        assert found.labels == (max(LABELS, key=found.probabilities.__getitem__),)
        assert sum(found.probabilities.values()) == pytest.approx(1)


@settings(max_examples=30)
@given(st.lists(sentences.map(" ".join), min_size=1, max_size=6), st.randoms())
def test_neither_neighbours_nor_order_change_labels(model, asked, draw):
    order = list(range(len(asked)))
    draw.shuffle(order)
    together = classify(model, TOKENIZER, [asked[number] for number in order])
    for number, found in zip(order, together, strict=True):
        (alone,) = classify(model, TOKENIZER, [asked[number]])
        assert found.text == alone.text
        assert list(found.probabilities.values()) == pytest.approx(list(alone.probabilities.values()), abs=1e-5)


def test_the_first_token_of_a_word_carries_its_tag(tagger):
    words = ["the", "bird", "sang", "purringly"]
    (found,) = tag(tagger, TOKENIZER, [words])
    cut = TOKENIZER.encode_words(words)
    assert any(len(ids) > 1 for ids in cut[:-1])
    said = tagger(torch.tensor([[id for ids in cut for id in ids]]))[0].double().softmax(-1)
    place = 0
    for number, ids in enumerate(cut):
        assert list(found.probabilities[number].values()) == pytest.approx(said[place].tolist())
        assert found.tags[number] == LABELS[int(said[place].argmax())]
        place += len(ids)
    assert found.words == tuple(words)


@settings(max_examples=30)
@given(st.lists(sentences, min_size=1, max_size=6), st.randoms())
def test_neither_neighbours_nor_order_change_tags(tagger, asked, draw):
    order = list(range(len(asked)))
    draw.shuffle(order)
    together = tag(tagger, TOKENIZER, [asked[number] for number in order])
    for number, found in zip(order, together, strict=True):
        (alone,) = tag(tagger, TOKENIZER, [asked[number]])
        assert found.words == alone.words
        for mine, its in zip(found.probabilities, alone.probabilities, strict=True):
            assert list(mine.values()) == pytest.approx(list(its.values()), abs=1e-5)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the text is empty: there is nothing to read"),
        ("zzz" * 30, "has 91 tokens, more than the 64 that the model can read; shorten it"),
    ],
)
def test_a_text_that_cannot_be_read_is_one_sentence(model, text, said):
    with pytest.raises(ConfigError) as error:
        classify(model, TOKENIZER, ["fine", text])
    assert said in str(error.value)


def test_a_sentence_that_cannot_be_read_is_one_sentence(tagger):
    for words, said in (([], "is empty"), (["zzz"] * 20, "more than the 64"), (["", "a"], "word 1 of ' a' is empty")):
        with pytest.raises(ConfigError) as error:
            tag(tagger, TOKENIZER, [["fine"], words])
        assert said in str(error.value)


def test_a_model_with_another_head_is_one_sentence(model, tagger):
    with pytest.raises(ConfigError, match=r"^this model gives each word a tag \(ask it with `glassformer classify`\)"):
        classify(tagger, TOKENIZER, ["a"])
    with pytest.raises(ConfigError, match=r"^this model gives a text its labels"):
        tag(model, TOKENIZER, [["a"]])
    assert classify(model, TOKENIZER, []) == []
