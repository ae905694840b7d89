"""The decoder-only language model: a causal stack and a head that scores the next token."""

# B batch, T tokens, V vocabulary

from __future__ import annotations

from torch import Tensor, nn

from glassformer.models.config import ModelConfig
from glassformer.models.heads import Head
from glassformer.models.stack import Embedding, Stack
from glassformer.nn.cache import Cache


class Decoder(nn.Module):
    """Radford et al. (2018): predicts each token from those before it."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.decoder = Stack(config, causal=True)
        assert isinstance(self.decoder.embedding, Embedding)
        self.head = Head(config, self.decoder.embedding.token)

    def forward(
        self,
        ids: Tensor,
        *,
        at: Tensor | None = None,
        documents: Tensor | None = None,
        prefix: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """Scores of the next token after each token. ids: B T. Returns B T V, float32.

        at: B T, each token's position from 0, -1 where there is padding. documents: B T, the number of the packed
        document that each token belongs to. prefix: B, how many leading tokens everybody may see. With a cache the
        tokens continue what it holds.
        """
        return self.head(self.decoder(ids, at=at, documents=documents, prefix=prefix, cache=cache))

    def new_cache(self, batch: int, max_len: int | None = None) -> Cache:
        """An empty cache for `batch` rows of up to `max_len` tokens (default: the model's context)."""
        return self.decoder.new_cache(batch, max_len)
