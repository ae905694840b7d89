"""Laws of models whose encoder reads vectors: batches, padding, gradients, caches, saving, and what is refused."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from glassformer.checkpoints import load_model, save_model
from glassformer.errors import ConfigError
from glassformer.lens.hearing import reach_of
from glassformer.models import ModelConfig
from glassformer.models.vectors import subsampled
from glassformer.nn.mlp import ACTIVATIONS
from glassformer.nn.positions import POSITIONS
from glassformer.trace import points_of, watch
from shapes import HEARING, LABELS, OF_THE_TEXT, vectors_of

CLOSE = {"atol": 1e-5, "rtol": 1e-5}
STRIDES = ((), (1,), (2,), (2, 2), (1, 3), (3, 2, 1))
LENGTHS = (1, 6, 11)


def heard(model, lengths=LENGTHS, seed=0):
    """A batch of vectors padded on the right with noise, its positions, and each sequence alone."""
    draw = torch.Generator().manual_seed(seed)
    size = model.config.vectors.size
    batch = torch.randn(len(lengths), max(lengths) + 2, size, generator=draw)
    at = torch.stack(
        [torch.where(torch.arange(batch.shape[1]) < length, torch.arange(batch.shape[1]), -1) for length in lengths]
    )
    return batch, at, [batch[row : row + 1, :length] for row, length in enumerate(lengths)]


def said(model, vectors, at=None, ids=None):
    """The answers of a model, of an encoder-decoder about the same few tokens for every row, with those of CTC."""
    if model.config.shape == "encoder":
        return [model(vectors, at=at)]
    ids = torch.arange(5).expand(len(vectors), -1) if ids is None else ids
    if model.ctc is None:
        return [model(ids, source=vectors, source_at=at)]
    return list(model(ids, source=vectors, source_at=at, both=True))


def real(model, answers, row, length):
    """The answers about one sequence without its padding."""
    places = subsampled(torch.arange(length)[None], model.config.vectors.strides).shape[1]
    first, *of_ctc = answers
    if model.config.shape == "encoder":
        return [first[row] if model.config.head in OF_THE_TEXT else first[row, :places]]
    return [first[row], *(one[row, :places] for one in of_ctc)]


@pytest.mark.parametrize("kind", HEARING)
def test_every_kind_answers_in_its_form(random_model, kind):
    model = random_model(**HEARING[kind])
    vectors = heard(model, (9, 9))[0][:, :9]
    places = math.ceil(9 / math.prod(model.config.vectors.strides))
    first, *of_ctc = said(model, vectors)
    expected = {
        "tokens": (2, places if model.config.shape == "encoder" else 5, 23),
        "labels": (2, len(LABELS)),
        "tags": (2, places, len(LABELS)),
        "pooled": (2, 16),
    }
    assert first.shape == expected[model.config.head]
    assert [one.shape for one in of_ctc] == ([(2, places, 23)] if model.config.ctc_blank is not None else [])


@pytest.mark.parametrize("strides", STRIDES, ids=str)
@pytest.mark.parametrize("scheme", POSITIONS)
def test_a_batch_says_of_each_what_is_said_of_it_alone(random_model, scheme, strides):
    for kind in ("vectors to tokens", "vectors to text with CTC"):
        fields = {**HEARING[kind], "positions": scheme, "vectors": {"size": 5, "strides": strides}}
        model = random_model(**fields)
        batch, at, alone = heard(model)
        together = said(model, batch, at)
        for row, vectors in enumerate(alone):
            expected = real(model, said(model, vectors), 0, vectors.shape[1])
            assert_close(real(model, together, row, vectors.shape[1]), expected, **CLOSE)


@pytest.mark.parametrize("kind", HEARING)
def test_what_stands_in_the_padding_does_not_matter(random_model, kind):
    model = random_model(**HEARING[kind])
    batch, at, _ = heard(model)
    other = torch.where((at < 0)[..., None], 100.0, batch)
    for row, length in enumerate(LENGTHS):
        ours, theirs = (real(model, said(model, one, at), row, length) for one in (batch, other))
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("kind", HEARING)
def test_gradients_reach_every_weight(random_model, kind):
    model = random_model(**HEARING[kind]).requires_grad_(True)
    answers = said(model, heard(model)[0])
    sum((one * torch.randn(one.shape)).sum() for one in answers).backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name
        assert weight.grad.abs().sum() > 0 or name.endswith("k_proj.bias"), name


@pytest.mark.parametrize("kind", [kind for kind, fields in HEARING.items() if fields["shape"] == "encoder_decoder"])
def test_writing_from_a_cache_equals_reading_again(random_model, kind):
    model = random_model(**HEARING[kind])
    batch, at, _ = heard(model)
    ids = torch.randint(23, (3, 7))
    whole = model(ids, source=batch, source_at=at)
    memory = model.read(batch, at)
    cache = model.new_cache(3, 7, memory=memory)
    parts = [model(ids[:, :2], cache=cache), *(model(ids[:, n : n + 1], cache=cache) for n in range(2, 7))]
    assert_close(torch.cat(parts, 1), whole, **CLOSE)
    assert memory.at is None or memory.at.shape == memory.states.shape[:2]


@pytest.mark.parametrize("kind", HEARING)
def test_saved_and_loaded_it_answers_bit_for_bit_the_same(random_model, tmp_path, kind):
    model = random_model(**HEARING[kind])
    save_model(tmp_path / "model", model)
    loaded = load_model(tmp_path / "model").model
    assert loaded.config == model.config
    batch, at, _ = heard(model)
    assert all(torch.equal(a, b) for a, b in zip(said(model, batch, at), said(loaded, batch, at), strict=True))


@pytest.mark.parametrize("kind", HEARING)
def test_watching_shows_every_point_and_changes_nothing_but_rounding(random_model, kind):
    model = random_model(**HEARING[kind])
    batch, at, _ = heard(model)
    plain = said(model, batch, at)
    with watch(model) as seen:
        assert_close(said(model, batch, at), plain, **CLOSE)
    assert set(seen) == set(points_of(model))


@settings(max_examples=30, deadline=None)
@given(
    length=st.integers(1, 12),
    size=st.integers(1, 4),
    strides=st.lists(st.integers(1, 3), max_size=3).map(tuple),
    activation=st.sampled_from(list(ACTIVATIONS)),
    seed=st.integers(0, 9),
)
def test_the_convolutions_are_their_definition(random_model, length, size, strides, activation, seed):
    vectors = {"size": size, "strides": strides, "activation": activation}
    model = random_model(shape="encoder", vectors=vectors, positions="none", n_layers=1)
    x = torch.randn(length, size, generator=torch.Generator().manual_seed(seed))
    with watch(model, "encoder.embedding.*") as seen:
        model(x[None])
    expected = x.double()
    layer = model.encoder.embedding
    if layer.linear is not None:
        expected = expected @ layer.linear.weight.double().T + layer.linear.bias.double()
    for convolution, stride in zip(layer.convolutions, strides, strict=True):
        w, b = convolution.conv.weight.double(), convolution.conv.bias.double()
        rows = []
        for t in range(0, len(expected), stride):  # one place at a time, by hand
            total = b.clone()
            for tap in range(3):
                if 0 <= t + tap - 1 < len(expected):
                    total += w[:, :, tap] @ expected[t + tap - 1]
            rows.append(ACTIVATIONS[activation](total))
        expected = torch.stack(rows)
    assert_close(seen["encoder.embedding.out"][0].double(), expected, atol=1e-4, rtol=1e-4)
    assert len(expected) == subsampled(torch.arange(length)[None], strides).shape[1]


@pytest.mark.parametrize("strides", STRIDES[1:], ids=str)
def test_a_place_hears_as_many_vectors_as_is_said(random_model, strides):
    model = random_model(
        shape="encoder", vectors={"size": 3, "strides": strides, "activation": "gelu"}, positions="none"
    )
    x = torch.randn(1, 60, 3, requires_grad=True)
    with watch(model, "encoder.embedding.out") as seen:
        model(x)
    place = seen["encoder.embedding.out"].shape[1] // 2
    (gradient,) = torch.autograd.grad(seen["encoder.embedding.out"][0, place].sum(), x)
    heard_by = gradient[0].abs().sum(-1).nonzero().flatten().tolist()
    assert len(heard_by) == reach_of(strides)
    assert heard_by == list(range(heard_by[0], heard_by[-1] + 1))
    assert math.prod(strides) * place in heard_by


def test_every_vector_matters_to_the_answer(random_model):
    model = random_model(**HEARING["vectors to labels"])
    batch = heard(model, (9,))[0][:, :9]
    before = model(batch)
    for place in range(9):
        changed = batch.clone()
        changed[:, place] += 1
        assert (model(changed) != before).any()


WRONG = {
    "another size": (lambda m: m(torch.randn(1, 4, 3)), r"expected vectors of 5 channels, found \(1, 4, 3\)"),
    "ids instead": (lambda m: m(torch.arange(4)[None]), r"expected vectors of 5 channels, found \(1, 4\)"),
    "too many": (
        lambda m: m(torch.randn(1, 200, 5)),
        "200 vectors make 50 positions, which do not fit into max_len=32",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_vectors_that_do_not_fit_are_refused(random_model, name):
    call, message = WRONG[name]
    with pytest.raises(ConfigError, match=message):
        call(random_model(**HEARING["vectors to tokens"]))


CONFIGS = {
    "a decoder": ({"shape": "decoder", "vectors": {"size": 3}}, "vectors are read by an encoder"),
    "shared": ({"shape": "encoder_decoder", "vectors": {"size": 3}, "shared_embedding": True}, "no table of tokens to share"),
    "tied": ({"shape": "encoder", "vectors": {"size": 3}, "tied": True}, "tied=True needs tokens"),
    "pairs": ({"shape": "encoder", "vectors": {"size": 3}, "bigram": 40}, "bigram=40 needs tokens"),
    "CTC of text": ({"shape": "encoder_decoder", "ctc_blank": 0}, "ctc_blank is for models with vectors"),
    "a foreign blank": ({"shape": "encoder", "vectors": {"size": 3}, "ctc_blank": 23}, "ctc_blank=23 is no token"),
    "no channels": ({"shape": "encoder", "vectors": {"size": 0}}, "size"),
    "a stride of none": ({"shape": "encoder", "vectors": {"size": 3, "strides": (0,)}}, "strides"),
    "an unknown bend": ({"shape": "encoder", "vectors": {"size": 3, "activation": "gellu"}}, "gelu"),
}  # fmt: skip


@pytest.mark.parametrize("name", CONFIGS)
def test_configs_that_cannot_be_are_refused(name):
    fields, message = CONFIGS[name]
    with pytest.raises(ConfigError, match=message):
        ModelConfig.parse({"vocab_size": 23, **fields})


def test_asking_for_both_answers_of_a_model_with_one_is_refused(random_model):
    model = random_model(**HEARING["vectors to text"])
    with pytest.raises(ConfigError, match="no CTC head"):
        model(torch.arange(3)[None], source=torch.randn(1, 6, 5), both=True)


def test_ctc_learns_what_is_said(random_model):
    model = random_model(**{**HEARING["vectors to tokens"], "n_layers": 1}).requires_grad_(True).train()
    ids = torch.tensor([[3, 7, 7, 2]])
    vectors = vectors_of(model, torch.arange(40)[None])
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.02)
    for _ in range(40):
        log_p = model(vectors).log_softmax(-1)
        loss = F.ctc_loss(log_p.transpose(0, 1), ids, torch.tensor([log_p.shape[1]]), torch.tensor([4]), blank=0)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    from glassformer.generate.ctc import best_path

    assert best_path(model(vectors)[0].log_softmax(-1).detach().numpy(), 0) == ids[0].tolist()
