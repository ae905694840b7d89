"""Training a small language model, against the GPT of the nanoGPT README's CPU example, in one process tree.

On Tiny Shakespeare's characters, first 90 % for training, each run from process start until the loss over the whole
validation text, in windows of 64, is known. Peer and ours take turns, seed by seed, so that a machine that speeds up or
slows down does so for both. Settings are frozen; they were tuned with other seeds on the end of the training text.

    python benchmarks/train_lm.py                       # five seeds: about a quarter of an hour on two cores
    python benchmarks/train_lm.py --seeds 201 --only default fastest
    python benchmarks/train_lm.py --ten-minutes         # one long run at a size of its own
    python benchmarks/train_lm.py --steps-only          # tokens a second at equal shape, and 200 characters generated
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

PEER = Path(__file__).with_name("peer_gpt.py")
TARGET = 1.910  # the peer's mean over three seeds
SEEDS = (201, 202, 203, 204, 205)

# What each of ours is: flags of `glassformer train`, the goal for its loss, and the goal for its share of the peer's time.
SHAPE = "--tokenizer characters --d-model 128 --n-heads 4 --max-len 64 --compile no"
OURS = {
    "default": (f"{SHAPE} --n-layers 4 --batch-size 12 --steps 185", TARGET, 1 / 5),
    "fastest": (f"{SHAPE} --preset fastest --batch-size 12 --steps 180", TARGET, 1 / 9),
    "same time": (f"{SHAPE} --n-layers 4 --batch-size 24 --steps 720", 1.60, 1.0),
}
STEPS_BEFORE_WRITING = 300
TEN_MINUTES = "--tokenizer characters --n-layers 5 --d-model 192 --n-heads 6 --max-len 256 --batch-size 8 --steps 1500"


def timed(command: list[str], marker: str) -> tuple[float, list[str]]:
    """Seconds from the start of a process until it prints a line with `marker`, and all its lines."""
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    lines: list[str] = []
    seconds = 0.0
    for line in process.stdout:
        lines.append(line)
        if not seconds and marker in line:
            seconds = time.perf_counter() - began
    if process.wait() or not seconds:
        sys.exit("".join(lines[-20:]))
    return seconds, lines


def run_peer(text: str, seed: int) -> tuple[float, float]:
    """Seconds and loss of the peer."""
    seconds, lines = timed([sys.executable, str(PEER), text, "--seed", str(seed)], '"loss"')
    return seconds, json.loads(lines[-1])["loss"]


def run_ours(text: str, flags: str, seed: int) -> tuple[float, float]:
    """Seconds and loss of one of ours: nothing but the command line that a user types."""
    folder = tempfile.mkdtemp(prefix="glassformer-bench-")
    steps = flags.split("--steps ")[1].split()[0]
    once = ["--eval-every", steps, "--sample-every", steps, "--save-every", steps]
    command = [
        sys.executable,
        "-m",
        "glassformer",
        "train",
        text,
        "--seed",
        str(seed),
        "-o",
        folder,
        *flags.split(),
        *once,
    ]
    try:
        seconds, _ = timed(command, "validation loss")
        rows = [json.loads(line) for line in Path(folder, "log.jsonl").read_text(encoding="utf-8").splitlines()]
        return seconds, next(row["val_loss"] for row in rows if "val_loss" in row)
    finally:
        shutil.rmtree(folder)


def spread(values: list[float], digits: int = 1) -> str:
    """Median and range."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def race(text: str, seeds: list[int], names: list[str]) -> None:
    """Peer and ours in turns, then the table."""
    peer: list[tuple[float, float]] = []
    ours: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for seed in seeds:
        peer.append(run_peer(text, seed))
        print(f"seed {seed}  peer       {peer[-1][0]:6.1f} s  loss {peer[-1][1]:.4f}", flush=True)
        for name in names:
            ours[name].append(run_ours(text, OURS[name][0], seed))
            seconds, loss = ours[name][-1]
            print(
                f"seed {seed}  {name:<9}  {seconds:6.1f} s  loss {loss:.4f}  1/{peer[-1][0] / seconds:.2f}", flush=True
            )
    print(f"\npeer       {spread([s for s, _ in peer])} s  loss mean {statistics.mean(loss for _, loss in peer):.4f}")
    for name, runs in ours.items():
        _, goal_loss, goal_share = OURS[name]
        ratios = [theirs / mine for (theirs, _), (mine, _) in zip(peer, runs, strict=True)]
        mean = statistics.mean(loss for _, loss in runs)
        print(
            f"{name:<9}  {spread([s for s, _ in runs])} s  loss mean {mean:.4f} (goal {goal_loss:.3f}: {met(mean <= goal_loss)})"
            f"  {spread([loss for _, loss in runs], 4)}  peer's time / ours {spread(ratios, 2)}"
            f" (goal {1 / goal_share:.0f}: {met(statistics.median(ratios) >= 1 / goal_share)})"
        )


