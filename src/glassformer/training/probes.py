"""The sentences that a film traces: what the model is given of each, as in training, and what it should answer."""

# T tokens, A answers that the model gives: one for each token, or one for the whole text

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from glassformer.data import IGNORED
from glassformer.data.examples import Labelled
from glassformer.errors import ConfigError, GlassformerError, nearest
from glassformer.generate.fill import masked_ids
from glassformer.generate.reading import with_end, with_start
from glassformer.tokenizers import Tokenizer
from glassformer.tokenizers.roles import MASK
from glassformer.training.recipe import Recipe
from glassformer.training.tasks import Task
from glassformer.training.tasks.classify import Classify
from glassformer.training.tasks.embed import Embed
from glassformer.training.tasks.fill import Fill
from glassformer.training.tasks.tag import Tag
from glassformer.training.tasks.task import Batch, derived_seed
from glassformer.training.tasks.text import Text
from glassformer.training.tasks.translate import Translate

ANSWER = "|||"  # in a probe, between what is read and what should come of it, as word aligners write pairs
DEFAULT_TOKENS = 24  # of running text: three pictures of so many columns stand side by side on a page
SHOWN = 40  # characters of a probe that an error shows
SIDE = "probe"  # what the rows of a probe are called, beside "train" and "validation"


@dataclass(frozen=True)
class Probe:
    """One sentence: the model's arguments by name, and what it should answer to the first row of them."""

    text: str
    inputs: dict[str, Tensor]
    targets: Tensor  # A ids, IGNORED where nothing is asked; of several labels at once A numbers, 1 where one holds
    tokens: tuple[str, ...]  # what is read, token by token; of an encoder-decoder the target
    source: tuple[str, ...] = ()  # of an encoder-decoder
    wanted: tuple[str, ...] = ()  # the names of the targets, "" where nothing is asked


def read_probes(recipe: Recipe, task: Task) -> list[Probe]:
    """The probes of a recipe that films, by default the beginning of what was held back.

    Raises ConfigError, naming the probe, for one that is empty, too long, or cannot be read.
    """
    assert recipe.film is not None
    read = READERS.get(recipe.task)
    if read is None:
        raise ConfigError(f"film: nothing is filmed of the task {recipe.task}, which reads no tokens; leave out --film")
    if not recipe.film.probes:
        return [read(task, recipe, None)]
    return [of_text(read, task, recipe, text) for text in recipe.film.probes]


def of_text(read: Callable[[Any, Recipe, str | None], Probe], task: Task, recipe: Recipe, text: str) -> Probe:
    """The probe that a user wrote."""
    shown = text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
    if not text.partition(ANSWER)[0].strip():
        raise ConfigError(f"film.probes: the probe {shown!r} has nothing to read")
    try:
        probe = read(task, recipe, text)
    except GlassformerError as error:
        raise ConfigError(f"film.probes: {shown!r}: {error}") from None
    config = recipe.model
    most = {"source": config.source_side().max_len} if probe.source else {}
    for name, limit in {"ids": config.max_len, **most}.items():
        length = probe.inputs[name].shape[1]
        if length > limit:
            raise ConfigError(
                f"film.probes: {shown!r} has {length:,} tokens, more than the {limit:,} that the model reads"
            )
    return probe


def of_running_text(task: Text, recipe: Recipe, text: str | None) -> Probe:
    """Each token is asked for after those before it."""
    if text is None:
        held = torch.from_numpy(task.validation[: min(DEFAULT_TOKENS, recipe.model.max_len) + 1].astype("int64"))
        ids, targets = held[:-1], held[1:]
        text = task.tokenizer.decode(ids.tolist())
    else:
        ids = torch.tensor(task.tokenizer.encode(text))
        targets = torch.cat((ids[1:], torch.tensor([IGNORED])))
    return of_tokens(text, {"ids": ids[None]}, targets, task.tokenizer)


def of_masked_text(task: Fill, recipe: Recipe, text: str | None) -> Probe:
    """Some tokens are hidden, the same all the time; in a text that has masks those, and then nobody knows the answers."""
    if text is not None and MASK in text:
        ids = torch.tensor([masked_ids(task.tokenizer, text)])
        return of_tokens(text, {"ids": ids}, torch.full_like(ids[0], IGNORED), task.tokenizer)
    if text is None:
        ids = torch.from_numpy(task.validation[: min(DEFAULT_TOKENS, recipe.model.max_len)].astype("int64"))[None]
        text = task.tokenizer.decode(ids[0].tolist())
    else:
        ids = torch.tensor([task.tokenizer.encode(text)])
    shown, wanted = task.hide(ids, derived_seed("hide", recipe.seed, "film"))
    return of_tokens(text, {"ids": shown}, wanted[0], task.tokenizer)


def of_pair(task: Translate, recipe: Recipe, text: str | None) -> Probe:
    """Source and target, which is known of a source that stands in the data."""
    if text is None:
        pair = task.pairs["validation"][int(task.kept["validation"][0])]
        source, target = pair.source, pair.target
    else:
        source, target = divided(text)
        target = target or next((p.target for pairs in task.pairs.values() for p in pairs if p.source == source), "")
    if not target:
        raise ConfigError(f"has no target and is no source of the data; write it as SOURCE {ANSWER} TARGET")
    trial = with_rows(task, sources=with_end(task.vocabularies.source, [source]))
    trial.targets = {SIDE: with_end(task.vocabularies.target, [target])}
    batch = trial.collate(SIDE, [0])
    probe = of_batch(f"{source} {ANSWER} {target}", batch, task.vocabularies.target)
    if "source" not in batch.inputs:
        return probe
    tokenizer = task.vocabularies.source
    names = tuple(tokenizer.label(id) for id in batch.inputs["source"][0].tolist())
    return Probe(probe.text, probe.inputs, probe.targets, probe.tokens, names, probe.wanted)


