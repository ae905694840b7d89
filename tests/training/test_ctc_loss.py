"""The CTC loss against its definition: the sum over every path that spells the target."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glassformer.ops.losses import IGNORED, ctc, places_needed


def spelled(path: tuple[int, ...], blank: int) -> list[int]:
    """What a path says: equal neighbours are one, blanks are nothing."""
    return [token for token, _ in itertools.groupby(path) if token != blank]


def by_definition(log_p: torch.Tensor, target: list[int], blank: int) -> float:
    """-log of the sum of the probabilities of all paths that spell the target (Graves et al. 2006, equation 3)."""
    n_places, vocab = log_p.shape
    paths = itertools.product(range(vocab), repeat=n_places)
    total = sum(
        math.exp(sum(log_p[place, token].item() for place, token in enumerate(path)))
        for path in paths
        if spelled(path, blank) == target
    )
    return -math.log(total) if total else 0.0  # what does not fit counts for nothing


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10_000), st.integers(0, 2), st.lists(st.lists(st.integers(0, 2), max_size=3), min_size=1, max_size=3)
)
def test_it_is_the_sum_over_all_paths(seed, blank, asked):
    targets = [[token for token in row if token != blank] for row in asked]
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(len(targets), 5, 3, generator=draw, dtype=torch.float64)
    lengths = torch.randint(1, 6, (len(targets),), generator=draw)
    width = max(1, *map(len, targets))
    padded = torch.tensor([row + [IGNORED] * (width - len(row)) for row in targets])
    found = ctc(logits, padded, lengths, blank).item()
    log_p = logits.log_softmax(-1)
    wanted = sum(
        by_definition(log_p[row, :length], target, blank)
        for row, (target, length) in enumerate(zip(targets, lengths.tolist(), strict=True))
    )
    assert found == pytest.approx(wanted, rel=1e-4, abs=1e-4)


@given(st.lists(st.integers(0, 3), max_size=6))
def test_the_places_needed_are_the_fewest_that_can_say_it(tokens):
    needed = places_needed(tokens)
    logits, targets = torch.zeros(1, max(1, needed), 5), torch.tensor([[*tokens, IGNORED]])
    assert ctc(logits, targets, torch.tensor([max(1, needed)]), 4).item() > 0
    if needed > 1:
        assert ctc(logits, targets, torch.tensor([needed - 1]), 4).item() == 0