def met(reached: bool) -> str:
    """A goal's outcome in a word."""
    return "met" if reached else "MISSED"


def steps_side_by_side(text: str, rounds: int = 12) -> None:
    """Milliseconds per training step at equal shape and arithmetic, and seconds for 200 characters, taking turns."""
    import peer_gpt
    from glassformer.generate import Sampling, generate_ids
    from glassformer.models import ModelConfig, build_model
    from glassformer.ops.losses import cross_entropy
    from glassformer.training.optimisers import Optimisers
    from glassformer.training.recipe import OptimiserRecipe

    train, _, vocab_size = peer_gpt.read(text)
    theirs = peer_gpt.GPT(vocab_size)
    adamw = peer_gpt.optimiser(theirs)
    same = {"vocab_size": vocab_size, "d_model": 128, "n_layers": 4, "n_heads": 4, "max_len": 64}
    gpt = {"norm": "layernorm", "qk_norm": False, "positions": "learned", "mlp": "gelu", "tied": True, "init": "gpt2"}
    models = {name: build_model(ModelConfig.parse(same | gpt)) for name in ("same shape", "same shape, compiled")}
    models["modern with Muon"] = build_model(ModelConfig.parse(same))
    forwards = {name: torch.compile(m) if "compiled" in name else m for name, m in models.items()}
    recipes = {name: OptimiserRecipe(name="muon" if "Muon" in name else "adamw", lr=1e-3) for name in models}
    optimisers = {name: Optimisers(model, recipes[name]) for name, model in models.items()}

    def our_step(name: str) -> None:
        starts = torch.randint(len(train) - 64, (12,))
        windows = train[starts[:, None] + torch.arange(65)]
        (cross_entropy(forwards[name](windows[:, :-1]), windows[:, 1:]) / 768).backward()
        if "Muon" not in name:
            torch.nn.utils.clip_grad_norm_(models[name].parameters(), 1.0)
        optimisers[name].step()

    contenders = {"peer": lambda: peer_gpt.train_step(theirs, adamw, train)}
    contenders |= {name: (lambda name=name: our_step(name)) for name in models}
    print("milliseconds per training step of 12 x 64 tokens, float32")
    table(contenders, rounds, calls=10)
    for run in contenders.values():
        for _ in range(STEPS_BEFORE_WRITING):
            run()
    prompt = train[:16]
    contenders = {"peer": lambda: theirs.generate(prompt[None], 200)}
    for name in ("same shape", "modern with Muon"):
        contenders[name] = lambda name=name: generate_ids(
            models[name], [prompt.tolist()], max_new_tokens=200, sampling=Sampling()
        )
    print(
        f"after {STEPS_BEFORE_WRITING + 123} steps, milliseconds for 200 characters, one by one (goal: half the peer's time)"
    )
    table(contenders, rounds, calls=1)


def table(contenders: dict, rounds: int, calls: int) -> None:
    """Time the contenders in turns and print each with its ratio to the first."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for run in contenders.values():
        for _ in range(3):
            run()
    for _ in range(rounds):
        for name, run in contenders.items():
            began = time.perf_counter()
            for _ in range(calls):
                run()
            times[name].append(1000 * (time.perf_counter() - began) / calls)
    first = next(iter(times))
    for name, values in times.items():
        ratios = [a / b for a, b in zip(times[first], values, strict=True)]
        print(f"  {name:<22} {spread(values)} ms   {first}'s time / this {spread(ratios, 2)}")


def main() -> None:
    """Run what the flags ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", nargs="?", default="../shared/data/tinyshakespeare/input.txt")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--only", nargs="+", choices=list(OURS), default=list(OURS))
    parser.add_argument("--ten-minutes", action="store_true")
    parser.add_argument("--steps-only", action="store_true")
    options = parser.parse_args()
    if not Path(options.text).exists():
        sys.exit(f"{options.text} is missing; name a copy of Tiny Shakespeare")
    print("$", " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]))
    print(
        f"Python {platform.python_version()}, torch {torch.__version__}, {os.cpu_count()} cores, {platform.platform()}"
    )
    if options.ten_minutes:
        seconds, loss = run_ours(options.text, TEN_MINUTES, options.seeds[0])
        print(f"ten minutes: {seconds:.0f} s, loss {loss:.4f} in windows of 256 (goal 1.49: {met(loss <= 1.49)})")
    elif options.steps_only:
        steps_side_by_side(options.text)
    else:
        race(options.text, options.seeds, options.only)


if __name__ == "__main__":
    main()
