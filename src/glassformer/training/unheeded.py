"""Keys that a user has set and nothing would read: each is refused in one sentence, so that no wish goes unheard."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from glassformer.config import nested_config
from glassformer.errors import ConfigError
from glassformer.training.decide import Decisions
from glassformer.training.recipe import Recipe
from glassformer.training.resume import flat

TEXT, PAIRS, SOUND = ("text", "fill"), ("translate", "embed"), ("transcribe", "classify_vectors")
READ_BY: dict[str, tuple[str, ...]] = {  # tasks, by a key, or what keys begin with; any other key is read by all
    "data.text_key": (*TEXT, "classify", *SOUND),
    "data.source_key": PAIRS,
    "data.target_key": PAIRS,
    "data.label_key": ("classify", *SOUND),
    "data.label_separator": ("classify",),
    "data.path_key": SOUND,
    "data.name_pattern": SOUND,
    "data.hold_back": SOUND,
    "data.replace": SOUND,
    "data.packing": ("text",),
    "data.weights": TEXT,
    "features": SOUND,
    "augment": SOUND,
    "optimiser.ctc_weight": ("transcribe",),
    "loop.sample_prompt": ("text", "translate"),
}


def refuse_unread(asked: Mapping[str, Any], task: str) -> None:
    """Raise ConfigError for a wish that the task does not read."""
    for key, value in wishes(asked):
        readers = next((tasks for name, tasks in READ_BY.items() if f"{key}.".startswith(f"{name}.")), None)
        if readers is not None and task not in readers:
            noun = "task" if len(readers) == 1 else "tasks"
            raise ConfigError(
                f"{key}={shown(value)} is for the {noun} {' and '.join(readers)}, and this one is {task}; leave it out"
            )


def refuse_idle(asked: Mapping[str, Any], decisions: Decisions) -> None:
    """Raise ConfigError for a wish that another choice leaves without effect.

    How processes divide their work is none of them: a recipe runs unchanged where there is one, and where there are many.
    """
    for key, value in wishes(asked):
        why = IDLE[key](decisions) if key in IDLE else None
        if why is not None:
            raise ConfigError(f"{key}={shown(value)} has no effect {why}; leave it out")


def wishes(asked: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """What was asked for by dotted key, but for nothing and for what holds anyway: a complete recipe says that of all keys."""
    found = flat(asked)
    return [(key, value) for key, value in found.items() if value is not None and not is_default(key, value)]


def is_default(key: str, value: Any) -> bool:
    """Whether a value is that of a key of which nothing is said. Sections that most tasks do without have none."""
    if key.startswith(("features.", "augment.")):
        return False
    config: Any = Recipe
    *above, name = key.split(".")
    for part in above:
        field = config.model_fields.get(part)
        config = nested_config(field.annotation) if field is not None else None
        if config is None:  # inside a mapping of the user's own words
            return False
    field = config.model_fields.get(name)
    if field is None or field.is_required():
        return False
    default = field.get_default(call_default_factory=True)
    return list(value) == list(default or ()) if isinstance(value, list | tuple) else value == default


def shown(value: Any) -> str:
    """A value as on a command line."""
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


# --- what leaves a key without effect, as a clause, or None ---------------------------------------------------------------


def smoothing(decisions: Decisions) -> str | None:
    """Only a softmax over one target has anything to smooth."""
    task, model = decisions.get("task"), decisions.get("model") or {}
    if task == "embed":
        return "on the task embed, which compares vectors"
    if task == "transcribe" and model.get("shape") == "encoder":
        return "on an encoder that transcribes by CTC alone"
    if task == "classify" and model.get("several_labels"):
        return "where a text may have several labels"
    return None


def ctc_weight(decisions: Decisions) -> str | None:
    """There is nothing to weigh CTC against without a decoder."""
    return "on an encoder, which has CTC alone" if decisions.get("model.shape") == "encoder" else None


def of_muon(decisions: Decisions) -> str | None:
    """AdamW alone has one rate for all and no momentum of Muon's."""
    return "on optimiser.name=adamw" if decisions.get("optimiser.name") == "adamw" else None


def of_schedules(*names: str) -> Callable[[Decisions], str | None]:
    """Only some schedules know of it."""

    def why(decisions: Decisions) -> str | None:
        schedule = decisions.get("optimiser.schedule") or "linear"
        return None if schedule in names else f"on optimiser.schedule={schedule}"

    return why


def pattern(decisions: Decisions) -> str | None:
    """Only pairs of bytes that are learnt anew are merged within pieces."""
    path, kind = decisions.get("tokenizer.path"), decisions.get("tokenizer.kind")
    if path is not None:
        return f"on the tokenizer of {path}, which is trained already"
    return None if kind in (None, "bpe") else f"on tokenizer.kind={kind}"


def fraction(decisions: Decisions) -> str | None:
    """What is held back is given."""
    given = next((key for key in ("data.validation", "data.hold_back") if decisions.get(key)), None)
    return f"beside {given}, which says what is held back" if given else None


IDLE: dict[str, Callable[[Decisions], str | None]] = {
    "optimiser.label_smoothing": smoothing,
    "optimiser.ctc_weight": ctc_weight,
    "optimiser.momentum": of_muon,
    "optimiser.embedding_lr": of_muon,
    "optimiser.head_lr": of_muon,
    "optimiser.vector_lr": of_muon,
    "optimiser.decay_share": of_schedules("wsd"),
    "optimiser.min_lr": of_schedules("linear", "cosine", "wsd"),
    "tokenizer.pattern": pattern,
    "data.validation_fraction": fraction,
}
