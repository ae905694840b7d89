"""The checks of ``glassformer doctor``: each looks at one thing, and whatever it cannot find out is said, never raised."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import re
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from glassformer import machine
from glassformer.files import nearest_existing

LEAST_PYTHON = (3, 11)
LEAST_MEMORY, LITTLE_MEMORY = 700e6, 2e9  # bytes: torch alone takes 300 MB
LITTLE_DISK, LEAST_DISK, LITTLE_TMP = 2e9, 100e6, 500e6
SLOW_DISK = 20e6  # bytes a second
WRITTEN = 16_000_000  # bytes, to see how fast the disk is
SQUARE, REPEATS = 512, 8  # of the matrices whose product is timed
NETWORK = ("nfs", "cifs", "smb", "sshfs", "lustre", "gpfs", "ceph", "gluster", "9p", "afs", "beegfs")


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, how it is, what was found, and what to do where it is not as it should be."""

    name: str
    state: Literal["ok", "note", "problem"]
    found: str
    todo: str = ""


def checkup(folder: Path) -> Iterator[Finding]:
    """Every check in turn. `folder`: where runs would be written."""
    for name, check in CHECKS.items():
        try:
            yield from check(folder)
        except Exception as error:  # a machine may be broken in any way
            told = (str(error).strip().splitlines() or [""])[0][:120]
            yield Finding(name, "note", f"could not be found out ({type(error).__name__}: {told})")


def system(folder: Path) -> Iterator[Finding]:
    """Operating system, processor and cores."""
    cores, there = machine.cores(), os.cpu_count() or 1
    kind = machine.processor() or platform.processor() or platform.machine()
    share = f"{cores:g} of {there} cores" if cores != there else f"{there} cores"
    yield Finding("machine", "ok", f"{platform.system()} {platform.machine()}, {kind}, {share}")


def memory(folder: Path) -> Iterator[Finding]:
    """Memory that is free, and swap in use."""
    found = machine.memory()
    if found is None:
        yield Finding("memory", "note", "this system does not say how much is free")
        return
    whose = "that this container may have" if found.limited else "of the machine"
    said = f"{found.free / 1e9:.1f} GB free of the {found.total / 1e9:.1f} GB {whose}"
    if found.free < LEAST_MEMORY:
        yield Finding("memory", "problem", said, "end other programs, or take a machine with more memory")
    elif found.free < LITTLE_MEMORY:
        yield Finding("memory", "note", said, "small models only; `glassformer plan` says what fits")
    else:
        yield Finding("memory", "ok", said)
    if found.swap_used > 0.05 * found.total:
        yield Finding(
            "swap",
            "note",
            f"{found.swap_used / 1e9:.1f} GB in use",
            "training would wait for the disk: end other programs",
        )


def python(folder: Path) -> Iterator[Finding]:
    """The version of Python."""
    now = sys.version_info[:3]
    said = f"{'.'.join(map(str, now))} in {sys.prefix}"
    if now < LEAST_PYTHON:
        yield Finding("python", "problem", said, f"install Python {'.'.join(map(str, LEAST_PYTHON))} or newer")
    else:
        yield Finding("python", "ok", said)


def packages(folder: Path) -> Iterator[Finding]:
    """Every package that is needed, by version; and which extras are there."""
    try:
        needed = importlib.metadata.requires("glassformer") or []
    except importlib.metadata.PackageNotFoundError:
        yield Finding(
            "packages", "note", "glassformer is not installed here, but runs from its source", "pip install -e ."
        )
        return
    wrong: list[str] = []
    extras: dict[str, list[str]] = {}
    for requirement in needed:
        name, least, extra = parsed(requirement)
        if name == "glassformer":
            continue
        fault = fault_of(name, least)
        if extra is not None:
            extras.setdefault(extra, []).extend([fault] if fault else [])
        elif fault:
            wrong.append(fault)
    todo = "pip install --upgrade glassformer"
    found = "all that is needed is there, new enough"
    yield Finding("packages", "problem", "; ".join(wrong), todo) if wrong else Finding("packages", "ok", found)
    there = sorted(extra for extra, faults in extras.items() if not faults and extra != "dev")
    missing = sorted(extra for extra, faults in extras.items() if faults and extra != "dev")
    said = f"{', '.join(there) or 'none'}; not installed: {', '.join(missing) or 'none'}"
    yield Finding("extras", "ok", said, f"pip install 'glassformer[{missing[0]}]' brings one" if missing else "")


