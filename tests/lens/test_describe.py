"""Laws of the description: what it counts is what is there."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch

from glassformer.lens import describe, points
from glassformer.models import PRESETS, Decoder, ModelConfig, build_model, count_parameters, preset
from glassformer.nn.mlp import MLPS
from glassformer.nn.norms import NORMS
from glassformer.nn.positions import POSITIONS
from glassformer.trace import watch

Make = Callable[..., Decoder]

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


@pytest.mark.parametrize("name", PRESETS)
def test_every_parameter_belongs_to_one_part(name: str) -> None:
    model = build_model(ModelConfig.parse({**preset(name), **SMALL, "vocab_size": 50}))
    description = describe(model)
    assert description.parameters == count_parameters(model) == sum(description.by_part.values())
    assert f"{count_parameters(model):,}" in str(description)
    assert max(map(len, str(description).splitlines())) <= 80
    assert json.loads(json.dumps(description.to_dict()))["parameters"] == count_parameters(model)


@pytest.mark.parametrize("fields", [{}, {"n_kv_heads": 2, "d_value": 5}, {"window": 6}])
def test_the_cache_takes_the_memory_that_is_told(make_model: Make, fields: dict[str, int]) -> None:
    model = make_model(**fields)
    held = sum(x.numel() * x.element_size() for layer in model.new_cache(1).layers for x in (layer.k, layer.v))
    assert describe(model).memory.cache == held


@pytest.mark.parametrize("mlp", MLPS)
@pytest.mark.parametrize(
    "fields", [{}, {"n_kv_heads": 2, "norm": "layernorm"}, {"qk_norm": False, "positions": "learned"}]
)
def test_training_keeps_about_as_much_as_estimated(make_model: Make, mlp: str, fields: dict[str, Any]) -> None:
    model = make_model(d_model=32, d_head=8, d_ff=48, mlp=mlp, **fields).train()
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(x: torch.Tensor) -> torch.Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage
        return x

    ids = torch.arange(64).view(4, 16) % 30
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        loss = torch.nn.functional.cross_entropy(model(ids).flatten(0, 1), ids.flatten())
    measured = sum(storage.nbytes() for storage in kept.values())
    del loss
    assert 0.6 < describe(model, batch_size=4).memory.activations / measured < 1.6


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
