"""Death among several processes: one of two is killed outright, all start again, and the run ends as if nothing had been.

By hand, for more of it: ``python tests/faults/test_workers.py 20 FOLDER [replicate|shard] [STEPS] [yes|no]``, of which the last
is whether checkpoints are written beside the training.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

RESTARTS = 3  # that one command allows
RECOVERY = 15.0  # seconds from a death to the next step
PATIENCE = 600.0  # on a machine that many share, two processes have taken four minutes to start


def command(folder: Path, kind: str, steps: int, beside: str) -> list[str]:
    """A run of two processes that takes about a minute."""
    sizes = ["--d-model", "16", "--n-layers", "1", "--n-heads", "2", "--max-len", "16", "--batch-size", "4"]
    every = ["--eval-every", "100000", "--sample-every", "100000", "--save-every", "50", "--seed", "1"]
    every += ["--set", "loop.log_every=10", "--set", f"loop.parallel={kind}", "--dropout", "0.1"]
    every += ["--set", f"loop.async_save={beside}"]
    text = str(folder.parent / "words.txt")
    return [
        *(sys.executable, "-m", "glassformer", "train", text, "-o", str(folder), "--nproc", "2"),
        *(*sizes, *every, "--steps", str(steps)),
    ]


def begin(folder: Path, kind: str, steps: int, beside: str) -> subprocess.Popen[bytes]:
    """The same, started."""
    environment = {**os.environ, "GLASSFORMER_TIMEOUT": "60", "OMP_NUM_THREADS": "1"}
    with (folder.parent / f"{folder.name}.txt").open("ab") as said:
        return subprocess.Popen(command(folder, kind, steps, beside), env=environment, stdout=said, stderr=said)


def workers(launcher: int) -> dict[int, int]:
    """The processes of a run that somebody launched: number by rank."""
    found: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            if parent != launcher:
                continue
            variables = dict(pair.split("=", 1) for pair in (entry / "environ").read_text().split("\0") if "=" in pair)
            found[int(variables["RANK"])] = int(entry.name)
        except (OSError, KeyError, ValueError, IndexError):
            continue
    return found


def last_row(folder: Path) -> tuple[int, int]:
    """Which file the log is, and the last step in it."""
    path = folder / "log.jsonl"
    try:
        rows = path.read_text().splitlines()
        return path.stat().st_ino, json.loads(rows[-1])["step"] if rows else 0
    except (OSError, ValueError, KeyError):
        return 0, 0


def wait_until(true, patience: float = PATIENCE) -> float:
    """Seconds until something holds. Fails where it takes too long."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < patience, "nothing has happened for minutes: this is a hang"
        time.sleep(0.05)
    return time.monotonic() - began


def kill_one(run: subprocess.Popen[bytes], folder: Path, victim: int) -> float:
    """Kill the process of that rank, and wait until the run goes on. Returns how long that took."""
    wait_until(lambda: len(workers(run.pid)) == 2)
    os.kill(workers(run.pid)[victim], signal.SIGKILL)
    before = last_row(folder)[0]
    seconds = wait_until(lambda: last_row(folder)[0] != before or run.poll() is not None)
    resumed = last_row(folder)[1]
    return seconds + wait_until(lambda: last_row(folder)[1] > resumed or run.poll() is not None)


def start_time(root: Path, kind: str, beside: str) -> float:
    """Seconds that a start of two processes takes here, until their first steps."""
    folder = root / f"timed-{kind}"
    run = begin(folder, kind, 10, beside)
    try:
        return wait_until(lambda: last_row(folder)[1] > 0)
    finally:
        run.wait(PATIENCE)


def digest(folder: Path) -> str:
    """Of the final weights, not of their file, whose header is written in any order."""
    found = hashlib.sha256()
    for name, value in sorted(load_file(folder / "final" / "model.safetensors").items()):
        found.update(name.encode() + value.numpy().tobytes())
    return found.hexdigest()


def kill_again_and_again(
    root: Path, kind: str, kills: int, steps: int, beside: str, seed: int = 0
) -> tuple[list[float], bool]:
    """Kill so many processes of a run at random moments. Returns the recoveries, and whether it ended as undisturbed."""
    draw = random.Random(seed)
    words = ["the", "cat", "sat", "on", "a", "mat", "and", "the", "dog", "ran", "to", "a", "door", "of", "rain"]
    (root / "words.txt").write_text("".join(" ".join(draw.choices(words, k=6)) + ".\n" for _ in range(300)))
    plain, folder = root / f"plain-{kind}", root / f"killed-{kind}"
    assert begin(plain, kind, steps, "no").wait(PATIENCE) == 0
    seconds: list[float] = []
    run = begin(folder, kind, steps, beside)
    try:
        while len(seconds) < kills:
            reached = last_row(folder)[1] + draw.randint(20, max(30, steps // (2 * kills)))
            wait_until(lambda: last_row(folder)[1] >= reached or run.poll() is not None)  # noqa: B023
            assert run.poll() is None, f"the run was over after {len(seconds)} kills"
            seconds.append(kill_one(run, folder, draw.randrange(2)))
            load = os.getloadavg()[0]
            print(f"kill {len(seconds)}: going on after {seconds[-1]:.1f} s, at a load of {load:.0f}", flush=True)
            if len(seconds) % RESTARTS == 0 and len(seconds) < kills:
                run.terminate()
                assert run.wait(PATIENCE) == 75
                run = begin(folder, kind, steps, beside)
                wait_until(lambda: len(workers(run.pid)) == 2)  # noqa: B023
                before = last_row(folder)
                wait_until(lambda: last_row(folder)[0] != before[0])  # noqa: B023
        assert run.wait(PATIENCE) == 0
    finally:
        if run.poll() is None:
            run.terminate()
            run.wait(PATIENCE)
    return seconds, digest(folder) == digest(plain)


@pytest.mark.parametrize(("kind", "beside"), [("replicate", "no"), ("shard", "yes")])
def test_a_killed_process_comes_back_and_the_run_ends_as_if_undisturbed(tmp_path: Path, kind: str, beside: str) -> None:
    seconds, same = kill_again_and_again(tmp_path, kind, kills=2, steps=600, beside=beside)
    assert same
    assert max(seconds) < max(
        RECOVERY, 2 * start_time(tmp_path, kind, beside)
    )  # a machine that is busy starts anything late


if __name__ == "__main__":
    kills, root = int(sys.argv[1]), Path(sys.argv[2])
    root.mkdir(parents=True, exist_ok=True)
    kind, steps = (sys.argv[3] if len(sys.argv) > 3 else "replicate"), int(sys.argv[4]) if len(sys.argv) > 4 else 3000
    beside = sys.argv[5] if len(sys.argv) > 5 else "no"
    seconds, same = kill_again_and_again(root, kind, kills, steps, beside)
    print(f"{len(seconds)} kills, {sum(s < RECOVERY for s in seconds)} recoveries within {RECOVERY:.0f} s, ", end="")
    print(f"slowest {max(seconds):.1f} s, weights {'identical' if same else 'DIFFERENT'}")
