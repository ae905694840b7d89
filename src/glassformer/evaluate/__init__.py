"""How good a model is, in numbers that can be compared, with how far they can be trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from glassformer.evaluate.bootstrap import Comparison, confidence_interval, paired_test
from glassformer.evaluate.classification import ClassificationScore, ClassScore, classification_score, tagging_score
from glassformer.evaluate.likelihood import bits_per_byte_score, perplexity_score
from glassformer.evaluate.listing import write_examples
from glassformer.evaluate.metric import Metric
from glassformer.evaluate.retrieval import RetrievalScore, retrieval_score
from glassformer.evaluate.transcription import character_errors, word_errors
from glassformer.evaluate.translation import bleu, chrf

if TYPE_CHECKING:
    from glassformer.evaluate.perplexity import Score, evaluate, window_losses

__all__ = [
    "ClassScore",
    "ClassificationScore",
    "Comparison",
    "Metric",
    "RetrievalScore",
    "Score",
    "bits_per_byte_score",
    "bleu",
    "character_errors",
    "chrf",
    "classification_score",
    "confidence_interval",
    "evaluate",
    "paired_test",
    "perplexity_score",
    "retrieval_score",
    "tagging_score",
    "window_losses",
    "word_errors",
    "write_examples",
]


def __getattr__(name: str) -> Any:
    """What runs a model is imported when it is first asked for, so that comparing answers needs no torch."""
    if name not in ("Score", "evaluate", "window_losses"):
        raise AttributeError(f"module 'glassformer.evaluate' has no attribute {name!r}")
    from glassformer.evaluate import perplexity

    return getattr(perplexity, name)
