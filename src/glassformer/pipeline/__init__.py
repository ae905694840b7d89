"""A whole way from text to text as one object: opened, trained, asked, judged."""

from __future__ import annotations

from glassformer.pipeline.evaluation import Evaluation
from glassformer.pipeline.opening import load, train, train_tokenizer
from glassformer.pipeline.pipeline import SAMPLING, Pipeline

__all__ = ["SAMPLING", "Evaluation", "Pipeline", "load", "train", "train_tokenizer"]
