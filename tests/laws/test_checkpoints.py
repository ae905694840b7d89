"""What holds for every model folder: what goes out comes back bit for bit, and a failed save changes nothing."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from glassformer.checkpoints import FAMILIES, family_of, load_model, save, save_model
from glassformer.checkpoints.families import Keys
from glassformer.checkpoints.families.family import spoken
from glassformer.checkpoints.weights import parameters, unfilled
from glassformer.files import DiskError
from glassformer.models import MODELS, PRESETS, Model, ModelConfig, preset
from glassformer.nn.block import BLOCKS
from glassformer.nn.mlp import MLPS
from glassformer.nn.norms import NORMS
from glassformer.nn.positions import POSITIONS
from glassformer.tokenizers import train_tokenizer
from shapes import KINDS, LABELS, call

SHRUNK = {"vocab_size": 23, "max_len": 32, "d_model": 16, "n_layers": 2, "n_heads": 4, "d_ff": 28}
SQUARE = {"d_head": 4, "d_value": 4}  # as the public families demand it

QWEN2 = {**preset("llama"), "attention_bias": True, "attention_out_bias": False}
GEMMA: dict[str, Any] = {
    "norm": "rmsnorm_from_one",
    "norm_place": "both",
    "embedding_scale": True,
    "qk_norm": False,
    "tied": True,
    "window": 8,
    "windowed_layers": (True, False),
}

FIELDS: dict[str, dict[str, Any]] = {
    **{f"kind {name}": fields for name, fields in KINDS.items()},
    **{f"preset {name}": {**preset(name), **SHRUNK, **SQUARE} for name in PRESETS},
    **{f"positions {name}": {"positions": name} for name in POSITIONS},
    **{f"mlp {name}": {"mlp": name, "mlp_bias": True} for name in MLPS},
    **{f"norm {name}": {"norm": name, "norm_bias": True} for name in NORMS},
    **{f"norm place {name}": {"norm_place": name} for name in BLOCKS},
    "tied": {"tied": True},
    "tied qwen3": {**SQUARE, "tied": True, "n_kv_heads": 2},
    "tied llama": {**SQUARE, "tied": True, "qk_norm": False, "attention_bias": True, "mlp_bias": True},
    "untied gpt2": {**preset("gpt2"), **SHRUNK, **SQUARE, "tied": False},
    "dropout": {**SQUARE, "dropout": 0.1, "init": "xavier"},
    "bigram": {"bigram": 64},
    "no gains": {"norm_gain": False},
    "every bias": {"attention_bias": True, "mlp_bias": True, "head_bias": True},
    "window": {**SQUARE, "window": 8},
    "caps": {"attention_softcap": 20.0, "logit_softcap": 15.0, "logit_scale": 0.5, "embedding_scale": True},
    "windows in some layers": {**SQUARE, "window": 8, "windowed_layers": (True, False)},
    "a base for windows": {**SQUARE, "window": 8, "windowed_layers": (False, True), "local_rotary_base": 100.0},
    "no bias on what attention adds": {**SQUARE, "qk_norm": False, "attention_bias": True, "attention_out_bias": False},
    "no bias on keys": {**SQUARE, "qk_norm": False, "attention_bias": True, "attention_key_bias": False},
    "a bias on what attention adds": {**SQUARE, "attention_bias": False, "attention_out_bias": True},
    "gemma2": {**SQUARE, **GEMMA, "attention_softcap": 20.0, "logit_softcap": 15.0},
    "gemma3": {**SQUARE, **GEMMA, "qk_norm": True, "local_rotary_base": 100.0, "attention_scale": 0.5},
    "a norm of the embedding": {"embedding_norm": True},
    "kinds of text": {**KINDS["encoder"], "token_types": 2, "embedding_norm": True},
    "positions further down": {"positions": "learned", "position_offset": 2},
    **{f"a layer before {head}": {**KINDS[head], "head_hidden": "tanh"} for head in ("encoder", "labels")},
    "the largest, as long as it is": {**KINDS["pooled"], "pooling": "max", "normalise": False},
    "no layers": {"n_layers": 0},
    **{
        f"rotary {kind}": {**SQUARE, "rotary_scaling": {"kind": kind, "factor": 2.0, "original_max_len": 16}}
        for kind in ("linear", "ntk", "dynamic", "llama3", "yarn")
    },
}

Build = Callable[..., Model]
IDS = torch.arange(23)[None]


@pytest.mark.parametrize("name", FIELDS)
def test_saving_then_loading_is_bit_equal(name: str, random_model: Build, tmp_path: Path) -> None:
    model = random_model(**FIELDS[name])
    save_model(tmp_path / "model", model)
    loaded = load_model(tmp_path / "model")
    assert loaded.model.config == model.config
    assert loaded.notes == ()
    assert_same_weights(loaded.model, model)
    assert not loaded.model.training
    assert torch.equal(call(loaded.model, IDS), call(model, IDS))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_every_number_type_comes_back(dtype: torch.dtype, random_model: Build, tmp_path: Path) -> None:
    model = random_model(**SQUARE).to(dtype)
    save_model(tmp_path / "model", model)
    assert_same_weights(load_model(tmp_path / "model").model, model)


def test_loading_into_another_number_type_equals_converting(random_model: Build, tmp_path: Path) -> None:
    model = random_model(**preset("gpt2") | SHRUNK | SQUARE)
    save_model(tmp_path / "model", model)
    assert_same_weights(load_model(tmp_path / "model", dtype=torch.bfloat16).model, model.to(torch.bfloat16))


TIED: dict[str, tuple[dict[str, Any], list[set[str]]]] = {
    "decoder": ({**SQUARE, "tied": True}, [{"decoder.embedding.token", "head.linear"}]),
    "encoder": ({**KINDS["encoder"], "tied": True}, [{"encoder.embedding.token", "head.linear"}]),
    "labels": ({**KINDS["labels"], "tied": True}, []),
    "encoder-decoder": (KINDS["encoder-decoder"], [{"encoder.embedding.token", "decoder.embedding.token"}]),
    "one matrix": (KINDS["one matrix"], [{"encoder.embedding.token", "decoder.embedding.token", "head.linear"}]),
    "two vocabularies": (KINDS["two vocabularies"], []),
    "two vocabularies, tied": (KINDS["two vocabularies, tied"], [{"decoder.embedding.token", "head.linear"}]),
}


@pytest.mark.parametrize("name", TIED)
def test_what_is_one_matrix_is_stored_once_and_is_one_again(name: str, random_model: Build, tmp_path: Path) -> None:
    fields, expected = TIED[name]
    model = random_model(**fields)
    save_model(tmp_path / "model", model)
    loaded = load_model(tmp_path / "model").model
    assert groups(loaded) == groups(model) == expected
    with safe_open(tmp_path / "model" / "model.safetensors", framework="pt") as file:
        stored = sum(file.get_tensor(key).numel() for key in file.keys())  # noqa: SIM118
    assert stored == sum(weight.numel() for weight in model.parameters())


def groups(model: Model) -> list[set[str]]:
    """The names of each matrix that several modules share."""
    found: dict[int, set[str]] = {}
    for name, weight in model.named_parameters(remove_duplicate=False):
        found.setdefault(id(weight), set()).add(name.removesuffix(".weight"))
    return [names for names in found.values() if len(names) > 1]


@pytest.mark.parametrize("kind", ["encoder-decoder", "one matrix", "labels"])
def test_another_shape_can_be_trained_and_saved_over_its_own_folder(
    kind: str, random_model: Build, tmp_path: Path
) -> None:
    save_model(tmp_path / "model", random_model(**KINDS[kind]))
    model = load_model(tmp_path / "model").model
    call(model, IDS).square().mean().backward()
    with torch.no_grad():
        for weight in model.parameters():
            assert weight.grad is not None
            weight -= 0.1 * weight.grad
    save_model(tmp_path / "model", model)
    assert_same_weights(load_model(tmp_path / "model").model, model)


def test_a_loaded_model_can_be_trained_and_saved_over_its_own_folder(random_model: Build, tmp_path: Path) -> None:
    save_model(tmp_path / "model", random_model(**preset("gpt2") | SHRUNK | SQUARE))
    model = load_model(tmp_path / "model").model
    model(IDS).square().mean().backward()
    with torch.no_grad():
        for weight in model.parameters():
            assert weight.grad is not None
            weight -= 0.1 * weight.grad
    save_model(tmp_path / "model", model)
    assert_same_weights(load_model(tmp_path / "model").model, model)


def test_loading_draws_nothing_from_the_random_state(random_model: Build, tmp_path: Path) -> None:
    save_model(tmp_path / "model", random_model(positions="learned"))
    before = torch.get_rng_state()
    load_model(tmp_path / "model")
    assert torch.equal(torch.get_rng_state(), before)


@st.composite
def configs(draw: st.DrawFn) -> ModelConfig:
    """Any config, most of them near to a public family, so that single fields decide."""
    start = draw(st.sampled_from([*map(preset, ("modern", "llama", "gpt2")), QWEN2, GEMMA, GEMMA | {"qk_norm": True}]))
    values = {**start, **SHRUNK, **SQUARE}
    choices: dict[str, list[Any]] = {
        "attention_bias": [True, False],
        "attention_dropout": [0.0, 0.2],
        "attention_key_bias": [None, True, False],
        "attention_out_bias": [None, True, False],
        "attention_scale": [None, 1.0, 0.3],
        "bigram": [None, 64],
        "d_head": [2, 4, 6],
        "d_model": [14, 16],
        "d_value": [4, 6],
        "dropout": [0.0, 0.1],
        "embedding_norm": [True, False],
        "embedding_scale": [True, False],
        "head_bias": [True, False],
        "logit_scale": [1.0, 0.5],
        "logit_softcap": [None, 15.0],
        "mlp": list(MLPS),
        "mlp_bias": [True, False],
        "n_kv_heads": [1, 2, 4],
        "norm": list(NORMS),
        "norm_bias": [True, False],
        "norm_eps": [1e-5, 1e-6],
        "norm_gain": [True, False],
        "norm_place": list(BLOCKS),
        "positions": list(POSITIONS),
        "qk_norm": [True, False],
        "rotary_base": [1e4, 5e5],
        "rotary_scaling": [
            None,
            {"kind": "linear", "factor": 2.0},
            {"kind": "llama3", "factor": 8.0},
            {"kind": "dynamic", "factor": 2.0, "original_max_len": 16},
            {"kind": "dynamic", "factor": 2.0, "original_max_len": 32},
            {"kind": "yarn", "factor": 4.0, "original_max_len": 8, "truncate": False},
            {"kind": "yarn", "factor": 4.0, "original_max_len": 8, "attention_factor": 1.1, "mscale": 0.7},
        ],
        "position_offset": [0, 2],
        "tied": [True, False],
        "window": [None, 8],
        "windowed_layers": [None, (True, False), (False, True)],
        "local_rotary_base": [None, 100.0],
    }
    for field in draw(st.sets(st.sampled_from(sorted(choices)), max_size=4)):
        values[field] = draw(st.sampled_from(choices[field]))
    if values.get("window") is None:
        values |= {"windowed_layers": None, "local_rotary_base": None}
    if values.get("positions", "rotary") != "rotary":
        values["local_rotary_base"] = None
    values["shape"] = draw(st.sampled_from(["decoder", "decoder", *MODELS]))  # the others are never near to a family
    if values["shape"] == "encoder":
        values["head"] = draw(st.sampled_from(["tokens", "labels", "tags", "pooled"]))
        values["labels"] = LABELS if values["head"] in ("labels", "tags") else ()
        values["several_labels"] = draw(st.booleans())
        values["pooling"] = draw(st.sampled_from(["mean", "first", "max"]))
        values["normalise"] = draw(st.booleans())
    elif values["shape"] == "encoder_decoder":
        values |= {"windowed_layers": None, "local_rotary_base": None}
        values["shared_embedding"] = draw(st.booleans())
        own = [{"vocab_size": 19}, {"d_model": 32, "positions": "alibi"}] if not values["shared_embedding"] else []
        values["encoder"] = draw(st.sampled_from([None, {}, {"n_layers": 1, "norm": "layernorm"}, *own]))
    return ModelConfig.parse(values)


@settings(max_examples=200)
@given(configs())
def test_config_json_says_all_that_decides_what_is_computed(config: ModelConfig) -> None:
    family = family_of(config)
    written = json.loads(json.dumps(family.to_config(config)))
    assert spoken(family.from_config(Keys(written))) == spoken(config)


@settings(max_examples=60)
@given(config=configs())
def test_every_parameter_has_one_place_in_the_file_of_its_family(config: ModelConfig) -> None:
    names = parameters(unfilled(config))
    rules = family_of(config).rules_for(names, config)
    assert sorted(name for rule in rules for name in rule.ours) == sorted(names)
    assert len({rule.theirs for rule in rules}) == len(rules)


def test_the_last_family_says_everything() -> None:
    assert [*FAMILIES.values()][-1].why_not(ModelConfig.parse({"vocab_size": 5, "bigram": 7})) == ()


@pytest.mark.parametrize("stage", ["write_json", "to_file", "model_card", "tokenizer"])
@pytest.mark.parametrize("blow", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_save_leaves_the_old_folder_whole(
    stage: str, blow: type[BaseException], random_model: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = train_tokenizer("characters", ["to be or not to be"])
    save_model(tmp_path / "model", random_model(seed=1), tokenizer)
    before = contents(tmp_path)

    def interrupt(*_: Any, **__: Any) -> None:
        raise blow

    if stage == "tokenizer":
        monkeypatch.setattr(tokenizer, "save", interrupt)
    else:
        monkeypatch.setattr(save, stage, interrupt)
    with pytest.raises(blow):
        save_model(tmp_path / "model", random_model(seed=2), tokenizer)
    assert contents(tmp_path) == before


@contextmanager
def files_end_at_8_kilobytes() -> Iterator[None]:
    """A disk that is full: the system refuses to write a file any further.

    Not a fixture, since it would outlive the test's call: where our output is a file longer than that, the runner could
    not write its next dot.
    """
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


def test_a_full_disk_is_one_sentence_and_leaves_the_old_folder_whole(random_model: Build, tmp_path: Path) -> None:
    small, large = random_model(n_layers=0), random_model(n_layers=2)
    save_model(tmp_path / "model", small)
    before = contents(tmp_path)
    with files_end_at_8_kilobytes(), pytest.raises(DiskError, match="the disk is full"):
        save_model(tmp_path / "model", large)
    assert contents(tmp_path) == before


def test_a_compiled_model_is_saved_under_its_own_names(random_model: Build, tmp_path: Path) -> None:
    model = random_model(**SQUARE)
    save_model(tmp_path / "plain", model)
    model.decoder.blocks[0] = cast(torch.nn.Module, torch.compile(model.decoder.blocks[0], backend="eager"))
    save_model(tmp_path / "compiled", model)
    assert_same_weights(load_model(tmp_path / "compiled").model, load_model(tmp_path / "plain").model)


def assert_same_weights(left: Model, right: Model) -> None:
    ours, theirs = left.state_dict(), right.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(ours[name].dtype == theirs[name].dtype and torch.equal(ours[name], theirs[name]) for name in ours)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too, with its bytes."""
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