def of_labelled(task: Classify, recipe: Recipe, text: str | None) -> Probe:
    """A text and its labels, which are known of a text that stands in the data."""
    row, is_known = task.rows["validation"][int(task.kept["validation"][0])], True
    if text is not None:
        said, names = divided(text)
        known = next((row for rows in task.rows.values() for row in rows if row.text == said), None)
        labels = tuple(name.strip() for name in names.split(",")) if names else known.labels if known else ()
        row, is_known = Labelled(said, labels, "probe"), bool(names or known)
    for label in row.labels:
        if label not in task.labels:
            raise ConfigError(f"label {label!r} is none of the data{nearest(label, task.labels)}")
    trial = with_rows(task, ids=with_start(task.tokenizer, [row.text]))
    trial.rows = {SIDE: [row if row.labels or recipe.model.several_labels else replace(row, labels=task.labels[:1])]}
    batch = trial.collate(SIDE, [0])
    targets = batch.targets[0] if recipe.model.several_labels else batch.targets
    if not is_known:
        targets = torch.full_like(targets, math.nan if targets.is_floating_point() else IGNORED)
    names = f" {ANSWER} {', '.join(row.labels)}" if row.labels else ""
    tokens = tuple(task.tokenizer.label(id) for id in batch.inputs["ids"][0].tolist())
    return Probe(f"{row.text}{names}", batch.inputs, targets, tokens, wanted=(", ".join(row.labels),))


def of_tagged(task: Tag, recipe: Recipe, text: str | None) -> Probe:
    """Words and their tags, which are known of a sentence that stands in the data."""
    if text is None:
        row = task.rows["validation"][int(task.kept["validation"][0])]
        words, tags = tuple(row.tokens), tuple(row.tags)
    else:
        said, names = divided(text)
        words, tags = tuple(said.split()), tuple(names.split())
        known = next((r for rows in task.rows.values() for r in rows if tuple(r.tokens) == words), None)
        tags = tags or (tuple(known.tags) if known else ())
    for tag in tags:
        if tag not in task.labels:
            raise ConfigError(f"tag {tag!r} is none of the data{nearest(tag, task.labels)}")
    if tags and len(tags) != len(words):
        raise ConfigError(f"has {len(words)} words and {len(tags)} tags; expected one for each")
    split = task.tokenizer.encode_words(words)
    targets = [task.spread(word, tag) for word, tag in zip(split, tags or [task.labels[0]] * len(split), strict=True)]
    trial = with_rows(task, ids=[[id for word in split for id in word]])
    trial.tags = {SIDE: [[target if tags else IGNORED for word in targets for target in word]]}
    return of_batch(" ".join(words), trial.collate(SIDE, [0]), task.tokenizer, task.labels)


def of_alike(task: Embed, recipe: Recipe, text: str | None) -> Probe:
    """Two texts that mean the same, of which the first is traced; or one alone."""
    if text is None:
        pair = task.pairs["validation"][int(task.kept["validation"][0])]
        source, target = pair.source, pair.target
    else:
        source, target = divided(text)
    trial = with_rows(task, sources=with_end(task.vocabularies.source, [source]))
    trial.targets = {SIDE: with_end(task.vocabularies.target, [target])}
    inputs = trial.collate(SIDE, [0]).inputs
    length = len(trial.sources[SIDE][0])
    if not target:
        inputs = {name: tensor[:1, :length] for name, tensor in inputs.items()}
    tokens = tuple(task.vocabularies.source.label(id) for id in inputs["ids"][0, :length].tolist())
    return Probe(f"{source} {ANSWER} {target}" if target else source, inputs, torch.empty(0, dtype=torch.long), tokens)


def of_batch(text: str, batch: Batch, tokenizer: Tokenizer, labels: Sequence[str] = ()) -> Probe:
    """The one row of a batch in which each token may be asked for something."""
    return of_tokens(text, batch.inputs, batch.targets[0], tokenizer, labels)


def of_tokens(
    text: str, inputs: dict[str, Tensor], targets: Tensor, tokenizer: Tokenizer, labels: Sequence[str] = ()
) -> Probe:
    """The same with its targets, T of them."""
    wanted = tuple(
        "" if target == IGNORED else labels[int(target)] if labels else tokenizer.label(target)
        for target in targets.tolist()
    )
    return Probe(text, inputs, targets, tuple(map(tokenizer.label, inputs["ids"][0].tolist())), wanted=wanted)


def with_rows(task: Any, **rows: list[list[int]]) -> Any:
    """A copy of the task that knows the rows of a probe, so that it makes batches of them as it does in training."""
    trial = copy.copy(task)
    for name, listed in rows.items():
        setattr(trial, name, {SIDE: listed})
    return trial


def divided(text: str) -> tuple[str, str]:
    """What is read of a probe, and what should come of it, "" where it does not say."""
    said, _, answer = text.partition(ANSWER)
    return said.strip(), answer.strip()


READERS: dict[str, Callable[[Any, Recipe, str | None], Probe]] = {
    "text": of_running_text,
    "translate": of_pair,
    "classify": of_labelled,
    "tag": of_tagged,
    "fill": of_masked_text,
    "embed": of_alike,
}
