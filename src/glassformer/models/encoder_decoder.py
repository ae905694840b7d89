"""The encoder-decoder: reads a source at once, then writes a target token by token, looking at the source in every layer."""

# B batch, S source tokens, T target tokens, D model, V vocabulary

from __future__ import annotations

from typing import Literal, overload

from torch import Tensor, nn

from glassformer.errors import ConfigError
from glassformer.models.config import ModelConfig
from glassformer.models.heads import CtcHead, Head
from glassformer.models.stack import Embedding, Stack
from glassformer.models.vectors import subsampled
from glassformer.nn.cache import Cache, Memory


class EncoderDecoder(nn.Module):
    """Vaswani et al. (2017), figure 1: predicts each target token from the source and the target tokens before it."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        source = config.source_side()
        self.encoder = Stack(source, causal=False)
        self.decoder = Stack(config, causal=True, d_memory=source.d_model)
        assert isinstance(self.decoder.embedding, Embedding)
        if config.shared_embedding:
            assert isinstance(self.encoder.embedding, Embedding)
            self.decoder.embedding.token.weight = self.encoder.embedding.token.weight
        self.head = Head(config, self.decoder.embedding.token)
        self.ctc = CtcHead(source.d_model, config.vocab_size) if config.ctc_blank is not None else None

    @overload
    def forward(
        self,
        ids: Tensor,
        *,
        source: Tensor | None = None,
        source_at: Tensor | None = None,
        at: Tensor | None = None,
        memory: Memory | None = None,
        cache: Cache | None = None,
        both: Literal[False] = False,
    ) -> Tensor: ...

    @overload
    def forward(
        self,
        ids: Tensor,
        *,
        source: Tensor | None = None,
        source_at: Tensor | None = None,
        at: Tensor | None = None,
        memory: Memory | None = None,
        cache: Cache | None = None,
        both: Literal[True],
    ) -> tuple[Tensor, Tensor]: ...

    def forward(
        self,
        ids: Tensor,
        *,
        source: Tensor | None = None,
        source_at: Tensor | None = None,
        at: Tensor | None = None,
        memory: Memory | None = None,
        cache: Cache | None = None,
        both: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Scores of the next token after each target token. ids: B T. Returns B T V, float32.

        The source is given as ids (B S) or vectors (B S F), as the `memory` that `read` made of it, or lies in the cache. at:
        B T and source_at: B S, positions from 0, -1 where there is padding. With `both` also what CTC says of the source at
        each of the S' places that the encoder leaves of it, B S' V (Watanabe et al. 2017). Raises ConfigError where there is
        no source, or where the cache holds what was read of one already.
        """
        if not both:
            return self.head(self.hidden(ids, source=source, source_at=source_at, at=at, memory=memory, cache=cache))
        if self.ctc is None:
            raise ConfigError("this model has no CTC head: set model.ctc_blank")
        if source is not None:
            memory, source = self.read(source, source_at), None
        if memory is None:
            raise ConfigError("an encoder-decoder was given no source to look at")
        return self.head(self.hidden(ids, at=at, memory=memory, cache=cache)), self.ctc(memory.states)

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
        """What the encoder makes of sources (B S, or B S F of vectors), -1 in `source_at` (B S) being padding."""
        states, vectors = self.encoder(source, at=source_at), self.config.vectors
        if source_at is None or not bool((source_at < 0).any()):
            return Memory(states)
        return Memory(states, source_at if vectors is None else subsampled(source_at, vectors.strides))

    def new_cache(
        self, batch: int, max_len: int | None = None, *, memory: Memory | None = None, beams: int = 1
    ) -> Cache:
        """An empty cache for `batch` rows of up to `max_len` target tokens, `beams` rows for each source of `memory`."""
        return self.decoder.new_cache(batch, max_len, memory=memory, beams=beams)
