"""Where the texts and the training step of a proof come from: the run's own recipe and data, given texts, or built-in ones."""

# B rows, T tokens

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from glassformer.errors import GlassformerError
from glassformer.generate.purpose import task_of
from glassformer.generate.reading import with_end, with_start
from glassformer.lens.prove.losses import loss_of
from glassformer.lens.prove.subject import Step, Subject, Text
from glassformer.models import Model, ModelConfig
from glassformer.ops.losses import IGNORED
from glassformer.tokenizers import Tokenizer
from glassformer.tokenizers.roles import START
from glassformer.training import Recipe, Silence
from glassformer.training.resume import RECIPE, read_earlier
from glassformer.training.run import prepare
from glassformer.training.tasks import Batch, Task
from glassformer.training.tasks.rows import Rows
from glassformer.training.tasks.text import Text as Running
from glassformer.training.tasks.translate import Translate

OF_VECTORS = "training steps and runs on vectors are not proved yet"
MOST_TEXTS = 6
MOST_TOKENS = 256  # of each, so that a proof of a large model takes seconds
SAMPLE = (  # of several lengths, with signs of several scripts
    "The cat sat on the mat.",
    "Rain.",
    "A model that reads a sentence together with others must say of it what it says of it alone.",
    "One, two, three: 3.14 is not 2.72, and 100 % of 7 is 7.",
    "Wer liest, lernt; ¿y quién escribe? Ça dépend.",
    "to be or not to be",
)


def open_subject(
    model: Model,
    tokenizer: Tokenizer | None,
    source_tokenizer: Tokenizer | None,
    run: Path | None,
    texts: Sequence[str],
    seed: int,
    tell: Callable[[str], None],
) -> tuple[Subject, str]:
    """The subject of all proofs, and a sentence on where its texts come from."""
    found = open_run(model, run, tell) if model.config.vectors is None else OF_VECTORS
    sentences, rows, origin = list(texts or SAMPLE), None, "given texts" if texts else "built-in texts"
    task = None if isinstance(found, str) else found[1]
    if not texts and task is not None:
        rows = held_back(task, model, seed)
        origin = f"texts held back from {', '.join(task_sources(found))}"
        sentences = held_back_sentences(task, seed) or sentences
    if not rows:
        rows = encoded(model, tokenizer, source_tokenizer, sentences, seed)
    step = None
    if not isinstance(found, str):
        step = step_of(*found)
    subject = Subject(model, rows, None, found, tokenizer, source_tokenizer, sentences[:MOST_TEXTS], seed, tell)
    subject = Subject(**{**vars(subject), "step": step or sample_step(subject)})
    n_tokens = sum(len(text.ids) + len(text.source) for text in rows)
    if model.config.vectors is not None:
        origin += ", each token of a source a vector drawn from the seed"
    return subject, f"{len(rows)} {origin}, {n_tokens:,} tokens"


def task_sources(found: Any) -> Sequence[str]:
    """The files of a run, those to validate on where there are any."""
    data = found[0].data
    return data.validation or data.sources


def open_run(model: Model, run: Path | None, tell: Callable[[str], None]) -> tuple[Recipe, Task] | str:
    """The recipe and the task of a run folder, or of the one that holds this model folder; or why there are none."""
    if run is None:
        return "no run folder was given"
    folder = next((place for place in (run, run.absolute().parent) if (place / RECIPE).exists()), None)
    if folder is None or (folder != run and run.name not in ("best", "final")):
        return f"{run} has no {RECIPE}: it is a model folder and no run"
    try:
        earlier = read_earlier(folder, {})
        if earlier is None:
            return f"{folder} has no {RECIPE}"
        if "-" in earlier["data"]["sources"]:
            return "the data came by standard input and are gone"
        if ModelConfig.parse(earlier["model"]) != model.config:
            return f"{folder / RECIPE} describes another model"
        tell(f"reading the data of {folder}")
        recipe, task = prepare(earlier, folder, 1.0, torch.device("cpu"), Silence())
        task.begin(recipe)
    except GlassformerError as error:
        return str(error)
    return recipe, task


