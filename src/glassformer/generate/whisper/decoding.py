"""One window of sound to tokens: greedily, by beam search or drawn, again at a higher temperature where the text is poor."""

# R rows, P tokens of a prompt, V vocabulary, S places of the encoder, D model

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from glassformer.generate.beam import Beam, Search, consider
from glassformer.generate.context import Window
from glassformer.generate.sampling import Sampling, choose, uniform
from glassformer.generate.whisper.rules import Rules
from glassformer.generate.whisper.settings import WhisperSettings
from glassformer.generate.whisper.tokens import Tokens


@dataclass(frozen=True, slots=True)
class Decoded:
    """What was heard in a window: tokens without the end, and the measures by which it is judged."""

    ids: tuple[int, ...]
    text: str
    avg_logprob: float
    no_speech_prob: float
    compression_ratio: float
    temperature: float


class Step:
    """The decoder, a token of each row at a time, over what the encoder made of a window."""

    def __init__(self, model: Any, memory: Any, rows: int, prompt: Sequence[int], most: int) -> None:
        self.model, self.rows, self.prompt = model, rows, prompt
        self.device = memory.states.device
        room = min(model.config.max_len, len(prompt) + most)
        self.cache = model.new_cache(rows, room, memory=memory, beams=rows)

    def begin(self, start: int) -> tuple[Tensor, Tensor]:
        """Logits after the prompt (R V), and after its token number `start` (V)."""
        ids = torch.tensor([list(self.prompt)] * self.rows, device=self.device)
        states = self.model.hidden(ids, cache=self.cache)
        logits = self.model.head(states[:, [start, -1]])  # the others are known already, and a vocabulary is wide
        return logits[:, 1], logits[0, 0]

    def go_on(self, tokens: Sequence[int]) -> Tensor:
        """Logits after one token more of each row: R V."""
        ids = torch.tensor(tokens, device=self.device)[:, None]
        return self.model(ids, cache=self.cache)[:, -1]


@torch.inference_mode()
def decode_window(
    model: Any, memory: Any, tokens: Tokens, settings: WhisperSettings, prompt: Sequence[int], window: int = 0
) -> Decoded:
    """What a Whisper hears in a window, whose `memory` has one row. prompt: all that the transcript begins after.

    The temperatures are tried in turn until a text passes. `window` numbers the draws.
    """
    rules = Rules.of(tokens, times=prompt[-1] != tokens.no_times)
    found = None
    for temperature in settings.temperatures:
        found = decode_once(model, memory, tokens, settings, prompt, rules, temperature, window)
        if not is_poor(found, settings):
            break
    assert found is not None
    return found


def decode_once(
    model: Any,
    memory: Any,
    tokens: Tokens,
    settings: WhisperSettings,
    prompt: Sequence[int],
    rules: Rules,
    temperature: float,
    window: int,
) -> Decoded:
    """The same at one temperature."""
    most = min(model.config.max_len // 2, model.config.max_len - len(prompt), settings.max_new_tokens or 10**9)
    searches = temperature == 0 and settings.num_beams > 1
    rows = settings.num_beams if searches else 1 if temperature == 0 else settings.best_of
    step = Step(model, memory, rows, prompt, most)
    logits, at_start = step.begin(prompt.index(tokens.start))
    silent = 0.0 if tokens.no_speech is None else float(at_start.softmax(-1)[tokens.no_speech])
    if searches:
        ids, log_p = search(step, logits, rules, settings, most)
    else:
        ids, log_p = draw(step, logits, rules, temperature, settings.seed + window, most)
    text = tokens.text(ids).strip()
    average = log_p / (len(ids) + 1)
    return Decoded(tuple(ids), text, average, silent, compression_ratio(text), temperature)


def draw(step: Step, logits: Tensor, rules: Rules, temperature: float, seed: int, most: int) -> tuple[list[int], float]:
    """Tokens without the end, and their log probability with it: the likeliest each time at temperature 0, else drawn, of
    all rows the one likeliest for its length."""
    rows = range(step.rows)
    texts: list[list[int]] = [[] for _ in rows]  # whatever came, behind an end too
    sums, lengths = [0.0] * step.rows, [most] * step.rows
    sampling = Sampling(temperature=temperature)
    for new in range(most):
        allowed = rules(logits, texts, new)
        if temperature == 0:
            drawn = allowed.argmax(-1).tolist()
        else:
            drawn = choose(allowed, sampling, torch.zeros(1, 1), [uniform(seed, row, new) for row in rows])
        log_p = (allowed[list(rows), drawn] - allowed.logsumexp(-1)).tolist()
        for row in rows:
            texts[row].append(drawn[row])
            if lengths[row] >= new:
                sums[row] += log_p[row]
            if drawn[row] == rules.eos_id:
                lengths[row] = min(lengths[row], new)
        if max(lengths) <= new or new + 1 == most:
            break
        logits = step.go_on(drawn)
    best = max(rows, key=lambda row: sums[row] / max(1, lengths[row]))
    return texts[best][: lengths[best]], sums[best]


def search(step: Step, logits: Tensor, rules: Rules, settings: WhisperSettings, most: int) -> tuple[list[int], float]:
    """The same by beam search, which ends when as many texts have ended as there are beams."""
    beam = Beam(
        num_beams=settings.num_beams,
        length_penalty=settings.length_penalty,
        early_stopping="first",
        max_new_tokens=most,
    )
    going = Search(beam, Window(list(step.prompt)), most=most, forced=(), constraints=rules, record=False)
    while True:
        ((candidates, forbidden),) = consider(logits, [going])
        parents = going.take(candidates, forbidden)
        if going.is_done:
            break
        if parents != list(range(len(parents))):
            step.cache.reorder(torch.tensor(parents, device=step.device))
        logits = step.go_on([live.tokens[-1] for live in going.live])
    best = going.result().hypotheses[0]
    ids = list(best.ids)
    return ids[:-1] if ids[-1:] == [rules.eos_id] else ids, best.log_probability


def is_poor(found: Decoded, settings: WhisperSettings) -> bool:
    """Whether a text repeats itself or is unlikely, so that another is wanted; where nobody speaks none is."""
    ratio, least, silent = (
        settings.compression_ratio_threshold,
        settings.logprob_threshold,
        settings.no_speech_threshold,
    )
    poor = ratio is not None and found.compression_ratio > ratio
    unlikely = least is not None and found.avg_logprob < least
    if silent is not None and found.no_speech_prob > silent and unlikely:
        return False
    return poor or unlikely


def is_silence(found: Decoded, settings: WhisperSettings) -> bool:
    """Whether nobody speaks in a window: the model says so, and its text is not likely enough to say otherwise."""
    if settings.no_speech_threshold is None or found.no_speech_prob <= settings.no_speech_threshold:
        return False
    return settings.logprob_threshold is None or found.avg_logprob <= settings.logprob_threshold


def compression_ratio(text: str) -> float:
    """By how much a text shrinks under zlib: what repeats itself shrinks much."""
    content = text.encode()
    return len(content) / len(zlib.compress(content))


@torch.inference_mode()
def hear_language(model: Any, memory: Any, tokens: Tokens) -> tuple[str, float]:
    """The likeliest language of a window and its probability among the languages."""
    step = Step(model, memory, 1, [tokens.start], 1)
    logits, _ = step.begin(0)
    codes = list(tokens.languages)
    probabilities = logits[0, [tokens.languages[code] for code in codes]].softmax(-1)
    best = int(probabilities.argmax())
    return codes[best], float(probabilities[best])
