"""Model folders: what is trained here opens in other tools, and what they write opens here."""

from __future__ import annotations

from glassformer.checkpoints.families import FAMILIES, Family, family_of
from glassformer.checkpoints.load import Loaded, load_model
from glassformer.checkpoints.run_folder import model_folder
from glassformer.checkpoints.save import save_model

__all__ = ["FAMILIES", "Family", "Loaded", "family_of", "load_model", "model_folder", "save_model"]
