"""Embedding and blocks: the part that decoders and encoders have in common, built from a config."""

# B batch, T queries, S keys, D model

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from glassformer.errors import ConfigError
from glassformer.models.config import ModelConfig, RotaryScaling
from glassformer.models.vectors import VectorEmbedding
from glassformer.nn.attention import Attention, CrossAttention
from glassformer.nn.block import BLOCKS
from glassformer.nn.cache import Cache, Memory
from glassformer.nn.decode import shortcut
from glassformer.nn.dropout import Dropout
from glassformer.nn.mlp import MLPS
from glassformer.nn.norms import NORMS
from glassformer.nn.positions import POSITIONS, Place, Positions
from glassformer.ops import rotary
from glassformer.ops.masks import Look, look, positions_in_documents, text_lengths
from glassformer.trace import tap


class Embedding(nn.Module):
    """The vector of each token, plus the code of its position and of the pair it makes with the token before, if any."""

    def __init__(self, config: ModelConfig, positions: Positions) -> None:
        super().__init__()
        self.token = nn.Embedding(config.vocab_size, config.d_model)
        self.bigram = nn.Embedding(config.bigram, config.d_model) if config.bigram else None
        self.kind = nn.Embedding(config.token_types, config.d_model) if config.token_types else None
        self.scale = math.sqrt(config.d_model) if config.embedding_scale else None
        self.norm = build_norm(config) if config.embedding_norm else None
        self.points = (
            "token",
            *(["bigram"] if self.bigram else []),
            *(["kind"] if self.kind else []),
            *(["position"] if positions.adds else []),
            *(["sum"] if self.norm else []),
            "out",
        )

    def forward(
        self, ids: Tensor, at: Tensor, positions: Positions, before: Tensor | None, kinds: Tensor | None = None
    ) -> Tensor:
        x = self.token(ids)  # B T D
        if self.scale is not None:
            x = x * self.scale
        x = tap(self, "token", x)
        if self.bigram is not None:
            x = x + tap(self, "bigram", self.bigram(self.pair(ids, at, before)))
        if self.kind is not None:
            x = x + tap(self, "kind", self.kind(torch.zeros_like(ids) if kinds is None else kinds))
        code = positions.code(at)
        if code is not None:
            x = x + tap(self, "position", code.to(x.dtype))
        if self.norm is not None:
            x = self.norm(tap(self, "sum", x))
        return tap(self, "out", x)

    @property
    def weight(self) -> Tensor:
        """The table of tokens, whose number type and device are the stack's."""
        return self.token.weight

    def pair(self, ids: Tensor, at: Tensor, before: Tensor | None) -> Tensor:
        """The row of the bigram table for each token and the one before it, 0 where a text begins. B T."""
        assert self.bigram is not None
        rows = self.bigram.num_embeddings
        first = torch.full_like(ids[:, :1], -1) if before is None else before[:, None]
        previous = torch.cat((first, ids[:, :-1]), dim=1)  # -1: nobody said what stands before
        code = previous * self.token.num_embeddings + ids
        if self.token.num_embeddings**2 >= rows:
            code = code * 2_654_435_761 >> 7  # Knuth's multiplicative hash spreads the pairs that share a row
        return torch.where((at > 0) & (previous >= 0), 1 + code % (rows - 1), 0)


