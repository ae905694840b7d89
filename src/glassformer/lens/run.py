"""Runs a model on a text with somebody watching, and walks through what was seen."""

# T tokens, N vocabulary

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from glassformer.errors import ConfigError
from glassformer.generate.context import Window
from glassformer.generate.loop import evaluating
from glassformer.generate.sampling import Sampling
from glassformer.generate.text import prompt_ids
from glassformer.lens.checks import run_checks
from glassformer.lens.explanation import Explanation
from glassformer.lens.scene import Scene, choose
from glassformer.lens.walk import walk
from glassformer.lens.words import in_words
from glassformer.models import Decoder, Model
from glassformer.tokenizers import Tokenizer
from glassformer.trace import points_of, watch

EVERYWHERE = ("resid_pre", "attention.out", "resid_mid", "mlp.out", "resid_post")  # seen of the other layers too
MOST_DIGITS = 12  # float32 has seven, float64 sixteen


def explain(
    model: Model,
    tokenizer: Tokenizer,
    text: str,
    *,
    layer: int = 0,
    head: int = 0,
    position: int = -1,
    channel: int = 0,
    digits: int = 4,
    sampling: Sampling | None = None,
    seed: int = 0,
    step: int = 0,
) -> Explanation:
    """Walk through the prediction of the token after `position` in `text`, number by number.

    `layer`, `head`, `position` (the asking token) and `channel` (of d_model) choose the cells that are followed; each may
    count from the end. `sampling`, `seed` and `step` (how many tokens were drawn before) choose the draw at the end, which
    is the one that `generate` makes with the same settings. An empty text begins after the eos token, as there. Raises
    ConfigError, with the valid range, for a cell that the model does not have, and for a model that is no decoder.
    """
    config = model.config
    if not isinstance(model, Decoder):
        raise ConfigError(
            f"the walk follows decoder-only models for now: expected shape='decoder', found {config.shape!r}"
        )
    if config.n_layers == 0:
        raise ConfigError("n_layers=0: the model has no layer to walk through; expected 1 or more")
    if not 1 <= digits <= MOST_DIGITS:
        raise ConfigError(f"digits={digits} is out of range: expected 1 to {MOST_DIGITS}")
    reading = read(tokenizer, text, config.max_len)
    refuse_foreign_ids(reading.ids, config.vocab_size)
    layer = choose("layer", layer, config.n_layers, "the model")
    head = choose("head", head, config.n_heads, "each layer")
    channel = choose("channel", channel, config.d_model, "the model")
    position = choose("position", position, len(reading.ids), "the text")
    taps, plain = record(model, reading.ids, layer)
    seen_ids = reading.all_ids[: len(reading.all_ids) - len(reading.ids) + position + 1]
    scene = Scene(
        model=model,
        taps=taps,
        plain=plain,
        text=tokenizer.decode(seen_ids),
        notes=reading.notes,
        ids=reading.ids,
        seen_ids=seen_ids,
        label_of=lambda token: tokenizer.label(token) if token < tokenizer.vocab_size else f"<no token {token}>",
        n_tokens=min(config.vocab_size, tokenizer.vocab_size),
        layer=layer,
        head=head,
        position=position,
        channel=channel,
        sampling=sampling or Sampling(),
        seed=seed,
        step=step,
        digits=digits,
    )
    return tell(scene)


@torch.inference_mode()
def record(model: Decoder, ids: Sequence[int], layer: int) -> tuple[Mapping[str, Tensor], Tensor]:
    """One run with somebody watching and one without: tensors by name, and the plain logits, T N."""
    batch = torch.tensor([ids], device=next(model.parameters()).device)
    with evaluating(model):
        plain = model(batch)[0]
        with watch(model, wanted(model, layer)) as seen:
            model(batch)
    return {name: seen[name] for name in seen}, plain


@torch.inference_mode()
def tell(scene: Scene) -> Explanation:
    """The explanation of a recorded run: it depends on what was recorded and on the weights alone."""
    with evaluating(scene.model):
        return Explanation(
            scene=scene,
            model=in_words(scene.config),
            notes=(*scene.notes, *introduction(scene)),
            sections=tuple(walk(scene)),
            checks=tuple(run_checks(scene)),
        )


class Reading(NamedTuple):
    """The tokens of a text, those that fit into the model, and sentences about the difference."""

    all_ids: list[int]
    ids: list[int]
    notes: tuple[str, ...]


def read(tokenizer: Tokenizer, text: str, max_len: int) -> Reading:
    """The tokens that generating would read: of an empty text the eos token, of a long one the last that are kept."""
    window = Window(prompt_ids(tokenizer, text))
    ids, note = window.tokens, ""
    if not text:
        note = "The text is empty: the model reads the token that stands between documents."
    elif window.fit(max_len):
        kept = len(window.visible())
        note = f"The text has {len(ids):,} tokens and the model reads {max_len:,}: the last {kept:,} are explained."
    return Reading(ids, window.visible(), (note,) if note else ())


def refuse_foreign_ids(ids: Sequence[int], vocab_size: int) -> None:
    """Raise ConfigError for a token that the model does not have."""
    if max(ids) >= vocab_size:
        raise ConfigError(
            f"the text holds the token id {max(ids)}, but the model knows ids 0 to {vocab_size - 1} only:"
            " it was trained with another tokenizer"
        )


def introduction(scene: Scene) -> list[str]:
    """What is followed, and how to read the numbers."""
    return [
        f"Followed here: layer {scene.layer}, head {scene.head}, channel {scene.channel};"
        f" {scene.token(scene.position)} asks, and what is explained is the token after it.",
        f"Operands are shown rounded to {scene.digits} digits; sums use full precision. Long sums show their first terms,"
        " the largest others with their [index], and the rest as one number. ✓: worked out again in float64 from the"
        " operands, the number agrees with the one that the model recorded; Δ is the difference.",
    ]


def wanted(model: Decoder, layer: int) -> list[str]:
    """The points to record: all outside the blocks and in the layer walked through, a few in the other layers."""
    here = f"decoder.blocks.{layer}."
    return [
        name
        for name in points_of(model)
        if ".blocks." not in name or name.startswith(here) or name.split(".", 3)[-1] in EVERYWHERE
    ]
