"""The choices nobody made: tokenizer, size, context, batch, rates and steps from the data and the machine, with reasons."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from glassformer.config import set_dotted
from glassformer.errors import ConfigError, DataError
from glassformer.models import ModelConfig, build_model, preset
from glassformer.ops.losses import cross_entropy
from glassformer.training.optimisers import Optimisers
from glassformer.training.recipe import OptimiserRecipe

MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Choice:
    """One thing decided for the user: the dotted key that would override it, the value, and why."""

    key: str
    value: Any
    reason: str


@dataclass
class Decisions:
    """The user's wishes, filled up choice by choice. What the user asked for is never chosen again."""

    wishes: dict[str, Any]
    choices: list[Choice] = field(default_factory=list)

    def get(self, key: str) -> Any:
        """The value at a dotted key, or None."""
        values: Any = self.wishes
        for name in key.split("."):
            values = values.get(name) if isinstance(values, Mapping) else None
        return values

    def choose(self, key: str, value: Any, reason: str) -> Any:
        """Take the user's value for `key`, or else `value` for `reason`. Returns what holds."""
        asked = self.get(key)
        if asked is not None:
            return asked
        set_dotted(self.wishes, key, value)
        self.choices.append(Choice(key, value, reason))
        return value


def choose_tokenizer(decisions: Decisions, n_bytes: int) -> None:
    """Characters for little text, pieces of words for more."""
    if decisions.get("tokenizer.path"):
        return
    if n_bytes < 200_000:
        reason = f"{n_bytes / 1000:.0f} kB of text is too little to learn pieces of words from"
        decisions.choose("tokenizer.kind", "characters", reason)
    else:
        reason = f"{n_bytes / MEGABYTE:.1f} MB of text is enough to learn pieces of words from, and nothing is unknown"
        decisions.choose("tokenizer.kind", "bpe", reason)


SIZES = (  # training tokens from which on a size pays within minutes on two cores, layers, d_model, heads
    (5_000_000, 6, 256, 8),
    (50_000, 4, 128, 4),
    (0, 2, 64, 4),
)


