"""torch.compile where it pays; where it cannot, one sentence and the plain model."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from torch import Tensor, nn


def compiled(model: nn.Module, mode: str, note: Callable[[str], None]) -> Callable[..., Tensor]:
    """The model as a function of its inputs, compiled when `mode` is "yes".

    The first call compiles; should that fail, `note` is told why and the plain model goes on.
    """
    if mode != "yes":
        return model
    note("compiling the model; the first step takes up to a minute or so")
    return Fallback(model, note)


class Fallback:
    """Calls the compiled model until compiling fails, and the plain one from then on."""

    def __init__(self, model: nn.Module, note: Callable[[str], None]) -> None:
        self.plain = model
        self.note = note
        self.current: Callable[..., Tensor] = model
        self.proven = False

    def __call__(self, **inputs: Tensor) -> Tensor:
        if self.proven:
            return self.current(**inputs)
        logging.getLogger("torch._inductor").setLevel(logging.ERROR)
        try:
            self.current = torch.compile(self.plain)
            said = self.current(**inputs)  # the gradient's graph is compiled too, and may fail where this did not
            parts = said if isinstance(said, tuple) else (said,)
            torch.stack([part.sum() for part in parts]).sum().backward()
            self.plain.zero_grad(set_to_none=True)
            answers = self.current(**inputs)
        except (
            Exception
        ) as error:  # the compiler's own errors share no base class; the plain model decides if it was one
            self.current = self.plain
            answers = self.plain(**inputs)
            reason = str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__
            self.note(f"torch.compile cannot be used here ({reason}); going on without it")
        self.proven = True
        return answers
