"""What this machine has for a process: cores, memory, threads, disk; asked of the operating system, without torch."""

from __future__ import annotations

import os
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

CGROUP, MEMINFO, OWN = Path("/sys/fs/cgroup"), Path("/proc/meminfo"), Path("/proc/self")
NO_LIMIT = 1 << 60  # bytes; cgroups of version 1 write a number near 2^63 where nothing is limited


@dataclass(frozen=True)
class Memory:
    """Bytes that this process may still take, and of what: the machine's, or what a container is limited to."""

    free: int
    total: int
    limited: bool = False
    swap_used: int = 0


def memory() -> Memory | None:
    """What the system says; None where it does not."""
    known = meminfo()
    limit = cgroup_memory()
    if "MemAvailable" not in known:
        return None if limit is None else Memory(max(0, limit[0] - limit[1]), limit[0], True)
    free, total = known["MemAvailable"], known.get("MemTotal", 0)
    swapped = known.get("SwapTotal", 0) - known.get("SwapFree", 0)
    if limit is not None and limit[0] < total:
        return Memory(max(0, min(free, limit[0] - limit[1])), limit[0], True, swapped)
    return Memory(free, total, False, swapped)


def meminfo() -> dict[str, int]:
    """/proc/meminfo in bytes; nothing where there is none."""
    found: dict[str, int] = {}
    try:
        for line in MEMINFO.read_text(encoding="ascii").splitlines():
            name, _, value = line.partition(":")
            words = value.split()
            if words and words[0].isdigit():
                found[name] = int(words[0]) * (1024 if words[1:] == ["kB"] else 1)
    except (OSError, ValueError):
        return {}
    return found


def cgroup_memory() -> tuple[int, int] | None:
    """The limit and the use of the container that this process is in, the tightest of those around it; None without one.

    What the system could give up at once, as files that it has read, does not count as used.
    """
    found: list[tuple[int, int]] = []
    for folder in cgroups():
        for limit, used, cache in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            most = number(folder / limit)
            if most is not None and most < NO_LIMIT:
                spared = statistic(folder / "memory.stat", cache)
                found.append((most, max(0, (number(folder / used) or 0) - spared)))
    return min(found, key=lambda pair: pair[0] - pair[1], default=None)


def cgroups() -> list[Path]:
    """The folders of this process's control groups, from its own up to the root, for either version."""
    try:
        lines = (OWN / "cgroup").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        lines = []
    found: list[Path] = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers not in ("", "memory"):
            continue
        root = CGROUP / controllers
        inner = root / path.strip("/")
        found += [folder for folder in (inner, *inner.parents) if folder == root or root in folder.parents]
    return list(dict.fromkeys([*found, CGROUP, CGROUP / "memory"]))


def number(path: Path) -> int | None:
    """The number that a file holds; None where it holds none."""
    try:
        return int(path.read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return None


def statistic(path: Path, name: str) -> int:
    """One line's number of a file of names and numbers; 0 where there is none."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        return 0
    words = next((line.split() for line in lines if line.startswith(f"{name} ")), [])
    return int(words[1]) if len(words) > 1 and words[1].isdigit() else 0


def cores() -> float:
    """Cores that this process may use: by its affinity, and by the share of time that its container gets."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    shares = [float(allowed)]
    for folder in cgroups():
        try:
            quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()[:2]
            if quota != "max":
                shares.append(int(quota) / int(period))
        except (OSError, ValueError, ZeroDivisionError):
            continue
    return min(shares)


def processor() -> str:
    """The name of the processor, empty where it cannot be found."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return ""
    names = (line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model")))
    return next(names, "")


def held() -> int:
    """Bytes of memory that this process holds now; 0 where the system does not say."""
    try:
        pages = int((OWN / "statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def most_held() -> int:
    """The most bytes that this process has held so far; 0 where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def began() -> float:
    """When this process began, on the clock of `time.monotonic`; now, where the system does not say."""
    now = time.monotonic()
    try:
        fields = (OWN / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        ticks = int(fields[19])  # field 22 of proc(5), counted behind the name
        up = float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])
        return now - max(0.0, up - ticks / os.sysconf("SC_CLK_TCK"))
    except (OSError, ValueError, IndexError):
        return now


def free_disk(path: Path) -> int | None:
    """Bytes free on the disk of a path that exists; None where the system does not say."""
    try:
        return shutil.disk_usage(path).free
    except OSError:
        return None


def home() -> Path:
    """The folder for what is kept from one command to the next. Raises RuntimeError where there is no home folder."""
    return Path(os.environ.get("GLASSFORMER_HOME") or Path.home() / ".cache" / "glassformer")


def file_system(path: Path) -> str:
    """The kind of file system that a path is on, as the system's table of mounts has it; empty where that is unknown."""
    try:
        lines = (OWN / "mounts").read_text(encoding="utf-8").splitlines()
        place = str(path.resolve())
    except (OSError, ValueError):
        return ""
    best, kind = "", ""
    for line in lines:
        words = line.split()
        if len(words) < 3:
            continue
        mount = words[1].encode().decode("unicode_escape")
        inside = place == mount or place.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best):
            best, kind = mount, words[2]
    return kind
