"""The mel scale and the bands that are even on it: numbers alone, so that a config can be checked without torch."""

from __future__ import annotations

import math
from collections.abc import Callable


def mel_of(hertz: float, scale: str = "htk") -> float:
    """Where a frequency lies on the mel scale, on which equal steps sound equally far apart.

    scale: "htk" (O'Shaughnessy 1987: one formula), or "slaney" (Slaney 1998: linear up to 1000 Hz, logarithmic above).
    """
    return SCALES[scale][0](hertz)


def hertz_of(mel: float, scale: str = "htk") -> float:
    """The inverse of `mel_of`."""
    return SCALES[scale][1](mel)


def htk_mel(hertz: float) -> float:
    """One formula for all frequencies, by which 1000 Hz are 1000 mels."""
    return 2595 * math.log10(1 + hertz / 700)


def htk_hertz(mel: float) -> float:
    """The inverse of `htk_mel`."""
    return 700 * (10 ** (mel / 2595) - 1)


BEND_HZ = 1000.0  # where Slaney's scale turns from linear to logarithmic
MEL_HZ = 200 / 3  # Hz of a mel below
BEND_MEL = BEND_HZ / MEL_HZ
GROWTH = math.log(6.4) / 27  # above, 27 mels multiply a frequency by 6.4


def slaney_mel(hertz: float) -> float:
    """Linear up to 1000 Hz, logarithmic above."""
    return hertz / MEL_HZ if hertz < BEND_HZ else BEND_MEL + math.log(hertz / BEND_HZ) / GROWTH


def slaney_hertz(mel: float) -> float:
    """The inverse of `slaney_mel`."""
    return mel * MEL_HZ if mel < BEND_MEL else BEND_HZ * math.exp(GROWTH * (mel - BEND_MEL))


def mel_edges(n_mels: int, low_hz: float, high_hz: float, scale: str = "slaney") -> list[float]:
    """Where bands begin, peak and end, in Hz, evenly spaced in mels: M + 2 numbers. Band m reaches from m to m + 2."""
    low, high = mel_of(low_hz, scale), mel_of(high_hz, scale)
    return [hertz_of(low + (high - low) * i / (n_mels + 1), scale) for i in range(n_mels + 2)]


Converter = Callable[[float], float]
SCALES: dict[str, tuple[Converter, Converter]] = {  # to mels and back
    "htk": (htk_mel, htk_hertz),
    "slaney": (slaney_mel, slaney_hertz),
}
