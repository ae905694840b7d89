"""The choices nobody made: tokenizer, size, context, batch, rates and steps from the data and the machine, with reasons."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from glassformer.config import set_dotted
from glassformer.errors import ConfigError, DataError
from glassformer.models import ModelConfig, preset

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

    def put(self, key: str, value: Any) -> None:
        """Set what follows from the data and is nobody's choice."""
        set_dotted(self.wishes, key, value)

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


def choose_model(decisions: Decisions, n_tokens: int) -> None:
    """The size of a model of long text from the number of training tokens. Raises DataError."""
    asked = decisions.get("model") or {}
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


def take_preset(decisions: Decisions, vocab_size: int) -> None:
    """The fields of the preset that the user did not ask otherwise for; its sizes only where it was asked for by name."""
    base = preset(decisions.get("preset"))
    if any(choice.key == "preset" for choice in decisions.choices):
        base = {name: value for name, value in base.items() if name not in FROM_DATA}
    if "bigram" in base:  # no more rows than there are pairs, and one for the beginning of a text
        base["bigram"] = min(base["bigram"], vocab_size**2 + 1)
    asked = decisions.get("model") or {}
    for name, value in base.items():
        if asked.get(name) is None:
            set_dotted(decisions.wishes, f"model.{name}", value)


FROM_DATA = frozenset({"n_layers", "d_model", "n_heads", "max_len"})


def finish_model(decisions: Decisions, vocab_size: int) -> ModelConfig:
    """The complete config, once all sizes are chosen. Raises ConfigError."""
    asked = decisions.get("model.vocab_size")
    if asked is not None and int(asked) < vocab_size:
        raise ConfigError(f"model.vocab_size={asked} is smaller than the tokenizer's {vocab_size}")
    if asked is None:
        set_dotted(decisions.wishes, "model.vocab_size", vocab_size)
    return ModelConfig.parse(decisions.get("model"), "model")


def heads_for(d_model: int, least: int = 32) -> int:
    """The most heads of at least so many channels that divide d_model with an even width, as rotary positions want; else 1."""
    return next((n for n in range(d_model // least, 0, -1) if d_model % n == 0 and d_model // n % 2 == 0), 1)


@dataclass(frozen=True)
class Pace:
    """What deciding on the number of steps asks of the data: steps in one pass, passes that still teach, seconds a step."""

    per_epoch: float
    most_epochs: int
    seconds_per_step: Callable[[], float]


def choose_steps(decisions: Decisions, minutes: float, pace: Pace) -> int:
    """Steps such that the run takes about `minutes` on this machine. Returns them."""
    if decisions.get("loop.steps") is None:
        seconds = pace.seconds_per_step()
        fits = int(60 * minutes / seconds)
        enough = max(100, int(pace.most_epochs * pace.per_epoch))
        reason = f"{minutes:g} minutes at the {1000 * seconds:.0f} ms that a step takes here"
        if enough < fits:
            reason = f"{pace.most_epochs} times through the data; more would be learning it by heart"
        decisions.choose("loop.steps", max(20, min(fits, enough)), reason)
    return int(decisions.get("loop.steps"))


PAPERS: dict[str, dict[str, Any]] = {  # how a preset was trained where it comes from, by key of the recipe
    "vaswani-base": {  # Vaswani et al. 2017, sections 5.3 and 5.4; the rate is d_model^-0.5 · warmup^-0.5
        "optimiser.name": "adamw",
        "optimiser.beta1": 0.9,
        "optimiser.beta2": 0.98,
        "optimiser.eps": 1e-9,
        "optimiser.lr": 7e-4,
        "optimiser.schedule": "noam",
        "optimiser.label_smoothing": 0.1,
    },
}
NOAM_WARMUP = 4000  # steps, or a quarter of a run that is shorter than four times that


def follow_paper(decisions: Decisions) -> None:
    """Train a preset as its paper did, where the user asked for nothing else."""
    for key, value in PAPERS.get(decisions.get("preset") or "", {}).items():
        decisions.choose(key, value, f"as {decisions.get('preset')} was trained in its paper")


def choose_loop(decisions: Decisions, steps: int, seconds: float, rates: Mapping[str, float] | None = None) -> None:
    """Rates and reports that suit the number of steps, which take about `seconds` in all. `rates`: Muon's for the task."""
    if decisions.get("optimiser.name") == "adamw":
        decisions.choose(
            "optimiser.lr", 1e-3, "AdamW moves each weight by about its rate, where Muon moves whole matrices"
        )
    else:
        for key, value in (rates or {}).items():
            decisions.choose(key, value, "found best for rows of a sentence or two")
    if decisions.get("optimiser.schedule") == "noam":
        decisions.choose(
            "optimiser.warmup_steps", max(1, min(NOAM_WARMUP, steps // 4)), "4,000 or a quarter of the steps"
        )
    decisions.choose("optimiser.warmup_steps", max(1, steps // 50), "2 % of the steps")
    decisions.choose("loop.eval_every", max(1, min(steps, max(25, steps // 10))), "ten times in the run")
    decisions.choose("loop.sample_every", max(1, min(steps, max(50, steps // 4))), "four times in the run")
    decisions.choose("loop.save_every", int(decisions.get("loop.eval_every")), "as often as it is evaluated")
    decisions.choose("loop.log_every", max(1, steps // 100), "a hundred lines of log")
    if decisions.get("loop.compile") in (None, "auto"):
        set_dotted(decisions.wishes, "loop.compile", None)
        pays = seconds >= SECONDS_THAT_PAY and decisions.get("task") in (None, "text", "fill")
        reason = f"compiling takes about a minute, and the steps {seconds / 60:.0f}"
        if not pays and seconds >= SECONDS_THAT_PAY:
            reason = "rows of many lengths would be compiled again and again"
        decisions.choose("loop.compile", "yes" if pays else "no", reason)


def guessed_seconds(config: ModelConfig, tokens: int, steps: int) -> float:
    """About how long `steps` of so many tokens take, without trying."""
    attention = config.d_model * config.d_head * (2 * config.n_heads + 2 * config.n_kv_heads)
    layers = config.n_layers * (attention + 3 * config.d_model * config.d_ff)
    weights = layers * (1 if config.shape == "decoder" else 2) + config.d_model * config.vocab_size
    return steps * 6 * weights * tokens / SLOWEST


SLOWEST = 2e10  # multiplications and additions a second that any two cores manage, to guess at the length of a run
SECONDS_THAT_PAY = 900.0  # compiling costs 30 to 80 s cold and gains about a tenth to a half
