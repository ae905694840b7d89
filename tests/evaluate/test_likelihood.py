"""Perplexity and bits per byte as metrics, from losses of any origin."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest

from glassformer.errors import DataError
from glassformer.evaluate import bits_per_byte_score, perplexity_score

LOSSES, TOKENS, BYTES = [math.log(8), 3 * math.log(2)], [1, 3], [2, 4]


def test_tokens_and_bytes_weigh_the_same_whichever_example_they_belong_to():
    perplexity = perplexity_score(LOSSES, TOKENS)
    assert perplexity.value == pytest.approx(2 ** (6 / 4))
    assert perplexity.scores.tolist() == pytest.approx([8, 2])
    assert perplexity.detail == "4 tokens"
    assert not perplexity.higher_is_better
    bits = bits_per_byte_score(LOSSES, BYTES)
    assert bits.value == pytest.approx(1)
    assert bits.scores.tolist() == pytest.approx([3 / 2, 3 / 4])
    assert not bits.higher_is_better


def test_extremes():
    assert perplexity_score([1e6], [1]).value == math.inf
    assert perplexity_score([0.0], [0]).value == 1
    with pytest.raises(DataError, match="2 losses for 1 examples"):
        bits_per_byte_score(LOSSES, [1])
    with pytest.raises(DataError, match="there are no losses to score"):
        perplexity_score([], [])


def test_windows_of_a_model_add_up_to_its_score(random_model):
    from glassformer.data import evaluation_windows
    from glassformer.evaluate import evaluate, window_losses

    model = random_model()
    inputs, targets = evaluation_windows(np.arange(60) % 23, 8)
    losses = window_losses(model, inputs, targets)
    metric = perplexity_score(losses, (targets >= 0).sum(axis=1))
    assert metric.value == pytest.approx(evaluate(model, inputs, targets, 60).perplexity)
    assert losses[2:3] == pytest.approx(window_losses(model, inputs[2:3], targets[2:3]), rel=1e-5)


def test_scores_of_answers_need_neither_torch_nor_sacrebleu():
    program = (
        "import sys; from glassformer.evaluate import bleu, classification_score, paired_test, write_examples\n"
        "score = classification_score(['a'], ['a'], ['a']).accuracy; paired_test(score, score)\n"
        "print(*sorted({'torch', 'sacrebleu', 'lxml', 'scipy'} & set(sys.modules)))\n"
        "bleu(['a'], ['a'])\n"
        "print(*sorted({'torch', 'sacrebleu'} & set(sys.modules)))"
    )
    pytest.importorskip("sacrebleu", reason="the eval extra is not installed")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == ["", "sacrebleu"], done.stderr
