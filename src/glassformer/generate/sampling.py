"""From logits to one token: the stages that reshape a distribution, and the draw that one visible number decides."""

# V vocabulary; "..." any leading axes. Everything here runs in float64 on the CPU, so that the same logits and the same u
# give the same token on every device. -inf marks a token that is cut.

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from pydantic import model_validator
from torch import Tensor
from torch.nn import functional as F

from glassformer.config import Config
from glassformer.errors import ConfigError, GlassformerError


class Sampling(Config):
    """How a token is chosen. The defaults draw from the model's own distribution; `none` switches a limit off.

    A penalty looks at every token seen so far, in the prompt and in the output. Raises ConfigError for a value out of
    range.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0

    @model_validator(mode="after")
    def check(self) -> Self:
        """Raise ConfigError, with the value and the range, for a setting that cannot be meant."""
        for name, (is_valid, expected) in RANGES.items():
            value = getattr(self, name)
            if value is not None and not is_valid(value):
                raise ConfigError(f"{name}={value} is out of range: expected {expected}")
        return self

    def stages(self) -> Iterator[tuple[str, StageFunction, float]]:
        """Name, function and setting of each stage that does anything, in the order in which they are applied."""
        for name, function in STAGES.items():
            setting = getattr(self, name)
            if setting != type(self).model_fields[name].default:
                yield name, function, setting

    @property
    def penalises(self) -> bool:
        """Whether the choice depends on the tokens seen so far other than through the model."""
        return self.repetition_penalty != 1 or self.presence_penalty != 0 or self.frequency_penalty != 0


# The bounds of the first and the last three keep every float32 logit finite; useful values lie far inside.
RANGES: dict[str, tuple[Callable[[float], bool], str]] = {
    "temperature": (lambda t: t == 0 or t >= 1e-6, "0 (always the likeliest token), or 0.000001 and more"),
    "top_k": (lambda k: k >= 1, "1 or more, or none for no limit"),
    "top_p": (lambda p: 0 < p <= 1, "more than 0 and at most 1, or none for no limit"),
    "min_p": (lambda p: 0 < p <= 1, "more than 0 and at most 1, or none for no limit"),
    "repetition_penalty": (lambda r: 0.01 <= r <= 100, "0.01 to 100, where 1 changes nothing"),
    "presence_penalty": (lambda a: -100 <= a <= 100, "-100 to 100, where 0 changes nothing"),
    "frequency_penalty": (lambda a: -100 <= a <= 100, "-100 to 100, where 0 changes nothing"),
}


# A stage takes logits [..., V], its setting, and how often each token was seen [..., V], and returns new logits.
StageFunction = Callable[[Tensor, float, Tensor], Tensor]


def penalise_repetition(logits: Tensor, penalty: float, counts: Tensor) -> Tensor:
    """Divide the positive and multiply the negative logits of the tokens seen (Keskar et al. 2019, section 4.1)."""
    return torch.where(counts > 0, torch.where(logits > 0, logits / penalty, logits * penalty), logits)


def penalise_presence(logits: Tensor, penalty: float, counts: Tensor) -> Tensor:
    """Subtract `penalty` from the logit of each token seen, however often."""
    return logits - penalty * (counts > 0)


def penalise_frequency(logits: Tensor, penalty: float, counts: Tensor) -> Tensor:
    """Subtract `penalty` from the logit of each token once for each time it was seen."""
    return logits - penalty * counts


def apply_temperature(logits: Tensor, temperature: float, counts: Tensor) -> Tensor:
    """Divide by the temperature; at 0, its limit, only the largest logit is left, and of equal ones the lowest id."""
    if temperature == 0:
        largest = logits.argmax(-1, keepdim=True)
        return torch.full_like(logits, -math.inf).scatter(-1, largest, logits.gather(-1, largest))
    return logits / temperature


def keep_top_k(logits: Tensor, k: float, counts: Tensor) -> Tensor:
    """Keep the k largest logits, exactly k of them: where equal ones compete for the last places, the lowest ids win."""
    k = min(int(k), logits.shape[-1])
    smallest = logits.topk(k).values[..., -1:]
    above, level = logits > smallest, logits == smallest
    places = k - above.sum(-1, keepdim=True)
    return logits.masked_fill(~(above | (level & (level.cumsum(-1) <= places))), -math.inf)


def keep_top_p(logits: Tensor, p: float, counts: Tensor) -> Tensor:
    """Keep the fewest tokens whose probabilities sum to p or more, largest first (Holtzman et al. 2019).

    Of equal ones the lowest id comes first; the first is always kept.
    """
    order = logits.argsort(dim=-1, descending=True, stable=True)
    mass = logits.softmax(-1).gather(-1, order).cumsum(-1)
    mass_before = F.pad(mass[..., :-1], (1, 0))
    kept = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, order, mass_before < p)
    return logits.masked_fill(~kept, -math.inf)


def keep_min_p(logits: Tensor, share: float, counts: Tensor) -> Tensor:
    """Keep the tokens at least `share` times as likely as the likeliest (Nguyen et al. 2024)."""
    return logits.masked_fill(logits < logits.amax(-1, keepdim=True) + math.log(share), -math.inf)


STAGES: dict[str, StageFunction] = {  # field of Sampling -> what it does, in the order applied
    "repetition_penalty": penalise_repetition,
    "presence_penalty": penalise_presence,
    "frequency_penalty": penalise_frequency,
    "temperature": apply_temperature,
    "top_k": keep_top_k,
    "top_p": keep_top_p,
    "min_p": keep_min_p,
}


@dataclass(frozen=True, slots=True)
class Stage:
    """What one stage did: how many tokens are left, and the share of the probability before it that they held."""

    name: str
    setting: float
    kept: int
    mass: float


@dataclass(frozen=True, slots=True)
class Draw:
    """One choice, checkable by hand: of the tokens in id order, the first whose cumulative probability exceeds u.

    `below` and `above` are the cumulative probabilities without and with the token: below <= u < above.
    """

    token: int
    probability: float
    u: float
    below: float
    above: float
    stages: tuple[Stage, ...]
    probabilities: Tensor | None = None  # V, after all stages


def draw(
    logits: Tensor, sampling: Sampling, seen_ids: Sequence[int], u: float, *, keep_probabilities: bool = False
) -> Draw:
    """Choose a token from `logits` [V] with the number u in [0, 1), and tell how.

    `seen_ids` are the tokens of prompt and output so far. Raises GlassformerError if the logits are not numbers.
    """
    logits = exact(logits)
    counts = count_tokens(seen_ids, len(logits))
    stages: list[Stage] = []
    for name, stage, setting in sampling.stages():
        before, logits = logits.softmax(-1), stage(logits, setting, counts)
        kept = logits.isfinite()
        stages.append(Stage(name, setting, int(kept.sum()), float(before[kept].sum())))
    probabilities = logits.softmax(-1)
    cumulative = cumulate(probabilities)
    token = int((cumulative > u).nonzero()[0])
    return Draw(
        token=token,
        probability=float(probabilities[token]),
        u=u,
        below=float(cumulative[token - 1]) if token else 0.0,
        above=float(cumulative[token]),
        stages=tuple(stages),
        probabilities=probabilities if keep_probabilities else None,
    )


def choose(logits: Tensor, sampling: Sampling, counts: Tensor, u: Sequence[float]) -> list[int]:
    """The token that `draw` would choose in each row of `logits` [B, V], all rows at once and without the record.

    `counts` [B, V], or anything that broadcasts to it, is how often each token was seen. Raises GlassformerError if the
    logits are not numbers.
    """
    logits = exact(logits)
    for name, stage, setting in sampling.stages():
        if name == "temperature" and setting == 0:  # one token is left, and no later stage can cut it
            return logits.argmax(-1).tolist()
        logits = stage(logits, setting, counts)
    bars = torch.tensor(u, dtype=torch.float64).unsqueeze(-1)  # B 1
    return torch.searchsorted(cumulate(logits.softmax(-1)), bars, right=True).squeeze(-1).tolist()


def cumulate(probabilities: Tensor) -> Tensor:
    """Cumulative probabilities [..., V] in id order, ending at exactly 1, so that each u below 1 finds its token."""
    sums = probabilities.cumsum(-1)
    return sums / sums[..., -1:]


def count_tokens(ids: Sequence[int], vocab_size: int) -> Tensor:
    """How often each token of the vocabulary occurs in `ids`: V, float64."""
    return torch.bincount(torch.tensor(ids, dtype=torch.long), minlength=vocab_size).double()


def exact(logits: Tensor) -> Tensor:
    """The logits in float64 on the CPU. Raises GlassformerError if a row holds nan, plus infinity, or nothing finite."""
    logits = logits.cpu().double()
    if not logits.amax(-1).isfinite().all():
        raise GlassformerError(
            "the model's logits are not finite numbers: it diverged in training or its weights are damaged;"
            " use an earlier checkpoint"
        )
    return logits


def uniform(seed: int, sample: int, step: int) -> float:
    """The number in [0, 1) that decides token `step` of sample `sample`: 53 bits of a hash of the three.

    There is no generator to advance, so neither batching nor streaming nor the order of rows can change it.
    """
    key = f"{seed}/{sample}/{step}".encode()
    digest = hashlib.blake2b(key, digest_size=8, person=b"glassformer.draw").digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53
