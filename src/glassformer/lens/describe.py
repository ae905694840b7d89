"""What a model is made of: its parts with shapes and parameters, and the memory it takes to keep, to run and to train."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from glassformer.features import FeatureConfig
from glassformer.generate.vectors import stride_of
from glassformer.lens.arithmetic import Numbers
from glassformer.lens.hearing import reach_of, seconds_of
from glassformer.lens.layout import Page
from glassformer.lens.parts import Line, Table
from glassformer.lens.words import in_other_words, sides, stacks_in_words, tokenizer_in_words
from glassformer.models import Model, ModelConfig
from glassformer.models.config import VectorInput
from glassformer.nn.mlp import GATED
from glassformer.tokenizers import Tokenizer

PARTS = ("convolutions", "embedding", "positions", "attention", "cross-attention", "mlp", "norms", "head", "ctc")


@dataclass(frozen=True, slots=True)
class Weight:
    """A learned tensor, or one of the same in each of `layers` layers, where its name has ``*`` for the number.

    One that has several names, as where the output shares the embedding table, goes by the first.
    """

    name: str
    part: str
    shape: tuple[int, ...]
    parameters: int  # of all layers together
    layers: int = 1

    @property
    def is_repeated(self) -> bool:
        """Whether every layer has one of these."""
        return "*" in self.name

    @property
    def stack(self) -> str:
        """The stack that it belongs to: encoder or decoder; or the head."""
        return self.name.split(".")[0]


@dataclass(frozen=True, slots=True)
class Stack:
    """The sizes of an encoder or a decoder that costs depend on."""

    n_layers: int
    max_len: int


@dataclass(frozen=True, slots=True)
class Hearing:
    """How an encoder of vectors listens: vectors a second (None where nobody knows), vectors for each place that it leaves,
    vectors that each place hears, and the places that it has room for."""

    vectors_per_second: float | None
    stride: int
    reach: int
    places: int

    @property
    def seconds_per_place(self) -> float | None:
        """From one place to the next."""
        return None if self.vectors_per_second is None else self.stride / self.vectors_per_second

    @property
    def longest(self) -> float:
        """Vectors, or seconds where they are known, that the encoder has room for."""
        vectors = self.places * self.stride
        return vectors if self.vectors_per_second is None else vectors / self.vectors_per_second


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes. `activations` is an estimate, the rest is exact; `cache` holds the keys and values of one text, and of the
    source that it is written from."""

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
    shape: str
    tokenizer: str | None
    source_tokenizer: str | None
    weights: tuple[Weight, ...]
    tied: bool
    stacks: dict[str, Stack]
    batch_size: int
    bytes_per_number: int
    memory: Memory
    hearing: Hearing | None = None

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
    model: Model,
    tokenizer: Tokenizer | None = None,
    *,
    source_tokenizer: Tokenizer | None = None,
    batch_size: int = 16,
    bytes_per_number: int | None = None,
    features: FeatureConfig | None = None,
) -> Description:
    """What a model is made of, and what it costs to train with `batch_size` texts of max_len at a time.

    `source_tokenizer` is that of the sources, where they have one of their own. `bytes_per_number` is the size of a
    weight, default the model's own. `features`: how sound becomes the vectors that it reads.
    """
    config = model.config
    size = bytes_per_number or next(model.parameters()).element_size()
    return Description(
        words=(*stacks_in_words(config), *in_other_words(config)),
        shape=config.shape,
        tokenizer=None if tokenizer is None else tokenizer_in_words(tokenizer),
        source_tokenizer=None if source_tokenizer is None else tokenizer_in_words(source_tokenizer),
        weights=tuple(weights(model)),
        tied=config.tied and config.head == "tokens",
        stacks={name: Stack(stack.n_layers, stack.max_len) for name, stack in sides(config).items()},
        batch_size=batch_size,
        bytes_per_number=size,
        memory=memory(model, batch_size, size),
        hearing=hearing(config, features),
    )


def hearing(config: ModelConfig, features: FeatureConfig | None) -> Hearing | None:
    """How an encoder of vectors listens; None for one of tokens."""
    if config.vectors is None:
        return None
    step = seconds_of(features)
    reach = reach_of(config.vectors.strides)
    places = sides(config)["encoder"].max_len
    return Hearing(None if step is None else 1 / step, stride_of(config), reach, places)


