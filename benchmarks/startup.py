"""How long the command takes to answer, beside what importing torch alone would cost.

python benchmarks/startup.py --rounds 10
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "import glassformer": [sys.executable, "-c", "import glassformer"],
    "glassformer --help": [sys.executable, "-m", "glassformer", "--help"],
    "glassformer train --help": [sys.executable, "-m", "glassformer", "train", "--help"],
    "import torch": [sys.executable, "-c", "import torch"],
}


def main() -> None:
    """Run the commands in turns and print seconds, with the ratio to importing torch."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    rounds = parser.parse_args().rounds
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(rounds):
        for name, command in COMMANDS.items():
            began = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            seconds[name].append(time.perf_counter() - began)
    torch = statistics.median(seconds["import torch"])
    for name, values in seconds.items():
        median = statistics.median(values)
        print(
            f"{name:<26} {median:.2f} s ({min(values):.2f}-{max(values):.2f})   import torch / this {torch / median:.1f}"
        )


if __name__ == "__main__":
    main()
