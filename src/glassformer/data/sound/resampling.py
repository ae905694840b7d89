"""From one rate to another through soxr, whole or block by block."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from glassformer.errors import DataError


def resample(samples: np.ndarray, rate: int, wanted: int, name: str = "the samples") -> np.ndarray:
    """samples: N, float32 in [-1, 1]. Returns N * wanted / rate, float32 in [-1, 1]. Raises DataError without soxr."""
    pieces = list(resampled([samples], rate, wanted, name))
    return np.concatenate(pieces) if pieces else samples[:0]


def resampled(blocks: Iterable[np.ndarray], rate: int, wanted: int | None, name: str) -> Iterator[np.ndarray]:
    """The blocks at another rate, the same numbers as if all were one; as they are where the rate is the one wanted.

    Raises DataError without soxr, if it is needed.
    """
    if wanted is None or wanted == rate:
        yield from blocks
        return
    try:
        import soxr
    except ImportError:
        raise DataError(
            f"{name}: has {rate:,} samples a second where {wanted:,} are wanted, which needs soxr: "
            "pip install 'glassformer[audio]'"
        ) from None
    stream = soxr.ResampleStream(rate, wanted, 1, dtype="float32")
    for block in blocks:
        yield within(stream.resample_chunk(np.ascontiguousarray(block, np.float32)))
    yield within(stream.resample_chunk(np.zeros(0, np.float32), last=True))


def within(samples: np.ndarray) -> np.ndarray:
    """Cut to [-1, 1]: between two samples at full scale the wave may reach further."""
    return np.clip(samples, -1, 1)
