"""Traces of models that no tokenizer belongs to: their tokens go by their numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from glassformer.lens.glass import Tokens, Trace
from glassformer.lens.recording import answer, record
from glassformer.models import Model
from shapes import vectors_of

TINY: dict[str, Any] = {  # every width another
    "vocab_size": 13,
    "max_len": 12,
    "d_model": 8,
    "n_layers": 1,
    "n_heads": 4,
    "d_head": 6,
    "d_value": 3,
    "d_ff": 10,
}
SCHEMES = ("sinusoidal", "learned", "rotary", "alibi", "relative")
SHAPES = ("decoder", "encoder", "encoder_decoder")
IDS, SOURCE = (3, 1, 4, 1, 5), (9, 2, 6, 5, 3, 5, 8)


def trace_ids(model: Model, ids: Sequence[int] = IDS, source: Sequence[int] = SOURCE, **given: Any) -> Trace:
    """The trace of one text of ids, with its loss where there is one of each token. Vectors stand for the ids of an encoder
    that reads these."""
    hears, shape = model.config.vectors is not None, model.config.shape
    batch: dict[str, Tensor] = {}
    if shape == "encoder_decoder":
        batch["source"] = vectors_of(model, torch.tensor([source])) if hears else torch.tensor([source])
    if model.config.head in ("tokens", "tags") and not (hears and shape == "encoder"):
        n_right = len(model.config.labels) or model.config.vocab_size
        shape = model.config.shape
        wanted = [*ids[1:], -100] if shape != "encoder" else [-100] * len(ids)
        if model.config.head == "tags":
            wanted = [id % n_right for id in ids]
        batch["targets"] = torch.tensor([wanted])
    read = torch.tensor([ids])
    if hears and shape == "encoder":
        read = vectors_of(model, read)
    replay = record(model, read, smoothing=0.1, **batch, **given)
    sides = {name.removesuffix(".ids"): row[0].tolist() for name, row in replay.given.items() if name.endswith(".ids")}
    if hears:
        sides = {"encoder": list(range(replay.given["encoder.at"].shape[1])), **sides}
    return Trace(
        model=model,
        task="text",
        text=" ".join(map(str, ids)),
        tokens={name: Tokens(tuple(row), tuple(map(str, row))) for name, row in sides.items()},
        replay=replay,
        plain=answer(model, replay.given),
        vocabulary=tuple(map(str, range(model.config.vocab_size))),
        settings={"kind": "forward"},
    )
