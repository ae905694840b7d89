"""What a model is made of: its parts with shapes and parameters, and the memory it takes to keep, to run and to train."""

# B batch, T tokens, D model, H heads, G key/value heads, K head width, V value width, F hidden width, N vocabulary

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from glassformer.lens.arithmetic import Numbers
from glassformer.lens.layout import Page
from glassformer.lens.parts import Line, Table
from glassformer.lens.words import in_other_words, in_words, tokenizer_in_words
from glassformer.models import Decoder, ModelConfig
from glassformer.nn.mlp import GATED
from glassformer.tokenizers import Tokenizer

PARTS = ("embedding", "positions", "attention", "mlp", "norms", "head")


@dataclass(frozen=True, slots=True)
class Weight:
    """A learned tensor, or one of the same in each of `layers` layers, where its name has ``*`` for the number."""

    name: str
    part: str
    shape: tuple[int, ...]
    parameters: int  # of all layers together
    layers: int = 1

    @property
    def is_repeated(self) -> bool:
        """Whether every layer has one of these."""
        return "*" in self.name


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes. `activations` is an estimate, the rest is exact."""

    weights: int
    cache: int
    gradients: int
    adamw: int
    muon: int
    activations: int

    @property
    def training(self) -> int:
        """Weights, gradients, AdamW's state and activations together."""
        return self.weights + self.gradients + self.adamw + self.activations