def weights(model: Model) -> Iterator[Weight]:
    """The learned tensors in the order of the model, those that every layer has once."""
    stacks = sides(model.config)
    for name, parameter in model.named_parameters():
        name = name.replace("_orig_mod.", "")
        stack, in_blocks, inner = name.partition(".blocks.")
        if not in_blocks:
            yield Weight(name, part_of(name), tuple(parameter.shape), parameter.numel())
        elif inner.startswith("0."):
            every, layers = f"{stack}.blocks.*{inner.removeprefix('0')}", stacks[stack].n_layers
            yield Weight(every, part_of(name), tuple(parameter.shape), parameter.numel() * layers, layers)


def part_of(name: str) -> str:
    """The part of the model that a weight belongs to."""
    modules = name.replace("_", "-").split(".")[:-1]
    if modules[0] == "ctc":
        return "ctc"
    return "norms" if modules[-1].endswith("norm") else next(part for part in PARTS if part in modules)


def memory(model: Model, batch_size: int, size: int) -> Memory:
    """The bytes that weights, one cache and a training step take, at `size` bytes for each number."""
    count = sum(parameter.numel() for parameter in model.parameters())
    in_matrices = sum(p.numel() for name, p in model.named_parameters() if ".blocks." in name and p.dim() == 2)
    return Memory(
        weights=count * size,
        cache=cached(model.config) * size,
        gradients=count * size,
        adamw=2 * count * size,
        muon=(2 * count - in_matrices) * size,
        activations=batch_size * activations(model.config) * size,
    )


def cached(config: ModelConfig) -> int:
    """The keys and values of one text, in numbers; those that a decoder makes of its source too. None in an encoder."""
    if config.shape == "encoder":
        return 0
    slides = config.windowed_layers is None or all(config.windowed_layers)  # else the cache keeps all columns of all
    columns = min(config.max_len, (config.window if slides else None) or config.max_len)
    if config.shape == "encoder_decoder":
        columns += config.source_side().max_len
    return config.n_layers * config.n_kv_heads * columns * (config.d_head + config.d_value)


def activations(config: ModelConfig) -> int:
    """An estimate of the numbers that a training step keeps for each text until its gradients are known: those of all
    layers, the last norms, the scores and their probabilities. The fused kernels keep no table of attention scores."""
    c = config
    numbers = sum(stack.max_len * in_stack(stack) for stack in sides(c).values())
    if c.shape == "encoder_decoder":
        by_query, by_key = in_cross_attention(c)
        numbers += c.n_layers * (c.max_len * by_query + c.source_side().max_len * by_key)
    rows = {"tokens": c.max_len * c.vocab_size, "tags": c.max_len * len(c.labels), "labels": len(c.labels), "pooled": 0}
    if c.vectors is not None:
        numbers += in_convolutions(sides(c)["encoder"], c.vectors)
        numbers += 0 if c.ctc_blank is None else 2 * sides(c)["encoder"].max_len * c.vocab_size
    return numbers + 2 * rows[c.head]


def in_convolutions(config: ModelConfig, reads: VectorInput) -> int:
    """What the convolutions keep of a source that fills the encoder: what each reads, and its results before the bend."""
    length = config.max_len * stride_of(config)
    numbers, width = 0, reads.size
    for stride in reads.strides:
        numbers += length * width
        length, width = length // stride, config.d_model
        numbers += 2 * length * width
    return numbers + (length * width if not reads.strides else 0)


def in_stack(config: ModelConfig) -> int:
    """What a stack keeps for each token.

    In each layer: the residual stream and its normalised copy, twice; queries and keys as projected, normalised and
    turned; values; what attention gives, in two layouts; the hidden neurons before and after the activation. Behind the
    layers: the last norm.
    """
    c = config
    heads = c.n_heads * c.d_head + c.n_kv_heads * c.d_head
    versions = 1 + c.qk_norm + (c.positions == "rotary")
    attention = versions * heads + c.n_kv_heads * c.d_value + spread(c) + 2 * c.n_heads * c.d_value
    mlp = (4 if c.mlp in GATED else 2) * c.d_ff
    return c.n_layers * (4 * c.d_model + attention + mlp) + 2 * c.d_model


def in_cross_attention(config: ModelConfig) -> tuple[int, int]:
    """What a layer's look at the source keeps for each token that asks, and for each of the source: the same as in
    self-attention, but that nothing is turned."""
    c = config
    versions = 1 + c.qk_norm
    by_query = 2 * c.d_model + versions * c.n_heads * c.d_head + 2 * c.n_heads * c.d_value
    return by_query, c.n_kv_heads * (versions * c.d_head + c.d_value) + spread(c)


