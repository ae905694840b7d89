"""The trace of a model that reads vectors: what it heard, and the words that it makes of it or was told to."""

# S vectors, F numbers of each, T places that the convolutions leave

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from glassformer.errors import ConfigError
from glassformer.generate.ctc import best_path
from glassformer.generate.loop import evaluating, generate_ids
from glassformer.generate.sampling import Sampling
from glassformer.generate.vectors import n_frames_of
from glassformer.lens.glass.trace import IGNORED, Keep, Tokens, Trace, refuse_foreign_ids, tokens_of, watched_run
from glassformer.lens.hearing import Heard, places
from glassformer.lens.recording import prepared
from glassformer.models import EncoderDecoder, Model
from glassformer.tokenizers import Tokenizer
from glassformer.tokenizers.roles import START

TASKS = {"tokens": "transcribe", "labels": "classify_vectors", "tags": "tag", "pooled": "embed"}  # by head


@torch.inference_mode()
def trace_vectors(
    model: Model, tokenizer: Tokenizer, heard: Heard, *, target: str | None = None, keep: Keep | None = None
) -> Trace:
    """Everything that a model computes when it reads vectors.

    A model that writes what it hears is given the words too: `target`, or those that it finds by itself, the likeliest token
    at a time. Raises ConfigError for a target that it has no use for, and for more vectors or words than it has places.
    """
    task, notes = TASKS[model.config.head], heard.notes
    if target is not None and task != "transcribe":
        raise ConfigError(f"target={target!r} is for models that write what they hear; this one {DOES[task]}")
    vectors = heard.vectors[None].to(next(model.parameters()))
    count = places_left(model, vectors)
    tokens = {"encoder": Tokens(tuple(range(count)), places(model.config, count, heard.seconds, heard.start))}
    settings: dict[str, Any] = {"kind": "forward"}
    if heard.origin is not None:
        settings["sound"] = dict(heard.origin)
    if heard.start:
        settings["start"] = heard.start
    if heard.features is not None:
        settings["features"] = heard.features.model_dump(mode="json")
    given: dict[str, Any] = {}
    if heard.samples is not None:
        given = {"features": heard.features, "samples": heard.samples[None]}
    if task == "transcribe":
        settings["blank"] = blank_of(model, tokenizer)
    if isinstance(model, EncoderDecoder):
        start, said = beginning(tokenizer), None
        if target is not None:
            said = [*tokenizer.encode(target), tokenizer.eos_id]
            refuse_foreign_ids(said, model.config.vocab_size)
        else:
            said = written(model, tokenizer, vectors, start)
        ids = [*start, *said][:-1]
        if len(ids) > model.config.max_len:
            raise ConfigError(
                f"the target has {len(ids):,} tokens, more than the {model.config.max_len:,} that the model reads"
            )
        targets = torch.tensor([[*[IGNORED] * (len(start) - 1), *said]])
        replay = prepared(model, torch.tensor([ids], device=vectors.device), source=vectors, targets=targets, **given)
        tokens["decoder"] = tokens_of(ids, tokenizer)
        settings["said"] = without_end(tokenizer, said)
    else:
        replay = prepared(model, vectors, **given)
        if task == "transcribe":
            settings["said"] = tokenizer.encode(target) if target is not None else spelled(model, vectors, settings)
    return watched_run(model, tokenizer, task, heard.name, tokens, replay, notes, keep or Keep(), settings=settings)


DOES = {
    "classify_vectors": "gives a sequence its labels",
    "tag": "gives each place a tag",
    "embed": "turns a sequence into a vector",
}


def places_left(model: Any, vectors: Tensor) -> int:
    """How many places the convolutions leave of vectors. Raises ConfigError for more than the encoder has."""
    count = n_frames_of(model.config, vectors.shape[1])
    stack = model.encoder
    if stack.positions.adds and count > stack.max_len:
        raise ConfigError(
            f"{vectors.shape[1]:,} vectors make {count:,} places, more than the {stack.max_len:,} that the encoder reads"
        )
    return count


def blank_of(model: Model, tokenizer: Tokenizer) -> int | None:
    """The id that CTC reads as nothing: what the config says, or, where an encoder alone writes, the padding."""
    if model.config.ctc_blank is not None or model.config.shape != "encoder":
        return model.config.ctc_blank
    return tokenizer.pad_id


def beginning(tokenizer: Tokenizer) -> list[int]:
    """What stands before the first token that is written. Raises ConfigError where the tokenizer has nothing for that."""
    start = tokenizer.writing.start
    if start is None and START not in tokenizer.special_tokens:
        raise ConfigError(f"the tokenizer lacks {START}, after which a model writes")
    return [tokenizer.special_tokens[START] if start is None else start]


def written(model: EncoderDecoder, tokenizer: Tokenizer, vectors: Tensor, start: Sequence[int]) -> list[int]:
    """What the decoder writes of vectors (1 S F), the likeliest token at a time, with the end where it comes."""
    reading: Any = model
    with evaluating(reading):
        memory = reading.read(vectors)
        found = generate_ids(
            reading,
            [list(start)],
            max_new_tokens=model.config.max_len - len(start),
            sampling=Sampling(temperature=0.0),
            eos_id=tokenizer.eos_id,
            vocab_size=min(tokenizer.vocab_size, model.config.vocab_size),
            writing=tokenizer.writing,
            memory=memory,
        )[0]
    ids = list(found.ids)
    if found.finish == "eos" and ids[-1:] != [tokenizer.eos_id]:
        ids.append(tokenizer.eos_id)
    return ids


def without_end(tokenizer: Tokenizer, ids: Sequence[int]) -> list[int]:
    """The words alone, without special tokens."""
    special = set(tokenizer.special_tokens.values())
    return [id for id in ids if id not in special]


def spelled(model: Any, vectors: Tensor, settings: dict[str, Any]) -> list[int]:
    """The likeliest token at each place, as CTC reads that."""
    with evaluating(model):
        log_p = model(vectors)[0].double().log_softmax(-1)
    blank = settings["blank"]
    return log_p.argmax(-1).tolist() if blank is None else best_path(log_p.numpy(force=True), blank)