class Stack(nn.Module):
    """Embedding, blocks, and the last norm. Returns B T D; of vectors T is what the convolutions leave.

    With `d_memory` every block looks at a memory of that width too, between its attention and its MLP.
    """

    def __init__(self, config: ModelConfig, *, causal: bool, d_memory: int | None = None) -> None:
        super().__init__()
        self.config = config
        self.causal = causal
        self.max_len = config.max_len
        self.positions = build_positions(config, causal)
        self.local_positions = build_local_positions(config)
        self.embedding = embedding_of(config, self.positions)
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(build_block(config, layer, d_memory) for layer in range(config.n_layers))
        self.norm = nn.Identity() if config.norm_place == "post" else build_norm(config)

    def forward(
        self,
        ids: Tensor,
        *,
        at: Tensor | None = None,
        documents: Tensor | None = None,
        prefix: Tensor | None = None,
        cache: Cache | None = None,
        memory: Memory | None = None,
        kinds: Tensor | None = None,
    ) -> Tensor:
        if isinstance(self.embedding, VectorEmbedding):
            x, at = self.embedding(ids, at, self.positions)
            at, places = self.places(x, at, documents, prefix, cache)
        else:
            at, places = self.places(ids, at, documents, prefix, cache)
            x = self.embedding(ids, at, self.positions, None if cache is None else cache.last, kinds)
        x = self.dropout(x)
        short = None if cache is None else shortcut(self.blocks, x, places, cache)
        if cache is not None and short is not None:
            x = short(x, places[0], cache)
        else:
            for block, place in zip(self.blocks, places, strict=True):
                x = block(x, place, cache, memory)
        if cache is not None:
            cache.last = ids.gather(1, at.expand_as(ids).argmax(1, keepdim=True))[:, 0]
        return self.norm(x)

    def new_cache(
        self, batch: int, max_len: int | None = None, *, memory: Memory | None = None, beams: int = 1
    ) -> Cache:
        """An empty cache for `batch` rows of up to `max_len` tokens (default: the stack's context)."""
        weight, config = self.embedding.weight, self.config
        return Cache(
            n_layers=config.n_layers,
            batch=batch,
            n_kv_heads=config.n_kv_heads,
            d_head=config.d_head,
            d_value=config.d_value,
            max_len=max_len or config.max_len,
            window=None if config.windowed_layers is not None and not all(config.windowed_layers) else config.window,
            dtype=weight.dtype,
            device=weight.device,
            memory=memory,
            beams=beams,
        )

    def places(
        self,
        ids: Tensor,
        at: Tensor | None,
        documents: Tensor | None,
        prefix: Tensor | None,
        cache: Cache | None,
    ) -> tuple[Tensor, list[Place]]:
        """Positions of the tokens (B|1 T) and, for each layer, mask, rotation and score bias; most layers share one. Of `ids`
        only the shape counts."""
        new = ids.shape[1]
        plain = at is None and documents is None and prefix is None
        if at is None:
            at = self.default_at(ids, documents, cache)
        if self.positions.adds and not torch.compiler.is_compiling() and int(at.max()) >= self.max_len:
            raise ConfigError(f"{int(at.max()) + 1} tokens do not fit into max_len={self.max_len}")
        if cache is None:
            key_at, keys = at, new
        else:
            if documents is not None:
                raise ConfigError("packed documents cannot be read through a cache; give each its own row")
            at = at.expand(ids.shape[0], -1)
            self.refuse_outgrown(at, cache)
            key_at = cache.advance(at, ragged=not plain and bool((at < 0).any()))
            keys, plain = key_at.shape[1], prefix is None and not cache.ragged
        sees_all = not self.causal or new == 1
        dtype = self.embedding.weight.dtype
        lengths = text_lengths(at, documents) if self.positions.by_length else None
        shared: dict[int | None, Place] = {}
        for window in {self.config.window_of(layer) for layer in range(len(self.blocks))}:
            if plain and (window is None or keys <= window) and (sees_all or new == keys):
                seen = Look(causal=not sees_all)
            else:
                pair = None if documents is None else (documents, documents)
                seen = look(at, key_at, causal=self.causal, window=window, documents=pair, prefix=prefix)
            positions = self.positions if window is None else self.local_positions or self.positions
            shared[window] = Place(seen, positions.turn(in_common(at), dtype, lengths), positions.bias(at, key_at))
        return at, [shared[self.config.window_of(layer)] for layer in range(len(self.blocks))]

    def refuse_outgrown(self, at: Tensor, cache: Cache) -> None:
        """Raise ConfigError where new tokens turn those in the cache by other angles than they were read with."""
        fixed = self.config.fixed_len
        if fixed is not None and cache.length and int(at.max()) >= fixed:
            raise ConfigError(
                f"dynamic rotary scaling turns all tokens of a text anew once it has more than {fixed}: a cache cannot go on"
                f" to {int(at.max()) + 1}; read the whole text again"
            )

    def default_at(self, ids: Tensor, documents: Tensor | None, cache: Cache | None) -> Tensor:
        """Positions nobody gave: counted from 0, from what the cache holds, or from the start of each document."""
        if documents is not None:
            return positions_in_documents(documents)
        index = torch.arange(ids.shape[1], device=ids.device)[None]
        return index if cache is None or cache.length == 0 else cache.next_at[:, None] + index


def embedding_of(config: ModelConfig, positions: Positions) -> Embedding | VectorEmbedding:
    """What a stack reads with: the encoder of a model with `vectors` has no tokens."""
    if config.vectors is not None and config.shape == "encoder":
        return VectorEmbedding(config, positions)
    return Embedding(config, positions)