def choose_model(decisions: Decisions, n_tokens: int, vocab_size: int) -> ModelConfig:
    """The size from the number of training tokens, everything else from the preset. Raises ConfigError, DataError."""
    decisions.choose("preset", "modern", "trains fastest to a given loss here, and transformers opens it as Qwen3")
    base = preset(decisions.get("preset"))
    if "bigram" in base:  # no more rows than there are pairs, and one for the beginning of a text
        base["bigram"] = min(base["bigram"], vocab_size**2 + 1)
    asked = decisions.get("model") or {}
    for name, value in base.items():
        if asked.get(name) is None:
            set_dotted(decisions.wishes, f"model.{name}", value)
    layers, d_model, heads = next(size for least, *size in SIZES if n_tokens >= least)
    reason = f"{n_tokens:,} training tokens"
    decisions.choose("model.n_layers", layers, reason)
    if asked.get("d_model") is not None:
        heads = heads_for(int(asked["d_model"]))
    elif asked.get("n_heads") is not None:
        d_model = 32 * int(asked["n_heads"])
    decisions.choose("model.d_model", d_model, reason)
    decisions.choose("model.n_heads", heads, "heads of 32 channels or a little more")
    longest = max(1, min(n_tokens // 4, 256 if decisions.get("tokenizer.kind") == "characters" else 128))
    context = decisions.choose("model.max_len", longest, "context that a small model can use")
    if int(context) + 1 > n_tokens:
        raise DataError(
            f"the training text is {n_tokens:,} tokens long and a context of {int(context):,} needs {int(context) + 1:,};"
            f" choose --max-len {max(1, n_tokens - 1)} or less, or more text"
        )
    asked_vocab = decisions.get("model.vocab_size")
    if asked_vocab is not None and int(asked_vocab) < vocab_size:
        raise ConfigError(f"model.vocab_size={asked_vocab} is smaller than the tokenizer's {vocab_size}")
    if asked_vocab is None:
        set_dotted(decisions.wishes, "model.vocab_size", vocab_size)
    return ModelConfig.parse(decisions.get("model"), "model")


def heads_for(d_model: int) -> int:
    """The most heads of at least 32 channels that divide d_model with an even width, as rotary positions want; else 1."""
    return next((n for n in range(d_model // 32, 0, -1) if d_model % n == 0 and d_model // n % 2 == 0), 1)


def choose_loop(decisions: Decisions, config: ModelConfig, n_tokens: int, minutes: float, device: torch.device) -> None:
    """Batch and steps such that the run takes about `minutes` on this machine, and rates that suit them."""
    batch = decisions.choose(
        "loop.batch_size",
        max(4, 2048 // config.max_len),
        f"about 2,048 tokens in a step of {config.max_len}-token windows",
    )
    portions = int(decisions.get("loop.grad_accum") or 1)
    if int(batch) % portions:
        raise ConfigError(f"loop.batch_size={batch} does not divide into loop.grad_accum={portions} portions")
    tokens = int(batch) * config.max_len
    if decisions.get("loop.steps") is None:
        seconds = portions * seconds_per_portion(config, int(batch) // portions, device)
        fits = int(60 * minutes / seconds)
        enough = max(100, int(MOST_EPOCHS * n_tokens / tokens))
        steps = max(20, min(fits, enough))
        reason = f"{minutes:g} minutes at the {1000 * seconds:.0f} ms that a step takes here"
        if enough < fits:
            reason = f"{MOST_EPOCHS} times through the text; more would be learning it by heart"
        decisions.choose("loop.steps", steps, reason)
    else:
        seconds = 6 * weights(config) * tokens / SLOWEST
    steps = int(decisions.get("loop.steps"))
    if decisions.get("optimiser.name") == "adamw":
        decisions.choose(
            "optimiser.lr", 1e-3, "AdamW moves each weight by about its rate, where Muon moves whole matrices"
        )
    decisions.choose("optimiser.warmup_steps", max(1, steps // 50), "2 % of the steps")
    decisions.choose("loop.eval_every", max(1, min(steps, max(25, steps // 10))), "ten times in the run")
    decisions.choose("loop.sample_every", max(1, min(steps, max(50, steps // 4))), "four times in the run")
    decisions.choose("loop.save_every", int(decisions.get("loop.eval_every")), "as often as it is evaluated")
    decisions.choose("loop.log_every", max(1, steps // 100), "a hundred lines of log")
    if decisions.get("loop.compile") in (None, "auto"):
        set_dotted(decisions.wishes, "loop.compile", None)
        pays = steps * seconds >= SECONDS_THAT_PAY
        reason = f"compiling takes about a minute, and the steps {steps * seconds / 60:.0f}"
        decisions.choose("loop.compile", "yes" if pays else "no", reason)


def weights(config: ModelConfig) -> int:
    """About how many weights take part in computing one token."""
    attention = config.d_model * config.d_head * (2 * config.n_heads + 2 * config.n_kv_heads)
    return config.n_layers * (attention + 3 * config.d_model * config.d_ff) + config.d_model * config.vocab_size


SLOWEST = 2e10  # multiplications and additions a second that any two cores manage, to guess at the length of a run
MOST_EPOCHS = 30  # beyond it small models on small texts only memorise
SECONDS_THAT_PAY = 900.0  # compiling costs 30 to 80 s cold and gains about a tenth to a half


def seconds_per_portion(config: ModelConfig, batch: int, device: torch.device) -> float:
    """How long a step of one portion takes here: the best of four on a throw-away model."""
    model = build_model(config).to(device)
    optimisers = Optimisers(model, OptimiserRecipe())
    ids = torch.zeros(batch, config.max_len, dtype=torch.long, device=device)

    def step() -> float:
        began = time.perf_counter()
        loss = cross_entropy(model(ids), ids)
        loss.backward()
        optimisers.step()
        loss.item()
        return time.perf_counter() - began

    return min(step() for _ in range(4))
