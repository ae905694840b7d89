"""Which tokens may come next in a Whisper transcript: never the steering ones, and times in pairs that only go forward."""

# R rows, V vocabulary. -inf marks a token that is forbidden

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from glassformer.generate.constraints import Constraints, forbid
from glassformer.generate.whisper.tokens import Tokens
from glassformer.tokenizers.roles import Writing


@dataclass(frozen=True)
class Rules(Constraints):
    """The rules of a search as `generate.beam` asks for them, and of drawing. `times`: whether times are told."""

    tokens: Tokens | None = None
    times: bool = True
    never: tuple[int, ...] = ()
    never_first: tuple[int, ...] = ()

    @classmethod
    def of(cls, tokens: Tokens, *, times: bool) -> Rules:
        """The rules of a model."""
        return cls(
            eos_id=tokens.end,
            writing=Writing(renormalises=True),
            tokens=tokens,
            times=times,
            never=(*tokens.never, tokens.no_times),
            never_first=tokens.never_first,
        )

    def __call__(
        self,
        logits: Tensor,
        texts: Sequence[Sequence[int]],
        new: int,
        forced: Sequence[Sequence[int]] = (),
        last: Sequence[bool] = (),
    ) -> Tensor:
        """The logits [R, V] of the token after each text, of which the last `new` tokens are written, under all rules.

        They stay where they are: a search brings them to the processor, whatever the model computes on.
        """
        logits = forbid(logits, *self.never, *(self.never_first if new == 0 else ()))
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
