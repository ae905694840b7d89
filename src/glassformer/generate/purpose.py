"""What a model is for, which its shape, its head and its tokenizer tell, and the refusal to use it for something else."""

from __future__ import annotations

from typing import Any, NamedTuple

from glassformer.errors import ConfigError
from glassformer.tokenizers import Tokenizer
from glassformer.tokenizers.roles import SEPARATOR


class Purpose(NamedTuple):
    """The verb that asks such a model, and what it does."""

    verb: str
    does: str


PURPOSES = {  # by the task that trains it
    "text": Purpose("generate", "goes on from a text"),
    "translate": Purpose("translate", "turns a source into a target"),
    "fill": Purpose("fill", "fills in masked tokens"),
    "classify": Purpose("classify", "gives a text its labels"),
    "tag": Purpose("classify", "gives each word a tag"),
    "embed": Purpose("embed", "turns a text into a vector"),
    "transcribe": Purpose("transcribe", "writes down what is said in sound, or in other vectors"),
    "classify_vectors": Purpose("classify", "gives sound, or other vectors, their labels"),
}
OF_ENCODERS = {"tokens": "fill", "labels": "classify", "tags": "tag", "pooled": "embed"}  # by head
OF_VECTORS = {"tokens": "transcribe", "labels": "classify_vectors"}  # by head, of those that read vectors


def task_of(model: Any, tokenizer: Tokenizer) -> str:
    """The row of `PURPOSES` that a model was made for. A decoder whose tokenizer has a separator was made to translate."""
    shape = model.config.shape
    if getattr(model.config, "vectors", None) is not None and model.config.head in OF_VECTORS:
        return OF_VECTORS[model.config.head]
    if shape == "encoder":
        return OF_ENCODERS[model.config.head]
    return "translate" if shape == "encoder_decoder" or SEPARATOR in tokenizer.special_tokens else "text"


def refuse_unfit(model: Any, tokenizer: Tokenizer, *tasks: str) -> None:
    """Raise ConfigError where the model was made for none of `tasks`, which one verb serves."""
    made_for = task_of(model, tokenizer)
    if made_for in tasks:
        return
    is_for, wanted = PURPOSES[made_for], PURPOSES[tasks[0]]
    raise ConfigError(
        f"this model {is_for.does} (ask it with `glassformer {is_for.verb}`); `glassformer {wanted.verb}` wants one that "
        f"{wanted.does}, which `glassformer train --task {tasks[0]}` makes"
    )
