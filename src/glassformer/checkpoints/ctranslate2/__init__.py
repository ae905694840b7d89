"""Folders in CTranslate2's layout (model.bin), read and never written: Whisper, whose published conversions come so."""

from __future__ import annotations

from glassformer.checkpoints.ctranslate2.load import is_ctranslate2, load_ctranslate2

__all__ = ["is_ctranslate2", "load_ctranslate2"]
