"""The shape of a model as one frozen object, in the papers' words, checked at birth."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from glassformer.config import Config
from glassformer.errors import ConfigError, nearest
from glassformer.nn.block import BLOCKS
from glassformer.nn.init import INITS
from glassformer.nn.mlp import ACTIVATIONS, GATED, MLPS
from glassformer.nn.norms import NORMS
from glassformer.nn.positions import POSITIONS

ALIASES = {"rope": "rotary", "none": "none", "sinusoid": "sinusoidal", "t5": "relative", "gelu_new": "gelu_tanh"}


def one_of(table: dict[str, Any]) -> BeforeValidator:
    """A check that a name is a row of a table; peers' names for a row are taken for it."""

    def check(name: Any) -> Any:
        name = ALIASES.get(str(name), name)
        if not isinstance(name, str) or name not in table:
            raise ValueError(f"{name!r} is not one of {', '.join(table)}{nearest(str(name), table)}")
        return name

    return BeforeValidator(check)


class RotaryScaling(Config):
    """How rotary angles are stretched to a longer context than the one first trained on; see `ops.rotary`."""

    kind: Literal["linear", "ntk", "dynamic", "llama3", "yarn"]
    factor: float = Field(ge=1)
    low: float = 1.0  # llama3: turns over the original context below which a pair is slowed altogether
    high: float = 4.0  # llama3: turns above which it is kept
    original_max_len: int = Field(default=8192, ge=1)
    beta_fast: float = 32.0  # yarn: what `high` is to llama3
    beta_slow: float = 1.0  # yarn: what `low` is to llama3
    attention_factor: float | None = Field(
        default=None, gt=0
    )  # yarn: by what rotations are lengthened, None: by its law
    mscale: float | None = None  # yarn: coefficients of that law, as DeepSeek sets them
    mscale_all_dim: float | None = None
    truncate: bool = True  # yarn: whether the bounds of the blend are whole pairs


class VectorInput(Config):
    """Dense vectors that an encoder reads instead of tokens; see `models.vectors`."""

    size: int = Field(ge=1)  # channels of each
    strides: tuple[Annotated[int, Field(ge=1)], ...] = ()  # one convolution for each; none: a linear map
    activation: Annotated[str, one_of(ACTIVATIONS)] = "gelu"


