"""What a user asks of a recipe before it is complete: each value checked by itself, and as the recipe would hold it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError, create_model

from glassformer.config import Config, explain, nested_config, refuse_unknown_keys
from glassformer.errors import ConfigError
from glassformer.training.recipe import Recipe


def check_wishes(wishes: Mapping[str, Any]) -> dict[str, Any]:
    """Parts of a Recipe with every value in the type of its field; null asks for nothing. Raises ConfigError naming the key."""
    refuse_unknown_keys(Recipe, wishes, "recipe")
    return checked(Recipe, wishes)


def checked(config: type[BaseModel], wishes: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The same for one mapping of known keys, which stands at `prefix` in the recipe."""
    found: dict[str, Any] = {}
    for name, value in wishes.items():
        inner = nested_config(config.model_fields[name].annotation)
        if value is None:
            found[name] = None
        elif inner is None:
            found[name] = checked_value(config, name, value, prefix)
        elif isinstance(value, Mapping):
            found[name] = checked(inner, value, f"{prefix}{name}.")
        else:
            raise ConfigError(f"recipe: {prefix}{name}: expected keys and values below it, found {value!r}")
    return found


def checked_value(config: type[BaseModel], name: str, value: Any, prefix: str) -> Any:
    """One value as recipe.yaml would hold it, checked in a config of that field alone. Raises ConfigError."""
    field: Any = config.model_fields[name]
    alone: Any = {name: (field.annotation, field)}
    try:
        return create_model("Wish", __base__=Config, **alone)(**{name: value}).model_dump(mode="json")[name]
    except ValidationError as error:
        raise ConfigError(f"recipe: {prefix}{explain(error)}") from None
