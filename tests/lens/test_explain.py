"""Laws of the walk: on every configuration each number agrees with its arithmetic, and a wrong number is found out."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from glassformer.errors import ConfigError
from glassformer.generate import STAGES, Sampling, generate_ids
from glassformer.lens import Explanation, explain
from glassformer.lens.run import tell
from glassformer.lens.scene import Scene
from glassformer.lens.walk import WALK
from glassformer.lens.walk.embedding import CODES, ELSEWHERE
from glassformer.lens.walk.head import STAGES_SAY
from glassformer.lens.walk.mlp import ACTIVATIONS
from glassformer.lens.walk.norm import NORM_STEPS
from glassformer.models import Model
from glassformer.nn.block import BLOCKS
from glassformer.nn.mlp import MLPS
from glassformer.nn.norms import NORMS
from glassformer.nn.positions import POSITIONS
from glassformer.tokenizers import TOKENIZERS, train_tokenizer
from shapes import KINDS

TEXT = "the cat sat."
GOLDEN = Path(__file__).parent / "walk.txt"

Make = Callable[..., Model]

OPTIONS: dict[str, dict[str, Any]] = {
    "grouped heads": {"n_kv_heads": 2},
    "one key/value head": {"n_kv_heads": 1},
    "one head": {"n_heads": 1},
    "wide values": {"d_value": 7},
    "no query norm": {"qk_norm": False},
    "no gain": {"norm_gain": False},
    "norm bias": {"norm_bias": True},
    "biases": {"attention_bias": True, "mlp_bias": True, "head_bias": True},
    "window": {"window": 3},
    "window of one": {"window": 1},
    "attention soft cap": {"attention_softcap": 0.5},
    "attention scale": {"attention_scale": 0.3},
    "logit scale and soft cap": {"logit_scale": 0.25, "logit_softcap": 2.0},
    "pairs": {"bigram": 50},
    "exact pairs": {"bigram": 1000},
    "embedding scale": {"embedding_scale": True},
    "tied": {"tied": True},
    "one layer": {"n_layers": 1},
    "rotary, linear": {"rotary_scaling": {"kind": "linear", "factor": 3.0}},
    "rotary, ntk": {"rotary_scaling": {"kind": "ntk", "factor": 3.0}},
    "rotary, llama3": {"rotary_scaling": {"kind": "llama3", "factor": 3.0, "original_max_len": 8}},
    "dropout": {"dropout": 0.5},
    "larger vocabulary": {"vocab_size": 40},
}


def failures(explanation: Explanation) -> list[str]:
    return [str(check) for check in explanation.all_checks if not check.ok]


SHAPES = [  # every way for order to enter with both kinds of MLP, and every MLP
    *itertools.product(POSITIONS, NORMS, BLOCKS, ["gelu", "swiglu"]),
    *itertools.product(["none"], NORMS, BLOCKS, [mlp for mlp in MLPS if mlp not in ("gelu", "swiglu")]),
]


@pytest.mark.parametrize(("positions", "norm", "place", "mlp"), SHAPES)
def test_every_number_agrees_with_its_arithmetic(
    make_model: Make, letters: Any, positions: str, norm: str, place: str, mlp: str
) -> None:
    model = make_model(positions=positions, norm=norm, norm_place=place, mlp=mlp, n_layers=2)
    explanation = explain(model, letters, TEXT, layer=1, head=3, position=-4, channel=5)
    assert not failures(explanation)
    assert all(len(line) <= 80 for line in explanation.render().splitlines())


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("place", BLOCKS)
def test_every_option_is_walked_through(make_model: Make, letters: Any, option: str, place: str) -> None:
    model = make_model(norm_place=place, **OPTIONS[option]).train()
    explanation = explain(model, letters, TEXT, layer=-1, head=-1, channel=-1)
    assert not failures(explanation)
    assert model.training


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(layer=st.integers(-3, 2), head=st.integers(-4, 3), position=st.integers(-12, 11), channel=st.integers(-12, 11))
def test_every_cell_can_be_followed(
    make_model: Make, letters: Any, layer: int, head: int, position: int, channel: int
) -> None:
    model = make_model(positions="relative", n_kv_heads=2, window=5, bigram=60, norm="layernorm", norm_bias=True)
    cells: dict[str, Any] = {"layer": layer, "head": head, "position": position, "channel": channel}
    assert not failures(explain(model, letters, TEXT, **cells))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_number_formats_are_judged_by_their_own_rounding(make_model: Make, letters: Any, dtype: Any) -> None:
    assert not failures(explain(make_model().to(dtype), letters, TEXT))


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_every_tokenizer_is_shown(make_model: Make, kind: str) -> None:
    tokenizer = train_tokenizer(kind, ["the cat sat on the mat. 日本 the cat sat on the mat"], vocab_size=None)
    explanation = explain(make_model(vocab_size=tokenizer.vocab_size), tokenizer, "the mat")
    assert explanation.ok
    assert 'what comes after "the mat"' in explanation.render()


def test_tables_cover_the_tables_that_they_explain() -> None:
    assert set(NORM_STEPS) == set(NORMS.values())
    assert set(ACTIVATIONS) == set(MLPS)
    assert {*CODES, *ELSEWHERE} == set(POSITIONS)
    assert set(STAGES_SAY) == set(STAGES)


WITHOUT_TENSOR = {"tokens", "layers_below", "layers_above", "probabilities", "sampling", "drawing"}


def recorded(make_model: Make, letters: Any, place: str) -> Scene:
    """What one run of a model with as many steps as possible recorded."""
    model = make_model(n_kv_heads=2, bigram=60, positions="learned", norm_place=place)
    return explain(model, letters, TEXT, layer=1, head=2, channel=5).scene


@pytest.fixture
def scene(make_model: Make, letters: Any) -> Scene:
    return recorded(make_model, letters, "pre")


def corrupted(scene: Scene, name: str, cell: tuple[int, ...], share: float) -> Scene:
    """The same recording with one number larger by this share."""
    changed = scene.taps[name].clone()
    changed[cell] *= 1 + share
    return replace(scene, taps={**scene.taps, name: changed})


@pytest.mark.parametrize("step", [step for step in WALK if step not in WITHOUT_TENSOR])
def test_a_wrong_number_is_found_out(make_model: Make, letters: Any, step: str) -> None:
    scene = recorded(make_model, letters, "post" if step.startswith("norm_after") else "pre")
    section = tell(scene)[step]
    told = tell(corrupted(scene, section.name, section.cell, 1e-4))
    assert not all(check.ok for check in told[step].checks)
    assert "✗" in told.render()


@pytest.mark.parametrize(
    ("name", "cell", "fact"),
    [
        ("decoder.blocks.1.attention.pattern", (0, 0, 1, 0), "sum to 1"),
        ("decoder.blocks.2.resid_mid", (0, 0, 0), "residual sums"),
        ("decoder.blocks.0.mlp.out", (0, 2, 1), "residual sums"),
        ("head.logits", (0, 0, 0), "watched"),
    ],
)
def test_a_wrong_number_far_from_the_cells_followed_is_found_out(
    scene: Scene, name: str, cell: tuple[int, ...], fact: str
) -> None:
    told = tell(corrupted(scene, name, cell, 1e-2))
    assert [fact in check.label for check in told.checks if not check.ok] == [True]


def test_a_number_that_is_none_never_agrees(scene: Scene) -> None:
    told = tell(corrupted(scene, "decoder.blocks.1.resid_mid", (0, 11, 5), math.nan))
    assert not told.ok


@pytest.mark.parametrize("step", range(3))
def test_the_token_drawn_is_the_one_that_generating_draws(make_model: Make, letters: Any, step: int) -> None:
    model, sampling = make_model(), Sampling(temperature=1.5, top_p=0.9, repetition_penalty=1.2, min_p=0.01)
    text = "a cat"
    drawn = generate_ids(
        model, [letters.encode(text)], max_new_tokens=3, sampling=sampling, seed=7, eos_id=None, vocab_size=30
    )
    text += letters.decode(drawn[0].ids[:step])
    told = explain(model, letters, text, sampling=sampling, seed=7, step=step)
    assert told["drawing"].says.endswith(f"falls to '{letters.label(drawn[0].ids[step])}'.")
    assert not failures(told)


def test_tokens_without_a_name_are_never_drawn(make_model: Make, letters: Any) -> None:
    told = explain(make_model(vocab_size=2000), letters, TEXT)
    assert "each of 30 tokens" in told["logits"].says


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"layer": 3}, "layer=3 does not exist: the model has layers 0 to 2"),
        ({"layer": -4}, "layer=-4 does not exist"),
        ({"head": 4}, "head=4 does not exist: each layer has heads 0 to 3"),
        ({"position": 12}, "position=12 does not exist: the text has positions 0 to 11"),
        ({"channel": 12}, "channel=12 does not exist: the model has channels 0 to 11"),
        ({"digits": 0}, "digits=0 is out of range: expected 1 to 12"),
    ],
)
def test_a_cell_that_does_not_exist_is_refused(
    make_model: Make, letters: Any, wrong: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        explain(make_model(), letters, TEXT, **wrong)


def test_a_model_without_layers_is_refused(make_model: Make, letters: Any) -> None:
    with pytest.raises(ConfigError, match="no layer to walk through"):
        explain(make_model(n_layers=0), letters, TEXT)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "decoder"])
def test_another_shape_is_one_sentence(make_model: Make, letters: Any, kind: str) -> None:
    with pytest.raises(ConfigError, match=r"the walk follows decoder-only models for now: .* found 'encoder") as error:
        explain(make_model(**KINDS[kind]), letters, TEXT)
    assert "\n" not in str(error.value)


def test_a_tokenizer_of_another_model_is_refused(make_model: Make, letters: Any) -> None:
    with pytest.raises(ConfigError, match="trained with another tokenizer"):
        explain(make_model(vocab_size=10), letters, TEXT)


def test_of_a_long_text_the_last_tokens_are_explained(make_model: Make, letters: Any) -> None:
    model = make_model(positions="learned")
    told = explain(model, letters, "zzzz" + "the cat sat here")
    short = explain(model, letters, "cat sat here")
    assert told.notes[0] == "The text has 20 tokens and the model reads 16: the last 12 are explained."
    assert told.sections == short.sections


def test_an_empty_text_begins_where_a_document_begins(make_model: Make, letters: Any) -> None:
    told = explain(make_model(), letters, "")
    assert told.ok
    assert "<|endoftext|>" in told.render()


def test_the_walk_of_a_fixed_model_is_the_golden_one(make_model: Make, letters: Any) -> None:
    # float64, so that no machine's rounding shows; the differences are rounding and nothing else, so they are masked.
    model = make_model(d_model=8, n_layers=2, n_heads=2, n_kv_heads=1, d_ff=8).double()
    told = explain(model, letters, "the cat", layer=1, head=1, sampling=Sampling(temperature=0.8, top_k=8))
    text = re.sub(r"Δ \S+$", "Δ", told.render(), flags=re.MULTILINE)
    assert text == GOLDEN.read_text(encoding="utf-8")


def test_the_same_run_is_told_in_the_same_words(make_model: Make, letters: Any) -> None:
    assert str(explain(make_model(), letters, TEXT)) == str(explain(make_model(), letters, TEXT))
