"""How many frames a wave makes, by whole numbers alone, so that a config can be checked without torch."""

from __future__ import annotations


def n_frames(n_samples: int, size: int, hop: int, *, centred: bool = True) -> int:
    """How many frames of `size` samples, `hop` apart, are made of a wave of at least one sample."""
    return 1 + (n_samples // hop if centred else max(0, n_samples - size) // hop)


def fewest_samples(size: int, *, centred: bool = True) -> int:
    """How many samples a wave needs for one frame, or, where frames have their middles at the hops, to be mirrored at its
    ends; a shorter one ends in zeros."""
    return size - size // 2 + 1 if centred else size
