"""Two processes of one run, started as torchrun would, and what they said."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path


class Pair:
    """Two processes of ``python SCRIPT ARGUMENTS``, which find each other; leaving the block ends them."""

    def __init__(self, script: str | Path, *arguments: object, **environment: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLASSFORMER_TIMEOUT": "60"}
        places = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        shared |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(places)}
        self.running = [
            subprocess.Popen(
                [sys.executable, str(script), *map(str, arguments)],
                env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank), **environment},
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in (0, 1)
        ]

    def __enter__(self) -> Pair:
        return self

    def __exit__(self, *what: object) -> None:
        for process in self.running:
            process.kill()
            process.communicate()

    def ended(self, patience: float = 600) -> list[tuple[int, str]]:
        """Exit code and last words of each, once both have ended."""
        said = [process.communicate(timeout=patience)[1] for process in self.running]
        return [(process.returncode, words) for process, words in zip(self.running, said, strict=True)]


def run_pair(script: str | Path, *arguments: object, meanwhile: Callable[[], object] = lambda: None) -> None:
    """Both run to a good end, while this process does something else."""
    with Pair(script, *arguments) as pair:
        meanwhile()
        for code, words in pair.ended():
            assert code == 0, words
