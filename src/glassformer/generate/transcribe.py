"""From vectors to what was said: by attention, by CTC, or by both together; many at once, each as it would be alone."""

# S sources, T vectors of a source, F channels, N frames that the encoder leaves of them, V vocabulary

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glassformer.errors import ConfigError, GlassformerError, nearest
from glassformer.generate.beam import Beam, BeamHypothesis, beam_search
from glassformer.generate.context import evaluating
from glassformer.generate.ctc import CtcText, best_path, prefix_beam, text_log_probability
from glassformer.generate.joint import JointScorer
from glassformer.generate.purpose import refuse_unfit
from glassformer.generate.timestamps import Stretch, attention_stretches, ctc_stretches, words_at
from glassformer.generate.transcription import Segment, Transcription, Word
from glassformer.generate.vectors import batch_for, batches, n_frames_of, refuse_unreadable_vectors, stride_of
from glassformer.nn.cache import Memory
from glassformer.tokenizers import Tokenizer
from glassformer.tokenizers.roles import START

__all__ = ["CTC_WEIGHT", "METHODS", "Method", "Segment", "Transcription", "Word", "transcribe"]

Method = Literal["attention", "ctc", "joint"]
METHODS: tuple[Method, ...] = ("attention", "ctc", "joint")
CTC_WEIGHT = 0.3  # of joint decoding where nobody says otherwise (Watanabe et al. 2017, section V)


