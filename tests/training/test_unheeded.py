"""Wishes that nothing would read are refused by their key; what a recipe says of itself never is."""

from __future__ import annotations

from pathlib import Path

import pytest

from glassformer.config import read_mapping, set_dotted
from glassformer.errors import ConfigError
from glassformer.training import Recipe, Silence, check_wishes, train_run
from glassformer.training.decide import Decisions
from glassformer.training.plan.planning import plan_run
from glassformer.training.recipe import keys
from glassformer.training.tasks import TASKS
from glassformer.training.unheeded import IDLE, READ_BY, refuse_idle, refuse_unread
from running import SENTENCES, quick_settings
from toys import TOYS, TOYS_OF_VECTORS, prepared

pytestmark = pytest.mark.usefixtures("swift")
RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))


def nested(**flat: object) -> dict:
    asked: dict = {}
    for key, value in flat.items():
        set_dotted(asked, key, value)
    return asked


def test_every_key_and_task_of_the_tables_exists():
    known = {key for key, *_ in keys(Recipe)}
    assert IDLE.keys() <= known
    assert all(any(f"{key}.".startswith(f"{name}.") for key in known) for name in READ_BY)
    assert {task for tasks in READ_BY.values() for task in tasks} <= TASKS.keys()


UNREAD = [
    ("translate", "data.packing", "documents"),
    ("fill", "data.packing", "documents"),
    ("classify", "data.weights", [1.0, 2.0]),
    ("text", "augment.time_masks", 2),  # the default too: nothing else would have set it
    ("classify", "features.kind", "log-mel"),
    ("tag", "data.path_key", "file"),
    ("text", "data.name_pattern", "{text}"),
    ("text", "data.hold_back", "speaker=a"),
    ("translate", "data.replace", {"7": "seven"}),
    ("translate", "data.text_key", "t"),
    ("text", "data.source_key", "s"),
    ("text", "data.label_key", "l"),
    ("classify_vectors", "optimiser.ctc_weight", 0.5),
    ("embed", "loop.sample_prompt", "Once"),
]


@pytest.mark.parametrize(("task", "key", "value"), UNREAD)
def test_what_the_task_does_not_read_is_refused_by_its_key(task, key, value):
    with pytest.raises(ConfigError, match=rf"^{key}[.\w]*=.* and this one is {task}; leave it out$"):
        refuse_unread(nested(**{key: value}), task)
    for reader in next(tasks for name, tasks in READ_BY.items() if f"{key}.".startswith(f"{name}.")):
        refuse_unread(nested(**{key: value}), reader)


IDLE_WISHES = [
    ({"task": "transcribe", "model.shape": "encoder"}, "optimiser.label_smoothing", 0.1),
    ({"task": "embed"}, "optimiser.label_smoothing", 0.1),
    ({"task": "classify", "model.several_labels": True}, "optimiser.label_smoothing", 0.1),
    ({"task": "transcribe", "model.shape": "encoder"}, "optimiser.ctc_weight", 0.5),
    ({"optimiser.name": "adamw"}, "optimiser.momentum", 0.8),
    ({"optimiser.name": "adamw"}, "optimiser.head_lr", 0.8),
    ({"optimiser.schedule": "cosine"}, "optimiser.decay_share", 0.5),
    ({"optimiser.schedule": "constant"}, "optimiser.min_lr", 0.5),
    ({"tokenizer.kind": "characters"}, "tokenizer.pattern", "llama3"),
    ({"tokenizer.path": "runs/words"}, "tokenizer.pattern", "llama3"),
    ({"data.validation": ["held.txt"]}, "data.validation_fraction", 0.2),
]


@pytest.mark.parametrize(("beside", "key", "value"), IDLE_WISHES)
def test_what_another_choice_leaves_without_effect_is_refused_by_its_key(beside, key, value):
    asked = nested(**{key: value})
    with pytest.raises(ConfigError, match=rf"^{key}={value} .*; leave it out"):
        refuse_idle(asked, Decisions(nested(**beside, **{key: value})))
    refuse_idle(asked, Decisions(nested(**{"optimiser.schedule": "wsd", key: value})))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_no_recipe_of_ours_asks_for_what_nothing_reads(path):
    asked = check_wishes(read_mapping(path))
    refuse_unread(asked, asked.get("task") or "text")
    refuse_idle(asked, Decisions(dict(asked)))


@pytest.mark.parametrize("name", [*TOYS, *TOYS_OF_VECTORS])
def test_a_complete_recipe_may_be_given_again(tmp_path, name):
    asked = prepared(name, tmp_path)[0].model_dump(mode="json")
    refuse_unread(asked, asked["task"])
    refuse_idle(asked, Decisions(asked))


@pytest.mark.parametrize("verb", [train_run, plan_run])
def test_plans_and_runs_refuse_alike_and_write_nothing(tmp_path, verb):
    (tmp_path / "words.txt").write_text(SENTENCES * 20)
    asked = nested(
        **quick_settings(**{"data.sources": [str(tmp_path / "words.txt")], "data.packing": "documents", "task": "fill"})
    )
    with pytest.raises(ConfigError, match=r"data.packing=documents is for the task text, and this one is fill"):
        verb(asked, tmp_path / "run", minutes=1, screen=Silence())
    assert not (tmp_path / "run").exists()
