"""What the model sees of each row: a window of its tokens, and a reader that feeds windows of any length as one batch."""

# B rows, T columns, V vocabulary

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor


class Sizes(Protocol):
    """What generating asks of a model's config."""

    @property
    def vocab_size(self) -> int: ...

    @property
    def max_len(self) -> int: ...


class LanguageModel(Protocol):
    """What generating asks of a model: logits [B, T, V] of the token after each of `ids` [B, T].

    `at` [B, T] is each token's position, -1 for padding; None counts on from what the cache holds. A cache has `length`,
    its columns in use, and `reorder(rows)`, which makes row i a copy of what row `rows[i]` was.
    """

    training: bool

    @property
    def config(self) -> Sizes: ...

    def __call__(self, ids: Tensor, *, at: Tensor | None = None, cache: Any = None) -> Tensor: ...

    def new_cache(self, batch: int, max_len: int | None = None) -> Any: ...

    def parameters(self) -> Iterator[Tensor]: ...

    def train(self, mode: bool = True) -> Any: ...


@dataclass(slots=True, eq=False)
class Window:
    """The tokens of one row, of which the model sees those from `start` on."""

    tokens: list[int]
    start: int = 0
    note: str = ""  # a sentence for the user, once the start has been left behind

    def visible(self) -> list[int]:
        """The tokens that the model sees."""
        return self.tokens[self.start :]

    def fit(self, max_len: int) -> bool:
        """Slide if more than `max_len` tokens are visible; whether it did.

        Three quarters stay, so that reading them again is paid for by the tokens that fill the last quarter. They are
        read at positions from 0 on, which any position scheme knows from training.
        """
        if len(self.tokens) - self.start <= max_len:
            return False
        kept = max_len - max_len // 4
        self.start = len(self.tokens) - kept
        self.note = self.note or f"the context of {max_len} tokens is full: going on with the last {kept}"
        return True


class Reader:
    """Gives next-token logits, with a cache by reading only what is new, without one by reading every window again.

    A window depends on its own row alone, so neither the cache nor the neighbours change what the model sees of it.
    """

    def __init__(self, model: LanguageModel, *, pad_id: int, max_new_tokens: int, use_cache: bool) -> None:
        self.model = model
        self.pad_id = pad_id
        self.max_new_tokens = max_new_tokens
        self.use_cache = use_cache
        self.max_len = model.config.max_len
        self.device = next(model.parameters()).device
        self.cache: Any = None
        self.cached: list[Window] = []  # whose tokens the rows of the cache hold
        self.columns = 0  # that the cache has room for
        self.is_ragged = False

    def __call__(self, windows: Sequence[Window]) -> Tensor:
        """Logits of the token after each window: B V. Windows may drop out from one call to the next, not come in."""
        slid = [window.fit(self.max_len) for window in windows]
        if self.cache is None or any(slid) or self.cache.length == self.columns:
            return self._read(windows)
        return self._read_on(windows)

    def _read(self, windows: Sequence[Window]) -> Tensor:
        """All visible tokens, padded on the left, equal windows once."""
        seen = [tuple(window.visible()) for window in windows]
        distinct = list(dict.fromkeys(seen))
        width = max(map(len, distinct))
        self.is_ragged = any(len(tokens) < width for tokens in distinct)
        pads = [width - len(tokens) for tokens in distinct]
        ids = [[self.pad_id] * pad + list(tokens) for pad, tokens in zip(pads, distinct, strict=True)]
        at = [[-1] * pad + list(range(width - pad)) for pad in pads]
        if self.use_cache:
            self.cached, self.columns = list(windows), min(self.max_len, width + self.max_new_tokens)
            self.cache = self.model.new_cache(len(distinct), self.columns)
        logits = self._logits(ids, at)
        if len(distinct) == len(seen):
            return logits
        rows = self._tensor([distinct.index(tokens) for tokens in seen])
        if self.cache is not None:
            self.cache.reorder(rows)
        return logits[rows]

    def _read_on(self, windows: Sequence[Window]) -> Tensor:
        """The last token of each window, after what the cache holds of it."""
        if len(windows) < len(self.cached):
            self.cache.reorder(self._tensor([self.cached.index(window) for window in windows]))
            self.cached = list(windows)
        ids = [[window.tokens[-1]] for window in windows]
        at = [[len(window.tokens) - window.start - 1] for window in windows]
        return self._logits(ids, at)

    def _logits(self, ids: list[list[int]], at: list[list[int]]) -> Tensor:
        places = self._tensor(at) if self.is_ragged else None  # without padding the model's own count is the same
        return self.model(self._tensor(ids), at=places, cache=self.cache)[:, -1]

    def _tensor(self, values: list[list[int]] | list[int]) -> Tensor:
        return torch.tensor(values, device=self.device)
