"""Laws of the description: what it counts is what is there."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch

from glassformer.lens import describe, points
from glassformer.models import PRESETS, Model, ModelConfig, build_model, count_parameters, preset
from glassformer.nn.mlp import MLPS
from glassformer.nn.norms import NORMS
from glassformer.nn.positions import POSITIONS
from glassformer.trace import watch
from shapes import KINDS, call

Make = Callable[..., Model]

SMALL = {
    "d_model": 16,
    "d_head": 4,
    "n_heads": 4,
    "n_kv_heads": 2,
    "n_layers": 2,
    "d_ff": 24,
    "max_len": 32,
    "bigram": None,
}


@pytest.mark.parametrize("fields", [*map(preset, PRESETS), *KINDS.values()], ids=[*PRESETS, *KINDS])
def test_every_parameter_belongs_to_one_part(fields: dict[str, Any]) -> None:
    model = build_model(ModelConfig.parse({**fields, **SMALL, "vocab_size": 50}))
    description = describe(model)
    assert description.parameters == count_parameters(model) == sum(description.by_part.values())
    assert f"{count_parameters(model):,}" in str(description)
    assert max(map(len, str(description).splitlines())) <= 80
    assert json.loads(json.dumps(description.to_dict()))["parameters"] == count_parameters(model)


@pytest.mark.parametrize("shape", ["decoder", "encoder_decoder"])
@pytest.mark.parametrize("fields", [{}, {"n_kv_heads": 2, "d_value": 5}, {"window": 6}])
def test_the_cache_takes_the_memory_that_is_told(make_model: Make, fields: dict[str, int], shape: str) -> None:
    model = make_model(shape=shape, **fields)
    cache = model.new_cache(1)
    call(model, torch.zeros(1, 1, dtype=torch.long), cache=cache, **long_source(model))
    layers = [*cache.layers, *(layer for layer in cache.remembered if layer is not None)]
    held = sum(x.numel() * x.element_size() for layer in layers for x in (layer.k, layer.v))
    description = describe(model)
    assert description.memory.cache == held
    assert "one text of 16 tokens" in str(description)
    assert ("and its source of 16" in str(description)) == (shape == "encoder_decoder")


def long_source(model: Model) -> dict[str, torch.Tensor]:
    """A source as long as the model takes, for a model that wants one."""
    if model.config.shape != "encoder_decoder":
        return {}
    return {"source": torch.zeros(1, model.config.source_side().max_len, dtype=torch.long)}


def test_an_encoder_has_no_cache(make_model: Make) -> None:
    description = describe(make_model(shape="encoder"))
    assert description.memory.cache == 0
    assert "cache" not in str(description)


@pytest.mark.parametrize("mlp", MLPS)
@pytest.mark.parametrize(
    "fields", [{}, {"n_kv_heads": 2, "norm": "layernorm"}, {"qk_norm": False, "positions": "learned"}]
)
def test_training_keeps_about_as_much_as_estimated(make_model: Make, mlp: str, fields: dict[str, Any]) -> None:
    model = make_model(d_model=32, d_head=8, d_ff=48, mlp=mlp, **fields).train()
    assert 0.6 < estimated_to_measured(model) < 1.6


@pytest.mark.parametrize("fields", [{}, {"n_kv_heads": 2, "norm": "layernorm"}, {"norm_place": "post"}], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_training_any_kind_keeps_about_as_much_as_estimated(
    make_model: Make, kind: str, fields: dict[str, Any]
) -> None:
    model = make_model(**{"d_model": 32, "d_head": 8, "d_ff": 48, **fields, **KINDS[kind]}).train()
    assert 0.6 < estimated_to_measured(model) < 1.6


def test_a_look_at_a_long_source_is_in_the_estimate(make_model: Make) -> None:
    encoder = {"n_layers": 0, "max_len": 400}
    model = make_model(shape="encoder_decoder", encoder=encoder, d_model=16, d_head=16, n_layers=4).train()
    assert 0.6 < estimated_to_measured(model) < 1.6


def estimated_to_measured(model: Model) -> float:
    """The estimate of what a step over four texts keeps, as a share of what it keeps."""
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(x: torch.Tensor) -> torch.Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage
        return x

    ids = torch.arange(64).view(4, 16) % 30
    given = {name: source.expand(4, -1) for name, source in long_source(model).items()}
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        said = model(ids, **given)
        said = said.flatten(0, -2)
        loss = torch.nn.functional.cross_entropy(said, torch.zeros(len(said), dtype=torch.long))
    measured = sum(storage.nbytes() for storage in kept.values())
    del loss
    return describe(model, batch_size=4).memory.activations / measured


def test_muon_keeps_one_number_for_each_cell_of_a_matrix(make_model: Make) -> None:
    model = make_model(attention_bias=True)
    matrices = sum(
        p.numel() for name, p in model.named_parameters() if ".blocks." in name and name.endswith("proj.weight")
    )
    others = count_parameters(model) - matrices
    assert describe(model).memory.muon == 4 * (matrices + 2 * others)


def test_a_model_is_put_into_words(make_model: Make, letters: Any) -> None:
    text = str(describe(make_model(n_kv_heads=2, d_value=3, norm_place="post", window=5, tied=True), letters))
    assert "decoder, 3 layers, d_model 12, 4 heads of 4 (2 key/value), values of 3, rotary," in text
    assert "RMSNorm after, SwiGLU 10" in text
    assert "the output shares the embedding table" in text
    assert "a window of 5 tokens" in text
    assert "characters tokenizer, 30 tokens, of which <|pad|>, <|endoftext|> are special" in text


def test_an_encoder_decoder_is_put_into_words(make_model: Make, letters: Any) -> None:
    model = make_model(**KINDS["another encoder"])
    text = str(describe(model, letters, source_tokenizer=letters))
    assert text.startswith("encoder-decoder, ")
    assert "encoder: 3 layers, d_model 20, 2 heads of 8, values of 7, learned," in text
    assert "decoder: 3 layers, d_model 12, 4 heads of 4, rotary, RMSNorm before, SwiGLU 10" in text
    assert "vocabulary 19 of the source, 30 of the target, an embedding table for each" in text
    assert "context 40 tokens of the source, 16 of the target" in text
    assert "source: characters tokenizer, 30 tokens" in text
    assert "target: characters tokenizer, 30 tokens" in text
    assert "16 × (40 + 16) tokens; an estimate" in text
    shared = str(describe(make_model(**KINDS["one matrix"])))
    assert "vocabulary 30 of the source, 30 of the target, one embedding table for both" in shared
    assert "the output shares the embedding table" in shared


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("encoder", "the output has its own matrix"),
        ("labels", "the output is one of 3 labels (good, bad, odd), from the mean of its vectors"),
        ("labels of the first", "the output is one of 3 labels (good, bad, odd), from the vector of its first token"),
        ("several labels", "the output is any of 3 labels (good, bad, odd), from the mean of its vectors"),
        ("tags", "the output is one of 3 labels (good, bad, odd) for each token"),
        ("pooled", "the output is the mean of its vectors, of length 1"),
    ],
)
def test_what_an_encoder_answers_is_put_into_words(make_model: Make, kind: str, said: str) -> None:
    text = str(describe(make_model(**KINDS[kind], tied=kind != "encoder", head_bias=True))).replace("\n", " ")
    assert text.startswith("encoder, 3 layers, d_model 12,")
    assert said in text
    assert "shared" not in text  # there is no matrix over the vocabulary to share
    assert ("biases in the head" in text) == (kind == "encoder")


def test_many_labels_are_shown_in_part(make_model: Make) -> None:
    model = make_model(shape="encoder", head="labels", labels=tuple("abcdefgh"))
    assert "one of 8 labels (a, b, c, d, e, f, and 2 more)" in str(describe(model)).replace("\n", " ")


def test_the_parts_of_both_stacks_are_counted(make_model: Make) -> None:
    model = make_model(**KINDS["another encoder"])
    description = describe(model)
    named = dict(model.named_parameters())
    looks = sum(p.numel() for name, p in named.items() if ".cross_attention." in name and "_norm." not in name)
    own = sum(p.numel() for name, p in named.items() if ".attention." in name and "_norm." not in name)
    assert description.by_part["cross-attention"] == looks > 0
    assert description.by_part["attention"] == own > 0
    weights = {weight.name: weight for weight in description.weights}
    assert weights["encoder.blocks.*.attention.q_proj.weight"].shape == (16, 20)
    assert weights["decoder.blocks.*.cross_attention.k_proj.weight"].shape == (16, 20)
    totals = next(line for line in str(description).splitlines() if line.startswith("total")).split()
    each = [
        sum(p.numel() for name, p in named.items() if name.startswith(f"{side}.blocks.0."))
        for side in ("encoder", "decoder")
    ]
    assert totals[-2:] == [f"{count:,}" for count in each]
    stacks = description.to_dict()["stacks"]
    assert stacks == {"encoder": {"n_layers": 3, "max_len": 40}, "decoder": {"n_layers": 3, "max_len": 16}}


@pytest.mark.parametrize("kind", KINDS)
def test_the_axes_of_every_point_of_every_kind_are_those_of_its_tensor(make_model: Make, kind: str) -> None:
    model = make_model(**{"d_head": 6, "d_value": 5, "d_ff": 9, "n_kv_heads": 2, **KINDS[kind]})
    with torch.no_grad(), watch(model) as seen:
        given = {"source": torch.arange(24).view(3, 8) % 19} if model.config.shape == "encoder_decoder" else {}
        model(torch.arange(21).view(3, 7), **given)
    for point in points(model):
        side = model.config
        in_encoder = point.name.startswith("encoder.")
        if in_encoder and side.shape == "encoder_decoder":
            side = side.source_side()
        read = 8 if given and (in_encoder or ".cross_attention." in point.name) else 7
        sizes = {"B": 3, "T": 8 if given and in_encoder else 7, "S": read, "D": side.d_model, "H": side.n_heads}
        sizes |= {"G": side.n_kv_heads, "K": side.d_head, "V": side.d_value, "F": side.d_ff, "N": 30, "L": 3, "1": 1}
        assert [sizes[axis] for axis in point.axes] == list(seen[point.name].shape), point.name


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("mlp", ["relu", "swiglu"])
def test_the_axes_of_every_point_are_those_of_its_tensor(make_model: Make, positions: str, norm: str, mlp: str) -> None:
    model = make_model(positions=positions, norm=norm, mlp=mlp, n_kv_heads=2, d_head=6, d_value=5, d_ff=9, bigram=60)
    sizes = {"B": 3, "T": 7, "S": 7, "D": 12, "H": 4, "G": 2, "K": 6, "V": 5, "F": 9, "N": 30, "1": 1}
    with torch.no_grad(), watch(model) as seen:
        model(torch.arange(21).view(3, 7))
    assert [point.name for point in points(model)] == [point.name for point in points(model) if point.name in seen]
    for point in points(model):
        assert [sizes[axis] for axis in point.axes] == list(seen[point.name].shape), point.name
