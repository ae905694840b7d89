"""How a wave becomes the vectors that a model reads: the config that says it, and the extraction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from glassformer.features.config import FeatureConfig

if TYPE_CHECKING:
    from glassformer.features.extraction import extract, loudest_band

__all__ = ["FeatureConfig", "extract", "loudest_band"]


def __getattr__(name: str) -> Any:
    """What computes is imported when it is first asked for, so that reading a config needs no torch."""
    if name not in ("extract", "loudest_band"):
        raise AttributeError(f"module 'glassformer.features' has no attribute {name!r}")
    from glassformer.features import extraction

    return getattr(extraction, name)
