"""The rate of Vaswani et al., and the preset that is trained as their paper says."""

from __future__ import annotations

import pytest

from glassformer.training.decide import Decisions, choose_loop, follow_paper
from glassformer.training.recipe import OptimiserRecipe
from glassformer.training.schedule import rate


def test_noam_is_equation_3():
    recipe = OptimiserRecipe(schedule="noam", warmup_steps=399)
    full = 400**-0.5  # min(n^-0.5, n * warmup^-1.5) at its peak, n counted from 1
    for step in (0, 10, 398, 399, 400, 1599, 39_999):
        n = step + 1
        assert rate(step, 10**6, recipe) == pytest.approx(min(n**-0.5, n * 400**-1.5) / full)


def test_the_base_model_of_the_paper_is_trained_as_there_unless_asked_otherwise():
    decisions = Decisions({"preset": "vaswani-base", "optimiser": {"lr": 0.5}})
    follow_paper(decisions)
    choose_loop(decisions, 100_000, 0.0)
    assert decisions.get("optimiser.schedule") == "noam"
    assert decisions.get("optimiser.warmup_steps") == 4000
    assert decisions.get("optimiser.label_smoothing") == 0.1
    assert decisions.get("optimiser.lr") == 0.5
