"""Multi-head attention (Vaswani et al. 2017, section 3.2); grouped and multi-query by one number."""

# B batch, T queries, S keys, D model, H heads, G key/value heads, K head width, V value width

from __future__ import annotations

import math
from typing import ClassVar

from torch import Tensor, nn

from glassformer.nn.cache import Cache, Memory
from glassformer.nn.norms import RMSNorm
from glassformer.nn.positions import Place, Rotation, Turn, unturned
from glassformer.ops import attention as ops
from glassformer.ops import fused
from glassformer.trace import tap, watched


class Attention(nn.Module):
    """Each query weighs all keys it may look at and takes the weighted sum of their values."""

    points: ClassVar[tuple[str, ...]] = (
        "q_linear",
        "k_linear",
        "q",
        "k",
        "v",
        "scores",
        "mask_rule",
        "masked",
        "pattern",
        "z",
        "out",
    )

    def __init__(
        self,
        *,
        layer: int,
        d_model: int,
        n_heads: int,
        n_kv_heads: int,
        d_head: int,
        d_value: int,
        bias: bool,
        out_bias: bool,
        key_bias: bool | None = None,
        scale: float | None = None,
        softcap: float | None = None,
        dropout: float = 0.0,
        q_norm: nn.Module | None = None,
        k_norm: nn.Module | None = None,
        d_memory: int | None = None,
    ) -> None:
        super().__init__()
        self.layer, self.n_heads, self.n_kv_heads, self.d_head, self.d_value = (
            layer,
            n_heads,
            n_kv_heads,
            d_head,
            d_value,
        )
        self.scale = 1 / math.sqrt(d_head) if scale is None else scale
        self.softcap, self.dropout = softcap, dropout
        self.q_proj = nn.Linear(d_model, n_heads * d_head, bias=bias)
        self.k_proj = nn.Linear(d_memory or d_model, n_kv_heads * d_head, bias=bias if key_bias is None else key_bias)
        self.v_proj = nn.Linear(d_memory or d_model, n_kv_heads * d_value, bias=bias)
        self.o_proj = nn.Linear(n_heads * d_value, d_model, bias=out_bias)
        self.q_norm, self.k_norm = q_norm, k_norm

    def forward(self, x: Tensor, place: Place, cache: Cache | None = None) -> Tensor:
        q, k, v = self.qkv(x, place)
        if cache is not None:
            k, v = cache.extend(self.layer, k, v)
        z = tap(self, "z", self.mix(q, k, v, place))  # B H T V
        return tap(self, "out", self.o_proj(z.transpose(1, 2).flatten(2)))  # B T D

    def qkv(self, x: Tensor, place: Place) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (B H T K), keys (B G T K) and values (B G T V), normalised and turned where the model does so."""
        q = tap(self, "q_linear", self.q_proj(x).unflatten(-1, (self.n_heads, self.d_head)))  # B T H K
        k = tap(self, "k_linear", self.k_proj(x).unflatten(-1, (self.n_kv_heads, self.d_head)))
        v = self.v_proj(x).unflatten(-1, (self.n_kv_heads, self.d_value)).transpose(1, 2)
        q, k = normed_and_turned(q, self.q_norm, place.turn), normed_and_turned(k, self.k_norm, place.turn)
        return tap(self, "q", q), tap(self, "k", k), tap(self, "v", v)

    def mix(self, q: Tensor, k: Tensor, v: Tensor, place: Place) -> Tensor:
        """The values, weighted: by the fused kernel, or in readable steps when somebody watches them. B H T V."""
        if self.softcap is not None or watched(self, "scores", "mask_rule", "masked", "pattern"):
            return self.mix_in_steps(q, k, v, place)
        return ops.attend(
            q,
            k,
            v,
            scale=self.scale,
            mask=place.look.mask,
            causal=place.look.causal,
            bias=place.bias,
            dropout=self.dropout if self.training else 0.0,
        )

    def mix_in_steps(self, q: Tensor, k: Tensor, v: Tensor, place: Place) -> Tensor:
        """The definition, every stage of it visible."""
        scores = tap(self, "scores", ops.scores(q, k, self.scale, place.bias, self.softcap))  # B H T S
        rule = tap(self, "mask_rule", place.look.rule(scores.shape[2], scores.shape[3], scores.device))
        masked = tap(self, "masked", scores.masked_fill(rule.ne(0), -math.inf))
        pattern = tap(self, "pattern", ops.softmax(masked))
        return nn.functional.dropout(pattern, self.dropout, self.training) @ ops.spread(v, self.n_heads)


class CrossAttention(Attention):
    """Queries from the decoder, keys and values from what the encoder made of the source (`d_memory` wide)."""

    def forward(self, x: Tensor, memory: Memory, cache: Cache | None = None) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        q = tap(self, "q_linear", self.q_proj(x).unflatten(-1, (self.n_heads, self.d_head)))
        q = tap(self, "q", in_groups(normed_and_turned(q, self.q_norm, unturned), memory.states.shape[0]))
        if cache is None:
            k, v = self.keys_and_values(memory)
        else:
            k, v = cache.remember(self.layer, lambda: self.keys_and_values(memory))
        k, v = tap(self, "k", k), tap(self, "v", v)
        z = tap(self, "z", self.mix(q, k, v, Place(memory.look, unturned)))  # B H T V
        return tap(self, "out", self.o_proj(z.transpose(1, 2).flatten(2).reshape(*x.shape[:2], -1)))  # B T D

    def keys_and_values(self, memory: Memory) -> tuple[Tensor, Tensor]:
        """Keys (B G S K), normalised where the model does so, and values (B G S V) of the source."""
        k = tap(self, "k_linear", self.k_proj(memory.states).unflatten(-1, (self.n_kv_heads, self.d_head)))
        v = self.v_proj(memory.states).unflatten(-1, (self.n_kv_heads, self.d_value)).transpose(1, 2)
        return normed_and_turned(k, self.k_norm, unturned), v


def in_groups(q: Tensor, n_sources: int) -> Tensor:
    """Queries of all beams of a source side by side, as if they were more tokens: (B beams) H T K to B H (beams T) K."""
    if q.shape[0] == n_sources:
        return q
    return q.view(n_sources, -1, *q.shape[1:]).transpose(1, 2).flatten(2, 3)


def normed_and_turned(x: Tensor, norm: nn.Module | None, turn: Turn) -> Tensor:
    """Each head normalised where there is a norm for it, then turned. B T H K to B H T K."""
    if (
        isinstance(norm, RMSNorm)
        and (gain := norm.gain) is not None
        and norm.bias is None
        and isinstance(turn, Rotation)
        and turn.cos.shape[0] == 1
        and not watched(norm, *norm.points)
        and fused.usable(x)
    ):
        return fused.norm_turn(x, gain, turn.cos[0, 0], turn.sin[0, 0], norm.eps)
    return turn((x if norm is None else norm(x)).transpose(1, 2))
