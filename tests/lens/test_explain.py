"""Laws of the walk: on every configuration each number agrees with its arithmetic, and a wrong number is found out."""

from __future__ import annotations

import functools
import itertools
import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import traced
from glassformer.errors import ConfigError
from glassformer.generate import STAGES, Sampling, generate_ids
from glassformer.lens import Drawing, Explanation, explain
from glassformer.lens.explain.extras import EXTRAS
from glassformer.lens.explain.pictures import PICTURES
from glassformer.lens.explain.words import ELSEWHERE, STEPS, TITLES, title_of
from glassformer.lens.glass import Trace, trace_text
from glassformer.lens.graph import graph
from glassformer.lens.graph.sound import sound_nodes
from glassformer.lens.layout import display_width
from glassformer.lens.numbers import rounding
from glassformer.lens.replay import Replay
from glassformer.models import Model, preset
from glassformer.nn.block import BLOCKS
from glassformer.nn.mlp import MLPS
from glassformer.nn.norms import NORMS
from glassformer.nn.positions import POSITIONS
from glassformer.tokenizers import TOKENIZERS, train_tokenizer
from shapes import EVERY_KIND
from sounds import FEATURES, features, heard
from traces import trace_ids

TEXT = "the cat sat."
GOLDEN = Path(__file__).parent / "golden" / "explain"

Make = Callable[..., Model]

OPTIONS: dict[str, dict[str, Any]] = {
    "grouped heads": {"n_kv_heads": 2},
    "one head": {"n_heads": 1},
    "wide values": {"d_value": 7},
    "no query norm": {"qk_norm": False},
    "no gain": {"norm_gain": False},
    "norm bias": {"norm_bias": True},
    "biases": {"attention_bias": True, "mlp_bias": True, "head_bias": True},
    "window": {"window": 3},
    "attention soft cap": {"attention_softcap": 0.5},
    "soft cap and bias": {"attention_softcap": 0.5, "positions": "alibi"},
    "attention scale": {"attention_scale": 0.3},
    "logit scale and soft cap": {"logit_scale": 0.25, "logit_softcap": 2.0},
    "pairs": {"bigram": 50},
    "embedding scale": {"embedding_scale": True},
    "tied": {"tied": True},
    "one layer": {"n_layers": 1},
    "rotary, llama3": {"rotary_scaling": {"kind": "llama3", "factor": 3.0, "original_max_len": 8}},
    "larger vocabulary": {"vocab_size": 40},
    "norm of the embedding": {"embedding_norm": True, "positions": "learned"},
    "kinds of text": {"token_types": 2},
    "layer before the head": {"head_hidden": "gelu"},
}


def failures(explanation: Explanation) -> list[str]:
    return [str(check) for check in explanation.all_checks if not check.ok]


def is_told_well(explanation: Explanation) -> None:
    assert not failures(explanation)
    assert max(map(display_width, explanation.render().splitlines())) <= 80
    assert explanation.render(ascii=True).isascii()


SHAPES = [  # every way for order to enter in every shape, and every norm, place and MLP with some of them
    (shape, positions, *rest)
    for (shape, positions), rest in zip(
        itertools.product(("decoder", "encoder", "encoder_decoder"), POSITIONS),
        itertools.cycle(itertools.product(MLPS, BLOCKS, NORMS)),
        strict=False,
    )
] + [("decoder", "learned", mlp, "pre", "rmsnorm") for mlp in MLPS]


@pytest.mark.parametrize(("shape", "positions", "mlp", "place", "norm"), SHAPES)
def test_every_number_agrees_with_its_arithmetic(
    make_model: Make, shape: str, positions: str, mlp: str, place: str, norm: str
) -> None:
    model = make_model(shape=shape, positions=positions, norm=norm, norm_place=place, mlp=mlp, n_layers=2, max_len=20)
    is_told_well(explain(trace_ids(model), layer=1, head=3, position=-2, channel=5))


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_every_kind_of_model_is_walked_through(make_model: Make, kind: str) -> None:
    model = make_model(**{**EVERY_KIND[kind], "n_layers": 2})
    told = explain(trace_ids(model), layer=-1, head=-1)
    is_told_well(replace(told, checks=()) if kind == "tags" else told)  # the targets there are no tokens
    assert told["head.out" if model.config.head == "pooled" else "head.logits"].value is not None


