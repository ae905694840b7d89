"""Formula and function of every recipe say the same, cell for cell; every recipe is used, and every formula can be written."""

from __future__ import annotations

import math
import random
import re
from xml.etree import ElementTree

import pytest
import torch

from glassformer.generate.sampling import STAGES, count_tokens
from glassformer.lens.graph.sound import sound_nodes
from glassformer.lens.recipes import RECIPES, attention, beams, head, sampling, vectors
from glassformer.lens.recipes.expression import FUNCTIONS, Values, evaluate, walk
from glassformer.lens.recipes.notation import NOTATIONS
from glassformer.lens.recording import record
from glassformer.lens.replay import Replay
from glassformer.nn.mlp import MLPS
from glassformer.trace import points_of
from shapes import EVERY_KIND, HEARING, PUBLISHED, padded, vectors_of
from sounds import FEATURES, features, heard
from traces import SCHEMES, TINY, trace_ids

CELLS = 8
MODELS = {  # together they use every row of RECIPES that a model can
    **{f"{scheme}, pre": {"positions": scheme, "norm_bias": True} for scheme in SCHEMES},
    **{f"{scheme}, encoder, post": {"positions": scheme, "shape": "encoder", "norm_place": "post"} for scheme in SCHEMES},
    **{name: {"mlp": name} for name in MLPS},
    **EVERY_KIND,
    "caps": {"attention_softcap": 2.0, "logit_softcap": 3.0, "logit_scale": 0.5},
    "layernorm and groups": {"norm": "layernorm", "n_kv_heads": 2, "norm_bias": True, "attention_bias": True},
    "no learned norm": {"norm": "layernorm", "norm_gain": False},
    "five heads": {"positions": "alibi", "n_heads": 5, "n_kv_heads": 1},
    "pairs": {"bigram": 40, "embedding_scale": True, "window": 2, "head_bias": True},
    **PUBLISHED,
    "far buckets": {"positions": "relative", "relative_buckets": 4, "relative_max_distance": 5},
}  # fmt: skip


recorded: dict[str, Replay] = {}  # by name of the model; a run is the same whenever it is made


def replay_of(random_model, name):
    if name not in recorded:
        recorded[name] = trace_ids(random_model(**{**TINY, **MODELS[name]}), ids=(1, 0, 2, 1, 2, 1)).replay
    return recorded[name]


def formula_against_function(replay, text=0):
    """The nodes and cells where the two differ."""
    wrong, draw = [], random.Random(0)
    for name, node in replay.graph.items():
        whole = replay.compute(node)
        size = replay.size(node, whole)
        shape = whole.shape if node.batchless else whole.shape[1:]
        blind = blind_rows(replay, name)
        for _ in range(CELLS if whole.numel() else 0):
            cell = tuple(map(draw.randrange, shape))
            index = cell if node.batchless else (text if len(whole) > 1 else 0, *cell)
            if blind is not None and bool(blind[text if len(blind) > 1 else 0, 0, cell[1]]):
                continue  # who sees nothing has no largest score; the function gives 0 there
            ours, theirs = replay.cell(name, cell, text), float(whole[index])
            if ours != theirs and not abs(ours - theirs) <= 1e-9 * (1 + float(size[index])):
                wrong.append((name, cell, ours, theirs))
    return wrong


def blind_rows(replay, name):
    """B 1 T: the tokens that may look at none, for the softmax of an attention."""
    module, _, last = name.rpartition(".")
    if "attention" not in module or last not in ("exp", "sum", "pattern"):
        return None
    return replay.value(f"{module}.mask_rule").ne(0).all(-1)


@pytest.mark.parametrize("name", MODELS)
def test_the_formula_of_every_node_gives_what_its_function_gives(random_model, name):
    replay = replay_of(random_model, name)
    assert formula_against_function(replay) == []


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_same_of_padded_texts(random_model, scheme, side):
    ids, at = padded([torch.arange(3), torch.arange(5, 10)], side, 6)
    replay = record(random_model(**{**TINY, "positions": scheme}), ids, at=at)
    for text in range(2):
        assert formula_against_function(replay, text) == []