@dataclass(frozen=True, slots=True)
class Description:
    """What a model is made of and what it costs."""

    words: tuple[str, ...]
    tokenizer: str | None
    weights: tuple[Weight, ...]
    tied: bool
    n_layers: int
    max_len: int
    batch_size: int
    bytes_per_number: int
    memory: Memory

    @property
    def parameters(self) -> int:
        """How many numbers are learned; a tied matrix counts once."""
        return sum(weight.parameters for weight in self.weights)

    @property
    def by_part(self) -> dict[str, int]:
        """The parameters of each part."""
        return {part: sum(w.parameters for w in self.weights if w.part == part) for part in PARTS}

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, for JSON."""
        totals = {"parameters": self.parameters, "parameters_by_part": self.by_part}
        return asdict(self) | totals | {"memory": asdict(self.memory) | {"training": self.memory.training}}

    def render(self, *, width: int = 80, ascii: bool = False) -> str:
        """The whole as text, ending in a line break."""
        page = Page(width, Numbers(4), ascii)
        rows = [row for words in self.words for row in page.clauses(words)]
        rows += [row for line in lines(self) for row in page.line(line)]
        return "\n".join(row.text.rstrip() for row in rows) + "\n"

    def __str__(self) -> str:
        return self.render()


def describe(
    model: Decoder,
    tokenizer: Tokenizer | None = None,
    *,
    batch_size: int = 16,
    bytes_per_number: int | None = None,
) -> Description:
    """What a model is made of, and what it costs to train with `batch_size` texts of max_len at a time.

    `bytes_per_number` is the size of a weight, default the model's own.
    """
    size = bytes_per_number or next(model.parameters()).element_size()
    return Description(
        words=(in_words(model.config), *in_other_words(model.config)),
        tokenizer=None if tokenizer is None else tokenizer_in_words(tokenizer),
        weights=tuple(weights(model)),
        tied=model.config.tied,
        n_layers=model.config.n_layers,
        max_len=model.config.max_len,
        batch_size=batch_size,
        bytes_per_number=size,
        memory=memory(model, batch_size, size),
    )


def weights(model: Decoder) -> Iterator[Weight]:
    """The learned tensors in the order of the model, those that every layer has once."""
    n_layers = model.config.n_layers
    for name, parameter in model.named_parameters():
        name = name.replace("_orig_mod.", "")
        if not name.startswith("decoder.blocks."):
            yield Weight(name, part_of(name), tuple(parameter.shape), parameter.numel())
        elif name.startswith("decoder.blocks.0."):
            every = name.replace("blocks.0.", "blocks.*.")
            yield Weight(every, part_of(name), tuple(parameter.shape), parameter.numel() * n_layers, n_layers)


def part_of(name: str) -> str:
    """The part of the model that a weight belongs to."""
    modules = name.split(".")[:-1]
    return "norms" if modules[-1].endswith("norm") else next(part for part in PARTS if part in modules)


def memory(model: Decoder, batch_size: int, size: int) -> Memory:
    """The bytes that weights, one cache and a training step take, at `size` bytes for each number."""
    config = model.config
    count = sum(parameter.numel() for parameter in model.parameters())
    in_matrices = sum(parameter.numel() for parameter in model.decoder.blocks.parameters() if parameter.dim() == 2)
    columns = min(config.max_len, config.window or config.max_len)
    cached = config.n_layers * config.n_kv_heads * columns * (config.d_head + config.d_value)
    return Memory(
        weights=count * size,
        cache=cached * size,
        gradients=count * size,
        adamw=2 * count * size,
        muon=(2 * count - in_matrices) * size,
        activations=batch_size * config.max_len * activations(config) * size,
    )


def activations(config: ModelConfig) -> int:
    """An estimate of the numbers that a training step keeps for each token until its gradients are known.

    In each layer: the residual stream and its normalised copy, twice; queries and keys as projected, normalised and
    turned; values; what attention gives, in two layouts; the hidden neurons before and after the activation. Behind the
    layers: the last norm, the logits, their probabilities. The fused kernels keep no table of scores.
    """
    c = config
    heads = c.n_heads * c.d_head + c.n_kv_heads * c.d_head
    versions = 1 + c.qk_norm + (c.positions == "rotary")
    spread = c.n_heads * (c.d_head + c.d_value) if c.n_kv_heads != c.n_heads else 0
    attention = versions * heads + c.n_kv_heads * c.d_value + spread + 2 * c.n_heads * c.d_value
    mlp = (4 if c.mlp in GATED else 2) * c.d_ff
    return c.n_layers * (4 * c.d_model + attention + mlp) + 2 * c.d_model + 2 * c.vocab_size


def lines(description: Description) -> Iterator[Line]:
    """A description as parts to lay out."""
    d = description
    if d.tokenizer is not None:
        yield d.tokenizer
    yield ""
    yield Table(("tensor", "shape", "layers", "parameters"), tuple(map(weight_row, d.weights)), "<>>>")
    yield ""
    yield Table(("part", "share", "parameters", "in each layer"), tuple(part_rows(d)), "<>>>")
    yield ""
    yield Table(("memory", "", ""), tuple(memory_rows(d)), "<><")


def weight_row(weight: Weight) -> tuple[str, str, str, str]:
    """Name, shape, how often, and parameters of all layers."""
    shape = "×".join(f"{size:,}" for size in weight.shape)
    return weight.name, shape, f"{weight.layers}" if weight.is_repeated else "", f"{weight.parameters:,}"


def part_rows(description: Description) -> Iterator[tuple[str, str, str, str]]:
    """Share and parameters of each part, in all and in each layer, then of the whole."""
    layer = {
        part: sum(w.parameters // w.layers for w in description.weights if w.part == part and w.is_repeated)
        for part in PARTS
    }
    for part, count in description.by_part.items():
        if count:
            yield part, f"{count / description.parameters:.1%}", f"{count:,}", f"{layer[part]:,}" if layer[part] else ""
    if description.tied:
        yield "head", "", "shared", ""
    yield "total", "100.0%", f"{description.parameters:,}", f"{sum(layer.values()):,}"


def memory_rows(description: Description) -> Iterator[tuple[str, str, str]]:
    """What is kept, how many bytes, and how that was counted."""
    memory, size = description.memory, description.bytes_per_number
    tokens = f"{description.batch_size} × {description.max_len:,} tokens"
    yield "weights", in_bytes(memory.weights), f"{size} bytes each"
    yield "key/value cache", in_bytes(memory.cache), f"one text of {description.max_len:,} tokens"
    yield "gradients", in_bytes(memory.gradients), "one for each weight"
    yield "AdamW", in_bytes(memory.adamw), "two averages for each weight"
    yield "(or with Muon)", in_bytes(memory.muon), "one average in the layers' matrices, two elsewhere"
    yield "activations", in_bytes(memory.activations), f"{tokens}; an estimate"
    yield "training", in_bytes(memory.training), "weights, gradients, AdamW, activations"


def in_bytes(count: int) -> str:
    """``3.2 MB``: bytes in thousands of thousands."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count} bytes"