@pytest.mark.parametrize("name", FEATURES)
def test_the_walk_begins_with_the_samples(make_model: Make, name: str) -> None:
    told = explain(heard(make_model, name, shape="encoder_decoder", ctc_blank=9, target="ab"))
    assert not failures(told)
    steps = [section.step for section in told.sections]
    assert steps[0] == "encoder.tokens"
    assert steps[1] in ("sound.frames", "sound.emphasised")
    order = ["sound.mel", "encoder.embedding.vectors", "encoder.embedding.convolutions.1.out", "encoder.norm.out"]
    order += ["decoder.blocks.0.cross_attention.pattern", "head.probability", "loss", "ctc.probability"]
    assert sorted(order, key=steps.index) == order
    assert max(map(display_width, told.render().splitlines())) <= 80


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_is_walked_through(make_model: Make, letters: Any, option: str) -> None:
    model = make_model(**{"n_layers": 2, **OPTIONS[option]}).train()
    is_told_well(explain(trace_text(model, letters, TEXT), layer=-1, head=-1, channel=-1))
    assert model.training


@settings(max_examples=6, deadline=None)
@given(layer=st.integers(-2, 1), head=st.integers(-4, 3), position=st.integers(-11, 10), channel=st.integers(-12, 11))
def test_every_cell_can_be_followed(layer: int, head: int, position: int, channel: int) -> None:
    assert not failures(explain(traced.trace("decoder"), layer=layer, head=head, position=position, channel=channel))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_number_formats_are_judged_by_their_own_rounding(make_model: Make, letters: Any, dtype: Any) -> None:
    assert not failures(explain(trace_text(make_model().to(dtype), letters, TEXT)))


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_every_tokenizer_is_shown(make_model: Make, kind: str) -> None:
    tokenizer = train_tokenizer(kind, ["the cat sat on the mat. 日本 the cat sat on the mat"], vocab_size=None)
    told = explain(trace_text(make_model(vocab_size=tokenizer.vocab_size), tokenizer, "the mat"))
    assert told.ok
    assert 'what comes after "the mat"' in told.render()


def everything(make_model: Make) -> Iterator[Model]:
    """Models that have between them every recipe."""
    for norm, place in itertools.product(NORMS, BLOCKS):
        for fields in (*EVERY_KIND.values(), *OPTIONS.values(), *({"positions": scheme} for scheme in POSITIONS)):
            yield make_model(**{"n_layers": 1, "norm": norm, "norm_place": place, **fields})


def test_every_tensor_has_a_title_and_no_table_has_a_row_too_many(make_model: Make) -> None:
    titles, recipes = set[str](), set[str]()
    graphs = [graph(model, targets=model.config.shape != "encoder") for model in everything(make_model)]
    for node in chain.from_iterable((*(one.values() for one in graphs), *(sound_nodes(features(n)) for n in FEATURES))):
        titles.add(title_of(node).removeprefix("CROSS-ATTENTION: "))
        recipes.add(node.recipe.name)
    convolved = {f"CONVOLUTION {number}{step}" for number in (1, 2) for step in ("", ", ITS ACTIVATION")}
    known = {*TITLES.values(), "RESIDUAL STREAM"} | convolved
    assert titles <= known | {f"{title}, {step}" for title in known for step in STEPS.values()}
    assert known <= titles | {title.split(",")[0] for title in titles}
    begins = {name.rsplit(".", cut)[0] for name in recipes for cut in range(name.count(".") + 1)}
    assert {*EXTRAS, *PICTURES} <= begins
    assert set(POSITIONS) == {*ELSEWHERE, "learned", "sinusoidal", "sinusoidal_halves"}


def corrupted(trace: Trace, name: str, cell: tuple[int, ...], share: float) -> Trace:
    """The same recording with one number larger by this share of the largest beside it."""
    changed = trace.replay.points[name].clone()
    changed[cell] += share * changed.nan_to_num(neginf=0.0).abs().max()
    replay = trace.replay
    points = {**{each: replay.points[each] for each in replay.points}, name: changed}
    return replace(trace, replay=Replay(replay.model, replay.graph, points, replay.given))


