"""From source texts to target texts: many at once, those of similar length together, each as it would be alone."""

# S sources

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from glassformer.errors import ConfigError
from glassformer.generate.beam import Beam, BeamHypothesis, beam_search
from glassformer.generate.context import LanguageModel, Memory
from glassformer.generate.tree import BeamTree
from glassformer.tokenizers import Tokenizer

START, SEPARATOR = "<|start|>", "<|separator|>"
AT_ONCE = 32  # sources in one batch
MORE, TIMES = 16, 2  # a target has at most so many tokens more than so many times its source


class Reading(Protocol):
    """What translating asks of an encoder-decoder beside what generating does."""

    @property
    def config(self) -> Any: ...

    def read(self, source: Tensor, source_at: Tensor | None = None) -> Memory: ...


@dataclass(frozen=True, slots=True)
class Translation:
    """The best text found for a source, all that were asked for, best first, and the tree of the search where recorded."""

    source: str
    text: str
    score: float
    texts: tuple[str, ...]
    hypotheses: tuple[BeamHypothesis, ...]
    tree: BeamTree | None = None


@torch.inference_mode()
def translate(
    model: Any,
    source_tokenizer: Tokenizer,
    target_tokenizer: Tokenizer,
    texts: Sequence[str],
    *,
    beam: Beam | None = None,
    prefix: str = "",
    record: bool = False,
    use_cache: bool = True,
) -> list[Translation]:
    """Translate texts with an encoder-decoder, or with a decoder that was trained to go on after a separator.

    `prefix` begins every target. Raises ConfigError, naming the text, for a source that is empty or too long for the
    model, and for a model that was not made to translate.
    """
    beam = beam or Beam()
    sources = [source_ids(model, source_tokenizer, text) for text in texts]
    forced = target_tokenizer.encode(prefix)
    found: dict[int, Translation] = {}
    for rows in similar(sources):
        chosen = [sources[row] for row in rows]
        prompts, memory = prompts_for(model, target_tokenizer, chosen)
        results = beam_search(
            cast("LanguageModel", model),
            prompts,
            beam,
            eos_id=target_tokenizer.eos_id,
            vocab_size=target_tokenizer.vocab_size,
            memory=memory,
            forced=[forced] * len(rows),
            limits=[room(model, prompt, source, forced) for prompt, source in zip(prompts, chosen, strict=True)],
            record=record,
            use_cache=use_cache,
        )
        for row, result in zip(rows, results, strict=True):
            written = tuple(
                target_tokenizer.decode(hypothesis.ids, skip_special=True) for hypothesis in result.hypotheses
            )
            best = result.hypotheses[0]
            found[row] = Translation(texts[row], written[0], best.score, written, result.hypotheses, result.tree)
    return [found[row] for row in range(len(texts))]


def source_ids(model: Any, tokenizer: Tokenizer, text: str) -> list[int]:
    """The tokens of a source, its end included. Raises ConfigError, naming the text, where they cannot be read."""
    shown = text if len(text) <= 40 else f"{text[:40]}..."
    if not text.strip():
        raise ConfigError("the source is empty: there is nothing to translate")
    ids = [*tokenizer.encode(text), tokenizer.eos_id]
    config = model.config
    most = config.source_side().max_len if config.shape == "encoder_decoder" else config.max_len - 1
    if len(ids) > most:
        raise ConfigError(
            f"the source {shown!r} has {len(ids):,} tokens, more than the {most:,} that the model can read"
        )
    return ids


def prompts_for(
    model: Any, tokenizer: Tokenizer, sources: Sequence[Sequence[int]]
) -> tuple[list[list[int]], Memory | None]:
    """What each target begins after, and what an encoder made of the sources."""
    special, shape = tokenizer.special_tokens, model.config.shape
    needed = START if shape == "encoder_decoder" else SEPARATOR
    if shape == "encoder" or needed not in special:
        raise ConfigError(
            f"this model cannot translate: it is of shape {shape!r} and its tokenizer "
            f"{'has' if needed in special else 'lacks'} {needed}; train one on pairs with `glassformer train`"
        )
    if shape == "decoder":
        return [[*source[:-1], special[SEPARATOR]] for source in sources], None
    device = next(model.parameters()).device
    width = max(map(len, sources))
    ids = torch.tensor([[*source, *[0] * (width - len(source))] for source in sources], device=device)
    lengths = torch.tensor([len(source) for source in sources], device=device)[:, None]
    column = torch.arange(width, device=device)[None]
    was_training = model.training
    memory = cast("Reading", model.eval()).read(ids, torch.where(column < lengths, column, -1))
    model.train(was_training)
    return [[special[START]]] * len(sources), memory


def room(model: Any, prompt: Sequence[int], source: Sequence[int], forced: Sequence[int]) -> int:
    """The most tokens that a target may have: what a translation ever needs, and what the model's context holds."""
    return max(len(forced) + 1, min(TIMES * len(source) + MORE, model.config.max_len - len(prompt) + 1))


def similar(sources: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """The rows in batches of similar length, longest first, so that what does not fit into memory shows at once."""
    order = sorted(range(len(sources)), key=lambda row: -len(sources[row]))
    for start in range(0, len(order), AT_ONCE):
        yield order[start : start + AT_ONCE]