def test_the_same_of_packed_documents_and_prefixes(random_model):
    ids = torch.arange(12).view(2, 6)
    model = random_model(**{**TINY, "window": 3})
    packed = record(model, ids, documents=torch.tensor([[0, 0, 1, 1, 1, 2], [0, 1, 1, 1, 1, 1]]))
    started = record(model, ids, prefix=torch.tensor([3, 1]))
    for replay in (packed, started):
        assert formula_against_function(replay, 0) + formula_against_function(replay, 1) == []


@pytest.mark.parametrize("kind", HEARING)
def test_the_same_of_padded_vectors(random_model, kind):
    model = random_model(**{**TINY, **HEARING[kind]})
    at = torch.stack([torch.where(torch.arange(9) < length, torch.arange(9), -1) for length in (5, 9)])
    heard = vectors_of(model, torch.arange(18).view(2, 9))
    if model.config.shape == "encoder":
        replay = record(model, heard, at=at)
    else:
        replay = record(model, torch.arange(8).view(2, 4), source=heard, source_at=at)
    assert [one for one in replay.compare() if not one.ok] == []
    for text in range(2):
        assert formula_against_function(replay, text) == []
    assert any(node.recipe.name == "embedding.silence" for node in replay.graph.values()) == bool(
        model.config.vectors.strides
    )


@pytest.mark.parametrize("name", FEATURES)
def test_the_same_of_sounds(random_model, name):
    replay = heard(random_model, name, shape="encoder", n_layers=1).replay
    assert formula_against_function(replay) == []


def sampled(recipe, inputs, **constants):
    """Function and formula of a sampling recipe in every cell."""
    whole = recipe.compute(**inputs, **constants)
    sizes = dict.fromkeys("nml", len(whole))
    cells = [
        float(evaluate(recipe.formula, Values(inputs, constants, sizes, {"n": torch.tensor(n)})))
        for n in range(len(whole))
    ]
    return whole.tolist(), cells


SETTINGS = {
    "repetition_penalty": (1.3, 0.7),
    "presence_penalty": (0.5, -0.5),
    "frequency_penalty": (0.5,),
    "temperature": (0.7, 3.0, 0.0),
    "top_k": (1, 3, 40),
    "top_p": (0.2, 0.9, 1.0),
    "min_p": (0.1, 1.0),
}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("seed", range(3))
def test_formula_and_function_of_every_sampling_stage_agree(stage, seed):
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(9, generator=draw, dtype=torch.float64)
    logits[4] = logits[2]  # equals, of which the lower id comes first
    if seed == 1:
        logits[6] = -math.inf
    p, rank = logits.softmax(-1), sampling.order().compute(logits=logits)
    inputs = {"logits": logits, "count": count_tokens([1, 1, 5], 9), "rank": rank, "p": p}
    inputs["mass_before"] = sampling.mass_before().compute(p=p, rank=rank)
    for setting in SETTINGS[stage]:
        recipe = sampling.stage(stage, coldest_of_all=stage == "temperature" and setting == 0)
        by_function, by_formula = sampled(recipe, {key: inputs[key] for key in recipe.inputs}, setting=setting)
        assert by_formula == pytest.approx(by_function, rel=1e-12)
    for recipe in (sampling.order(), sampling.mass_before(), sampling.chances(), sampling.cumulative()):
        by_function, by_formula = sampled(recipe, {key: inputs[key] for key in recipe.inputs})
        assert by_formula == pytest.approx(by_function, abs=1e-12)


def test_formula_and_function_of_beam_scores_agree():
    inputs = {name: torch.tensor(value, dtype=torch.float64) for name, value in (("before", -1.5), ("log_p", -0.25))}
    gathered = beams.gathered()
    assert float(evaluate(gathered.formula, Values(inputs, {}, {}, {}))) == float(gathered.compute(**inputs)) == -1.75
    inputs = {name: torch.tensor(value, dtype=torch.float64) for name, value in (("sum", -3.0), ("length", 5.0))}
    for penalty in (0.0, 0.6, 1.0, -2.0):
        values = Values(inputs, {"penalty": penalty}, {}, {})
        by_function = float(beams.score().compute(**inputs, penalty=penalty))
        assert float(evaluate(beams.score().formula, values)) == pytest.approx(by_function, rel=1e-12)
        assert by_function == pytest.approx(-3.0 / 5.0**penalty)