def parsed(requirement: str) -> tuple[str, str, str | None]:
    """Name, least version and extra of ``torch>=2.10; extra == "x"``."""
    plain, _, marker = requirement.partition(";")
    name = re.match(r"[\w.-]+", plain.strip())
    least = re.search(r">=\s*([\w.]+)", plain)
    extra = re.search(r"extra\s*==\s*['\"]([\w-]+)", marker)
    return name[0] if name else plain.strip(), least[1] if least else "0", extra[1] if extra else None


def fault_of(name: str, least: str) -> str:
    """What is wrong with an installed package; nothing where it is new enough."""
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return f"{name} is missing"
    return "" if numbers(version) >= numbers(least) else f"{name} is {version}, and {least} or newer is needed"


def numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version."""
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:3])


def torch_itself(folder: Path) -> Iterator[Finding]:
    """Whether torch can be imported, from where, and for what it was built."""
    try:
        torch: Any = importlib.import_module("torch")
    except Exception as error:
        told = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        yield Finding(
            "torch", "problem", f"cannot be imported ({told})", "pip install torch; on CPUs from its CPU index"
        )
        return
    home = Path(str(torch.__file__)).parent
    yield Finding("torch", "ok", f"{torch.__version__} from {home}")
    if Path(sys.prefix).resolve() not in home.resolve().parents:
        yield Finding(
            "torch's home", "note", f"{home} is outside {sys.prefix}", "see PYTHONPATH; two torches may be mixed"
        )


def accelerators(folder: Path) -> Iterator[Finding]:
    """GPUs, and a torch that does not suit the machine."""
    import torch

    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(number)
            name = torch.cuda.get_device_name(number)
            yield Finding("accelerator", "ok", f"{name}, {free / 1e9:.1f} GB free of {total / 1e9:.1f} GB")
        return
    if torch.backends.mps.is_available():
        yield Finding("accelerator", "ok", "Apple GPU (mps)")
        return
    driver = shutil.which("nvidia-smi")
    if driver is not None and torch.version.cuda is None:
        todo = "install torch for CUDA: https://pytorch.org/get-started/locally"
        yield Finding("accelerator", "note", f"{driver} is here, but this torch was built without CUDA", todo)
    elif torch.version.cuda is not None:
        said = f"torch was built for CUDA {torch.version.cuda}, and no GPU can be used here"
        yield Finding(
            "accelerator",
            "note",
            said,
            "if there is none, torch's CPU build saves gigabytes; if there is, see its driver",
        )
    else:
        yield Finding("accelerator", "ok", "none; training runs on the CPU")


def threads(folder: Path) -> Iterator[Finding]:
    """Threads that torch would use, against the cores that it may use."""
    import torch

    cores, n = machine.cores(), torch.get_num_threads()
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    asked = {name: os.environ[name] for name in names if os.environ.get(name)}
    said = f"torch uses {n}" + "".join(f", {name}={value}" for name, value in asked.items())
    if n > cores:
        yield Finding(
            "threads",
            "note",
            f"{said}, of {cores:g} cores",
            f"--threads {max(1, int(cores))}: more only wait for each other",
        )
    elif n < int(cores) and asked:
        yield Finding("threads", "note", f"{said}, of {cores:g} cores", f"--threads {int(cores)} would use all")
    else:
        yield Finding("threads", "ok", f"{said}, of {cores:g} cores")
    wrong = [f"{name}={value}" for name, value in asked.items() if not re.fullmatch(r"\d+(,\d+)*", value)]
    if wrong:
        yield Finding("threads", "note", f"{', '.join(wrong)} is no number", "unset it, or give a number")


def kernels(folder: Path) -> Iterator[Finding]:
    """Whether the C kernels compile and load."""
    import warnings

    from glassformer.ops import native

    if os.environ.get("GLASSFORMER_FUSED") == "0":
        yield Finding(
            "C kernels", "note", "switched off by GLASSFORMER_FUSED=0", "unset it: training is slower without"
        )
        return
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        loaded = native.library()
    if loaded is not None:
        yield Finding("C kernels", "ok", str(native.built()))
        return
    reason = str(said[-1].message) if said else "they could not be loaded before"
    asked = os.environ.get("CC")
    todo = (
        f"CC={asked} is asked for: see whether it is there"
        if asked
        else "install a C compiler, such as gcc, with OpenMP"
    )
    yield Finding("C kernels", "note", reason, f"{todo}; training works without them, slower")


def precision(folder: Path) -> Iterator[Finding]:
    """Which numbers multiply faster here: measured."""
    import torch

    pace: dict[str, float] = {}
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for dtype in (torch.float32, torch.bfloat16):
        matrix = torch.ones(SQUARE, SQUARE, dtype=dtype, device=device)
        best = float("inf")
        for _ in range(REPEATS):
            began = time.perf_counter()
            (matrix @ matrix)[0, 0].item()
            best = min(best, time.perf_counter() - began)
        pace[str(dtype).removeprefix("torch.")] = 2 * SQUARE**3 / best / 1e9
    faster = max(pace, key=lambda name: pace[name])
    said = ", ".join(f"{name} {value:,.0f}" for name, value in pace.items())
    told = f"{said} billion operations/s on {device}: {faster} is faster"
    unusual = faster == "bfloat16" and device == "cpu" and pace["bfloat16"] > 1.3 * pace["float32"]
    yield Finding(
        "precision", "ok", told, "--dtype bfloat16 may pay; the default is float32 on CPUs" if unusual else ""
    )


def disk(folder: Path) -> Iterator[Finding]:
    """Where runs would be written: room, speed, and kind."""
    place = nearest_existing(folder)
    free = machine.free_disk(place)
    room = "unknown room" if free is None else f"{free / 1e9:.1f} GB free"
    try:
        speed = write_speed(place)
    except OSError as error:
        yield Finding(
            "disk", "problem", f"{place} cannot be written ({error.strerror})", "another --out-dir, or its rights"
        )
        return
    said = f"{place}: {room}, {speed / 1e6:,.0f} MB/s written through to the disk"
    if free is not None and free < LEAST_DISK:
        yield Finding("disk", "problem", said, "make room, or choose another --out-dir")
    elif free is not None and free < LITTLE_DISK:
        yield Finding(
            "disk", "note", said, "checkpoints of larger models will not fit; `glassformer plan` says what is needed"
        )
    elif speed < SLOW_DISK:
        yield Finding("disk", "note", said, "slow: a larger --save-every, or another --out-dir")
    else:
        yield Finding("disk", "ok", said)
    kind = machine.file_system(place)
    if any(name in kind for name in NETWORK):
        yield Finding(
            "disk",
            "note",
            f"{place} is on a network ({kind})",
            "a local --out-dir is safer: locks and renames may come late there",
        )


def write_speed(place: Path) -> float:
    """Bytes a second, down to the disk. Leaves nothing. Raises OSError."""
    path = place / f".tmp-doctor-{uuid.uuid4().hex[:8]}"
    content = os.urandom(WRITTEN)  # zeros are not written by every disk
    try:
        began = time.perf_counter()
        with path.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        return WRITTEN / max(1e-9, time.perf_counter() - began)
    finally:
        path.unlink(missing_ok=True)


def temporary(folder: Path) -> Iterator[Finding]:
    """The folder for temporary files."""
    try:
        place = Path(tempfile.gettempdir())
    except OSError:
        yield Finding("temporary files", "note", "no folder for them can be written", "set TMPDIR to one that can")
        return
    free = machine.free_disk(place)
    if free is not None and free < LITTLE_TMP:
        yield Finding("temporary files", "note", f"{place}: {free / 1e6:,.0f} MB free", "set TMPDIR to a larger disk")
    else:
        yield Finding("temporary files", "ok", f"{place}" + ("" if free is None else f": {free / 1e9:.1f} GB free"))


def home(folder: Path) -> Iterator[Finding]:
    """Where the compiled kernels are kept."""
    try:
        place = machine.home()
    except RuntimeError:
        yield Finding("home", "note", "there is no home folder", "set GLASSFORMER_HOME to a folder that can be written")
        return
    nearest = nearest_existing(place)
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        todo = "set GLASSFORMER_HOME to a folder that can be written: the compiled kernels are kept there"
        yield Finding("home", "note", f"{place} cannot be written", todo)
    else:
        yield Finding("home", "ok", f"{place}")


def words(folder: Path) -> Iterator[Finding]:
    """Whether text can be printed."""
    encoding = getattr(sys.stdout, "encoding", None) or ""
    if encoding.lower().replace("-", "") not in ("utf8", ""):
        yield Finding("terminal", "note", f"prints {encoding}, which lacks letters", "set PYTHONUTF8=1")


def running(folder: Path) -> Iterator[Finding]:
    """Whether others keep the cores busy."""
    load, cores = os.getloadavg()[0], machine.cores()
    if load > 1.5 * cores:
        todo = "what is measured now will be slower than usual"
        yield Finding("load", "note", f"{load:.1f} processes want the {cores:g} cores", todo)


CHECKS: dict[str, Callable[[Path], Iterator[Finding]]] = {
    "machine": system,
    "load": running,
    "memory": memory,
    "python": python,
    "packages": packages,
    "torch": torch_itself,
    "accelerator": accelerators,
    "threads": threads,
    "C kernels": kernels,
    "precision": precision,
    "disk": disk,
    "temporary files": temporary,
    "home": home,
    "terminal": words,
}
