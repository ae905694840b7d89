"""How good a model is, in numbers that can be compared."""

from __future__ import annotations

from glassformer.evaluate.perplexity import Score, evaluate

__all__ = ["Score", "evaluate"]
