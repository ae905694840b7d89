"""Optimisers, and which parameter goes to which: matrices inside blocks to Muon, everything else to AdamW."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from glassformer.models import Model
from glassformer.training.recipe import OptimiserRecipe
from glassformer.training.topology import own_part

# Coefficients of the polar-factor iteration of Amsel et al. (2025), "Polar Express", for singular values from 1e-3 to 1:
# each step applies the odd polynomial a·x + b·x³ + c·x⁵ to the singular values and drives them towards 1. The first four
# steps bring nearly all of them between 0.4 and 1.6; a fifth made no difference to the loss and costs a quarter more.
POLAR_EXPRESS = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
)
SAFETY = 1.01  # keeps rounding from pushing a singular value out of the interval in which a step converges


def orthogonalise(matrices: Tensor) -> Tensor:
    """The nearest semi-orthogonal matrix to each of a stack: U Vᵀ of its singular value decomposition, approximately.

    matrices: N R C with R <= C. Where C is much larger, the iteration runs on the small Gram matrix G = X Xᵀ (R R): each
    step multiplies X from the left by a polynomial of G, so their product is built first and meets X once.
    """
    x = matrices / (matrices.norm(dim=(-2, -1), keepdim=True) * SAFETY + 1e-7)
    if x.shape[-1] < 2 * x.shape[-2]:
        for a, b, c in POLAR_EXPRESS:
            gram = x @ x.mT
            x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
        return x
    gram, product = x @ x.mT, None
    for number, (a, b, c) in enumerate(POLAR_EXPRESS, start=1):
        step = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        step.diagonal(dim1=-2, dim2=-1).add_(a)
        product = step if product is None else step @ product
        if number < len(POLAR_EXPRESS):
            gram = step @ gram @ step
    return x if product is None else product @ x


class Optimiser(ABC):
    """Moves some parameters at one learning rate, remembering a few tensors for each of them.

    A class of our own rather than torch's: making one of those loads the compiler, which takes longer than a short run.
    """

    names: ClassVar[tuple[str, ...]]  # of the tensors it remembers

    def __init__(self, parameters: Sequence[Tensor], lr: float, weight_decay: float = 0.0) -> None:
        self.parameters = list(parameters)
        self.full_lr = self.lr = lr
        self.weight_decay = weight_decay
        self.state = [{name: self.first(name, parameter) for name in self.names} for parameter in self.parameters]

    def first(self, name: str, parameter: Tensor) -> Tensor:
        """What is remembered before the first step."""
        return torch.zeros_like(parameter, memory_format=torch.preserve_format, requires_grad=False)

    @abstractmethod
    def move(self, parameters: list[Tensor], gradients: list[Tensor], state: list[dict[str, Tensor]]) -> None:
        """Change the parameters in place by one step."""

    def move_parts(self, parameters: list[Tensor], gradients: list[Tensor], state: list[dict[str, Tensor]]) -> None:
        """The same where processes hold parts of the parameters: each number goes its own way, so each moves its own."""
        parts = [{name: own_part(value) for name, value in tensors.items()} for tensors in state]
        self.move([own_part(p) for p in parameters], [own_part(g) for g in gradients], parts)

    @torch.no_grad()
    def step(self) -> None:
        """Move every parameter that has a gradient, and forget the gradient."""
        with_gradient = [index for index, parameter in enumerate(self.parameters) if parameter.grad is not None]
        moved = [self.parameters[index] for index in with_gradient]
        gradients = [parameter.grad for parameter in moved if parameter.grad is not None]
        state = [self.state[index] for index in with_gradient]
        if any(hasattr(parameter, "to_local") for parameter in moved):
            self.move_parts(moved, gradients, state)
        elif moved:
            self.move(moved, gradients, state)
        for parameter in moved:
            parameter.grad = None


class AdamW(Optimiser):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2), in torch's fused kernel."""

    names = ("mean", "square", "step")

    def __init__(
        self, parameters: Sequence[Tensor], lr: float, betas: tuple[float, float], eps: float, weight_decay: float = 0.0
    ) -> None:
        super().__init__(parameters, lr, weight_decay)
        self.betas, self.eps = betas, eps

    def first(self, name: str, parameter: Tensor) -> Tensor:
        return torch.zeros((), device=parameter.device) if name == "step" else super().first(name, parameter)

    def move(self, parameters: list[Tensor], gradients: list[Tensor], state: list[dict[str, Tensor]]) -> None:
        mean, square, step = ([tensors[name] for tensors in state] for name in self.names)
        torch._foreach_add_(step, 1)
        torch._fused_adamw_(
            parameters,
            gradients,
            mean,
            square,
            [],
            step,
            lr=self.lr,
            beta1=self.betas[0],
            beta2=self.betas[1],
            weight_decay=self.weight_decay,
            eps=self.eps,
            amsgrad=False,
            maximize=False,
        )


