"""Windows that can be written out by hand, and the errors; laws are in tests/laws/test_data.py."""

from __future__ import annotations

import time

import numpy as np
import pytest

from glassformer.data import TokenWindows, evaluation_windows
from glassformer.errors import DataError


def test_evaluation_windows_written_out():
    inputs, targets = evaluation_windows(np.array([5, 6, 7, 8, 9], np.uint16), 3)
    assert inputs.tolist() == [[5, 6, 7], [8, 0, 0]]
    assert targets.tolist() == [[6, 7, 8], [9, -100, -100]]
    assert inputs.dtype == targets.dtype == np.int64


def test_the_order_of_training_is_the_same_on_every_machine():
    starts = TokenWindows(np.arange(81), 10, seed=0).starts(3)
    assert starts.tolist() == [2, 22, 32, 12, 42, 52, 62]


def test_epochs_are_counted_in_windows():
    windows = TokenWindows(np.arange(101), 10, seed=0)
    assert windows.per_epoch == 9
    assert windows.epoch(step=6, batch_size=3) == 2.0


def test_a_late_step_is_reached_at_once():
    windows = TokenWindows(np.arange(1_000_000, dtype=np.uint32), 64, seed=0)
    start = time.process_time()
    windows.batch(step=10**9, batch_size=12)
    assert time.process_time() - start < 0.5


def test_text_that_is_too_short_names_both_numbers_and_the_way_out():
    with pytest.raises(DataError, match=r"is 40 tokens long and a window of 64 needs 65; choose --max-len 39 or less"):
        TokenWindows(np.arange(40), 64, seed=0)
    with pytest.raises(DataError, match=r"is 1 tokens long .*; choose more text"):
        TokenWindows(np.arange(1), 64, seed=0)
    with pytest.raises(DataError, match=r"has 1 of the 2 tokens it needs at least; hold back more"):
        evaluation_windows(np.arange(1), 64)
