"""Steps of a block and of the loss in one pass over memory each, in C compiled on the user's machine; torch does them where
it cannot.

On a CPU most of a small model's time goes into reading and writing the same numbers again and again. Each function here
has a readable twin elsewhere (`nn.norms`, `ops.rotary`, `nn.mlp`, `nn.dropout`, `ops.losses`), which is its definition and
which tests hold it against. `usable` says when these may stand in: float32 on the CPU, nothing compiled or watched, and a
C compiler was found.
"""

# B batch, T tokens, H heads, K head width, D last axis, F hidden width

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from glassformer.ops.native import kernels, library


def usable(x: Tensor) -> bool:
    """Whether the compiled kernels may compute on `x` instead of torch."""
    return (
        not torch.compiler.is_compiling()
        and type(x) in (Tensor, torch.nn.Parameter)  # not a stand-in that holds no numbers
        and x.dtype is torch.float32
        and x.device.type == "cpu"
        and not torch.is_autocast_enabled("cpu")
        and library() is not None
    )


def addresses(*tensors: Tensor) -> list[int]:
    """Where the numbers of contiguous tensors lie."""
    return [tensor.data_ptr() for tensor in tensors]


class NoGradient:
    """Stands in for autograd's context where nothing has to be kept for a gradient, which spares a third of the call."""

    eps = 0.0

    def save_for_backward(self, *tensors: Tensor) -> None:
        """Keep nothing."""


NO_GRADIENT = NoGradient()


class RmsNorm(torch.autograd.Function):
    """x / sqrt(mean(x²) + eps) · gain over the last axis."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, eps: float) -> Tensor:
        x = x.contiguous()
        out = torch.empty_like(x)
        ctx.save_for_backward(x, gain)
        ctx.eps = eps
        d = x.shape[-1]
        kernels().rms_norm(*addresses(x, gain, out), x.numel() // d, d, eps)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, gain = ctx.saved_tensors
        grad = grad.contiguous()
        dx, d = torch.empty_like(x), x.shape[-1]
        dgain = x.new_zeros(torch.get_num_threads(), d)
        kernels().rms_norm_grad(*addresses(grad, x, gain, dx, dgain), x.numel() // d, d, ctx.eps)
        return dx, dgain.sum(0), None


class NormTurn(torch.autograd.Function):
    """Each head of x (B T H K) normalised with `gain` and turned by cos and sin (T K/2). Returns B H T K."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, cos: Tensor, sin: Tensor, eps: float) -> Tensor:
        x, cos, sin = x.contiguous(), cos.contiguous(), sin.contiguous()
        batch, length, heads, width = x.shape
        out = x.new_empty(batch, heads, length, width)
        ctx.save_for_backward(x, gain, cos, sin)
        ctx.eps = eps
        kernels().norm_turn(*addresses(x, gain, cos, sin, out), batch, length, heads, width, eps)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, gain, cos, sin = ctx.saved_tensors
        grad = grad.contiguous()
        dx = torch.empty_like(x)
        dgain, room = x.new_zeros(2, torch.get_num_threads(), x.shape[-1])
        kernels().norm_turn_grad(*addresses(grad, x, gain, cos, sin, dx, dgain, room), *x.shape, ctx.eps)
        return dx, dgain.sum(0), None, None, None