@pytest.mark.parametrize("name", ["decoder", "classifier", "translator"])
def test_a_wrong_number_is_found_out(name: str) -> None:
    trace = traced.trace(name)
    where = {"layer": 1, "head": 2, "position": 2, "channel": 5}
    told = explain(trace, **where)
    wrong = [section for section in told.sections if section.name in trace.replay.points and section.value]
    assert len(wrong) > 20
    for section in random.Random(1).sample(wrong, 8):
        faulty = explain(corrupted(trace, section.name, (0, *section.cell), 1e-4), at=spot(section.name, section.cell))
        assert not faulty.ok, section.name
        assert "✗" in faulty.render()


def spot(name: str, cell: tuple[int, ...]) -> str:
    return f"{name}[{','.join(map(str, cell))}]"


def test_a_number_that_is_none_never_agrees() -> None:
    trace = traced.trace("decoder")
    assert not explain(
        corrupted(trace, "decoder.blocks.1.resid_mid", (0, 2, 5), float("nan")), layer=1, position=2, channel=5
    ).ok


@pytest.mark.parametrize("name", ["decoder", "classifier", "translator"])
def test_random_cells_are_those_of_the_trace_at_full_precision(name: str) -> None:
    trace, dice = traced.trace(name), random.Random(name)
    names = list(trace)
    for _ in range(167):
        node = trace.replay.graph[dice.choice(names)]
        shape = trace[node.name].shape[0 if node.batchless else 1 :]
        cell = tuple(dice.randrange(size) for size in shape)
        told = explain(trace, at=spot(node.name, cell))
        shown = json.loads(told.render("json"))["sections"][0]
        recorded = float(trace[node.name][cell if node.batchless else (0, *cell)])
        assert float(shown["value"]) == recorded
        assert told.sections[0].value == recorded
        assert not failures(told), told.render()
        (check,) = told.sections[0].checks
        assert check.recomputed == pytest.approx(trace.replay.cell(node.name, cell), rel=1e-9, abs=1e-12)
        loose = 400 * rounding(trace.model) * max(1.0, float(trace[node.name].nan_to_num(neginf=0).abs().max()))
        assert check.tolerance <= loose  # a tolerance that anything fits into would prove nothing


@pytest.mark.parametrize("name", ["decoder", "classifier", "translator"])
def test_every_number_of_the_walk_is_that_of_the_trace(name: str) -> None:
    trace = traced.trace(name)
    told = [section for section in explain(trace, layer=1).sections if section.name]
    assert len(told) > 30
    for section in told:
        node = trace.replay.graph[section.name]
        assert section.value == float(trace[section.name][section.cell if node.batchless else (0, *section.cell)])


def test_the_names_of_operands_can_be_pointed_at_again() -> None:
    trace, seen, waiting = traced.trace("translator"), set[str](), ["head.logits[1,3]"]
    while waiting and len(seen) < 120:
        at = waiting.pop(0)
        told = explain(trace, at=at).sections[0]
        assert told.step == at
        text = " ".join(
            piece for line in told.body if not isinstance(line, str) for piece in getattr(line, "pieces", ())
        )
        for found in re.findall(r"= ((?:encoder|decoder|head)\.[\w.]+\[[\d,]+\])", text):
            if found not in seen:
                seen.add(found)
                waiting.append(found)
    kinds = {name.split("[")[0].rsplit(".", 1)[-1] for name in seen}
    assert {"out", "weight", "resid_post", "act", "z"} <= kinds


def test_a_number_tells_where_it_is_used() -> None:
    told = explain(traced.trace("translator"), at="decoder.blocks.0.cross_attention.q[0,1,2]").render()
    assert "It is used in:\n    decoder.blocks.0.cross_attention.match (as q)" in told
    assert "decoder.blocks.0.cross_attention.q_norm.out[1,0,2]" in told or "q_linear[1,0,2]" in told


