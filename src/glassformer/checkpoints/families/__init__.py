"""The families of model folders: one file each, and one row of the table."""

from __future__ import annotations

from glassformer.checkpoints.families.bart import BART
from glassformer.checkpoints.families.bert import BERT
from glassformer.checkpoints.families.distilbert import DISTILBERT
from glassformer.checkpoints.families.family import Family
from glassformer.checkpoints.families.gemma2 import GEMMA2
from glassformer.checkpoints.families.gemma3 import GEMMA3
from glassformer.checkpoints.families.gpt2 import GPT2
from glassformer.checkpoints.families.keys import Keys
from glassformer.checkpoints.families.llama import LLAMA
from glassformer.checkpoints.families.marian import MARIAN
from glassformer.checkpoints.families.mistral import MISTRAL
from glassformer.checkpoints.families.own import GLASSFORMER
from glassformer.checkpoints.families.qwen2 import QWEN2
from glassformer.checkpoints.families.qwen3 import QWEN3
from glassformer.checkpoints.families.roberta import ROBERTA
from glassformer.checkpoints.families.t5 import T5
from glassformer.checkpoints.families.whisper import WHISPER
from glassformer.models import ModelConfig

__all__ = ["FAMILIES", "Family", "Keys", "family_of", "nearest_public"]


def family_of(config: ModelConfig) -> Family:
    """The first family that says all of this model; ours says everything."""
    return next(family for family in FAMILIES.values() if not family.why_not(config))


def nearest_public(config: ModelConfig) -> Family:
    """The family that other tools know and that says the most of this model."""
    return min((family for family in FAMILIES.values() if family.rules), key=lambda family: len(family.why_not(config)))


FAMILIES = {
    family.model_type: family
    for family in (
        QWEN3,
        LLAMA,
        GPT2,
        MISTRAL,
        QWEN2,
        GEMMA2,
        GEMMA3,
        BERT,
        ROBERTA,
        DISTILBERT,
        MARIAN,
        BART,
        T5,
        WHISPER,
        GLASSFORMER,
    )
}  # in order of preference
