"""What a checkpoint family is: the words of its config.json and the names in its weight files, both ways."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from glassformer.checkpoints.families.keys import Keys
from glassformer.checkpoints.families.rules import Rule, applying
from glassformer.errors import CheckpointError, ConfigError, GlassformerError
from glassformer.models import ModelConfig


@dataclass(frozen=True)
class Family:
    """A kind of model folder. Which models it can express follows from the way there and back, and needs no list.

    `write` says of a config what the family has words for; `read` gives every field that a config.json decides. `idle`
    are keys that change no number, `derived` tensors that some writers store although they follow from the config.
    `prefix` is what writers of the bare stack, without its head, leave out. Where `rules` is None the names in the file
    are those of the model.
    """

    name: str
    model_type: str
    architecture: str
    write: Callable[[ModelConfig], dict[str, Any]]
    read: Callable[[Keys], dict[str, Any]]
    rules: tuple[Rule, ...] | None
    prefix: str = ""
    idle: frozenset[str] = frozenset()
    derived: tuple[str, ...] = ()

    def to_config(self, config: ModelConfig) -> dict[str, Any]:
        """The config.json of a model, but for its tokens and number type."""
        return {"architectures": [self.architecture], "model_type": self.model_type, **self.write(config)}

    def from_config(self, keys: Keys, remembered: Mapping[str, Any] | None = None) -> ModelConfig:
        """The model that a config.json describes. Raises CheckpointError for what cannot be expressed here.

        `remembered` gives the fields that change nothing computed and that the family has no words for; where it makes
        no sense it is left out with a note.
        """
        said = self.read(keys)
        try:
            config = ModelConfig.parse(said, keys.where)
        except ConfigError as error:
            raise CheckpointError(str(error)) from None
        unsaid = {field: (remembered or {}).get(field) for field in silent(config) - said.keys()}
        try:
            return config.updated({field: value for field, value in unsaid.items() if value is not None})
        except ConfigError as error:
            keys.notes.append(f"what the weights remember of their training was left out ({error})")
            return config

    def why_not(self, config: ModelConfig) -> tuple[str, ...]:
        """What the family cannot say of this model, empty where it says all: what the way there and back loses."""
        try:
            back = self.from_config(Keys(self.to_config(config)))
        except GlassformerError as error:
            return (str(error),)
        return tuple(f"{field}={value!r}" for field, value in spoken(config).items() if getattr(back, field) != value)

    def rules_for(self, names: Collection[str], n_layers: int) -> list[Rule]:
        """One rule for each tensor in the file of a model with these parameters. Raises CheckpointError."""
        if self.rules is None:
            return [Rule(name, (name,)) for name in names]
        return applying(self.rules, names, n_layers)


ALWAYS_SILENT = frozenset(
    {"dropout", "attention_dropout", "init"}
)  # they shape training and leave no trace in what is computed
SILENT_UNLESS: Mapping[str, tuple[str, ...]] = {
    "rotary": ("rotary_base", "rotary_scaling"),
    "relative": ("relative_buckets", "relative_max_distance"),
}


def silent(config: ModelConfig) -> frozenset[str]:
    """The fields that change nothing that this model computes once it is trained."""
    idle = {field for scheme, fields in SILENT_UNLESS.items() if config.positions != scheme for field in fields}
    return ALWAYS_SILENT | idle


def spoken(config: ModelConfig) -> dict[str, Any]:
    """The fields that decide what this model computes."""
    return {field: getattr(config, field) for field in type(config).model_fields if field not in silent(config)}