def held_back(task: Task, model: Model, seed: int) -> list[Text]:
    """Some texts that the run did not train on, in tokens, of several lengths."""
    draw = random.Random(seed)
    if isinstance(task, Rows):
        batches = [task.collate("validation", [row]) for row in chosen_rows(task, seed)]
        return [text for batch in batches for text in texts_of(batch)][:MOST_TEXTS]
    assert isinstance(task, Running)
    shown = getattr(task, "shown", None)  # with masks in it, where that is what the model reads
    windows = torch.from_numpy(task.inputs) if shown is None else shown
    whole, length = len(windows), min(windows.shape[1], len(task.validation), MOST_TOKENS)
    texts: list[Text] = []
    for number in range(MOST_TEXTS):  # cut to different lengths, the first as long as may be
        row = windows[0 if whole == 1 else draw.randrange(whole - 1)]
        texts.append(Text(row[: max(1, length * (MOST_TEXTS - number) // MOST_TEXTS)].tolist(), []))
    return texts


def chosen_rows(task: Rows, seed: int) -> list[int]:
    """Some rows that were held back."""
    rows = task.kept["validation"].tolist()
    return random.Random(seed).sample(rows, min(MOST_TEXTS, len(rows)))


def texts_of(batch: Batch) -> list[Text]:
    """The rows of a batch without padding."""
    ids, at = batch.inputs["ids"], batch.inputs.get("at")
    source, source_at = batch.inputs.get("source"), batch.inputs.get("source_at")
    return [
        Text(
            (ids[row] if at is None else ids[row][at[row] >= 0])[:MOST_TOKENS].tolist(),
            []
            if source is None
            else (source[row] if source_at is None else source[row][source_at[row] >= 0])[:MOST_TOKENS].tolist(),
        )
        for row in range(len(ids))
    ]


def held_back_sentences(task: Task, seed: int) -> list[str]:
    """The sources of some pairs that the run did not train on."""
    if not isinstance(task, Translate):
        return []
    return [task.pairs["validation"][row].source for row in chosen_rows(task, seed)]


def encoded(
    model: Model, tokenizer: Tokenizer | None, source_tokenizer: Tokenizer | None, texts: Sequence[str], seed: int
) -> list[Text]:
    """Texts in the tokens of the model, cut to its context; random ones where there is no tokenizer.

    Without pairs a source needs some target: that is the text behind it.
    """
    texts = [text for text in texts[:MOST_TEXTS] if text] or list(SAMPLE[:1])
    limit = min(MOST_TOKENS, model.config.max_len)
    if tokenizer is None:
        draw = random.Random(seed)
        rows = [[draw.randrange(model.config.vocab_size) for _ in text[:limit]] for text in texts]
    elif model.config.shape == "encoder":
        rows = with_start(tokenizer, texts)
    else:
        rows = tokenizer.encode_batch(texts)
    sources: list[list[int]] = [[] for _ in rows]
    if model.config.shape == "encoder_decoder":
        side = model.config.source_side()
        if tokenizer is None:
            sources = [[id % side.vocab_size for id in row][: side.max_len] for row in rows]
        else:
            sources = [row[: min(MOST_TOKENS, side.max_len)] for row in with_end(source_tokenizer or tokenizer, texts)]
        start = 0 if tokenizer is None else tokenizer.special_tokens.get(START, tokenizer.eos_id)
        rows = [[start, *row] for row in rows[1:] + rows[:1]]
    return [Text(row[:limit], source) for row, source in zip(rows, sources, strict=True) if row]


def step_of(recipe: Recipe, task: Task) -> Step | None:
    """The first training step of a run that has several rows."""
    for number in range(8):
        batch = task.batch(number)
        if len(batch.targets) > 1:
            return Step(batch, task, recipe, "of the run's own data")
    return None


def sample_step(subject: Subject) -> Step | None:
    """A step on the texts at hand: each token from those before it, itself, or labels that are as good as any.

    None where one text is all there is, or each is compared with the others.
    """
    config = subject.model.config
    if config.head == "pooled" or len(subject.texts) < 2 or subject.hears:
        return None
    call = subject.together()
    ids, at = call.inputs["ids"], call.inputs["at"]
    wanted = ids.masked_fill(at < 0, IGNORED)
    if config.shape != "encoder":
        later = torch.full_like(wanted[:, :1], IGNORED)
        wanted = torch.cat((wanted[:, 1:], later), dim=1).masked_fill(at < 0, IGNORED)
    elif config.head == "tags":
        wanted = torch.where(at < 0, IGNORED, ids % len(config.labels))
    elif config.several_labels:
        wanted = (
            torch.arange(len(ids), device=ids.device)[:, None] + torch.arange(len(config.labels), device=ids.device)
        ) % 2
        wanted = wanted.float()
    elif config.head == "labels":
        wanted = torch.arange(len(ids), device=ids.device) % len(config.labels)
    n_targets = len(ids) if config.head == "labels" else int((wanted != IGNORED).sum())
    if not n_targets:
        return None
    recipe = {
        "data": {"sources": "-"},
        "tokenizer": {},
        "model": config.model_dump(),
        "optimiser": {},
        "loop": {"steps": 1, "eval_every": 1, "sample_every": 1, "save_every": 1},
    }
    return Step(
        Batch(call.inputs, wanted, n_targets, ids.numel()), Losses(config), Recipe.parse(recipe), "of these texts"
    )


class Losses:
    """The work of a step that no task made: a loss alone."""

    def __init__(self, config: ModelConfig) -> None:
        self.config = config

    def loss(self, answers: Tensor, batch: Batch, smoothing: float = 0.0) -> Tensor:
        return loss_of(self.config, answers, batch.targets, smoothing)


def made_for(model: Model, tokenizer: Tokenizer | None) -> str:
    """The task that a model was made for, as far as it can be told."""
    if tokenizer is None:
        return "translate" if model.config.shape == "encoder_decoder" else "text"
    return task_of(model, tokenizer)
