"""Perplexity and bits per byte: against numbers worked out by hand, and against a plain loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from glassformer.data import evaluation_windows
from glassformer.evaluate import Score, evaluate
from glassformer.evaluate import perplexity as room

V = 23


def ids(n: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, V, n)


@pytest.fixture
def uniform(random_model):
    """A model that finds every token equally likely."""
    model = random_model(vocab_size=V)
    model.head.linear.weight.zero_()
    return model


def test_a_model_that_knows_nothing_scores_the_logarithm_of_its_vocabulary(uniform):
    score = evaluate(uniform, *evaluation_windows(ids(101), 8), n_bytes=250)
    assert score.n_tokens == 100
    assert score.loss == pytest.approx(math.log(V), rel=1e-6)
    assert score.perplexity == pytest.approx(V, rel=1e-5)
    assert score.bits_per_byte == pytest.approx(100 * math.log2(V) / 250, rel=1e-5)


@pytest.mark.parametrize("n", [2, 7, 8, 9, 16, 17, 40])
@pytest.mark.parametrize("length", [1, 4, 8])
def test_every_token_but_the_first_is_predicted_once_as_a_plain_loop_would(random_model, n, length):
    model, text = random_model(vocab_size=V), ids(n)
    score = evaluate(model, *evaluation_windows(text, length), n_bytes=n)
    total = 0.0
    for place in range(1, n):
        start = (place - 1) // length * length
        logits = model(torch.from_numpy(text[start:place])[None])[0, -1]
        total -= logits.double().log_softmax(-1)[text[place]].item()
    assert score.n_tokens == n - 1
    assert score.loss == pytest.approx(total / (n - 1), rel=1e-4)


def test_the_size_of_the_batches_changes_nothing(random_model, monkeypatch):
    model, (inputs, targets) = random_model(vocab_size=V), evaluation_windows(ids(90), 8)
    losses = []
    for tokens in (1, 24, 8192):
        monkeypatch.setattr(room, "TOKENS_PER_BATCH", tokens)
        losses.append(evaluate(model, inputs, targets, 90).loss)
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5)


@pytest.mark.parametrize("mode", [True, False])
def test_dropout_is_off_while_measuring_and_then_as_it_was(random_model, mode):
    model, (inputs, targets) = random_model(vocab_size=V, dropout=0.5).train(mode), evaluation_windows(ids(40), 8)
    first, second = (evaluate(model, inputs, targets, 40).loss for _ in range(2))
    assert first == second
    assert model.training is mode


def test_a_score_beyond_all_numbers_is_infinite_rather_than_an_error():
    assert Score(1000.0, 10, 10).perplexity == math.inf
    assert Score(math.log(2), 8, 4).bits_per_byte == pytest.approx(2)
    assert Score(1.0, 8, 0).bits_per_byte > 0