def in_common(at: Tensor) -> Tensor:
    """The positions (1 T) that all rows share but for padding on the right, where any will do; else `at` (B T) itself.

    Rows that share their angles are turned by one table, which the compiled kernels can do.
    """
    if at.shape[0] == 1 or torch.compiler.is_compiling():
        return at
    index = torch.arange(at.shape[1], device=at.device)[None]
    return index if bool(((at == index) | (at < 0)).all()) else at


def build_positions(config: ModelConfig, causal: bool = True) -> Positions:
    """The position scheme of a config. Where later positions are seen too, relative buckets tell before from after."""
    extra: dict[str, Any] = {}
    if config.positions == "rotary":
        law = config.rotary_scaling
        extra = {
            "base": config.rotary_base,
            "scaling": rotary_scaling(law, config.rotary_base),
            "stretch": rotary_stretch(law),
        }
        extra["by_length"] = config.fixed_len is not None
    elif config.positions == "learned":
        extra = {"offset": config.position_offset}
    elif config.positions == "relative":
        extra = {"n_buckets": config.relative_buckets, "max_distance": config.relative_max_distance}
        extra["both_ways"] = not causal
    make = POSITIONS[config.positions]
    return make(d_model=config.d_model, n_heads=config.n_heads, d_head=config.d_head, max_len=config.max_len, **extra)


def build_local_positions(config: ModelConfig) -> Positions | None:
    """The positions of layers with a window, where they have a rotary base of their own."""
    if config.local_rotary_base is None:
        return None
    return build_positions(config.updated({"rotary_base": config.local_rotary_base, "rotary_scaling": None}))


def rotary_scaling(law: RotaryScaling | None, base: float) -> rotary.Scaling | None:
    """The law that stretches rotary angles, as a function of the frequencies and, where it counts, the lengths of texts."""
    if law is None:
        return None
    factor, original = law.factor, law.original_max_len
    match law.kind:
        case "linear":
            return lambda frequency, _: rotary.interpolate(frequency, factor)
        case "ntk":
            return lambda frequency, _: rotary.ntk(frequency, factor)
        case "dynamic":
            return lambda frequency, lengths: rotary.dynamic(frequency, factor, original, lengths)
        case "llama3":
            return lambda frequency, _: rotary.llama3(frequency, factor, law.low, law.high, original)
        case "yarn":
            betas = law.beta_fast, law.beta_slow
            return lambda frequency, _: rotary.yarn(frequency, factor, base, original, *betas, truncate=law.truncate)


def rotary_stretch(law: RotaryScaling | None) -> float:
    """By how much a law lengthens what it turns."""
    if law is None or law.kind != "yarn":
        return 1.0
    return law.attention_factor or rotary.yarn_stretch(law.factor, law.mscale, law.mscale_all_dim)


def build_norm(config: ModelConfig, d: int | None = None) -> nn.Module:
    """The norm of a config, over d_model channels or over `d`."""
    make = NORMS[config.norm]
    return make(d or config.d_model, config.norm_eps, gain=config.norm_gain, bias=config.norm_bias)


def build_block(config: ModelConfig, layer: int, d_memory: int | None = None) -> nn.Module:
    """Block number `layer` of a stack."""
    cross: dict[str, Any] = {}
    if d_memory is not None:
        cross = {
            "cross_attention": build_attention(config, layer, CrossAttention, d_memory=d_memory),
            "cross_attention_norm": build_norm(config),
        }
    if config.norm_place == "both":
        sublayers = ("attention", "mlp", *(["cross_attention"] if cross else []))
        cross |= {f"{name}_out_norm": build_norm(config) for name in sublayers}
    return BLOCKS[config.norm_place](
        attention=build_attention(config, layer, Attention),
        attention_norm=build_norm(config),
        mlp=MLPS[config.mlp](config.d_model, config.d_ff, bias=config.mlp_bias),
        mlp_norm=build_norm(config),
        dropout=config.dropout,
        **cross,
    )


def build_attention(config: ModelConfig, layer: int, kind: type[Attention], **more: Any) -> Attention:
    """The attention of block number `layer`, to itself or to a memory."""
    return kind(
        layer=layer,
        d_model=config.d_model,
        n_heads=config.n_heads,
        n_kv_heads=config.n_kv_heads,
        d_head=config.d_head,
        d_value=config.d_value,
        bias=config.attention_bias,
        key_bias=config.attention_key_bias,
        out_bias=config.attention_out_bias,
        scale=config.attention_scale,
        softcap=config.attention_softcap,
        dropout=config.attention_dropout,
        q_norm=build_norm(config, config.d_head) if config.qk_norm else None,
        k_norm=build_norm(config, config.d_head) if config.qk_norm else None,
        **more,
    )
