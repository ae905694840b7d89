"""Seeing through a model: the walk through one prediction with its arithmetic checked, and what the model is made of."""

from __future__ import annotations

from glassformer.lens.describe import Description, describe
from glassformer.lens.explanation import Explanation
from glassformer.lens.parts import Check, Section
from glassformer.lens.points import Point, points
from glassformer.lens.run import explain

__all__ = ["Check", "Description", "Explanation", "Point", "Section", "describe", "explain", "points"]
