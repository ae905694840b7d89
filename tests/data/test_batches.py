"""Batches that can be written out by hand, the errors and the speed; laws are in tests/laws/test_data_shapes.py."""

from __future__ import annotations

import time

import numpy as np
import pytest

from glassformer.data import LengthBatches
from glassformer.errors import ConfigError, DataError


def an_epoch(batches: LengthBatches, epoch: int = 0) -> list[list[int]]:
    return [batches.batch(epoch * batches.per_epoch + place).tolist() for place in range(batches.per_epoch)]


def test_batches_written_out():
    batches = LengthBatches([5, 2, 9, 2, 5], max_tokens=10, seed=0)
    assert sorted(sorted(rows) for rows in an_epoch(batches)) == [[0, 4], [1, 3], [2]]
    assert batches.batch(0).dtype == np.int64


def test_both_sides_count_and_a_row_beyond_the_budget_stands_alone():
    batches = LengthBatches([(3, 4), (3, 4), (3, 4), (40, 1)], max_tokens=14, seed=0)
    assert sorted(len(rows) for rows in an_epoch(batches)) == [1, 1, 2]
    assert [3] in an_epoch(batches)


def test_the_order_is_the_same_on_every_machine():
    assert an_epoch(LengthBatches([1, 1, 1, 1, 2, 2, 2], max_tokens=4, seed=0), epoch=3) == [[4], [5, 6], [3, 2, 0, 1]]


def test_epochs_are_counted_in_batches():
    batches = LengthBatches([3] * 10, max_tokens=6, seed=0)
    assert batches.per_epoch == 5
    assert batches.epoch(step=8) == 1.6


def test_a_late_step_is_reached_at_once_and_the_next_costs_nothing():
    lengths = np.random.default_rng(0).integers(1, 60, (120_000, 2))
    start = time.process_time()
    batches = LengthBatches(lengths, 4096, seed=0)
    batches.batch(10**9 - 10**9 % batches.per_epoch)
    assert time.process_time() - start < 1.0
    start = time.process_time()
    for step in range(10**9 - 10**9 % batches.per_epoch, 10**9 - 10**9 % batches.per_epoch + 100):
        batches.batch(step)
    assert time.process_time() - start < 0.05


def test_little_is_padded():
    draw = np.random.default_rng(0)
    source = draw.poisson(15, 20_000) + 1
    lengths = np.stack([source, draw.poisson(source) + 1], axis=1)
    batches = LengthBatches(lengths, 4096, seed=0)
    held = sum(len(rows) * lengths[rows].max(axis=0).sum() for rows in map(batches.batch, range(batches.per_epoch)))
    assert lengths.sum() / held > 0.9


def test_what_cannot_be_batched_is_one_sentence():
    with pytest.raises(DataError, match="no row to make batches of; add data"):
        LengthBatches([], 4096, seed=0)
    with pytest.raises(ConfigError, match="a batch of 0 tokens holds nothing; choose 1 or more, for example 4096"):
        LengthBatches([1], 0, seed=0)
