"""The kinds of training: one file each, and one row of the table."""

from __future__ import annotations

from glassformer.training.tasks.classify import Classify
from glassformer.training.tasks.classify_vectors import ClassifyVectors
from glassformer.training.tasks.embed import Embed
from glassformer.training.tasks.fill import Fill
from glassformer.training.tasks.tag import Tag
from glassformer.training.tasks.task import Batch, Task, Vocabularies
from glassformer.training.tasks.text import Text
from glassformer.training.tasks.transcribe import Transcribe
from glassformer.training.tasks.translate import Translate

__all__ = ["TASKS", "Batch", "Task", "Vocabularies"]

TASKS: dict[str, type[Task]] = {
    "text": Text,
    "translate": Translate,
    "classify": Classify,
    "tag": Tag,
    "fill": Fill,
    "embed": Embed,
    "transcribe": Transcribe,
    "classify_vectors": ClassifyVectors,
}
