"""The loop: read, draw a token for each row, until every row is finished. Knows ids only; text lives in `text.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import torch

from glassformer.errors import ConfigError
from glassformer.generate.context import LanguageModel, Reader, Window
from glassformer.generate.sampling import Draw, Sampling, choose, count_tokens, draw, uniform

Finish = Literal["eos", "stop", "length"]


@dataclass(frozen=True, slots=True)
class Completion:
    """What was drawn after one prompt: `ids` holds every token drawn, a final eos included."""

    prompt_ids: tuple[int, ...]
    ids: tuple[int, ...]
    finish: Finish
    notes: tuple[str, ...] = ()
    draws: tuple[Draw, ...] | None = None  # one for each id, where they were asked for


@dataclass(slots=True, eq=False)
class Row(Window):
    """A prompt and what has been drawn after it. Whoever sees its last token may set `finish` to end it there."""

    sample: int = 0
    finish: Finish | None = None
    draws: list[Draw] = field(default_factory=list)
    prompt_length: int = field(init=False)

    def __post_init__(self) -> None:
        self.prompt_length = len(self.tokens)

    @property
    def drawn(self) -> int:
        """How many tokens have been drawn."""
        return len(self.tokens) - self.prompt_length

    def completion(self, record: bool = False) -> Completion:
        """The row as it stands; one that nobody ended has come to its length."""
        return Completion(
            prompt_ids=tuple(self.tokens[: self.prompt_length]),
            ids=tuple(self.tokens[self.prompt_length :]),
            finish=self.finish or "length",
            notes=(self.note,) if self.note else (),
            draws=tuple(self.draws) if record else None,
        )


def generate_ids(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    sampling: Sampling | None = None,
    seed: int = 0,
    samples: Sequence[int] | None = None,
    eos_id: int | None = None,
    pad_id: int = 0,
    vocab_size: int | None = None,
    stop: Sequence[Callable[[int], bool]] | None = None,
    on_token: Callable[[int, int], None] | None = None,
    use_cache: bool = True,
    record: bool = False,
) -> list[Completion]:
    """Go on from each prompt, prompts of any length together; each comes out as it would alone.

    `samples` numbers the draws of each row (default 0): rows with the same prompt and number come out the same.
    `vocab_size` draws from the first ids only, for models with more rows than their tokenizer has tokens. `stop` holds a
    function for each row that is told each token and answers whether to end there. `on_token` is told row and token.
    `record` keeps a Draw for each token. Raises ConfigError for an empty prompt or an id that the model does not have.
    """
    rows = [
        Row(list(prompt), sample=sample) for prompt, sample in zip(prompts, samples or [0] * len(prompts), strict=True)
    ]
    number = {row: i for i, row in enumerate(rows)}
    drawing = advance(
        model,
        rows,
        max_new_tokens=max_new_tokens,
        sampling=sampling or Sampling(),
        seed=seed,
        eos_id=eos_id,
        pad_id=pad_id,
        vocab_size=vocab_size,
        use_cache=use_cache,
        record=record,
    )
    for row, token in drawing:
        i = number[row]
        if on_token is not None:
            on_token(i, token)
        if stop is not None and row.finish is None and stop[i](token):
            row.finish = "stop"
    return [row.completion(record) for row in rows]


@torch.inference_mode()
def advance(
    model: LanguageModel,
    rows: Sequence[Row],
    *,
    max_new_tokens: int,
    sampling: Sampling,
    seed: int,
    eos_id: int | None,
    pad_id: int,
    vocab_size: int | None,
    use_cache: bool = True,
    record: bool = False,
) -> Iterator[tuple[Row, int]]:
    """Draw a token for each unfinished row, and again, yielding each row with its new token. See `generate_ids`."""
    vocab_size = vocab_size or model.config.vocab_size
    refuse_foreign_ids(rows, vocab_size)
    read = Reader(model, pad_id=pad_id, max_new_tokens=max_new_tokens, use_cache=use_cache)
    counts = {row: count_tokens(row.tokens, vocab_size) for row in rows} if sampling.penalises else {}
    seen = torch.zeros(1, 1)  # what the stages get where none of them asks for counts
    with evaluating(model):
        for _ in range(max_new_tokens):
            alive = [row for row in rows if row.finish is None]
            if not alive:
                return
            logits = read(alive)[:, :vocab_size]
            numbers = [uniform(seed, row.sample, row.drawn) for row in alive]
            if record:
                for row, scores, u in zip(alive, logits, numbers, strict=True):
                    row.draws.append(draw(scores, sampling, row.tokens, u))
                tokens = [row.draws[-1].token for row in alive]
            else:
                if counts:
                    seen = torch.stack([counts[row] for row in alive])
                tokens = choose(logits, sampling, seen, numbers)
            for row, token in zip(alive, tokens, strict=True):
                row.tokens.append(token)
                if counts:
                    counts[row][token] += 1
                if token == eos_id:
                    row.finish = "eos"
                yield row, token


def refuse_foreign_ids(rows: Sequence[Row], vocab_size: int) -> None:
    """Raise ConfigError for a prompt without tokens or with one that is not in the vocabulary."""
    for i, row in enumerate(rows):
        if not row.tokens:
            raise ConfigError(f"prompt {i} has no tokens: there is nothing to go on from; begin with the eos token")
        worst = next((token for token in row.tokens if not 0 <= token < vocab_size), None)
        if worst is not None:
            raise ConfigError(
                f"prompt {i} holds the token id {worst}, but the model knows ids 0 to {vocab_size - 1} only:"
                " it was trained with another tokenizer"
            )


@contextmanager
def evaluating(model: LanguageModel) -> Iterator[None]:
    """Switch dropout off, and afterwards back to what it was."""
    was_training = model.training
    model.train(False)
    try:
        yield
    finally:
        model.train(was_training)
