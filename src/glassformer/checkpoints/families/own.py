"""Our own family, for the models that no known family expresses: every field of the config, the model's own names."""

from __future__ import annotations

from typing import Any

from glassformer.checkpoints.families.family import Family
from glassformer.checkpoints.families.keys import Keys
from glassformer.models import ModelConfig

ARCHITECTURES = {  # what a model is for, in the words of those who read config.json to learn it
    "decoder": "GlassformerForCausalLM",
    "encoder_decoder": "GlassformerForConditionalGeneration",
    "tokens": "GlassformerForMaskedLM",
    "labels": "GlassformerForSequenceClassification",
    "tags": "GlassformerForTokenClassification",
    "pooled": "GlassformerModel",
}


def write(config: ModelConfig) -> dict[str, Any]:
    """Every field by its own name, and what kind of model it is."""
    kind = config.head if config.shape == "encoder" else config.shape
    return {**config.model_dump(mode="json"), "architectures": [ARCHITECTURES[kind]]}


def read(keys: Keys) -> dict[str, Any]:
    """Every key, known or not: one that the config lacks may come from a later version and mean something."""
    return {key: keys.get(key) for key in keys.unread()}


GLASSFORMER = Family(
    name="glassformer",
    model_type="glassformer",
    architecture=ARCHITECTURES["decoder"],
    write=write,
    read=read,
    rules=None,
)
