"""The C files of this room, compiled on the user's machine into one library and opened with ctypes."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import torch

from glassformer.errors import GlassformerError
from glassformer.files import whole_file
from glassformer.machine import home

SOURCES = (Path(__file__).with_name("fused.c"), Path(__file__).with_name("decode.c"))
# Sums may be reordered into vectors; not -ffast-math, which would switch off denormal numbers for the whole process.
REORDER = ("-fassociative-math", "-fno-signed-zeros", "-fno-trapping-math", "-fno-math-errno", "-freciprocal-math")
FLAGS = ("-O3", "-march=native", *REORDER, "-fopenmp", "-fPIC", "-shared")
POINTER, LONG, FLOAT = ctypes.c_void_p, ctypes.c_long, ctypes.c_float
SIGNATURES: dict[str, list[Any]] = {
    "rms_norm": [POINTER] * 3 + [LONG] * 2 + [FLOAT],
    "rms_norm_grad": [POINTER] * 5 + [LONG] * 2 + [FLOAT],
    "norm_turn": [POINTER] * 5 + [LONG] * 4 + [FLOAT],
    "norm_turn_grad": [POINTER] * 8 + [LONG] * 4 + [FLOAT],
    "swiglu": [POINTER] * 3 + [LONG] * 2,
    "swiglu_grad": [POINTER] * 5 + [LONG] * 2,
    "relu_squared": [POINTER] * 2 + [LONG] * 2,
    "relu_squared_grad": [POINTER] * 3 + [LONG] * 2,
    "dropout_add": [POINTER] * 3 + [LONG, FLOAT, LONG],
    "cross_entropy": [POINTER] * 4 + [LONG] * 2 + [FLOAT],
    "cross_entropy_grad": [POINTER] * 4 + [LONG] * 2 + [FLOAT] * 2,
    "decode": [POINTER, LONG, POINTER] + [LONG] * 3 + [POINTER] * 4,
}


@cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels, built once for each machine and version; None, after one warning, where they cannot be had.

    Set GLASSFORMER_FUSED=0 to do without. They live in GLASSFORMER_HOME, or else in the user's cache folder.
    """
    if os.environ.get("GLASSFORMER_FUSED") == "0":
        return None
    try:
        kernels = ctypes.CDLL(str(built()))
    except (
        OSError,
        RuntimeError,
        subprocess.SubprocessError,
        GlassformerError,
    ) as error:  # RuntimeError: no home folder
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        warnings.warn(f"the CPU goes on without compiled kernels ({reason})", RuntimeWarning, stacklevel=2)
        return None
    for name, arguments in SIGNATURES.items():
        function = getattr(kernels, name)
        function.argtypes, function.restype = arguments, None
    return kernels


def built() -> Path:
    """The shared library, compiled now unless an earlier process did. Raises OSError, SubprocessError or DiskError."""
    asked = shlex.split(os.environ.get("CC", ""))
    compiler = asked or [name for name in ("cc", "gcc", "clang") if shutil.which(name)][:1]
    if not compiler or shutil.which(compiler[0]) is None:
        raise OSError("no C compiler was found")
    identity = "|".join(
        [*(source.read_text(encoding="utf-8") for source in SOURCES), *FLAGS, *compiler, torch.__version__, processor()]
    )
    path = home() / f"kernels-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.so"
    if not path.exists():
        with whole_file(path) as draft:
            command = [*compiler, *FLAGS, "-o", str(draft), "-x", "c", *map(str, SOURCES), "-lm"]
            # OpenMP is left unresolved on purpose: torch has loaded its own, and two of them would fight for the cores.
            subprocess.run([*command, "-nodefaultlibs", "-lc"], check=True, capture_output=True, timeout=60)
    return path


def processor() -> str:
    """What the code was compiled for: the machine's instruction sets, where they can be read."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine() + platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.machine())


def kernels() -> ctypes.CDLL:
    """The library, where `library` has been found to give one."""
    found = library()
    assert found is not None
    return found
