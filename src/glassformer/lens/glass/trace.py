"""A trace: one run of a model on one text, with its tokens, its tensors, what was drawn or searched, and its checks."""

# T tokens, S tokens of the source

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from glassformer.errors import ConfigError
from glassformer.features import FeatureConfig
from glassformer.generate.beam import Beam
from glassformer.generate.classify import in_frame, rows_to_label, rows_to_tag
from glassformer.generate.context import Window
from glassformer.generate.embed import Habits, rows_to_embed
from glassformer.generate.fill import rows_to_fill
from glassformer.generate.purpose import task_of
from glassformer.generate.sampling import Draw
from glassformer.generate.text import prompt_ids
from glassformer.generate.translate import ended, prompts_for, source_ids, translate
from glassformer.generate.tree import BeamTree
from glassformer.lens.glass.archive import Filed
from glassformer.lens.glass.points import Points
from glassformer.lens.glass.sizes import BUDGET_MB, MEGABYTE, WEIGHTS_MB, bytes_of, choose_points, lengths_of
from glassformer.lens.layout import printable
from glassformer.lens.recording import answer, fetch, prepared, run_again
from glassformer.lens.replay import Replay
from glassformer.models import Model
from glassformer.tokenizers import Tokenizer
from glassformer.tokenizers.roles import Writing

if TYPE_CHECKING:
    from glassformer.lens.glass.verify import Verification
    from glassformer.lens.views import View

IGNORED = -100


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens that a stack read: their ids, each as text on one line, its spaces marked, and as the bytes that it stands
    for, and whether it is special. The last two are empty where nobody knows them."""

    ids: tuple[int, ...]
    labels: tuple[str, ...]
    pieces: tuple[bytes, ...] = ()
    special: tuple[bool, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Keep:
    """Which tensors of a run are kept: `points` are names or globs, of all of them (``*``) as many as fit into the budget."""

    points: str | tuple[str, ...] = "*"
    budget_mb: float = BUDGET_MB


@dataclass(frozen=True, slots=True)
class Drawn:
    """One token that was drawn: after `position` tokens were read, by this draw, from these logits (V, as the model gave
    them, after what constraints forbade)."""

    position: int
    draw: Draw
    logits: Tensor


@dataclass(frozen=True)
class Trace:
    """One run of a model. Tensors by name through `[]`, in float64 with their batch axis of one text.

    task: what the model was made for. text: what it was asked. tokens: what each stack read, by its name.
    plain: the answer of the same run with nobody watching. draws and tree: how the text was generated, if it was, and
    settings: by which rules. filed: what the file says that it was opened from.
    """

    model: Model
    task: str
    text: str
    tokens: Mapping[str, Tokens]
    replay: Replay
    plain: Tensor
    notes: tuple[str, ...] = ()
    draws: tuple[Drawn, ...] = ()
    tree: BeamTree | None = None
    vocabulary: tuple[str, ...] = ()  # the label of each id of the output, by which it is shown
    settings: Mapping[str, Any] = field(default_factory=dict)
    filed: Filed | None = None

    def __getitem__(self, name: str) -> Tensor:
        return self.replay.value(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.replay.graph)

    def view(self, name: str, **choices: Any) -> View:
        """One way of looking at it, by its row in `glassformer.lens.views.VIEWS`: ``trace.view("attention", layer=1)``."""
        from glassformer.lens.views import view

        return view(self, name, **choices)

    @property
    def stack(self) -> str:
        """The name of the stack that answers: its tokens ask."""
        return "decoder" if "decoder" in self.tokens else "encoder"

    def keys_of(self, module: str) -> Tokens:
        """The tokens that an attention looks at: those of the source where it is a cross-attention, or CTC's head."""
        of_source = "cross_attention" in module or module.startswith("ctc")
        return self.tokens["encoder" if of_source else module.split(".")[0]]

    def save(self, path: str | Path, *, budget_mb: float = BUDGET_MB, weights_mb: float = WEIGHTS_MB) -> None:
        """Write a .glass file, whole or not at all: the tensors that fit into the budget, the smallest first, and the
        weights where they have at most `weights_mb`. Raises DiskError."""
        from glassformer.lens.glass.file import save_glass

        save_glass(self, Path(path), budget_mb=budget_mb, weights_mb=weights_mb)

    def verify(self) -> Verification:
        """Replay every recipe and hold the whole run against the facts that it must obey."""
        from glassformer.lens.glass.verify import verify

        return verify(self)


