"""From logits to text: the sampling stages, the loop that draws token after token, and its streaming text."""

from __future__ import annotations

from glassformer.generate.loop import Completion, generate_ids
from glassformer.generate.sampling import STAGES, Draw, Sampling, Stage, choose, draw, uniform
from glassformer.generate.stopping import StopStrings
from glassformer.generate.text import Generation, TextCompletion, generate_text, stream_text

__all__ = [
    "STAGES",
    "Completion",
    "Draw",
    "Generation",
    "Sampling",
    "Stage",
    "StopStrings",
    "TextCompletion",
    "choose",
    "draw",
    "generate_ids",
    "generate_text",
    "stream_text",
    "uniform",
]
