"""The encoder-decoder: reads a source at once, then writes a target token by token, looking at the source in every layer."""

# B batch, S source tokens, T target tokens, D model, V vocabulary

from __future__ import annotations

from torch import Tensor, nn

from glassformer.errors import ConfigError
from glassformer.models.config import ModelConfig
from glassformer.models.heads import Head
from glassformer.models.stack import Stack
from glassformer.nn.cache import Cache, Memory


class EncoderDecoder(nn.Module):
    """Vaswani et al. (2017), figure 1: predicts each target token from the source and the target tokens before it."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        source = config.source_side()
        self.encoder = Stack(source, causal=False)
        self.decoder = Stack(config, causal=True, d_memory=source.d_model)
        if config.shared_embedding:
            self.decoder.embedding.token.weight = self.encoder.embedding.token.weight
        self.head = Head(config, self.decoder.embedding.token)

    def forward(
        self,
        ids: Tensor,
        *,
        source: Tensor | None = None,
        source_at: Tensor | None = None,
        at: Tensor | None = None,
        memory: Memory | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """Scores of the next token after each target token. ids: B T. Returns B T V, float32.

        The source is given as ids (B S), as the `memory` that `read` made of it, or lies in the cache. at: B T and
        source_at: B S, positions from 0, -1 where there is padding. Raises ConfigError where there is no source, or where
        the cache holds what was read of one already.
        """
        return self.head(self.hidden(ids, source=source, source_at=source_at, at=at, memory=memory, cache=cache))

    def hidden(
        self,
        ids: Tensor,
        *,
        source: Tensor | None = None,
        source_at: Tensor | None = None,
        at: Tensor | None = None,
        memory: Memory | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """What the head gets: B T D."""
        if cache is not None and cache.memory is not None:
            if source is not None:
                raise ConfigError("the cache holds what was read of a source already; read another with a new cache")
            memory = cache.memory
        elif source is not None:
            memory = self.read(source, source_at)
        if memory is None:
            raise ConfigError("an encoder-decoder was given no source to look at")
        if cache is not None and cache.memory is None:
            cache.look_at(memory)
        return self.decoder(ids, at=at, cache=cache, memory=memory)

    def read(self, source: Tensor, source_at: Tensor | None = None) -> Memory:
        """What the encoder makes of sources (B S), -1 in `source_at` (B S) being padding."""
        padded = source_at is not None and bool((source_at < 0).any())
        return Memory(self.encoder(source, at=source_at), source_at if padded else None)

    def new_cache(
        self, batch: int, max_len: int | None = None, *, memory: Memory | None = None, beams: int = 1
    ) -> Cache:
        """An empty cache for `batch` rows of up to `max_len` target tokens, `beams` rows for each source of `memory`."""
        return self.decoder.new_cache(batch, max_len, memory=memory, beams=beams)