def trace_text(
    model: Model,
    tokenizer: Tokenizer,
    text: Any,
    *,
    target: str | None = None,
    source_tokenizer: Tokenizer | None = None,
    beam: Beam | None = None,
    keep: Keep | None = None,
    habits: Habits | None = None,
    features: FeatureConfig | None = None,
) -> Trace:
    """Everything that a model computes when it reads a text as its verb would.

    A model that translates is given the `target` too, by default the one that it finds itself, with this `beam`. `keep`:
    which tensors are kept, where not all that fit into the usual budget; the others are computed again when they are
    asked for. `habits`: how texts are put to a model that embeds. A model that reads vectors is given a file of sound or
    vectors (or the numbers themselves) as `text`; `features` say how its sound becomes vectors. Raises ConfigError for a text
    that the model cannot read.
    """
    keep = keep or Keep()
    if model.config.vectors is not None:
        from glassformer.lens.glass.vectors import trace_vectors
        from glassformer.lens.hearing import hear

        return trace_vectors(model, tokenizer, hear(text, model.config.vectors, features), target=target, keep=keep)
    task = task_of(model, tokenizer)
    if task == "translate":
        return trace_translation(model, tokenizer, source_tokenizer or tokenizer, text, target, beam or Beam(), keep)
    if target is not None:
        raise ConfigError(f"target={target!r} is for models that translate; this one was made for the task {task!r}")
    notes: tuple[str, ...] = ()
    if task == "text":
        ids, notes = read_text(tokenizer, text, model.config.max_len)
    else:
        said: list[str] = []
        ids = read_whole(model, tokenizer, task, text, habits, said)
        notes = tuple(said)
    refuse_foreign_ids(ids, model.config.vocab_size)
    name = "decoder" if task == "text" else "encoder"
    targets = [*ids[1:], IGNORED] if task == "text" else None
    return run(model, tokenizer, task, text, {name: (ids, tokenizer)}, targets, notes, keep)


def read_text(tokenizer: Tokenizer, text: str, max_len: int) -> tuple[list[int], tuple[str, ...]]:
    """The tokens that generating would read, and sentences about those that it would not."""
    window = Window(prompt_ids(tokenizer, text))
    if not text:
        return window.tokens, ("The text is empty: the model reads the token that stands between documents.",)
    if window.fit(max_len):
        kept = len(window.visible())
        note = (
            f"The text has {len(window.tokens):,} tokens and the model reads {max_len:,}: the last {kept:,} are shown."
        )
        return window.visible(), (note,)
    return window.tokens, ()


def read_whole(
    model: Model, tokenizer: Tokenizer, task: str, text: str, habits: Habits | None, notes: list[str]
) -> list[int]:
    """The tokens of a text that an encoder reads, as its verb cuts it. `notes` are told of what it leaves out."""
    match task:
        case "classify":
            return rows_to_label(model, tokenizer, [text])[0]
        case "tag":
            return in_frame(tokenizer, rows_to_tag(model, tokenizer, [text.split()])[0])
        case "embed":
            return rows_to_embed(model, tokenizer, [text], habits, on_note=notes.append)[0]
        case _:
            return rows_to_fill(model, tokenizer, [text])[0]


def trace_translation(
    model: Model,
    tokenizer: Tokenizer,
    source_tokenizer: Tokenizer,
    text: str,
    target: str | None,
    beam: Beam,
    keep: Keep,
) -> Trace:
    """A source and its target, in one run."""
    source = source_ids(model, source_tokenizer, text)
    tree, settings = None, {"kind": "forward"}
    if target is None:
        found = translate(model, source_tokenizer, tokenizer, [text], beam=beam, record=True)[0]
        written, tree = list(found.hypotheses[0].ids), found.tree
        size = min(tokenizer.vocab_size, model.config.vocab_size)
        settings = {"kind": "beam", "beam": beam.model_dump(mode="json"), "text": found.text, "vocab_size": size}
        if tokenizer.writing != Writing():
            most = min(beam.max_new_tokens, model.config.max_len)
            settings |= {"writing": asdict(tokenizer.writing), "eos_id": tokenizer.eos_id, "most": most}
    else:
        written = ended(tokenizer, tokenizer.encode(target))
    start = list(prompts_for(model, tokenizer, [source])[0][0])
    ids = [*start, *written][:-1]
    if len(ids) > model.config.max_len:
        raise ConfigError(
            f"the target has {len(ids):,} tokens, more than the {model.config.max_len:,} that the model reads"
        )
    targets = [IGNORED] * (len(start) - 1) + written
    sides = {"decoder": (ids, tokenizer)}
    if model.config.shape == "encoder_decoder":
        sides = {"encoder": (source, source_tokenizer), **sides}
    for name, side in sides.items():
        refuse_foreign_ids(side[0], getattr(model, name).config.vocab_size)
    return run(model, tokenizer, "translate", text, sides, targets, (), keep, tree=tree, settings=settings)


