"""What every step of the walk looks at: the recorded tensors of one run, and which token, head and channel are followed."""

# T tokens read, H heads, G key/value heads, K head width, N vocabulary

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from glassformer.errors import ConfigError
from glassformer.generate.sampling import Sampling
from glassformer.lens.arithmetic import Numbers
from glassformer.lens.layout import printable, shorten
from glassformer.lens.parts import Check, Line, Section
from glassformer.lens.points import axes_of
from glassformer.models import Decoder, ModelConfig
from glassformer.nn.attention import Attention
from glassformer.nn.block import Block

LABEL_WIDTH = 14  # columns that a token may take in a table
ROUNDING = 2e-6  # what a float32 sum may lose, relative to the sizes of what is added: sixteen units in the last place
LISTED_KEYS = 12  # tokens that a table of scores or weights lists


@dataclass(frozen=True)
class Scene:
    """One run of one model on one text. Taps hold the model's own tensors; steps read single cells and rows of them."""

    model: Decoder
    taps: Mapping[str, Tensor]
    plain: Tensor  # T N, the logits of the same run with nobody watching
    text: str  # up to the asking token
    notes: tuple[str, ...]  # sentences about what of the text is read
    ids: Sequence[int]  # T, what the model read
    seen_ids: Sequence[int]  # all tokens up to the asking one, for the penalties of sampling
    label_of: Callable[[int], str]
    n_tokens: int  # ids that have a token, of which one is drawn
    layer: int
    head: int
    position: int  # of the asking token
    channel: int  # of the model's width
    sampling: Sampling
    seed: int
    step: int
    digits: int

    @property
    def config(self) -> ModelConfig:
        return self.model.config

    @property
    def block(self) -> Block:
        """The block that is walked through."""
        block = self.model.decoder.blocks[self.layer]
        assert isinstance(block, Block)
        return block

    @property
    def attention(self) -> Attention:
        return self.block.attention

    @property
    def group(self) -> int:
        """The key/value head that the head followed shares."""
        return self.head * self.attention.n_kv_heads // self.attention.n_heads

    @cached_property
    def numbers(self) -> Numbers:
        return Numbers(self.digits)

    @cached_property
    def key(self) -> int:
        """The token that the asking one looks at most in this head; its key and value are followed."""
        return int(self.row(self.here("attention.pattern"), self.head, self.position).argmax())

    @cached_property
    def listed_keys(self) -> list[int]:
        """The tokens that tables of scores and weights list: all of them, or those looked at most."""
        if len(self.ids) <= LISTED_KEYS:
            return list(range(len(self.ids)))
        weights = self.row(self.here("attention.pattern"), self.head, self.position)
        return sorted(weights.argsort(descending=True, stable=True)[:LISTED_KEYS].tolist())

    @property
    def last_stream(self) -> str:
        """The full name of the residual stream behind the last block."""
        return f"decoder.blocks.{self.config.n_layers - 1}.resid_post"

    def here(self, point: str) -> str:
        """The full name of a point of the block walked through: ``attention.q`` -> ``decoder.blocks.0.attention.q``."""
        return f"decoder.blocks.{self.layer}.{point}"

    def row(self, name: str, *index: int) -> Tensor:
        """A row of a recorded tensor in float64, on the CPU; `index` follows the batch axis."""
        return exact(self.taps[name][(0, *index)])

    def cell(self, name: str, *index: int) -> float:
        """One recorded number."""
        return float(self.taps[name][(0, *index)])

    def label(self, token: int) -> str:
        """A token's text for a table, on one line and not too long."""
        return shorten(printable(self.label_of(token)), LABEL_WIDTH)

    def token(self, at: int) -> str:
        """``token 2 '␣sat'``."""
        return f"token {at} '{self.label(self.ids[at])}'"

    def section(
        self,
        title: str,
        says: str,
        *,
        formula: Sequence[str] = (),
        name: str = "",
        cell: tuple[int, ...] = (),
        body: Sequence[Line] = (),
        checks: Sequence[Check] = (),
    ) -> Section:
        """A section about the tensor `name`, whose axes and shape are filled in; `cell` follows the batch axis."""
        axes, shape = (axes_of(name), tuple(self.taps[name].shape)) if name else ((), ())
        at = (0, *cell) if cell else ()
        return Section(title, says, tuple(formula), name, axes, shape, at, tuple(body), tuple(checks))

    def check(self, label: str, name: str, index: tuple[int, ...], recomputed: float, magnitude: float = 0.0) -> Check:
        """Compare a recorded cell with the same number worked out again.

        `magnitude` is the size of the numbers that were added: where large ones nearly cancel, what is left carries the
        rounding of the large ones.
        """
        recorded = self.cell(name, *index)
        tolerance = self.rounding * max(abs(recorded), abs(recomputed), magnitude)
        return Check(label, abs(recorded - recomputed), tolerance, recorded, recomputed)

    @property
    def rounding(self) -> float:
        """The relative difference that the model's own number format explains."""
        return rounding(self.model)


def rounding(model: nn.Module) -> float:
    """The relative difference that a model's number format explains: 2e-6 for float32, more for shorter formats."""
    return max(ROUNDING, 8 * torch.finfo(next(model.parameters()).dtype).eps)


def size_of_angle(angle: float) -> float:
    """The magnitude of a sine or cosine for `Scene.check`: float32 rounds a large angle itself by 6e-8 of its size."""
    return 1 + 0.2 * abs(angle)


def exact(x: Tensor) -> Tensor:
    """Numbers in float64 on the CPU."""
    return x.detach().cpu().double()


def bias_of(linear: nn.Linear, row: int) -> float | None:
    """What a linear map adds to one of its outputs, if anything."""
    return None if linear.bias is None else float(linear.bias[row])


def choose(name: str, value: int, size: int, owner: str) -> int:
    """An index that may count from the end, as one from the start. Raises ConfigError with the valid range."""
    if not -size <= value < size:
        raise ConfigError(
            f"{name}={value} does not exist: {owner} has {name}s 0 to {size - 1} (or -1 to -{size} from the end)"
        )
    return value % size
