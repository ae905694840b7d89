"""Optimisers, and which parameter goes to which: matrices inside blocks to Muon, everything else to AdamW."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from glassformer.models import Decoder
from glassformer.training.recipe import OptimiserRecipe

# Coefficients of the five-step polar-factor iteration of Amsel et al. (2025), "Polar Express", for singular values from
# 1e-3 to 1: each step applies the odd polynomial a·x + b·x³ + c·x⁵ to the singular values and drives them towards 1.
POLAR_EXPRESS = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
)
SAFETY = 1.01  # keeps rounding from pushing a singular value out of the interval in which a step converges


def orthogonalise(matrices: Tensor, steps: int = len(POLAR_EXPRESS)) -> Tensor:
    """The nearest semi-orthogonal matrix to each of a stack: U Vᵀ of its singular value decomposition, approximately.

    matrices: N R C with R <= C. Where C is much larger, the iteration runs on the small Gram matrix G = X Xᵀ (R R): each
    step multiplies X from the left by a polynomial of G, so their product is built first and meets X once.
    """
    x = matrices / (matrices.norm(dim=(-2, -1), keepdim=True) * SAFETY + 1e-7)
    if x.shape[-1] < 2 * x.shape[-2]:
        for a, b, c in POLAR_EXPRESS[:steps]:
            gram = x @ x.mT
            x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
        return x
    gram, product = x @ x.mT, None
    for number, (a, b, c) in enumerate(POLAR_EXPRESS[:steps], start=1):
        step = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        step.diagonal(dim1=-2, dim2=-1).add_(a)
        product = step if product is None else step @ product
        if number < steps:
            gram = step @ gram @ step
    return x if product is None else product @ x


class Muon(torch.optim.Optimizer):
    """Momentum whose update for each matrix is orthogonalised (Jordan et al. 2024), with decoupled weight decay.

    The step of an R x C matrix is lr · sqrt(max(1, R/C)) · UVᵀ. Matrices of one shape, transposed or not, go through the
    iteration together, which is what makes it cheap on small models.
    """

    def __init__(self, params: Iterable[Any], lr: float, momentum: float = 0.95, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move every matrix that has a gradient."""
        for group in self.param_groups:
            by_shape: dict[tuple[int, int], list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape[(min(parameter.shape), max(parameter.shape))].append(parameter)
            for parameters in by_shape.values():
                self._step_together(parameters, group["lr"], group["momentum"], group["weight_decay"])

    def _step_together(self, parameters: list[Tensor], lr: float, momentum: float, weight_decay: float) -> None:
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        buffers = [self._momentum(parameter) for parameter in parameters]
        torch._foreach_lerp_(buffers, gradients, 1 - momentum)
        ahead = torch._foreach_lerp(gradients, buffers, momentum)  # Nesterov: look one step further
        wide = torch.stack([update if is_wide(update) else update.mT for update in ahead])
        steps = orthogonalise(wide).unbind()
        if weight_decay:
            torch._foreach_mul_(parameters, 1 - lr * weight_decay)
        for parameter, step in zip(parameters, steps, strict=True):
            rows, columns = parameter.shape
            parameter.add_(step if is_wide(parameter) else step.mT, alpha=-lr * max(1.0, rows / columns) ** 0.5)

    def _momentum(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        return state["momentum"]


def is_wide(matrix: Tensor) -> bool:
    """Whether a matrix has no more rows than columns."""
    return matrix.shape[0] <= matrix.shape[1]


class Optimisers:
    """The optimisers of one model as if they were one, with the full rates that a schedule takes shares of."""

    def __init__(self, model: Decoder, recipe: OptimiserRecipe) -> None:
        self.parts = list(OPTIMISERS[recipe.name](model, recipe))
        self._full = [[group["lr"] for group in part.param_groups] for part in self.parts]

    def set_rate(self, share: float) -> None:
        """Set every learning rate to `share` of its full value."""
        for part, full in zip(self.parts, self._full, strict=True):
            for group, lr in zip(part.param_groups, full, strict=True):
                group["lr"] = lr * share

    def step(self) -> None:
        """Move every parameter, and forget the gradients."""
        for part in self.parts:
            part.step()
            part.zero_grad(set_to_none=True)


def muon_and_adamw(model: Decoder, recipe: OptimiserRecipe) -> tuple[torch.optim.Optimizer, ...]:
    """Muon for the matrices inside blocks; AdamW, each at its rate, for embeddings, head and vectors."""
    kinds = sort_parameters(model)
    rates = {"embedding": recipe.embedding_lr, "head": recipe.head_lr, "vector": recipe.vector_lr}
    groups = [{"params": kinds[kind], "lr": lr} for kind, lr in rates.items() if kinds[kind]]
    adamw = torch.optim.AdamW(groups, betas=(recipe.beta1, recipe.beta2), eps=recipe.eps, weight_decay=0.0, fused=True)
    if not kinds["matrix"]:
        return (adamw,)
    muon = Muon(kinds["matrix"], lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay)
    return muon, adamw


def adamw_alone(model: Decoder, recipe: OptimiserRecipe) -> tuple[torch.optim.Optimizer, ...]:
    """AdamW for everything; weight decay for all that is not a vector, as in GPT-2's training."""
    kinds = sort_parameters(model)
    decayed = kinds["matrix"] + kinds["embedding"] + kinds["head"]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}]
    if kinds["vector"]:
        groups.append({"params": kinds["vector"], "weight_decay": 0.0})
    betas = (recipe.beta1, recipe.beta2)
    return (torch.optim.AdamW(groups, lr=recipe.lr, betas=betas, eps=recipe.eps, fused=True),)


def sort_parameters(model: nn.Module) -> dict[str, list[nn.Parameter]]:
    """Every parameter once, as a `matrix` inside a block, an `embedding`, the `head`, or a `vector` (gains, biases)."""
    kinds: dict[str, list[nn.Parameter]] = {"matrix": [], "embedding": [], "head": [], "vector": []}
    for name, parameter in model.named_parameters():
        if parameter.dim() < 2:
            kind = "vector"
        elif ".blocks." in name:
            kind = "matrix"
        else:
            kind = "head" if name.startswith("head.") else "embedding"
        kinds[kind].append(parameter)
    return kinds


OPTIMISERS: dict[str, Callable[[Decoder, OptimiserRecipe], tuple[torch.optim.Optimizer, ...]]] = {
    "muon": muon_and_adamw,
    "adamw": adamw_alone,
}
