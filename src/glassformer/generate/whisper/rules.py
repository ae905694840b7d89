"""Which tokens may come next in a Whisper transcript: never the steering ones, and times in pairs that only go forward."""

# R rows, V vocabulary. -inf marks a token that is forbidden

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from glassformer.generate.constraints import Constraints
from glassformer.generate.whisper.tokens import Tokens
from glassformer.tokenizers.roles import Writing


@dataclass(frozen=True)
class Rules(Constraints):
    """The rules of a search as `generate.beam` asks for them, and of drawing. `times`: whether times are told."""

    tokens: Tokens | None = None
    times: bool = True
    never: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    never_first: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))

    @classmethod
    def of(cls, tokens: Tokens, *, times: bool, device: torch.device | str = "cpu") -> Rules:
        """The rules of a model."""
        most = tokens.vocab_size
        never = [id for id in (*tokens.never, tokens.no_times) if id < most]
        first = [id for id in tokens.never_first if id < most]
        return cls(
            eos_id=tokens.end,
            writing=Writing(renormalises=True),
            tokens=tokens,
            times=times,
            never=torch.tensor(never, dtype=torch.long, device=device),
            never_first=torch.tensor(first, dtype=torch.long, device=device),
        )

    def __call__(
        self,
        logits: Tensor,
        texts: Sequence[Sequence[int]],
        new: int,
        forced: Sequence[Sequence[int]] = (),
        last: Sequence[bool] = (),
    ) -> Tensor:
        """The logits [R, V] of the token after each text, of which the last `new` tokens are written, under all rules."""
        logits = logits.index_fill(-1, self.never, -math.inf)
        if new == 0:
            logits = logits.index_fill_(-1, self.never_first, -math.inf)
        if self.times:
            for row, text in zip(logits, texts, strict=True):
                self.keep_times(row, text[len(text) - new :])
        return logits

    def keep_times(self, row: Tensor, written: Sequence[int]) -> None:
        """Forbid, in place, what would break the order of times: text stands between two, and none goes back.

        Where all times together are likelier than the likeliest other token, one of them comes.
        """
        assert self.tokens is not None
        first, end = self.tokens.first_time, self.tokens.end
        was_time = len(written) >= 1 and written[-1] >= first
        closed = was_time and (len(written) < 2 or written[-2] >= first)
        if closed:
            row[first:] = -math.inf  # a time that begins a text: the text comes
        elif was_time:
            row[:end] = -math.inf  # a time that ends a text: the next one's time, or the end
        latest = next((id for id in reversed(written) if id >= first), None)
        if latest is not None:
            row[first : latest + (0 if was_time and not closed else 1)] = -math.inf
        if not written:
            row[:first] = -math.inf
            row[first + self.tokens.latest_first + 1 :] = -math.inf
        elif bool(row[first:].logsumexp(-1) > row[:first].amax()):
            row[:first] = -math.inf