def spread(config: ModelConfig) -> int:
    """The copies of one token's key and value where several heads share them."""
    c = config
    return c.n_heads * (c.d_head + c.d_value) if c.n_kv_heads != c.n_heads else 0


def lines(description: Description) -> Iterator[Line]:
    """A description as parts to lay out."""
    d = description
    if d.source_tokenizer is not None:
        yield f"source: {d.source_tokenizer}"
    if d.tokenizer is not None:
        yield d.tokenizer if d.source_tokenizer is None else f"target: {d.tokenizer}"
    if d.hearing is not None:
        yield hearing_in_words(d.hearing)
    yield ""
    yield Table(("tensor", "shape", "layers", "parameters"), tuple(map(weight_row, d.weights)), "<>>>")
    yield ""
    each = ("in each layer",) if len(d.stacks) == 1 else tuple(f"{stack} layer" for stack in d.stacks)
    yield Table(("part", "share", "parameters", *each), tuple(part_rows(d)), "<>>" + ">" * len(each))
    yield ""
    yield Table(("memory", "", ""), tuple(memory_rows(d)), "<><")


def hearing_in_words(hearing: Hearing) -> str:
    """Vectors a second, what a place hears of them, and how much there is room for."""
    step, rate = hearing.seconds_per_place, hearing.vectors_per_second
    one = f"one place for {hearing.stride} vector{'s' * (hearing.stride > 1)}, hearing {hearing.reach} of them"
    if step is None or rate is None:
        return f"{one}; room for {hearing.longest:,.0f} vectors"
    return (
        f"{rate:g} vectors a second; {one}: {step:g} s from one place to the next, of which each hears"
        f" {hearing.reach / rate:g} s; room for {hearing.longest:,.1f} s"
    )


def weight_row(weight: Weight) -> tuple[str, str, str, str]:
    """Name, shape, how often, and parameters of all layers."""
    shape = "×".join(f"{size:,}" for size in weight.shape)
    return weight.name, shape, f"{weight.layers}" if weight.is_repeated else "", f"{weight.parameters:,}"


def part_rows(description: Description) -> Iterator[tuple[str, ...]]:
    """Share and parameters of each part, in all and in each layer of each stack, then of the whole."""
    d = description
    of_layer: dict[str, dict[str, int]] = {stack: dict.fromkeys(PARTS, 0) for stack in d.stacks}
    for weight in d.weights:
        if weight.is_repeated:
            of_layer[weight.stack][weight.part] += weight.parameters // weight.layers
    for part, count in d.by_part.items():
        if count:
            each = (f"{counts[part]:,}" if counts[part] else "" for counts in of_layer.values())
            yield part, f"{count / d.parameters:.1%}", f"{count:,}", *each
    if d.tied:
        yield "head", "", "shared", *("" for _ in d.stacks)
    yield "total", "100.0%", f"{d.parameters:,}", *(f"{sum(counts.values()):,}" for counts in of_layer.values())


def memory_rows(description: Description) -> Iterator[tuple[str, str, str]]:
    """What is kept, how many bytes, and how that was counted."""
    memory, size = description.memory, description.bytes_per_number
    lengths = [f"{stack.max_len:,}" for stack in description.stacks.values()]
    tokens = lengths[0] if len(lengths) == 1 else f"({' + '.join(lengths)})"
    yield "weights", in_bytes(memory.weights), f"{size} bytes each"
    if description.shape == "decoder":
        yield "key/value cache", in_bytes(memory.cache), f"one text of {lengths[0]} tokens"
    elif description.shape == "encoder_decoder":
        source, target = lengths
        heard = " places" if description.hearing is not None else ""
        yield (
            "key/value cache",
            in_bytes(memory.cache),
            f"one text of {target} tokens and its source of {source}{heard}",
        )
    yield "gradients", in_bytes(memory.gradients), "one for each weight"
    yield "AdamW", in_bytes(memory.adamw), "two averages for each weight"
    yield "(or with Muon)", in_bytes(memory.muon), "one average in the layers' matrices, two elsewhere"
    yield "activations", in_bytes(memory.activations), f"{description.batch_size} × {tokens} tokens; an estimate"
    yield "training", in_bytes(memory.training), "weights, gradients, AdamW, activations"


def in_bytes(count: int) -> str:
    """``3.2 MB``: bytes in thousands of thousands."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count} bytes"