@pytest.mark.parametrize("step", range(3))
def test_the_token_drawn_is_the_one_that_generating_draws(make_model: Make, letters: Any, step: int) -> None:
    model, sampling = make_model(), Sampling(temperature=1.5, top_p=0.9, repetition_penalty=1.2, min_p=0.01)
    text = "a cat"
    drawn = generate_ids(
        model, [letters.encode(text)], max_new_tokens=3, sampling=sampling, seed=7, eos_id=None, vocab_size=30
    )
    text += letters.decode(drawn[0].ids[:step])
    told = explain(trace_text(model, letters, text), drawing=Drawing(sampling, seed=7, step=step))
    assert told["drawing"].says.endswith(f"falls to '{letters.label(drawn[0].ids[step])}'.")
    assert not failures(told)


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_of_sampling_has_its_arithmetic(letters: Any, make_model: Make, stage: str) -> None:
    value = {"top_k": 3, "top_p": 0.5, "min_p": 0.2, "repetition_penalty": 1.3}.get(stage, 0.7)
    trace = trace_text(make_model(n_layers=1), letters, "a cat a")
    for sampling in (
        Sampling.parse({stage: value}, "s"),
        *([Sampling(temperature=0)] if stage == "temperature" else []),
    ):
        told = explain(trace, drawing=Drawing(sampling, seed=3))
        assert told[f"sampling.{stage}"].checks
        is_told_well(told)


def test_tokens_without_a_name_are_never_drawn(make_model: Make, letters: Any) -> None:
    told = explain(trace_text(make_model(vocab_size=2000), letters, TEXT), n_tokens=30)
    assert max(int(row[1]) for line in told["head.logits"].body for row in getattr(line, "rows", ())) < 30


@pytest.mark.parametrize(
    ("name", "wrong", "sentence"),
    [
        ("decoder", {"layer": 2}, "layer=2 does not exist: the model has layers 0 to 1"),
        ("decoder", {"layer": -3}, "layer=-3 does not exist"),
        ("decoder", {"head": 4}, "head=4 does not exist: each layer has heads 0 to 3"),
        ("decoder", {"position": 11}, "position=11 does not exist: the text has positions 0 to 10"),
        ("decoder", {"channel": 12}, "channel=12 does not exist: the model has channels 0 to 11"),
        ("decoder", {"digits": 0}, "digits=0 is out of range: expected 1 to 12"),
        ("decoder", {"depth": "number"}, "depth='number' is not one of symbols, shapes, numbers (did you mean 'numbers'?)"),
        ("decoder", {"side": "encoder"}, "side='encoder' is not there: the model has decoder"),
        ("translator", {"side": "cross"}, "side='cross' is not there: the model has encoder and decoder"),
        ("translator", {"side": "encoder", "position": 99}, "the source has positions 0 to"),
        ("translator", {"position": 99}, "the target has positions 0 to"),
        ("decoder", {"at": "decoder.blocks.0.atention.scores[0,0,0]"}, "did you mean 'decoder.blocks.0.attention.scores'?"),
        ("decoder", {"at": "decoder.blocks.0.attention.scores[0,11,0]"}, "i=11 is out of range, expected 0 to 10"),
        ("decoder", {"at": "decoder.blocks.0.attention.scores[0,0]"}, "3 whole numbers (h=0 to 3, i=0 to 10, j=0 to 10)"),
        ("decoder", {"at": "decoder.norm.weight[12]"}, "12 is out of range, expected 0 to 11"),
        ("decoder", {"at": "decoder.norm.weight[a]"}, "decoder.norm.weight[a] is no cell"),
        ("decoder", {"at": "["}, "names no number; expected POINT[index]"),
    ],
)  # fmt: skip
def test_what_does_not_exist_is_one_sentence(name: str, wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(sentence)) as error:
        explain(traced.trace(name), **wrong)
    assert "\n" not in str(error.value)


def test_a_model_without_layers_is_refused(make_model: Make, letters: Any) -> None:
    with pytest.raises(ConfigError, match="no layer to walk through"):
        explain(trace_text(make_model(n_layers=0), letters, TEXT))


def test_of_a_long_text_the_last_tokens_are_explained(make_model: Make, letters: Any) -> None:
    model = make_model(positions="learned", n_layers=1)
    told = explain(trace_text(model, letters, "zzzz" + "the cat sat here"))
    short = explain(trace_text(model, letters, "cat sat here"))
    assert told.notes[0] == "The text has 20 tokens and the model reads 16: the last 12 are shown."
    assert [section.value for section in told.sections] == [section.value for section in short.sections]


def test_one_side_of_a_translation_can_be_walked_through_alone() -> None:
    trace = traced.trace("translator")
    both, encoder, decoder = (explain(trace, side=side) for side in ("", "encoder", "decoder"))
    assert [f.stack for f in both.followed] == ["encoder", "decoder"]
    assert "head.logits" not in {section.step for section in encoder.sections}
    assert decoder["encoder"].title == "THE ENCODER"
    assert not any(section.name.startswith("encoder.") for section in decoder.sections)
    looked_at = trace["decoder.blocks.0.cross_attention.pattern"][0, 0, both.followed[1].position].argmax()
    assert both.followed[0].position == int(looked_at)


