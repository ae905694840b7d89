"""Text that is piped in, for every verb that takes some."""

from __future__ import annotations

import sys


def read_standard_input() -> str:
    """All of standard input as UTF-8, whatever the locale says. Raises DataError where it is something else."""
    from glassformer.errors import DataError

    if sys.stdin is None:  # pythonw, or a shell's <&-
        raise DataError("standard input is closed; give the text as an argument or pipe it in")
    try:
        return sys.stdin.buffer.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"standard input: byte {error.start} is not UTF-8 text; convert it first, for example with iconv"
        ) from None
    except OSError as error:
        raise DataError(f"standard input: cannot be read ({error.strerror}); pipe a text into the command") from None


def is_piped() -> bool:
    """Whether something other than a keyboard stands at the other end of standard input."""
    return sys.stdin is not None and not sys.stdin.isatty()
