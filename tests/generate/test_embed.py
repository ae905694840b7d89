"""Vectors of texts: of length 1, those of the model, and each as it would be alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glassformer.errors import ConfigError
from glassformer.generate import embed
from glassformer.tokenizers import train_tokenizer

SENTENCES = "the cat sat on the mat. a dog ran to the door, and the bird sang a song of rain. "
TOKENIZER = train_tokenizer("bpe", [SENTENCES * 20], vocab_size=290, special_tokens=("<|start|>",))
texts = st.lists(st.sampled_from(["the", "cat", "sat", "on", "a", "mat"]), min_size=1, max_size=7).map(" ".join)


@pytest.fixture(scope="module", params=["mean", "first"])
def model(request, random_model):
    sizes = {"vocab_size": TOKENIZER.vocab_size, "max_len": 64}
    return random_model(shape="encoder", head="pooled", pooling=request.param, **sizes)


def test_vectors_are_the_models_with_the_end_of_the_text(model):
    asked = ["the cat sat", "a dog"]
    vectors = embed(model, TOKENIZER, asked)
    assert vectors.dtype == np.float32
    assert vectors.shape == (2, model.config.d_model)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)
    for text, vector in zip(asked, vectors, strict=True):
        wanted = model(torch.tensor([[*TOKENIZER.encode(text), TOKENIZER.eos_id]]))[0]
        np.testing.assert_allclose(vector, wanted.numpy(), atol=1e-6)


@settings(max_examples=30)
@given(st.lists(texts, min_size=1, max_size=8), st.randoms())
def test_neither_neighbours_nor_order_change_a_vector(model, asked, draw):
    order = list(range(len(asked)))
    draw.shuffle(order)
    together = embed(model, TOKENIZER, [asked[number] for number in order])
    for number, vector in zip(order, together, strict=True):
        np.testing.assert_allclose(vector, embed(model, TOKENIZER, [asked[number]])[0], atol=1e-5)


def test_what_cannot_be_read_is_one_sentence(model, random_model):
    assert embed(model, TOKENIZER, []).shape == (0, model.config.d_model)
    for text, said in (("  ", "the text is empty"), ("zzz" * 30, "has 91 tokens, more than the 64")):
        with pytest.raises(ConfigError) as error:
            embed(model, TOKENIZER, ["fine", text])
        assert said in str(error.value)
    labels = random_model(shape="encoder", head="labels", labels=("a", "b"), vocab_size=TOKENIZER.vocab_size)
    with pytest.raises(ConfigError) as error:
        embed(labels, TOKENIZER, ["a"])
    assert str(error.value) == (
        "this model gives a text its labels (ask it with `glassformer classify`); `glassformer embed` wants one that turns "
        "a text into a vector, which `glassformer train --task embed` makes"
    )
