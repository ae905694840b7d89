"""Laws of every shape and head: what an answer may depend on, and what padding, batching and precision may not change."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from glassformer.errors import ConfigError
from glassformer.models import MODELS, Encoder, ModelConfig, build_model
from glassformer.models.heads import POOLINGS, READING_HEADS
from glassformer.nn.block import BLOCKS
from glassformer.nn.init import INITS
from glassformer.nn.mlp import MLPS
from glassformer.nn.norms import NORMS
from glassformer.nn.positions import POSITIONS
from glassformer.trace import watch
from shapes import KINDS, LABELS, OF_THE_TEXT, call, padded, sources

TOLERANCE = {"atol": 1e-5, "rtol": 1e-5}
EVERY_CHOICE = [
    *({"positions": scheme} for scheme in POSITIONS),
    *({"norm": norm, "norm_place": place} for norm in NORMS for place in BLOCKS),
    *({"mlp": mlp} for mlp in MLPS),
    {"n_kv_heads": 2},
    {"n_kv_heads": 1},
    {"bigram": 50},
    {"attention_softcap": 3.0},
    {"qk_norm": False, "attention_bias": True, "mlp_bias": True, "head_bias": True, "norm_bias": True},
]
SIDES = ["left", "right"]
SHAPES = {"encoder": KINDS["encoder"], "encoder-decoder": KINDS["encoder-decoder"]}


def test_every_shape_head_and_pooling_is_among_the_kinds():
    configs = [ModelConfig.parse({"vocab_size": 23, **fields}) for fields in KINDS.values()]
    assert {config.shape for config in configs} == set(MODELS)
    assert {config.head for config in configs} == {"tokens", *READING_HEADS}
    assert {(config.head, config.pooling) for config in configs if config.head in OF_THE_TEXT} == {
        (head, pooling) for head in OF_THE_TEXT for pooling in POOLINGS
    }


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_builds_and_answers_in_its_form(random_model, kind):
    model = random_model(**KINDS[kind])
    said = call(model, torch.randint(23, (4, 9)))
    expected = {
        "tokens": (4, 9, 23),
        "tags": (4, 9, len(LABELS)),
        "labels": (4, len(LABELS)),
        "pooled": (4, 16),
    }
    assert isinstance(model, MODELS[model.config.shape])
    assert said.shape == expected[model.config.head]
    assert said.dtype == torch.float32
    assert said.isfinite().all()


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(
    "fields",
    [*KINDS.values(), *({**shape, **fields} for shape in SHAPES.values() for fields in EVERY_CHOICE)],
    ids=str,
)
def test_padding_changes_nothing(random_model, fields, side):
    model = random_model(**fields)
    texts = [torch.randint(23, (length,)) for length in (1, 5, 8)]
    ids, at = padded(texts, side, 10)
    given, alone = {}, [{}, {}, {}]
    if model.config.shape == "encoder_decoder":
        read = [torch.randint(19, (length,)) for length in (7, 1, 4)]
        given["source"], given["source_at"] = padded(read, side, 9)
        alone = [{"source": source[None]} for source in read]
    said = call(model, ids, at=at, **given)
    assert said.isfinite().all()
    for row, text in enumerate(texts):
        expected = call(model, text[None], **alone[row])[0]
        assert_close(said[row] if model.config.head in OF_THE_TEXT else said[row, at[row] >= 0], expected, **TOLERANCE)
    # What stands in the padding must not matter at all.
    other = {name: torch.where(given["source_at"] < 0, 3, value) for name, value in given.items() if name == "source"}
    again = call(model, torch.where(at < 0, 3, ids), at=at, **{**given, **other})
    kept = slice(None) if model.config.head in OF_THE_TEXT else at >= 0
    assert torch.equal(again[kept], said[kept])


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_equals_its_rows_one_by_one_in_any_order(random_model, kind):
    model = random_model(**KINDS[kind])
    ids, order = torch.randint(23, (5, 9)), torch.tensor([3, 0, 4, 1, 2])
    at = torch.stack([torch.where(torch.arange(9) < length, torch.arange(9), -1) for length in (9, 4, 7, 1, 8)])
    given = {"at": at}
    if model.config.shape == "encoder_decoder":
        given |= {"source": sources(model, 5, 9), "source_at": at.flip(0)}
    kept = torch.ones(5, dtype=torch.bool) if model.config.head in OF_THE_TEXT else at >= 0
    whole = call(model, ids, **given)
    permuted = call(model, ids[order], **{name: value[order] for name, value in given.items()})
    assert_close(permuted[kept[order]], whole[order][kept[order]], **TOLERANCE)
    alone = [call(model, ids[i : i + 1], **{name: value[i : i + 1] for name, value in given.items()}) for i in range(5)]
    assert_close(torch.cat(alone)[kept], whole[kept], **TOLERANCE)


@pytest.mark.parametrize("fields", EVERY_CHOICE, ids=str)
def test_every_token_of_an_encoder_sees_every_other(random_model, fields):
    model = random_model(shape="encoder", **fields)
    ids = torch.randint(23, (2, 9))
    before = model(ids)
    for column in range(9):
        changed = ids.clone()
        changed[:, column] = (changed[:, column] + 1) % 23
        assert (model(changed) != before).any(-1).all(), column


@pytest.mark.parametrize("kind", [kind for kind, fields in KINDS.items() if fields.get("head") in OF_THE_TEXT])
def test_what_is_said_of_a_text_depends_on_every_token(random_model, kind):
    model = random_model(**KINDS[kind])
    ids = torch.randint(23, (2, 9))
    before = model(ids)
    for column in range(9):
        changed = ids.clone()
        changed[:, column] = (changed[:, column] + 1) % 23
        assert (model(changed) != before).any(-1).all(), column


def test_a_window_of_an_encoder_reaches_as_far_back_as_ahead(random_model):
    window, layers = 3, 2
    model = random_model(shape="encoder", window=window, n_layers=layers)
    ids = torch.randint(23, (1, 15))
    changed = ids.clone()
    changed[:, 7] = (changed[:, 7] + 1) % 23
    differs = (model(ids) != model(changed)).any(-1)[0]
    reach = layers * (window - 1)
    assert differs.nonzero().flatten().tolist() == list(range(7 - reach, 7 + reach + 1))


@pytest.mark.parametrize("scheme", POSITIONS)
def test_only_without_positions_is_an_encoder_blind_to_order(random_model, scheme):
    model = random_model(shape="encoder", positions=scheme)
    ids, order = torch.randint(23, (1, 8)), torch.tensor([4, 0, 6, 2, 7, 1, 3, 5])
    difference = (model(ids[:, order]) - model(ids)[:, order]).abs().max()
    assert difference < 1e-4 if scheme == "none" else difference > 1e-3


def test_packed_documents_of_an_encoder_equal_separate_ones(random_model):
    model = random_model(shape="encoder")
    a, b = torch.randint(23, (1, 5)), torch.randint(23, (1, 4))
    packed = model(torch.cat((a, b), dim=1), documents=torch.tensor([[1] * 5 + [0] * 4]))
    assert_close(packed, torch.cat((model(a), model(b)), dim=1), **TOLERANCE)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_text_is_pooled_as_the_config_says(random_model, pooling, side):
    model = random_model(shape="encoder", head="pooled", pooling=pooling)
    ids, at = padded([torch.randint(23, (length,)) for length in (3, 8)], side, 8)
    with watch(model, ["encoder.norm.out", "head.*"]) as seen:
        said = model(ids, at=at)
    for row, vectors in enumerate(seen["encoder.norm.out"]):
        real = vectors[at[row] >= 0]
        expected = {"mean": real.mean(0), "first": real[0], "max": real.amax(0)}[pooling]
        assert_close(seen["head.pooled"][row], expected)
        assert_close(said[row], expected / expected.norm())
    assert_close(said.norm(dim=-1), torch.ones(2))


@pytest.mark.parametrize("kind", ["labels", "tags"])
def test_labels_are_a_linear_map_of_what_the_encoder_says(random_model, kind):
    model = random_model(**KINDS[kind])
    with watch(model, ["encoder.norm.out", "head.*"]) as seen:
        said = model(torch.randint(23, (2, 6)))
    vectors = seen["head.pooled"] if kind == "labels" else seen["encoder.norm.out"]
    assert_close(said, vectors @ model.head.linear.weight.T + model.head.linear.bias, **TOLERANCE)
    assert torch.equal(seen["head.logits"], said)


@pytest.mark.parametrize(
    "fields",
    [*KINDS.values(), *({**shape, **fields} for shape in SHAPES.values() for fields in EVERY_CHOICE)],
    ids=str,
)
def test_gradients_reach_every_weight(random_model, fields):
    model = random_model(**fields).requires_grad_(True)
    said = call(model, torch.randint(23, (3, 9)))
    (said * torch.randn(said.shape)).sum().backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name
        assert weight.grad.abs().sum() > 0 or name.endswith("k_proj.bias"), name  # softmax ignores what all keys share


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_another_precision_runs_fused_and_watched(random_model, kind, dtype):
    model = random_model(**KINDS[kind]).to(dtype)
    ids = torch.randint(23, (2, 6))
    said = call(model, ids)
    with watch(model):
        watched = call(model, ids)
    assert said.dtype == watched.dtype == torch.float32
    assert_close(watched, said, **({"atol": 1.0, "rtol": 0.2} if dtype == torch.bfloat16 else TOLERANCE))


@pytest.mark.parametrize("init", INITS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_new_model_is_decided_by_its_seed(kind, init):
    config = ModelConfig.parse({"vocab_size": 23, "d_model": 16, "max_len": 16, **KINDS[kind], "init": init})
    first, again, other = (build_model(config, seed).state_dict() for seed in (5, 5, 6))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)
    assert all(weight.isfinite().all() for weight in first.values())
    assert call(build_model(config), torch.randint(23, (2, 6))).isfinite().all()


OVERRIDES = {
    **{f"positions {name}": {"positions": name} for name in POSITIONS},
    **{f"norm {name}": {"norm": name, "norm_bias": True} for name in NORMS},
    **{f"place {name}": {"norm_place": name} for name in BLOCKS},
    **{f"mlp {name}": {"mlp": name, "mlp_bias": True} for name in MLPS},
    "layers": {"n_layers": 4},
    "no layers": {"n_layers": 0},
    "width": {"d_model": 24},
    "heads": {"n_heads": 8},
    "grouped": {"n_kv_heads": 2},
    "widths of heads": {"d_head": 8, "d_value": 3, "d_ff": 11},
    "window": {"window": 3},
    "pairs": {"bigram": 40},
    "length": {"max_len": 50, "positions": "sinusoidal"},
    "vocabulary": {"vocab_size": 31},
    "biases": {"attention_bias": True, "qk_norm": False},
    "scale": {"attention_scale": 0.5, "attention_softcap": 3.0, "embedding_scale": True},
}


@pytest.mark.parametrize("name", OVERRIDES)
def test_an_encoder_may_differ_from_its_decoder_in_everything(random_model, name):
    override = OVERRIDES[name]
    model = random_model(shape="encoder_decoder", shared_embedding=False, encoder=override)
    side = model.config.source_side()
    assert override.items() <= side.model_dump().items()
    unlike = {field for field in ModelConfig.model_fields if getattr(side, field) != getattr(model.config, field)}
    following = {"d_head", "d_value", "n_kv_heads", "d_ff"} if {"d_model", "n_heads"} & override.keys() else set()
    following |= {"attention_key_bias", "attention_out_bias"} if "attention_bias" in override else set()
    assert unlike <= {"shape", "encoder", *override, *following}
    # Its encoder is the encoder-only model of that config.
    alone = Encoder(side)
    alone.encoder.load_state_dict(model.encoder.state_dict())
    source, at = padded([torch.randint(23, (length,)) for length in (5, 9)], "right", 9)
    memory = model.read(source, at)
    assert_close(memory.states[at >= 0], alone.eval().encoder(source, at=at)[at >= 0], **TOLERANCE)
    assert memory.states.shape == (2, 9, side.d_model)
    logits = model(torch.randint(23, (2, 6)), memory=memory)
    assert logits.shape == (2, 6, 23)
    assert logits.isfinite().all()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"encoder": {"vocab_size": 19}}, r"shared_embedding needs one shape on both sides, found \(19, 128\) for the"),
        ({"encoder": {"d_model": 64}}, r"found \(23, 64\) for the source and \(23, 128\) for the target"),
        ({"encoder": {"d_modle": 64}}, r"encoder: unknown key 'd_modle' \(did you mean 'd_model'\?\)"),
        ({"encoder": {"d_model": 30}}, "encoder: d_model=30 does not divide among n_heads=4"),
        ({"shape": "decoder", "encoder": {"n_layers": 2}}, "belongs to shape='encoder_decoder', not to 'decoder'"),
        ({"head": "labels", "labels": LABELS}, "expected shape='encoder', not 'encoder_decoder'"),
        ({"shape": "encoder", "head": "labels"}, "head='labels' and 0 labels do not belong together"),
        ({"shape": "encoder", "labels": LABELS}, "head='tokens' and 3 labels do not belong together"),
        ({"shape": "encoder", "head": "token"}, "head: input should be 'tokens', 'labels', 'tags' or 'pooled'"),
        ({"shape": "encoders"}, "shape: input should be 'decoder', 'encoder' or 'encoder_decoder'"),
    ],
)
def test_what_does_not_fit_together_is_one_sentence(fields, said):
    with pytest.raises(ConfigError, match=said) as error:
        ModelConfig.parse({"vocab_size": 23, "shape": "encoder_decoder", **fields})
    assert "\n" not in str(error.value)