@dataclass(frozen=True, slots=True)
class Heard:
    """What the encoder made of a batch: a memory for the decoder (None: there is none), how many frames of it are of each
    source, and what CTC says of each, N V (None: the model has no CTC)."""

    memory: Memory | None
    n_frames: tuple[int, ...]
    log_p: tuple[NDArray[np.float64], ...] | None


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found for a source, best first: hypotheses whose `ids` hold eos, or texts of CTC, which has none."""

    hypotheses: tuple[BeamHypothesis, ...]
    texts: tuple[tuple[int, ...], ...]  # the tokens of each without eos
    is_cut: bool = False


@torch.inference_mode()
def transcribe(
    model: Any,
    tokenizer: Tokenizer,
    vectors: Sequence[Tensor],
    *,
    beam: Beam | None = None,
    method: Method | None = None,
    ctc_weight: float | None = None,
    words: bool | Literal["ctc", "attention"] = False,
    seconds: float = 1.0,
    use_cache: bool = True,
) -> list[Transcription]:
    """What was said in each source, vectors T F, every one as it would be alone.

    method: "attention" searches for the likeliest text of the decoder; "ctc" for the likeliest text of CTC (a beam of one:
    that of the likeliest tokens of each frame); "joint" for both at once, CTC counting `ctc_weight` (0.3) and attention the
    rest. By default joint where the model has both. `beam` counts for all; of it CTC reads `num_beams` and `n_best`, its score
    being the log probability of the text. `words`: with the times of the words, where CTC spells them or, by
    "attention", where the decoder looks; True takes CTC where there is one. `seconds`: from one vector to the next.

    Raises ConfigError for a model that was not made for it, or sources that it cannot read.
    """
    way = method_of(model, tokenizer, method, ctc_weight)
    timing = timing_of(model, words)
    refuse_unreadable_vectors(model, vectors)
    beam = beam or Beam(max_new_tokens=model.config.max_len)
    weight = 0.0 if way != "joint" else CTC_WEIGHT if ctc_weight is None else ctc_weight
    found: dict[int, Transcription] = {}
    with evaluating(model):
        for rows in batches([len(source) for source in vectors]):
            heard = listen(
                model, tokenizer, [vectors[row] for row in rows], needs_ctc=way != "attention" or timing == "ctc"
            )
            if way == "ctc":
                results = [by_ctc(log_p, model.config.ctc_blank, beam) for log_p in heard.log_p or ()]
            else:
                results = by_attention(model, tokenizer, heard, beam, weight, use_cache)
            for place, (row, result) in enumerate(zip(rows, results, strict=True)):
                stretches = stretches_of(model, tokenizer, heard, place, result.texts[0], timing)
                found[row] = told(tokenizer, result, stretches, len(vectors[row]), seconds, stride_of(model.config))
    return [found[row] for row in range(len(vectors))]


def method_of(model: Any, tokenizer: Tokenizer, method: Method | None, ctc_weight: float | None) -> Method:
    """How such a model is to be decoded. Raises ConfigError for a way that it does not have."""
    refuse_unfit(model, tokenizer, "transcribe")
    config = model.config
    has_both = config.shape == "encoder_decoder" and config.ctc_blank is not None
    chosen = method or ("joint" if has_both else "ctc" if config.shape == "encoder" else "attention")
    if chosen not in METHODS:
        raise ConfigError(f"method={chosen!r} is not one of {', '.join(METHODS)}{nearest(chosen, METHODS)}")
    if chosen != "ctc" and config.shape == "encoder":
        raise ConfigError(f"method={chosen!r} needs a decoder, and this model has CTC alone; use method='ctc'")
    if chosen != "attention" and config.ctc_blank is None:
        raise ConfigError(f"method={chosen!r} needs CTC, and this model was made without; use method='attention'")
    if ctc_weight is not None and chosen != "joint":
        raise ConfigError(f"ctc_weight={ctc_weight} is for method='joint', not for {chosen!r}")
    if ctc_weight is not None and not 0 <= ctc_weight <= 1:
        raise ConfigError(f"ctc_weight={ctc_weight} is out of range: expected 0 to 1")
    return chosen


def timing_of(model: Any, words: bool | str) -> Literal["ctc", "attention"] | None:
    """By what the times of words are found. Raises ConfigError for what the model does not have."""
    has_ctc, has_decoder = model.config.ctc_blank is not None, model.config.shape == "encoder_decoder"
    match words:
        case False:
            return None
        case True:
            return "ctc" if has_ctc else "attention"
        case "ctc" if has_ctc:
            return "ctc"
        case "attention" if has_decoder:
            return "attention"
        case _:
            known = [name for name, has in (("ctc", has_ctc), ("attention", has_decoder)) if has]
            raise ConfigError(f"words={words!r} is not among what times the words of this model: {', '.join(known)}")


def listen(model: Any, tokenizer: Tokenizer, sources: Sequence[Tensor], *, needs_ctc: bool = True) -> Heard:
    """What the encoder makes of a batch of sources, T F each."""
    x, places = batch_for(model, sources)
    n_frames = tuple(n_frames_of(model.config, len(source)) for source in sources)
    if model.config.shape == "encoder":
        memory, logits = None, model(x, at=places)
    else:
        memory = model.read(x, places)
        logits = model.ctc(memory.states) if needs_ctc and model.ctc is not None else None
    if logits is None:
        return Heard(memory, n_frames, None)
    known = logits[..., : tokenizer.vocab_size].double().cpu()
    if not bool(known.isfinite().all()):
        raise GlassformerError(
            "the model's logits are not finite numbers: it diverged in training or its weights are damaged;"
            " use an earlier checkpoint"
        )
    spoken = {model.config.ctc_blank, tokenizer.unk_id}
    known[..., [id for id in tokenizer.special_ids if id not in spoken]] = -torch.inf  # no sound stands for them
    log_p = known.log_softmax(-1).numpy()
    return Heard(memory, n_frames, tuple(log_p[row, :length] for row, length in enumerate(n_frames)))


def by_ctc(log_p: NDArray[np.float64], blank: int, beam: Beam) -> Found:
    """The likeliest texts that frames say, N V: of the best path for a beam of one."""
    if beam.num_beams == 1:
        ids = best_path(log_p, blank)
        texts = [CtcText(tuple(ids), text_log_probability(log_p, ids, blank))]
    else:
        texts = prefix_beam(log_p, blank, beam.num_beams)[: beam.n_best]
    hypotheses = tuple(BeamHypothesis(one.ids, one.log_probability, one.log_probability, "eos") for one in texts)
    return Found(hypotheses, tuple(one.ids for one in texts))


def by_attention(
    model: Any, tokenizer: Tokenizer, heard: Heard, beam: Beam, ctc_weight: float, use_cache: bool
) -> list[Found]:
    """What the beam search finds for each source of a batch, CTC having a say where `ctc_weight` is not 0."""
    assert heard.memory is not None
    prompt = prompt_of(tokenizer)
    scorer = None
    if ctc_weight:
        assert heard.log_p is not None
        scorer = JointScorer(
            heard.log_p,
            blank=model.config.ctc_blank,
            eos_id=tokenizer.eos_id,
            weight=ctc_weight,
            prompt=len(prompt),
        )
    most = model.config.max_len - len(prompt) + 1
    results = beam_search(
        model,
        [prompt] * len(heard.memory),
        beam,
        eos_id=tokenizer.eos_id,
        vocab_size=min(tokenizer.vocab_size, model.config.vocab_size),
        memory=cast("Any", heard.memory),
        limits=[most] * len(heard.memory),
        writing=tokenizer.writing,
        scorer=scorer,
        use_cache=use_cache,
    )
    found: list[Found] = []
    for result in results:
        texts = tuple(one.ids[:-1] if one.finish == "eos" else one.ids for one in result.hypotheses)
        found.append(Found(result.hypotheses, texts, result.hypotheses[0].finish == "length"))
    return found


def prompt_of(tokenizer: Tokenizer) -> list[int]:
    """What every text begins after. Raises ConfigError for a tokenizer that has no such token."""
    start = tokenizer.writing.start
    if start is None and START not in tokenizer.special_tokens:
        raise ConfigError(f"the tokenizer has no {START}, which every text that a decoder writes begins after")
    return [tokenizer.special_tokens[START] if start is None else start]


def stretches_of(
    model: Any, tokenizer: Tokenizer, heard: Heard, place: int, ids: Sequence[int], timing: str | None
) -> list[Stretch] | None:
    """The frames of each token of a text; None where nobody asked, or CTC has too few frames for it and nobody else knows."""
    if timing is None or not ids:
        return None
    log_p, blank = heard.log_p, model.config.ctc_blank
    spelled = [id for id in ids if id != blank]
    if timing == "ctc" and log_p is not None and len(spelled) == len(ids):
        found = ctc_stretches(log_p[place], ids, blank)
        if found is not None:
            return found
    if heard.memory is None:
        return None
    memory = heard.memory.rows([place])
    return attention_stretches(model, memory, prompt_of(tokenizer), ids, n_frames=heard.n_frames[place])


def told(
    tokenizer: Tokenizer,
    result: Found,
    stretches: Sequence[Stretch] | None,
    n_vectors: int,
    seconds: float,
    stride: int,
) -> Transcription:
    """What was found, as text with times."""
    texts = tuple(tokenizer.decode(ids, skip_special=True).strip() for ids in result.texts)
    best, ids = result.hypotheses[0], result.texts[0]
    duration = n_vectors * seconds
    words = words_at(tokenizer, ids, stretches, stride * seconds, until=duration) if stretches else ()
    notes = (f"cut off after {len(ids):,} tokens: {texts[0][:40]!r}",) if result.is_cut else ()
    segment = Segment(0.0, duration, texts[0], ids, words, avg_logprob=best.log_probability / (len(ids) + 1))
    return Transcription(
        texts[0],
        (segment,),
        best.score,
        notes,
        duration=duration,
        texts=texts,
        hypotheses=result.hypotheses,
    )