class SwiGlu(torch.autograd.Function):
    """silu(gate) · up."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        gate, up = gate.contiguous(), up.contiguous()
        out = torch.empty_like(gate)
        ctx.save_for_backward(gate, up)
        width = gate.shape[-1]
        kernels().swiglu(*addresses(gate, up, out), gate.numel() // width, width)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        gate, up = ctx.saved_tensors
        grad, dgate, dup, width = grad.contiguous(), torch.empty_like(gate), torch.empty_like(up), gate.shape[-1]
        kernels().swiglu_grad(*addresses(grad, gate, up, dgate, dup), gate.numel() // width, width)
        return dgate, dup


class ReluSquared(torch.autograd.Function):
    """max(0, x)²."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.contiguous()
        out = torch.empty_like(x)
        ctx.save_for_backward(x)
        kernels().relu_squared(*addresses(x, out), x.numel() // x.shape[-1], x.shape[-1])
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        (x,) = ctx.saved_tensors
        grad, dx = grad.contiguous(), torch.empty_like(x)
        kernels().relu_squared_grad(*addresses(grad, x, dx), x.numel() // x.shape[-1], x.shape[-1])
        return dx


class DropoutAdd(torch.autograd.Function):
    """x + y with each number of y dropped with probability p, or scaled up to make up for the dropped ones."""

    @staticmethod
    def forward(ctx: Any, x: Tensor | None, y: Tensor, p: float) -> Tensor:
        x, y = None if x is None else x.contiguous(), y.contiguous()
        out = torch.empty_like(y)
        # The draw follows from torch's own generator, and the same draw again gives the gradient: nothing is kept.
        ctx.p, ctx.seed = p, int(torch.randint(2**62, (), dtype=torch.int64))
        start = None if x is None else x.data_ptr()
        kernels().dropout_add(start, *addresses(y, out), y.numel(), p, ctx.seed)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        grad = grad.contiguous()
        dy = torch.empty_like(grad)
        kernels().dropout_add(None, *addresses(grad, dy), grad.numel(), ctx.p, ctx.seed)
        return grad if ctx.needs_input_grad[0] else None, dy, None


class CrossEntropy(torch.autograd.Function):
    """The sum of -log softmax at the targets, smoothed. logits: N V, targets: N, below 0 where they do not count."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, smoothing: float) -> Tensor:
        logits, targets = logits.contiguous(), targets.contiguous()
        if targets.numel() and int(targets.max()) >= logits.shape[-1]:
            raise IndexError(f"target {int(targets.max())} is out of bounds for {logits.shape[-1]} classes")
        normaliser = logits.new_empty(len(logits))
        losses = torch.zeros(torch.get_num_threads(), dtype=torch.float64)
        kernels().cross_entropy(*addresses(logits, targets, normaliser, losses), *logits.shape, smoothing)
        ctx.save_for_backward(logits, targets, normaliser)
        ctx.smoothing = smoothing
        return losses.sum().to(logits.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        logits, targets, normaliser = ctx.saved_tensors
        slope = torch.empty_like(logits)
        pointers = addresses(logits, targets, normaliser, slope)
        kernels().cross_entropy_grad(*pointers, *logits.shape, ctx.smoothing, float(grad))
        return slope, None, None


def rms_norm(x: Tensor, gain: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean(x²) + eps) · gain over the last axis."""
    if not torch.is_grad_enabled():
        return RmsNorm.forward(NO_GRADIENT, x, gain, eps)
    return cast("Tensor", RmsNorm.apply(x, gain, eps))  # pyright: ignore[reportUnknownMemberType]


def norm_turn(x: Tensor, gain: Tensor, cos: Tensor, sin: Tensor, eps: float) -> Tensor:
    """`rms_norm` over each head of x (B T H K), then `rotary.rotate` by cos and sin (T K/2). Returns B H T K."""
    if not torch.is_grad_enabled():
        return NormTurn.forward(NO_GRADIENT, x, gain, cos, sin, eps)
    return cast("Tensor", NormTurn.apply(x, gain, cos, sin, eps))  # pyright: ignore[reportUnknownMemberType]


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) · up, two tensors of one shape."""
    if not torch.is_grad_enabled():
        return SwiGlu.forward(NO_GRADIENT, gate, up)
    return cast("Tensor", SwiGlu.apply(gate, up))  # pyright: ignore[reportUnknownMemberType]


def relu_squared(x: Tensor) -> Tensor:
    """max(0, x)²."""
    if not torch.is_grad_enabled():
        return ReluSquared.forward(NO_GRADIENT, x)
    return cast("Tensor", ReluSquared.apply(x))  # pyright: ignore[reportUnknownMemberType]


def dropout_add(x: Tensor | None, y: Tensor, p: float) -> Tensor:
    """x + dropout(y), or dropout(y) alone: each number of y is zero with probability p, else divided by 1-p."""
    return cast("Tensor", DropoutAdd.apply(x, y, p))  # pyright: ignore[reportUnknownMemberType]


def cross_entropy(logits: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """What `losses.cross_entropy` computes, of logits N V and targets N."""
    return cast("Tensor", CrossEntropy.apply(logits, targets, smoothing))  # pyright: ignore[reportUnknownMemberType]