@pytest.fixture(scope="module")
def recipes_made(random_model):
    """Every recipe that the models above use, and those of choosing tokens."""
    made = {}
    for name in MODELS:
        for node in replay_of(random_model, name).graph.values():
            made[(node.recipe.name, str(node.recipe.formula))] = node.recipe
    for name in FEATURES:
        for node in sound_nodes(features(name)):
            made[(node.recipe.name, str(node.recipe.formula))] = node.recipe
    chosen = [vectors.as_given(padded=True), vectors.silence("t")]
    chosen += [sampling.stage(name) for name in STAGES]
    chosen += [sampling.stage("temperature", coldest_of_all=True), sampling.order(), sampling.mass_before()]
    chosen += [sampling.chances(), sampling.cumulative(), beams.gathered(), beams.score()]
    chosen += [attention.mask_rule(causal=True, window=True, packed=True, prefix_seen=True), head.loss()]
    return [*made.values(), *chosen]


def test_every_row_of_the_table_is_used(random_model, recipes_made):
    made = recipes_made
    originals = {row: {id(recipe) for recipe in made if is_made_by(row, recipe)} for row in RECIPES}
    assert [row for row, found in originals.items() if not found] == []


def test_nothing_that_a_model_shows_is_without_a_recipe(random_model):
    for name in MODELS:
        replay = replay_of(random_model, name)
        assert set(points_of(replay.model)) - set(replay.graph) == set()


def is_made_by(row, recipe):
    """Whether a recipe is what the row's function makes, by the function in which its arithmetic was written."""
    make = RECIPES[row]
    inner = getattr(make, "__wrapped__", make)
    return (
        recipe.compute.__qualname__.split(".")[0] == inner.__name__
        or ROWS_BY_FUNCTION.get(row) == recipe.compute.__name__
    )


ROWS_BY_FUNCTION = {  # rows whose arithmetic has a function of its own
    "embedding.out": "add",
    "residual.sum": "add",
    "norm.rms": "root_mean_square",
    "convolution.pre": "convolved",
}


@pytest.mark.parametrize("notation", NOTATIONS)
def test_every_formula_can_be_written_down(recipes_made, notation):
    for recipe in recipes_made:
        written = NOTATIONS[notation].write(recipe.formula)
        assert written
        if notation == "mathml":
            tree = ElementTree.fromstring(f'<math xmlns="http://www.w3.org/1998/Math/MathML">{written}</math>')
            arities = {"mfrac": 2, "msup": 2, "msub": 2, "munder": 2}
            for element in tree.iter():
                name = element.tag.rpartition("}")[2]
                assert len(element) == arities.get(name, len(element)), (recipe.name, name)
        if notation == "latex":
            assert is_balanced(written), (recipe.name, written)
            assert not re.search(r"[^\x00-\x7f]", written), (recipe.name, written)


def is_balanced(latex):
    """Whether braces, \\left and \\right, and environments close as they open."""
    open_at = []
    closes = {"{": "}", r"\left": r"\right", r"\begin{cases}": r"\end{cases}"}
    for part in re.findall(r"\\begin\{cases\}|\\end\{cases\}|\\left|\\right|[{}]", latex):
        if part in closes:
            open_at.append(closes[part])
        elif not open_at or open_at.pop() != part:
            return False
    return not open_at


def test_braces_that_do_not_close_would_be_noticed():
    assert is_balanced(r"\frac{a}{\left(b\right)}")
    assert not is_balanced(r"\frac{a}{\left(b}\right)")
    assert not is_balanced(r"\begin{cases} a")


def test_every_function_of_formulas_is_used(recipes_made):
    named = {getattr(part, "name", "") for recipe in recipes_made for part in walk(recipe.formula)}
    assert set(FUNCTIONS) - named == set()


def test_every_recipe_says_what_it_means(recipes_made):
    for recipe in recipes_made:
        assert recipe.says, recipe.name
        assert not recipe.says.endswith("."), recipe.name
