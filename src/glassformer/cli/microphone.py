"""Sound from the microphone, until Ctrl-C or for a time."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

INSTALL = "the microphone needs sounddevice: pip install sounddevice (and, on Linux, libportaudio2)"
BLOCK_SECONDS = 0.1


def record(rate: int, seconds: float | None) -> np.ndarray:
    """Samples of the microphone, N float32 at `rate`: for so many seconds, at most, or until Ctrl-C. What is lost is told.

    Raises ConfigError without the package that listens, DataError where there is no microphone or nothing came from it.
    """
    import numpy as np

    from glassformer.errors import DataError

    device = library()
    size = round(rate * BLOCK_SECONDS)
    most = None if seconds is None else round(rate * seconds)
    pieces: list[Any] = []
    n_samples = n_gaps = 0
    print("listening, end with Ctrl-C" if seconds is None else f"listening for {seconds:g} s", file=sys.stderr)
    try:
        with device.InputStream(samplerate=rate, channels=1, dtype="float32", blocksize=size) as stream:
            while most is None or n_samples < most:
                block, overflowed = stream.read(size)
                pieces.append(np.asarray(block, np.float32)[:, 0].copy())
                n_samples += len(block)
                n_gaps += bool(overflowed)
    except KeyboardInterrupt:
        pass
    except Exception as error:  # whatever PortAudio says of the machine
        told = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"the microphone cannot be read ({told})") from None
    if n_gaps:  # PortAudio says that sound was lost, not how much of it
        place = f"{n_gaps:,} of {len(pieces):,} blocks of {BLOCK_SECONDS:g} s"
        print(f"glassformer: sound was lost before {place}: the machine was too busy to listen", file=sys.stderr)
    samples = np.concatenate(pieces) if pieces else np.empty(0, np.float32)
    if not len(samples):
        raise DataError("the microphone gave no samples")
    return samples if most is None else samples[:most]


def library() -> Any:
    """The package that listens. Raises ConfigError where it, or PortAudio, is missing."""
    from glassformer.errors import ConfigError

    try:
        return importlib.import_module("sounddevice")
    except (ImportError, OSError):  # without PortAudio it is an OSError
        raise ConfigError(INSTALL) from None
