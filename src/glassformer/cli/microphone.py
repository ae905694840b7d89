"""Sound from the microphone, until a key is pressed or a time is over."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

INSTALL = "the microphone needs sounddevice: pip install sounddevice (and, on Linux, libportaudio2)"
BLOCK_SECONDS = 0.1


def record(rate: int, seconds: float | None) -> np.ndarray:
    """Samples of the microphone, N float32 at `rate`: for so many seconds, or until Ctrl-C. Raises DataError."""
    import numpy as np

    from glassformer.errors import DataError

    device = library()
    size = round(rate * BLOCK_SECONDS)
    most = None if seconds is None else round(rate * seconds)
    pieces: list[Any] = []
    print("listening, end with Ctrl-C" if seconds is None else f"listening for {seconds:g} s", file=sys.stderr)
    try:
        with device.InputStream(samplerate=rate, channels=1, dtype="float32", blocksize=size) as stream:
            while most is None or sum(map(len, pieces)) < most:
                block, _ = stream.read(size)
                pieces.append(np.asarray(block, np.float32)[:, 0].copy())
    except KeyboardInterrupt:
        pass
    except Exception as error:  # whatever PortAudio says of the machine
        raise DataError(f"the microphone cannot be read ({str(error).splitlines()[0]})") from None
    samples = np.concatenate(pieces) if pieces else np.empty(0, np.float32)
    if not len(samples):
        raise DataError("the microphone gave no samples")
    return samples if most is None else samples[:most]


def library() -> Any:
    """The package. Raises ConfigError where it, or what it stands on, is missing."""
    from glassformer.errors import ConfigError

    try:
        return importlib.import_module("sounddevice")
    except (ImportError, OSError):  # without PortAudio it is an OSError
        raise ConfigError(INSTALL) from None
