"""The compiled kernels compute what their readable twins do, forward and backward."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from glassformer.models import ModelConfig, build_model
from glassformer.ops import fused, rotary

pytestmark = pytest.mark.usefixtures("kernels")
SIZES = st.integers(1, 5)


def agree(ours, twin, inputs, seed):
    """Both results, and the gradients of all inputs under the same random one of the result, are equal to 1e-5."""
    found, expected = ours(*inputs), twin(*inputs)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    slope = torch.randn(expected.shape, generator=torch.Generator().manual_seed(seed))
    for mine, theirs in zip(
        torch.autograd.grad(found, inputs, slope), torch.autograd.grad(expected, inputs, slope), strict=True
    ):
        torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-4)


def numbers(seed, *shape):
    """Normal numbers of which some are large, wanting a gradient."""
    draw = torch.Generator().manual_seed(seed)
    return (torch.randn(shape, generator=draw) * 3).requires_grad_()


@settings(deadline=None, max_examples=30)
@given(SIZES, SIZES, st.integers(1, 70), st.integers(0, 10**6))
def test_rms_norm(batch, length, width, seed):
    inputs = (numbers(seed, batch, length, width), numbers(seed + 1, width))
    agree(lambda x, g: fused.rms_norm(x, g, 1e-6), lambda x, g: F.rms_norm(x, (width,), g, 1e-6), inputs, seed)


@settings(deadline=None, max_examples=30)
@given(SIZES, SIZES, SIZES, st.integers(1, 20), st.integers(0, 10**6))
def test_normalising_and_turning(batch, length, heads, half, seed):
    cos, sin = rotary.rotation(torch.arange(length) + seed % 100, rotary.frequencies(2 * half, 100.0), torch.float32)
    inputs = (numbers(seed, batch, length, heads, 2 * half), numbers(seed + 1, 2 * half))
    agree(
        lambda x, g: fused.norm_turn(x, g, cos, sin, 1e-6),
        lambda x, g: rotary.rotate(F.rms_norm(x, (2 * half,), g, 1e-6).transpose(1, 2), cos, sin),
        inputs,
        seed,
    )


@settings(deadline=None, max_examples=30)
@given(SIZES, st.integers(1, 70), st.integers(0, 10**6))
def test_swiglu(rows, width, seed):
    inputs = (numbers(seed, rows, width), numbers(seed + 1, rows, width))
    agree(fused.swiglu, lambda gate, up: F.silu(gate) * up, inputs, seed)


@settings(deadline=None, max_examples=30)
@given(SIZES, st.integers(1, 70), st.integers(0, 10**6))
def test_relu_squared(rows, width, seed):
    agree(fused.relu_squared, lambda x: F.relu(x).square(), (numbers(seed, rows, width),), seed)


@given(st.integers(1, 40), st.integers(2, 50), st.sampled_from([0.0, 0.1, 0.5]), st.integers(0, 9))
@settings(max_examples=25)
def test_cross_entropy(rows, width, smoothing, seed):
    logits = numbers(seed, rows, width)
    targets = torch.randint(-2, width, (rows,), generator=torch.Generator().manual_seed(seed))
    targets[targets < 0] = -100

    def ours(logits):
        return fused.cross_entropy(logits, targets, smoothing)

    def twin(logits):
        return F.cross_entropy(logits, targets, label_smoothing=smoothing, reduction="sum", ignore_index=-100)

    agree(ours, twin, [logits], seed)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_of_what_is_no_number_is_none(bad):
    logits = torch.zeros(3, 20)
    logits[1, 7] = bad
    assert not fused.cross_entropy(logits, torch.tensor([1, 2, 3]), 0.0).isfinite()


def test_hidden_scores_and_large_ones_have_a_loss():
    logits = torch.full((2, 33), -float("inf"))
    logits[:, :2] = torch.tensor([[500.0, 499.0], [-500.0, -500.0]])
    targets = torch.tensor([0, 1])
    expected = F.cross_entropy(logits, targets, reduction="sum")
    torch.testing.assert_close(fused.cross_entropy(logits, targets, 0.0), expected)


@given(st.sampled_from([0.05, 0.1, 0.5, 0.9]), st.integers(0, 2**40))
@settings(max_examples=20)
def test_dropout_drops_its_share_scales_the_rest_and_its_gradient_goes_the_same_ways(p, seed):
    x, y = numbers(1, 200, 100), numbers(2, 200, 100)
    torch.manual_seed(seed)
    out = fused.dropout_add(x, y, p)
    added = (out - x).detach()
    dropped = added == 0
    assert abs(dropped.float().mean().item() - p) < 5 * (p * (1 - p) / 20_000) ** 0.5
    torch.testing.assert_close(added, torch.where(dropped, 0.0, y.detach() / (1 - p)), atol=1e-5, rtol=1e-5)
    slope = torch.randn(200, 100)
    dx, dy = torch.autograd.grad(out, (x, y), slope)
    assert torch.equal(dx, slope)
    torch.testing.assert_close(dy, torch.where(dropped, 0.0, slope / (1 - p)))
    torch.manual_seed(seed)
    assert torch.equal(fused.dropout_add(x, y, p), out)
    again = fused.dropout_add(x, y, p)
    both = (dropped & (again - x == 0)).float().mean().item()
    assert abs(both - p * p) < 6 * (p * p / 20_000) ** 0.5  # two draws know nothing of each other


def test_dropout_by_itself_is_what_it_adds():
    y = torch.randn(50, 40)
    torch.manual_seed(3)
    alone = fused.dropout_add(None, y, 0.3)
    torch.manual_seed(3)
    torch.testing.assert_close(fused.dropout_add(torch.ones(50, 40), y, 0.3), alone + 1)


@pytest.mark.parametrize("value", [-1e4, -88.0, -1e-8, 0.0, 1e-8, 88.0, 1e4])
def test_the_gate_at_extreme_values(value):
    gate, up = torch.tensor([value]), torch.tensor([2.0])
    torch.testing.assert_close(fused.swiglu(gate, up), F.silu(gate) * up, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_stays_none(value):
    x = torch.tensor([[value, 1.0, 1.0, 1.0]])
    assert not fused.swiglu(x, x).isfinite().all()
    assert fused.rms_norm(x, torch.ones(4), 1e-6).isnan().any()


def test_a_whole_model_is_the_same_with_and_without(monkeypatch):
    model = build_model(ModelConfig(vocab_size=11, d_model=32, n_layers=2, n_heads=4, n_kv_heads=2, init="gpt2"))
    ids = torch.arange(22).view(2, 11) % 11
    with_kernels = model(ids)
    monkeypatch.setattr(fused, "usable", lambda x: False)
    torch.testing.assert_close(with_kernels, model(ids), atol=1e-5, rtol=1e-5)


def test_kernels_leave_denormal_numbers_alone():
    assert torch.tensor([1e-40]).mul(1.0).item() != 0.0


@pytest.mark.parametrize(
    ("setting", "says"), [({"CC": "/no/such/cc"}, "without compiled kernels"), ({"GLASSFORMER_FUSED": "0"}, "")]
)
def test_without_a_compiler_torch_does_it(setting, says, tmp_path):
    code = "import torch; from glassformer.ops import fused; print(fused.usable(torch.ones(1)))"
    environment = {"PATH": "/usr/bin:/bin", "GLASSFORMER_HOME": str(tmp_path), **setting}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.strip() == "False"
    assert says in done.stderr
    assert not list(tmp_path.iterdir())


def test_dropout_on_the_way_into_a_transposed_stream_reads_it_where_it_lies():
    x, y = torch.randn(300, 300).t(), torch.randn(300, 300)
    torch.manual_seed(5)
    found = fused.dropout_add(x, y, 0.5)
    torch.manual_seed(5)
    torch.testing.assert_close(found, x + fused.dropout_add(None, y, 0.5))


def test_a_target_outside_the_vocabulary_is_refused():
    with pytest.raises(IndexError, match="target 7 is out of bounds for 7 classes"):
        fused.cross_entropy(torch.zeros(2, 7), torch.tensor([0, 7]), 0.0)
