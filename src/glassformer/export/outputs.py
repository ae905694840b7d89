"""What two models say of the same inputs: differences of logits, divergence of their predictions, where their texts part."""

# B batch, T tokens, N answers, V vocabulary

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from glassformer.errors import ConfigError
from glassformer.export.batches import Batch, answer, random_batches, random_prompts, real
from glassformer.models import Model
from glassformer.tokenizers import Tokenizer

NEW_TOKENS = 20


@dataclass(frozen=True, slots=True)
class Parting:
    """The first token in which the texts of two models differ, counting from 1, after a beginning (its number from 0)."""

    text: int
    token: int
    a: int
    b: int


@dataclass(frozen=True, slots=True)
class OutputDifferences:
    """Over all answers: one for each token, or one for each text. None where a figure has no meaning for the head."""

    inputs: str
    answers: int
    largest: float
    scale: float
    divergence: float | None  # of B's predictions from A's, in nats, on average over the answers
    worst_divergence: float | None
    agreement: int | None  # answers of which both find the same one likeliest
    cosine: float | None  # the smallest, of vectors
    written: int | None  # greedy tokens of each text
    partings: tuple[Parting, ...] | None


def why_incomparable(a: Model, b: Model) -> str | None:
    """What keeps the answers of two models from being held against each other, None where nothing does."""
    for field in ("shape", "head", "vocab_size", "labels"):
        ours, theirs = getattr(a.config, field), getattr(b.config, field)
        if ours != theirs:
            return f"{field} is {ours!r} in A and {theirs!r} in B"
    if a.config.shape == "encoder_decoder":
        ours, theirs = a.config.source_side().vocab_size, b.config.source_side().vocab_size
        return None if ours == theirs else f"the sources of A have {ours} tokens and those of B {theirs}"
    if a.config.head == "pooled" and a.config.d_model != b.config.d_model:
        return f"d_model is {a.config.d_model} in A and {b.config.d_model} in B"
    return None


def compare_outputs(
    a: Model, b: Model, texts: Sequence[str] = (), tokenizer: Tokenizer | None = None, source: Tokenizer | None = None
) -> OutputDifferences:
    """Both run on texts, or on random inputs where there are none. Raises ConfigError for a text that cannot be read."""
    shorter = min((a, b), key=lambda model: model.config.max_len)
    batches = [read(a, text, tokenizer, source, shorter.config.max_len) for text in texts] or random_batches(
        shorter.config
    )
    ours, theirs = (
        torch.cat([flat(real(answer(model, batch), batch)) for batch in batches]).double() for model in (a, b)
    )
    prompts = batches if texts else rows_of(random_prompts(shorter.config, NEW_TOKENS))
    writes = a.config.shape != "encoder"
    divergences, same = predictions(a, ours, theirs)
    return OutputDifferences(
        inputs=f"{len(texts)} text{'s' * (len(texts) > 1)}" if texts else f"{len(batches)} random batches",
        answers=len(ours),
        largest=float((ours - theirs).abs().nan_to_num(nan=float("inf")).max()),
        scale=float(ours.abs().max()),
        divergence=None if divergences is None else float(divergences.mean()),
        worst_divergence=None if divergences is None else float(divergences.max()),
        agreement=same,
        cosine=float(torch.cosine_similarity(ours, theirs, dim=-1).min()) if a.config.head == "pooled" else None,
        written=NEW_TOKENS if writes else None,
        partings=tuple(p for n, batch in enumerate(prompts) if (p := parting(a, b, batch, n))) if writes else None,
    )


def predictions(model: Model, ours: Tensor, theirs: Tensor) -> tuple[Tensor | None, int | None]:
    """The divergence of each prediction (N) and how many have the same favourite, where answers are predictions."""
    if model.config.head == "pooled":
        return None, None
    same = int((ours.argmax(-1) == theirs.argmax(-1)).sum())
    if model.config.several_labels:
        return None, same
    log_p, log_q = ours.log_softmax(-1), theirs.log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1).clamp(min=0), same


def flat(answers: Tensor) -> Tensor:
    """One answer a row: N V."""
    return answers.reshape(-1, answers.shape[-1])


def read(model: Model, text: str, tokenizer: Tokenizer | None, source: Tokenizer | None, max_len: int) -> Batch:
    """A text as a batch of one row. An encoder-decoder reads it as a source and begins its target. Raises ConfigError."""
    if model.config.vectors is not None:
        raise ConfigError("these models read vectors and no texts; leave the texts out to compare on random vectors")
    reader = source or tokenizer
    if reader is None:
        raise ConfigError("A has no tokenizer, so no text can be read; leave the texts out to compare on random inputs")
    ids = reader.encode(text)
    if model.config.shape != "encoder_decoder":
        return one_row(ids[:max_len], text)
    assert tokenizer is not None
    first = tokenizer.special_tokens.get("<|start|>", 0)
    row, width = one_row(ids[: model.config.source_side().max_len], text), torch.tensor([[first]])
    return Batch(width, torch.zeros_like(width), row.ids, row.at)


def one_row(ids: Sequence[int], text: str) -> Batch:
    """Ids as a batch. Raises ConfigError where there are none."""
    if not ids:
        raise ConfigError(f"{text!r} has no tokens, so there is nothing to compare on it")
    return Batch(torch.tensor([list(ids)]), torch.arange(len(ids))[None])


def rows_of(batch: Batch) -> list[Batch]:
    """Each row by itself."""
    pieces = [batch.ids, batch.at, batch.source, batch.source_at]
    return [Batch(*(None if p is None else p[row : row + 1] for p in pieces)) for row in range(len(batch.ids))]  # type: ignore[arg-type]


def parting(a: Model, b: Model, batch: Batch, number: int) -> Parting | None:
    """Where the greedy texts of two models part after a beginning, None where they do not."""
    room = min(a.config.max_len, b.config.max_len) - batch.ids.shape[1]
    for step in range(min(NEW_TOKENS, room + 1)):
        ours, theirs = (answer(model, batch)[:, -1].argmax(-1) for model in (a, b))
        if int(ours) != int(theirs):
            return Parting(number, step + 1, int(ours), int(theirs))
        if step < room:
            batch = batch.longer_by(ours)
    return None