class ModelConfig(Config):
    """Everything that decides what a model computes. Two equal configs describe the same function of the weights."""

    shape: Literal["decoder", "encoder", "encoder_decoder"] = "decoder"
    head: Literal["tokens", "labels", "tags", "pooled"] = "tokens"
    labels: tuple[str, ...] = ()
    several_labels: bool = False
    pooling: Literal["mean", "first", "max"] = "mean"
    normalise: bool = True  # whether the vector of head="pooled" has length 1
    head_hidden: Annotated[str, one_of(ACTIVATIONS)] | None = None  # a layer with this activation before the head
    encoder: dict[str, Any] | None = None  # fields in which the encoder differs from the decoder it serves
    vectors: VectorInput | None = None  # what the encoder reads instead of tokens
    ctc_blank: int | None = Field(default=None, ge=0)  # the token that CTC reads as nothing; None: no CTC
    shared_embedding: bool = True
    vocab_size: int = Field(ge=1)
    max_len: int = Field(default=256, ge=1)
    d_model: int = Field(default=128, ge=1)
    n_layers: int = Field(default=4, ge=0)
    n_heads: int = Field(default=4, ge=1)
    n_kv_heads: int = Field(default=None, ge=1, validate_default=False)  # type: ignore[assignment]  # default: n_heads
    d_head: int = Field(default=None, ge=1, validate_default=False)  # type: ignore[assignment]  # default: d_model / n_heads
    d_value: int = Field(default=None, ge=1, validate_default=False)  # type: ignore[assignment]  # default: d_head
    d_ff: int = Field(default=None, ge=1, validate_default=False)  # type: ignore[assignment]  # default: 4 d_model, gated 8/3
    norm: Annotated[str, one_of(NORMS)] = "rmsnorm"
    norm_place: Annotated[str, one_of(BLOCKS)] = "pre"
    norm_eps: float = Field(default=1e-6, gt=0)
    norm_gain: bool = True
    norm_bias: bool = False
    embedding_norm: bool = False
    qk_norm: bool = True
    attention_bias: bool = False
    attention_key_bias: bool = Field(default=None, validate_default=False)  # type: ignore[assignment]  # default: attention_bias
    attention_out_bias: bool = Field(default=None, validate_default=False)  # type: ignore[assignment]  # default: attention_bias
    mlp_bias: bool = False
    head_bias: bool = False
    positions: Annotated[str, one_of(POSITIONS)] = "rotary"
    rotary_base: float = Field(default=10_000.0, gt=0)
    rotary_scaling: RotaryScaling | None = None
    local_rotary_base: float | None = Field(default=None, gt=0)  # in the layers with a window, unscaled
    position_offset: int = Field(default=0, ge=0)  # rows of the learned table before that of position 0
    token_types: int | None = Field(default=None, ge=1)  # rows of the table that tells the texts of a pair apart
    relative_buckets: int = Field(default=32, ge=2)
    relative_max_distance: int = Field(default=128, ge=2)
    mlp: Annotated[str, one_of(MLPS)] = "swiglu"
    window: int | None = Field(default=None, ge=1)
    windowed_layers: tuple[bool, ...] | None = None  # which layers the window holds in; None: all
    attention_scale: float | None = Field(default=None, gt=0)
    attention_softcap: float | None = Field(default=None, gt=0)
    logit_softcap: float | None = Field(default=None, gt=0)
    logit_scale: float = Field(default=1.0, gt=0)
    embedding_scale: bool = False
    bigram: int | None = Field(default=None, ge=2)
    tied: bool = False
    dropout: float = Field(default=0.0, ge=0, lt=1)
    attention_dropout: float = Field(default=0.0, ge=0, lt=1)
    init: Annotated[str, one_of(INITS)] = "modern"

    @model_validator(mode="before")
    @classmethod
    def fill_in(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Write out the sizes that follow from others, so that a saved config depends on no default."""
        values = {name: value for name, value in values.items() if value is not None or name in OPTIONAL}
        d_model, n_heads = whole(values, "d_model", 128), whole(values, "n_heads", 4)
        if "d_head" not in values:
            if n_heads < 1 or d_model % n_heads:
                raise ConfigError(
                    f"d_model={d_model} does not divide among n_heads={n_heads}; change one of them or set d_head"
                )
            values["d_head"] = d_model // n_heads
        values.setdefault("d_value", values["d_head"])
        values.setdefault("n_kv_heads", n_heads)
        for field in FOLLOWING_BIAS:
            values.setdefault(field, values.get("attention_bias", False))
        if values.get("vectors") is not None:
            values.setdefault("shared_embedding", False)  # one side alone has a table of tokens
        values.setdefault("d_ff", default_d_ff(d_model, str(values.get("mlp", "swiglu"))))
        return values

    @model_validator(mode="after")
    def check(self) -> Self:
        """Raise ConfigError, with the values, for sizes that do not fit together."""
        if self.n_heads % self.n_kv_heads:
            raise ConfigError(f"n_heads={self.n_heads} do not share n_kv_heads={self.n_kv_heads} evenly")
        if self.positions == "rotary" and self.d_head % 2:
            raise ConfigError(f"rotary positions turn pairs of channels: d_head={self.d_head} must be even")
        if self.shape != "encoder" and self.head != "tokens":
            raise ConfigError(
                f"head={self.head!r} reads a whole text at once: expected shape='encoder', not {self.shape!r}"
            )
        if self.head_hidden is not None and self.head not in ("tokens", "labels"):
            raise ConfigError(
                f"head_hidden={self.head_hidden!r} needs something to score: head={self.head!r} has no use for it"
            )
        if (self.head in ("labels", "tags")) != bool(self.labels):
            raise ConfigError(f"head={self.head!r} and {len(self.labels)} labels do not belong together")
        if self.encoder is not None and self.shape != "encoder_decoder":
            raise ConfigError(f"encoder={self.encoder!r} belongs to shape='encoder_decoder', not to {self.shape!r}")
        self.check_vectors()
        exact = self.relative_buckets // 2  # distances that have a bucket of their own
        if self.positions == "relative" and self.relative_max_distance <= exact:
            raise ConfigError(
                f"relative_max_distance={self.relative_max_distance} must be more than the {exact} distances that"
                f" relative_buckets={self.relative_buckets} tell apart exactly"
            )
        if self.windowed_layers is not None and len(self.windowed_layers) != self.n_layers:
            raise ConfigError(
                f"windowed_layers says of {len(self.windowed_layers)} layers whether they have a window, n_layers={self.n_layers}"
            )
        if self.windowed_layers is not None and self.window is None:
            raise ConfigError("windowed_layers says which layers have a window, but window is not set")
        if self.local_rotary_base is not None and (self.positions != "rotary" or self.window is None):
            raise ConfigError(
                "local_rotary_base is for rotary positions in layers with a window, found"
                f" positions={self.positions!r} and window={self.window}"
            )
        if self.shape == "encoder_decoder":
            source = self.source_side()
            mine, theirs = (self.vocab_size, self.d_model), (source.vocab_size, source.d_model)
            if self.shared_embedding and mine != theirs:
                raise ConfigError(
                    f"shared_embedding needs one shape on both sides, found {theirs} for the source and {mine} for the target;"
                    " set shared_embedding=false"
                )
        return self

    def check_vectors(self) -> None:
        """Raise ConfigError for what an encoder of vectors cannot be, or what only it can."""
        if self.ctc_blank is not None and self.ctc_blank >= self.vocab_size:
            raise ConfigError(f"ctc_blank={self.ctc_blank} is no token of vocab_size={self.vocab_size}")
        if self.ctc_blank is not None and (self.vectors is None or self.head != "tokens"):
            raise ConfigError("ctc_blank is for models with vectors that answer with tokens")
        if self.vectors is None:
            return
        if self.shape == "decoder":
            raise ConfigError("vectors are read by an encoder: expected shape='encoder' or 'encoder_decoder'")
        if self.shape == "encoder_decoder" and self.shared_embedding:
            raise ConfigError("an encoder of vectors has no table of tokens to share: set shared_embedding=false")
        own = {
            "bigram": self.bigram,
            "token_types": self.token_types,
            "tied": self.tied if self.shape == "encoder" else False,
        }
        for field, value in own.items():
            if value:
                raise ConfigError(f"{field}={value!r} needs tokens, and this model's encoder reads vectors")

    def window_of(self, layer: int) -> int | None:
        """How many positions the queries of a layer see, None where they see all."""
        return None if self.windowed_layers is not None and not self.windowed_layers[layer] else self.window

    @property
    def fixed_len(self) -> int | None:
        """Up to how many tokens of a text what a cache holds of it stays true: dynamic rotary scaling turns all tokens of a
        longer text anew with each new one. None: whatever comes."""
        law = self.rotary_scaling
        return (
            law.original_max_len if law is not None and law.kind == "dynamic" and self.positions == "rotary" else None
        )

    def source_side(self) -> ModelConfig:
        """The encoder of an encoder-decoder as a config of its own: like the decoder but for the fields in `encoder`."""
        own = {**self.model_dump(exclude={"encoder", "tied", "bigram", "head_hidden", "ctc_blank"}), "shape": "encoder"}
        asked = self.encoder or {}
        if "d_model" in asked or "n_heads" in asked:  # sizes that follow from these are worked out anew
            own = {name: value for name, value in own.items() if name not in FOLLOWING}
        if "attention_bias" in asked:
            own = {name: value for name, value in own.items() if name not in FOLLOWING_BIAS}
        return ModelConfig.parse({**own, **asked}, "encoder")


FOLLOWING = frozenset({"d_head", "d_value", "n_kv_heads", "d_ff"})
FOLLOWING_BIAS = ("attention_key_bias", "attention_out_bias")  # as attention_bias says, unless they are set themselves


def whole(values: dict[str, Any], name: str, default: int) -> int:
    """The size called `name` as far as others follow from it. Raises ConfigError where it is no whole number."""
    try:
        return int(values.get(name, default))
    except (TypeError, ValueError, OverflowError):
        raise ConfigError(f"{name}: expected a whole number, found {values[name]!r}") from None


def default_d_ff(d_model: int, mlp: str) -> int:
    """Four times d_model; for gated MLPs two thirds of that, to a multiple of 32, so that the parameters are as many."""
    return max(32, round(4 * d_model * 2 / 3 / 32) * 32) if mlp in GATED else 4 * d_model


OPTIONAL = frozenset(
    {
        "vectors",
        "ctc_blank",
        "rotary_scaling",
        "local_rotary_base",
        "token_types",
        "window",
        "windowed_layers",
        "attention_scale",
        "attention_softcap",
        "logit_softcap",
        "head_hidden",
        "bigram",
        "encoder",
    }
)  # the fields for which None says something