@pytest.mark.parametrize("depth", ["symbols", "shapes"])
def test_formulas_alone_hold_no_numbers_of_the_run(depth: Any) -> None:
    told = explain(traced.trace("decoder"), depth=depth)
    text = told.render()
    assert ("×" in text) == (depth == "shapes")
    assert "recorded" not in text
    assert "cell" not in " ".join(line for line in text.splitlines() if line.startswith("    decoder"))
    assert not told.all_checks


def test_an_article_has_its_pictures_beside_it(tmp_path: Path) -> None:
    told = explain(traced.trace("classifier"))
    files = told.write(tmp_path / "walk.md")
    article = files[0].read_text(encoding="utf-8")
    assert re.findall(r"!\[[^]]*\]\(([^)]+)\)", article) == [file.name for file in files[1:]]
    assert len(files) == 4
    assert all(file.read_text(encoding="utf-8").startswith("<svg") for file in files[1:])
    assert "![" not in told.render("md")


def test_every_file_is_written_in_the_format_of_its_name(tmp_path: Path) -> None:
    told = explain(traced.trace("classifier"))
    (tex,) = told.write(tmp_path / "walk.tex")
    assert tex.read_text().count(r"\begin{") == tex.read_text().count(r"\end{")
    assert json.loads(told.write(tmp_path / "walk.json")[0].read_text())["ok"] is True
    assert told.write(tmp_path / "walk.txt")[0].read_text(encoding="utf-8") == told.render()


def hand_sized() -> Trace:
    tokenizer = train_tokenizer("words", ["hello world hola mundo"], special_tokens=("<|start|>",))
    fields = {**preset("hand-sized"), "vocab_size": tokenizer.vocab_size}
    return trace_text(traced.waves(**fields), tokenizer, "hello world", target="hola mundo")


def test_of_a_model_by_hand_every_number_is_on_the_screen() -> None:
    told = explain(hand_sized(), layer=3)
    is_told_well(told)
    assert "more terms" not in told.render()
    assert " more]" not in told.render()


@functools.cache
def golden(name: str) -> Explanation:
    """float64, so that no machine's rounding shows."""
    sizes = {"d_model": 8, "n_layers": 2, "n_heads": 2, "d_head": 4, "d_ff": 8}
    common = {**sizes, "max_len": 16}
    match name:
        case "decoder":
            trace = trace_text(traced.waves(**common, n_kv_heads=1).double(), traced.tokenizer(), "the cat")
            return explain(trace, layer=1, head=1, drawing=Drawing(Sampling(temperature=0.8, top_k=8)))
        case "classifier":
            fields = {"shape": "encoder", "head": "labels", "labels": ("good", "bad"), "positions": "learned"}
            bert = {"norm": "layernorm", "norm_place": "post", "norm_bias": True, "mlp": "gelu"}
            return explain(trace_text(traced.waves(**common, **fields, **bert).double(), traced.tokenizer(), "a cat"))
        case _:
            fields = {"shape": "encoder_decoder", "positions": "relative", "mlp": "relu"}
            trace = trace_text(traced.waves(**common, **fields).double(), traced.tokenizer(), "a cat", target="no")
            return explain(trace, layer=1, position=1)


def masked(text: str) -> str:
    """The differences are rounding and nothing else."""
    return re.sub(r"Δ \S+$", "Δ", text, flags=re.MULTILINE)


@pytest.mark.parametrize("name", ["decoder", "classifier", "translator"])
def test_the_walk_of_a_fixed_model_is_the_golden_one(name: str) -> None:
    # renew with: PYTHONPATH=tests:tests/lens python -c "import test_explain; test_explain.renew()"
    told = golden(name)
    assert not failures(told)
    assert masked(told.render()) == (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")
    assert told.render() == golden.__wrapped__(name).render()


def renew() -> None:
    """Write the golden files anew."""
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for name in ("decoder", "classifier", "translator"):
        (GOLDEN / f"{name}.txt").write_text(masked(golden(name).render()), encoding="utf-8")