class Muon(Optimiser):
    """Momentum whose update for each matrix is orthogonalised (Jordan et al. 2024), with decoupled weight decay.

    The step of an R x C matrix is lr · sqrt(max(1, R/C)) · UVᵀ. Matrices of one shape, transposed or not, go through the
    iteration together, which is what makes it cheap on small models.
    """

    names = ("momentum",)

    def __init__(
        self, parameters: Sequence[Tensor], lr: float, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        super().__init__(parameters, lr, weight_decay)
        self.momentum = momentum

    def move(self, parameters: list[Tensor], gradients: list[Tensor], state: list[dict[str, Tensor]]) -> None:
        ahead = self.look_ahead(parameters, gradients, [tensors["momentum"] for tensors in state])
        self.turn(parameters, ahead, lambda index, step: step)

    def move_parts(self, parameters: list[Tensor], gradients: list[Tensor], state: list[dict[str, Tensor]]) -> None:
        """The same where processes hold parts: momentum is each one's own, but only whole matrices are orthogonalised."""
        from glassformer.training.distributed.sharding import joined, own_share

        parts, momentum = [own_part(p) for p in parameters], [own_part(tensors["momentum"]) for tensors in state]
        ahead = self.look_ahead(parts, [own_part(g) for g in gradients], momentum)
        whole = [joined(part, like) for part, like in zip(ahead, parameters, strict=True)]
        self.turn(parts, whole, lambda index, step: own_share(step, parameters[index]))

    def look_ahead(self, parameters: list[Tensor], gradients: list[Tensor], buffers: list[Tensor]) -> list[Tensor]:
        """Update the momentum and decay the weights; returns what is to be orthogonalised."""
        torch._foreach_lerp_(buffers, gradients, 1 - self.momentum)
        if self.weight_decay:
            torch._foreach_mul_(parameters, 1 - self.lr * self.weight_decay)
        return list(torch._foreach_lerp(gradients, buffers, self.momentum))  # Nesterov: look one step further

    def turn(self, parameters: list[Tensor], ahead: list[Tensor], own: Callable[[int, Tensor], Tensor]) -> None:
        """Take the orthogonalised step of each whole matrix, or the part of it that is one's `own`."""
        by_shape: dict[tuple[int, int], list[int]] = defaultdict(list)
        for index, matrix in enumerate(ahead):
            by_shape[(min(matrix.shape), max(matrix.shape))].append(index)
        for indices in by_shape.values():
            steps = orthogonalise(torch.stack([wide(ahead[index]) for index in indices])).unbind()
            for index, step in zip(indices, steps, strict=True):
                rows, columns = ahead[index].shape
                step = step if rows <= columns else step.mT
                parameters[index].add_(own(index, step), alpha=-self.lr * max(1.0, rows / columns) ** 0.5)


def wide(matrix: Tensor) -> Tensor:
    """The matrix, or its transpose where it has more rows than columns."""
    return matrix if matrix.shape[0] <= matrix.shape[1] else matrix.mT


READING = (".embedding.convolutions.", ".embedding.linear.")  # maps of vectors, where there is no table of tokens


class Optimisers:
    """The optimisers of one model as if they were one, with the full rates that a schedule takes shares of."""

    def __init__(self, model: Model, recipe: OptimiserRecipe) -> None:
        self.parts = [part for part in OPTIMISERS[recipe.name](model, recipe) if part.parameters]

    def set_rate(self, share: float) -> None:
        """Set every learning rate to `share` of its full value."""
        for part in self.parts:
            part.lr = part.full_lr * share

    def step(self) -> None:
        """Move every parameter, and forget the gradients."""
        for part in self.parts:
            part.step()


def muon_and_adamw(model: Model, recipe: OptimiserRecipe) -> Iterator[Optimiser]:
    """Muon for the matrices inside blocks; AdamW, each at its rate, for embeddings, head and vectors."""
    kinds = sort_parameters(model)
    betas = (recipe.beta1, recipe.beta2)
    yield Muon(kinds["matrix"], recipe.lr, recipe.momentum, recipe.weight_decay)
    yield AdamW(kinds["embedding"], recipe.embedding_lr, betas, recipe.eps)
    yield AdamW(kinds["head"], recipe.head_lr, betas, recipe.eps)
    yield AdamW(kinds["vector"], recipe.vector_lr, betas, recipe.eps)


def adamw_alone(model: Model, recipe: OptimiserRecipe) -> Iterator[Optimiser]:
    """AdamW for everything; weight decay for all that is not a vector, as in GPT-2's training."""
    kinds = sort_parameters(model)
    betas = (recipe.beta1, recipe.beta2)
    decayed = kinds["matrix"] + kinds["embedding"] + kinds["head"]
    yield AdamW(decayed, recipe.lr, betas, recipe.eps, recipe.weight_decay)
    yield AdamW(kinds["vector"], recipe.lr, betas, recipe.eps)


def sort_parameters(model: nn.Module) -> dict[str, list[nn.Parameter]]:
    """Every parameter once, as a `matrix` inside a block, an `embedding`, the `head` (or another map outside of the blocks), or
    a `vector` (gains, biases)."""
    kinds: dict[str, list[nn.Parameter]] = {"matrix": [], "embedding": [], "head": [], "vector": []}
    for name, parameter in model.named_parameters():
        if parameter.dim() < 2:
            kind = "vector"
        elif ".blocks." in name:
            kind = "matrix"
        else:
            kind = (
                "head" if name.startswith(("head.", "ctc.")) or any(part in name for part in READING) else "embedding"
            )
        kinds[kind].append(parameter)
    return kinds


OPTIMISERS: dict[str, Callable[[Model, OptimiserRecipe], Iterator[Optimiser]]] = {
    "muon": muon_and_adamw,
    "adamw": adamw_alone,
}
