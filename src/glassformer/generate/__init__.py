"""From a model to its answers: text drawn token by token or searched for, labels, vectors, and masks filled in."""

from __future__ import annotations

from glassformer.generate.beam import Beam, BeamHypothesis, BeamResult, beam_search
from glassformer.generate.classify import Labelling, Tagging, classify, classify_vectors, tag
from glassformer.generate.embed import embed
from glassformer.generate.fill import Filled, Guess, fill
from glassformer.generate.loop import Completion, generate_ids
from glassformer.generate.sampling import STAGES, Draw, Sampling, Stage, choose, draw, uniform
from glassformer.generate.stopping import StopStrings
from glassformer.generate.text import Generation, TextCompletion, generate_text, stream_text
from glassformer.generate.transcribe import transcribe
from glassformer.generate.transcription import Segment, Transcription, Word
from glassformer.generate.translate import Translation, translate
from glassformer.generate.tree import BeamNode, BeamTree

__all__ = [
    "STAGES",
    "Beam",
    "BeamHypothesis",
    "BeamNode",
    "BeamResult",
    "BeamTree",
    "Completion",
    "Draw",
    "Filled",
    "Generation",
    "Guess",
    "Labelling",
    "Sampling",
    "Segment",
    "Stage",
    "StopStrings",
    "Tagging",
    "TextCompletion",
    "Transcription",
    "Translation",
    "Word",
    "beam_search",
    "choose",
    "classify",
    "classify_vectors",
    "draw",
    "embed",
    "fill",
    "generate_ids",
    "generate_text",
    "stream_text",
    "tag",
    "transcribe",
    "translate",
    "uniform",
]