@torch.inference_mode()
def run(
    model: Model,
    tokenizer: Tokenizer,
    task: str,
    text: str,
    sides: Mapping[str, tuple[Sequence[int], Tokenizer]],
    targets: Sequence[int] | None,
    notes: tuple[str, ...],
    keep: Keep,
    *,
    draws: tuple[Drawn, ...] = (),
    tree: BeamTree | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Trace:
    """One watched run and one plain. sides: the tokens of each stack and the tokenizer that made them."""
    device = next(model.parameters()).device
    batch = {name: torch.tensor([list(ids)], device=device) for name, (ids, _) in sides.items()}
    name = "decoder" if "decoder" in sides else "encoder"
    source = batch["encoder"] if model.config.shape == "encoder_decoder" else None
    answers = None if targets is None else torch.tensor([list(targets)])
    replay = prepared(model, batch[name], source=source, targets=answers)
    tokens = {side: tokens_of(ids, owner) for side, (ids, owner) in sides.items()}
    return watched_run(
        model, tokenizer, task, text, tokens, replay, notes, keep, draws=draws, tree=tree, settings=settings
    )


@torch.inference_mode()
def watched_run(
    model: Model,
    tokenizer: Tokenizer,
    task: str,
    text: str,
    tokens: Mapping[str, Tokens],
    replay: Replay,
    notes: tuple[str, ...],
    keep: Keep,
    *,
    draws: tuple[Drawn, ...] = (),
    tree: BeamTree | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Trace:
    """The trace of a run that was prepared."""
    sizes = bytes_of(replay.graph, model, lengths_of(replay.given))
    kept = choose_points(sizes, keep.points, keep.budget_mb)
    again = partial(fetch, model, replay.given)
    lazy = {name: size for name, size in sizes.items() if name not in set(kept)}
    replay.points = Points(run_again(model, replay.given, kept), lazy, again, BUDGET_MB * MEGABYTE)
    config = model.config
    labels = config.labels if config.head in ("labels", "tags") else labels_of(range(config.vocab_size), tokenizer)
    return Trace(
        model=model,
        task=task,
        text=text,
        tokens=tokens,
        replay=replay,
        plain=answer(model, replay.given),
        notes=notes,
        draws=draws,
        tree=tree,
        vocabulary=tuple(labels),
        settings=settings or {"kind": "forward"},
    )


def tokens_of(ids: Sequence[int], tokenizer: Tokenizer) -> Tokens:
    """What a stack read: as labels, as bytes, and which of them are special; ids beyond the tokenizer's have no bytes."""
    pieces = tuple(tokenizer.piece(id) if id < tokenizer.vocab_size else b"" for id in ids)
    special = frozenset(tokenizer.special_tokens.values())
    return Tokens(tuple(ids), labels_of(ids, tokenizer), pieces, tuple(id in special for id in ids))


def labels_of(ids: Sequence[int] | range, tokenizer: Tokenizer) -> tuple[str, ...]:
    """Each token as text on one line; ids beyond the tokenizer's have none."""
    return tuple(printable(tokenizer.label(id)) if id < tokenizer.vocab_size else f"<no token {id}>" for id in ids)


def refuse_foreign_ids(ids: Sequence[int], vocab_size: int) -> None:
    """Raise ConfigError for a token that the model does not have."""
    if ids and max(ids) >= vocab_size:
        raise ConfigError(
            f"the text holds the token id {max(ids)}, but the model knows ids 0 to {vocab_size - 1} only:"
            " it was trained with another tokenizer"
        )
