"""Our own family, for the models that no known family expresses: every field of the config, the model's own names."""

from __future__ import annotations

from typing import Any

from glassformer.checkpoints.families.family import Family
from glassformer.checkpoints.families.keys import Keys
from glassformer.models import ModelConfig


def write(config: ModelConfig) -> dict[str, Any]:
    """Every field by its own name."""
    return config.model_dump(mode="json")


def read(keys: Keys) -> dict[str, Any]:
    """Every key, known or not: one that the config lacks may come from a later version and mean something."""
    return {key: keys.get(key) for key in keys.unread()}


GLASSFORMER = Family(
    name="glassformer",
    model_type="glassformer",
    architecture="GlassformerForCausalLM",
    write=write,
    read=read,
    rules=None,
)
