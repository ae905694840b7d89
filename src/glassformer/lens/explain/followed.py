"""Which cells a walk follows: a layer, a head, a token and a channel of one stack, and what follows from these."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from torch import Tensor

from glassformer.errors import ConfigError, nearest
from glassformer.lens.explain.ear import HEARD, Ear
from glassformer.lens.glass import Tokens, Trace
from glassformer.lens.layout import shorten
from glassformer.lens.numbers import choose
from glassformer.lens.recipes import Node
from glassformer.models import ModelConfig
from glassformer.tokenizers.roles import MASKS

LABEL_WIDTH = 14  # columns that a token may take in a table


@dataclass(frozen=True)
class Followed:
    """The cells of one stack that are followed. `position` is that of the token that asks."""

    trace: Trace
    stack: str
    layer: int
    head: int
    position: int
    channel: int
    n_tokens: int  # ids of the vocabulary that have a token

    @property
    def config(self) -> ModelConfig:
        """The config of this stack."""
        return stack_config(self.trace, self.stack)

    @property
    def tokens(self) -> Tokens:
        """What the stack read."""
        return self.trace.tokens[self.stack]

    @property
    def place(self) -> str:
        """The path of the block that is walked through."""
        return f"{self.stack}.blocks.{self.layer}"

    def looking(self, name: str) -> str:
        """The attention that a tensor belongs to; for one outside of any, the self-attention of the layer followed."""
        for kind in ("cross_attention", "attention"):
            before, found, _ = name.partition(f".{kind}.")
            if found:
                return f"{before}.{kind}"
        return f"{self.place}.attention"

    def key(self, name: str) -> int:
        """The token that the asking one looks at most, in the attention that a tensor belongs to."""
        return int(self.trace[f"{self.looking(name)}.pattern"][0, self.head, self.position].argmax())

    def neuron(self, module: str) -> int:
        """The neuron of an MLP that writes most into the channel followed."""
        act = self.trace[f"{module}.act"][0, self.position]
        row = self.trace.replay.weights[f"{module}.down_proj.weight"][self.channel]
        return int((act * row.detach().cpu().double()).abs().argmax())

    @cached_property
    def entry(self) -> int:
        """The likeliest token or label."""
        return int(self.logits.argmax())

    @cached_property
    def logits(self) -> Tensor:
        """The scores of the asking token, or of the text, for ids that have a token: N, float64."""
        logits = self.trace["head.logits"][0]
        return (logits if logits.dim() == 1 else logits[self.position])[: self.n_tokens]

    def cell(self, node: Node) -> tuple[int, ...]:
        """The cell of a tensor that is followed, without the batch axis."""
        return tuple(self.index(letter, node) for letter in node.recipe.axes.split())

    def index(self, letter: str, node: Node) -> int:
        """Where along one axis of a tensor."""
        config = self.config
        match letter:
            case "i":
                return self.position
            case "j":
                return self.key(node.name) if not node.name.startswith("ctc.") else self.heard
            case "h":
                return self.head
            case "g":
                return self.head * config.n_kv_heads // config.n_heads
            case "d":
                return self.channel
            case "f":
                return self.neuron(node.module)
            case "c" if node.name.startswith("head.hidden."):
                return self.channel
            case "c":
                return self.head * config.d_value
            case "n":
                return self.entry if not node.name.startswith("ctc.") else self.heard_entry
            case _ if letter in HEARD:
                return self.ear.index(letter, node)
            case _:
                return 0

    @cached_property
    def ear(self) -> Ear:
        """What is followed before the encoder's places: vectors, frames, samples."""
        return Ear(self.trace, self.position if self.stack == "encoder" else self.heard)

    @cached_property
    def heard(self) -> int:
        """The place of the source that the asking token looks at most."""
        return self.key(f"{self.place}.cross_attention.pattern")

    @cached_property
    def heard_entry(self) -> int:
        """The token that CTC finds likeliest at that place."""
        return int(self.trace["ctc.logits"][0, self.heard, : self.n_tokens].argmax())

    def token(self, at: int, tokens: Tokens | None = None) -> str:
        """``token 2 '␣sat'``; of vectors ``place 2 '0.08s'``."""
        tokens = tokens or self.tokens
        heard = tokens is self.trace.tokens.get("encoder") and "encoder.vectors" in self.trace.replay.given
        return f"{'place' if heard else 'token'} {at} '{shorten(tokens.labels[at], LABEL_WIDTH)}'"

    def entry_label(self, entry: int) -> str:
        """A token or label of what comes out."""
        return shorten(self.trace.vocabulary[entry], LABEL_WIDTH)


def stack_config(trace: Trace, stack: str) -> ModelConfig:
    """The config of one stack."""
    config = trace.model.config
    return config.source_side() if stack == "encoder" and config.shape == "encoder_decoder" else config


def follow(
    trace: Trace,
    *,
    side: str = "",
    layer: int = 0,
    head: int = 0,
    position: int | None = None,
    channel: int = 0,
    n_tokens: int | None = None,
) -> list[Followed]:
    """The cells to follow in each stack that is walked through, the one that answers last.

    Without a side both stacks of an encoder-decoder are, and the numbers are of the one that answers: in the encoder the
    same layer, head and channel are followed, or the last, and the token that the decoder looks at most. Raises
    ConfigError, with the valid range, for what does not exist.
    """
    if side and side not in trace.tokens:
        raise ConfigError(
            f"side={side!r} is not there: the model has {' and '.join(trace.tokens)}{nearest(side, trace.tokens)}"
        )
    stack = side or trace.stack
    config = stack_config(trace, stack)
    if config.n_layers == 0:
        raise ConfigError(f"n_layers=0: the {stack} has no layer to walk through; expected 1 or more")
    owner = "the model" if len(trace.tokens) == 1 else f"the {stack}"
    text = "the text" if len(trace.tokens) == 1 else {"encoder": "the source", "decoder": "the target"}[stack]
    chosen = Followed(
        trace,
        stack,
        choose("layer", layer, config.n_layers, owner),
        choose("head", head, config.n_heads, "each layer"),
        usual_position(trace, stack)
        if position is None
        else choose("position", position, len(trace.tokens[stack]), text),
        choose("channel", channel, config.d_model, owner),
        len(trace.vocabulary) if n_tokens is None else n_tokens,
    )
    if side or len(trace.tokens) == 1 or stack_config(trace, "encoder").n_layers == 0:
        return [chosen]
    return [source_of(chosen), chosen]


def usual_position(trace: Trace, stack: str) -> int:
    """The token that asks where nobody says which: the first mask of a text to fill, else the last."""
    masks = [at for at, label in enumerate(trace.tokens[stack].labels) if trace.task == "fill" and label in MASKS]
    return masks[0] if masks else len(trace.tokens[stack]) - 1


def source_of(chosen: Followed) -> Followed:
    """The same in the encoder: the source token that the decoder's token looks at most."""
    config = stack_config(chosen.trace, "encoder")
    return replace(
        chosen,
        stack="encoder",
        layer=min(chosen.layer, config.n_layers - 1),
        head=min(chosen.head, config.n_heads - 1),
        position=chosen.key(f"{chosen.place}.cross_attention.pattern"),
        channel=min(chosen.channel, config.d_model - 1),
    )
