"""Draws and stages worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from glassformer.errors import ConfigError, GlassformerError
from glassformer.generate.sampling import STAGES, Sampling, Stage, choose, draw, uniform

LOGITS = torch.tensor([0.5, 0.2, 0.25, 0.05]).log()  # probabilities 0.5, 0.2, 0.25, 0.05: cumulative 0.5, 0.7, 0.95, 1


@pytest.mark.parametrize(
    ("u", "token"), [(0.0, 0), (0.49, 0), (0.51, 1), (0.69, 1), (0.71, 2), (0.94, 2), (0.96, 3), (1 - 2**-53, 3)]
)
def test_the_first_token_whose_cumulative_probability_exceeds_u_is_drawn(u: float, token: int):
    assert draw(LOGITS, Sampling(), [], u).token == token


def test_a_draw_tells_the_interval_that_u_fell_into():
    drawn = draw(LOGITS, Sampling(), [], 0.6, keep_probabilities=True)
    assert (drawn.token, drawn.u, drawn.stages) == (1, 0.6, ())
    assert (drawn.below, drawn.above, drawn.probability) == pytest.approx((0.5, 0.7, 0.2))
    assert drawn.probabilities is not None
    assert drawn.probabilities.tolist() == pytest.approx([0.5, 0.2, 0.25, 0.05])


def test_the_first_token_begins_at_zero():
    assert draw(LOGITS, Sampling(), [], 0.1).below == 0.0


def test_a_draw_tells_what_each_stage_left():
    drawn = draw(LOGITS, Sampling(top_k=3, top_p=0.6), [], 0.5)
    top_k, top_p = drawn.stages
    assert (top_k.name, top_k.setting, top_k.kept) == ("top_k", 3, 3)
    assert top_k.mass == pytest.approx(0.95)
    assert (top_p.name, top_p.kept) == ("top_p", 2)  # 0.5 / 0.95 = 0.526 is not enough, with 0.25 / 0.95 it is
    assert top_p.mass == pytest.approx(0.75 / 0.95)
    assert (drawn.token, drawn.below, drawn.above) == (0, 0.0, pytest.approx(0.5 / 0.75))


def test_greedy_is_the_limit_of_the_temperature():
    drawn = draw(LOGITS, Sampling(temperature=0), [], 0.99)
    assert (drawn.token, drawn.probability, drawn.below, drawn.above) == (0, 1.0, 0.0, 1.0)
    (stage,) = drawn.stages
    assert stage == Stage("temperature", 0.0, kept=1, mass=stage.mass)
    assert stage.mass == pytest.approx(0.5)


STAGES_BY_HAND = [
    # stage, setting, logits, times seen, expected
    ("repetition_penalty", 2.0, [4.0, -4.0, 1.0], [1, 3, 0], [2.0, -8.0, 1.0]),
    ("presence_penalty", 0.5, [4.0, -4.0, 1.0], [1, 3, 0], [3.5, -4.5, 1.0]),
    ("frequency_penalty", 0.5, [4.0, -4.0, 1.0], [1, 3, 0], [3.5, -5.5, 1.0]),
    ("temperature", 0.5, [4.0, -4.0, 1.0], [0, 0, 0], [8.0, -8.0, 2.0]),
    ("temperature", 0.0, [1.0, 4.0, 4.0], [0, 0, 0], [-math.inf, 4.0, -math.inf]),
    ("top_k", 2, [1.0, 3.0, 2.0], [0, 0, 0], [-math.inf, 3.0, 2.0]),
    ("top_k", 2, [1.0, 1.0, 2.0, 1.0], [0] * 4, [1.0, -math.inf, 2.0, -math.inf]),
    ("top_p", 0.5, [0.0, 0.0, 0.0, 0.0], [0] * 4, [0.0, 0.0, -math.inf, -math.inf]),
    ("top_p", 0.51, [0.0, 0.0, 0.0, 0.0], [0] * 4, [0.0, 0.0, 0.0, -math.inf]),
    ("min_p", 0.5, [0.0, math.log(0.51), math.log(0.49)], [0] * 3, [0.0, math.log(0.51), -math.inf]),
    ("min_p", 1.0, [1.0, 2.0, 2.0], [0] * 3, [-math.inf, 2.0, 2.0]),
]


@pytest.mark.parametrize(("stage", "setting", "logits", "seen", "expected"), STAGES_BY_HAND)
def test_a_stage_gives_what_the_hand_gives(stage, setting, logits, seen, expected):
    given, counts = torch.tensor(logits, dtype=torch.float64), torch.tensor(seen, dtype=torch.float64)
    assert STAGES[stage](given, setting, counts).tolist() == pytest.approx(expected)


def test_every_stage_is_worked_out_by_hand():
    assert {row[0] for row in STAGES_BY_HAND} == set(STAGES) == set(Sampling.model_fields)


def test_a_penalty_counts_the_tokens_seen():
    sampling = Sampling(temperature=0, frequency_penalty=0.6)
    assert draw(torch.tensor([2.0, 1.0]), sampling, [0], 0.0).token == 0
    assert draw(torch.tensor([2.0, 1.0]), sampling, [0, 0], 0.0).token == 1


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("temperature", -1.0, "0 (always the likeliest token)"),
        ("temperature", 1e-9, "0.000001 and more"),
        ("top_k", 0, "1 or more"),
        ("top_p", 0.0, "more than 0 and at most 1"),
        ("top_p", 1.5, "more than 0 and at most 1"),
        ("min_p", -0.1, "more than 0 and at most 1"),
        ("repetition_penalty", 0.0, "0.01 to 100"),
        ("presence_penalty", 101.0, "-100 to 100"),
        ("frequency_penalty", -101.0, "-100 to 100"),
    ],
)
def test_a_value_out_of_range_is_named_with_the_range(field: str, value: float, expected: str):
    with pytest.raises(ConfigError) as refusal:
        Sampling.parse({field: value})
    assert f"{field}={value} is out of range" in str(refusal.value)
    assert expected in str(refusal.value)


@pytest.mark.parametrize("broken", [math.nan, math.inf])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_not_numbers_are_refused(broken: float, temperature: float):
    logits = torch.tensor([0.0, broken, 1.0])
    with pytest.raises(GlassformerError, match="not finite numbers"):
        draw(logits, Sampling(temperature=temperature), [], 0.5)
    with pytest.raises(GlassformerError, match="not finite numbers"):
        choose(logits[None], Sampling(temperature=temperature), torch.zeros(1), [0.5])


def test_the_numbers_of_a_seed_never_change():
    """A text that somebody published with its seed must come out the same in every later version."""
    assert uniform(0, 0, 0) == 0.04116189856268637
    assert len({uniform(seed, sample, step) for seed in range(5) for sample in range(5) for step in range(5)}) == 125


def test_ten_thousand_draws_have_the_frequencies_of_the_probabilities():
    probabilities = torch.tensor([0.4, 0.05, 0.3, 0.0, 0.2, 0.05])
    n = 10_000
    logits = probabilities.log().expand(n, -1)
    tokens = choose(logits, Sampling(), torch.zeros(1, 1), [uniform(7, 0, step) for step in range(n)])
    found = torch.tensor(tokens).bincount(minlength=6)
    expected = probabilities * n
    assert found[3] == 0
    possible = expected > 0
    chi_square = ((found - expected)[possible].square() / expected[possible]).sum()
    assert chi_square < 18.47  # 4 degrees of freedom: 999 of 1,000 fair seeds lie below
