"""The recipe: every choice of a training run as one frozen object, which is what `recipe.yaml` holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from glassformer.config import Config, nested_config
from glassformer.errors import ConfigError
from glassformer.features import FeatureConfig
from glassformer.models import ModelConfig
from glassformer.tokenizers.patterns import PatternName


def as_tuple(value: object) -> object:
    """One source may be given as a plain string."""
    return (value,) if isinstance(value, str) else value


def as_word(value: object) -> object:
    """YAML takes a bare ``yes`` and ``no`` for true and false."""
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else value


def as_names(value: object) -> object:
    """Several names may be given as on a command line, with commas."""
    return tuple(part.strip() for part in value.strip("[]() ").split(",")) if isinstance(value, str) else value


def as_numbers(value: object) -> object:
    """Several numbers may be given as on a command line, with commas; what is no number is left for the type to refuse."""
    if isinstance(value, str):
        value = [part.strip() for part in value.strip("[]() ").split(",")]
    if value is None:
        return None
    if not isinstance(value, list | tuple):
        return (value,)
    try:
        return tuple(float(part) if isinstance(part, str) else part for part in value)
    except ValueError:
        return tuple(value)


def as_texts(value: object) -> object:
    """Keys and values of a mapping that YAML reads as numbers are meant as they stand: ``{7: seven}``."""
    if not isinstance(value, Mapping):
        return value
    pairs: Mapping[Any, Any] = value
    return {str(old): str(new) if isinstance(new, int | float) else new for old, new in pairs.items()}


Sources = Annotated[tuple[str, ...], BeforeValidator(as_tuple)]


class DataRecipe(Config):
    """What is read, and what of it is held back."""

    sources: Sources = Field(min_length=1)
    validation: Sources = ()
    validation_fraction: float = Field(default=0.1, gt=0, lt=1)
    text_key: str | None = None
    source_key: str | None = None
    target_key: str | None = None
    label_key: str | None = None
    label_separator: str | None = Field(default=None, description="what separates several labels in one cell")
    path_key: str | None = Field(default=None, description="sound: the column that names the files")
    name_pattern: str | None = Field(
        default=None, description="sound: what names of files tell, as '{text}_{speaker}_{take}'"
    )
    hold_back: str | None = Field(
        default=None, description="sound: rows to validate on by a field, as 'speaker=theo' or 'take=0,1,2,3,4'"
    )
    replace: Annotated[dict[str, str], BeforeValidator(as_texts)] = Field(
        default={}, description="sound: texts or words that become others, as {7: seven}"
    )
    encoding: str | None = None
    packing: Literal["windows", "documents"] = Field(
        default="windows",
        description="text: windows cut from running text, or whole documents side by side that do not see each other",
    )
    weights: Annotated[tuple[float, ...], BeforeValidator(as_numbers)] = Field(
        default=(),
        description="text: the share of windows that each of data.sources gives; without it, as much as it has",
    )


class TokenizerRecipe(Config):
    """How text becomes tokens: a kind that is trained on the training text, or the path of one that exists."""

    kind: Literal["characters", "words", "bytes", "bpe", "library"] = "bpe"
    vocab_size: int | None = Field(default=None, ge=1)
    pattern: PatternName = Field(default="gpt2", description="bpe: how text is cut before anything is merged")
    path: str | None = None
    shared: bool = Field(default=True, description="translate: one vocabulary for source and target")


class OptimiserRecipe(Config):
    """How gradients become steps. `lr` is Muon's for the matrices inside blocks, or AdamW's for all where there is no Muon;
    the other rates are AdamW's for what Muon does not take."""

    name: Literal["muon", "adamw"] = "muon"
    lr: float = Field(default=0.04, gt=0)
    embedding_lr: float = Field(default=0.04, gt=0)
    head_lr: float = Field(default=0.01, gt=0)
    vector_lr: float = Field(default=0.01, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    beta1: float = Field(default=0.8, ge=0, lt=1)
    beta2: float = Field(default=0.95, ge=0, lt=1)
    eps: float = Field(default=1e-10, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    grad_clip: float | None = Field(default=None, gt=0)
    schedule: Literal["linear", "cosine", "wsd", "noam", "constant"] = "linear"
    warmup_steps: int = Field(default=0, ge=0)
    min_lr: float = Field(default=0.05, ge=0, le=1, description="last rate, as a share of the full one")
    decay_share: float = Field(default=0.3, gt=0, le=1, description="wsd: share of the steps in which the rate falls")
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    ctc_weight: float = Field(
        default=0.3, ge=0, lt=1, description="transcribe: the share of CTC in the loss of an encoder-decoder"
    )
    ema: float | None = Field(default=None, gt=0, lt=1)


class LoopRecipe(Config):
    """How long, in what portions, and what is reported and saved on the way. `*_every` counts steps."""

    steps: int = Field(ge=1)
    batch_size: int | None = Field(default=None, ge=1, description="windows in one step, over all portions")
    batch_tokens: int | None = Field(default=None, ge=1, description="the same for rows: tokens, padding included")
    grad_accum: int = Field(default=1, ge=1, description="portions that a step is computed in; the result is the same")
    eval_every: int = Field(ge=1)
    sample_every: int = Field(ge=1)
    save_every: int = Field(ge=1)
    log_every: int = Field(default=10, ge=1)
    keep: int = Field(default=2, ge=1, description="checkpoints kept, newest first")
    early_stop: int | None = Field(
        default=None, ge=1, description="evaluations without improvement after which to stop"
    )
    sample_prompt: str | None = None
    compile: Annotated[Literal["auto", "yes", "no"], BeforeValidator(as_word)] = "auto"
    device: str = "auto"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    threads: int | None = Field(default=None, ge=1)
    async_save: Annotated[Literal["auto", "yes", "no"], BeforeValidator(as_word)] = Field(
        default="auto", description="write checkpoints while training goes on; auto: where they are large"
    )
    non_finite: Literal["stop", "skip"] = Field(
        default="stop", description="what to do with a step whose loss or gradient is no number"
    )
    parallel: Literal["auto", "replicate", "shard", "tensor"] = Field(
        default="auto", description="how several processes divide the work; auto: replicate, or shard where it is large"
    )
    recompute: bool = Field(
        default=False,
        description="forget what blocks computed and compute it again for the gradient: less memory, slower",
    )
    hang_seconds: float | None = Field(
        default=120.0, gt=0, description="least time without a sign of progress that counts as a hang; null: none does"
    )
    loggers: Annotated[tuple[Literal["tensorboard", "wandb", "trackio"], ...], BeforeValidator(as_names)] | None = (
        Field(default=None, description="who is told the rows of log.jsonl too, each through its own library")
    )


class AugmentRecipe(Config):
    """How training utterances are changed each time they are seen, so that a model learns what stays the same in them."""

    time_masks: int = Field(default=2, ge=0, le=64, description="stretches of time that are hidden")
    time_mask_width: int = Field(default=30, ge=0, description="the most vectors of one such stretch")
    time_mask_share: float = Field(default=0.2, ge=0, le=1, description="the same as a share of the utterance")
    frequency_masks: int = Field(default=2, ge=0, le=64, description="bands of channels that are hidden")
    frequency_mask_width: int = Field(default=8, ge=0, description="the most channels of one such band")
    speeds: Annotated[tuple[float, ...], BeforeValidator(as_numbers)] = Field(
        default=(0.9, 1.0, 1.1), min_length=1, description="one of which each utterance is played at"
    )
    noise_db: Annotated[tuple[float, float] | None, BeforeValidator(as_numbers)] = Field(
        default=None, description="how far a voice is above the noise mixed in, from and to, in decibels"
    )
    noise: Sources = Field(default=(), description="files or folders of noise; without any it is white")

    @model_validator(mode="after")
    def check(self) -> Self:
        """Raise ConfigError for speeds and levels that cannot be."""
        odd = next((speed for speed in self.speeds if not 0.25 <= speed <= 4), None)
        if odd is not None:
            raise ConfigError(f"speeds: {odd:g} is out of range: expected 0.25 to 4, for example 0.9,1.0,1.1")
        if self.noise_db is not None and self.noise_db[0] > self.noise_db[1]:
            raise ConfigError(f"noise_db: {self.noise_db[0]:g} to {self.noise_db[1]:g} runs backwards")
        if self.noise and self.noise_db is None:
            raise ConfigError("noise names files, and noise_db does not say how loud they are: set noise_db=5,20")
        return self


class FilmRecipe(Config):
    """What is filmed on the way: fixed sentences, traced every so many steps."""

    every: int = Field(ge=1, description="steps between frames of a film; without it nothing is filmed")
    probes: Sources = Field(default=(), description="sentences that are traced; by default the first held back")


class Recipe(Config):
    """A whole run. `preset` is where the model's fields began; `model` is what they are."""

    task: Literal["text", "translate", "classify", "tag", "fill", "embed", "transcribe", "classify_vectors"] = "text"
    preset: str = "modern"
    start_from: str | None = Field(
        default=None, description="folder of a model whose weights are where this one begins"
    )
    seed: int = 0
    data: DataRecipe
    tokenizer: TokenizerRecipe
    features: FeatureConfig | None = None
    augment: AugmentRecipe | None = None
    model: ModelConfig
    optimiser: OptimiserRecipe
    loop: LoopRecipe
    film: FilmRecipe | None = None


def keys(config: type[Config], prefix: str = "") -> Iterator[tuple[str, str, str, str]]:
    """Every dotted key of a recipe with its type, its default (empty where it is decided from the data) and what it is."""
    for name, field in config.model_fields.items():
        inner = nested_config(field.annotation)
        if inner is not None:
            yield from keys(inner, f"{prefix}{name}.")  # type: ignore[arg-type]
            continue
        kind = getattr(field.annotation, "__name__", None) or str(field.annotation)
        default = "" if field.is_required() else str(field.default)
        yield prefix + name, kind.replace("typing.", ""), default, field.description or ""
