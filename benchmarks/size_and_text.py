"""The runs behind `--budget`: the loss of models of several sizes after several amounts of text, and the curve through them.

    python benchmarks/size_and_text.py TEXT... --out runs.jsonl [--tokenizer characters] [--sizes 2x64,4x128] [--steps 60,240]
    python benchmarks/size_and_text.py --fit runs.jsonl

Each run has a schedule of its own, Muon, and steps of about 2,048 tokens; the loss is that of text held back. The curve is
loss = floor + a · N^-0.34 + b · D^-beta (N millions of numbers in blocks, D millions of tokens), with a floor for each text and
vocabulary.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from glassformer.training import Silence
from glassformer.training.machine import keep_freed_memory
from glassformer.training.plan.budget import short_run
from glassformer.training.plan.expectation import PIECES, worth
from glassformer.training.run import prepare


def main() -> None:
    """Make the runs that are asked for, or fit those that were made."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", nargs="*")
    parser.add_argument("--out", type=Path, default=Path("size_and_text.jsonl"))
    parser.add_argument("--fit", type=Path)
    parser.add_argument("--tokenizer")
    parser.add_argument("--sizes", default="2x64,2x128,4x128")
    parser.add_argument("--steps", default="60,240")
    asked = parser.parse_args()
    if asked.fit is not None:
        fit([json.loads(line) for line in asked.fit.read_text().splitlines()])
        return
    keep_freed_memory()
    for steps in map(int, asked.steps.split(",")):
        for size in asked.sizes.split(","):
            row = run(asked.texts, asked.tokenizer, size, steps)
            print(row, flush=True)
            with asked.out.open("a") as file:
                file.write(json.dumps(row) + "\n")


def run(texts: list[str], tokenizer: str | None, size: str, steps: int) -> dict[str, Any]:
    """One run, and what came of it."""
    layers, width = map(int, size.split("x"))
    wishes: dict[str, Any] = {"data": {"sources": texts}, "model": {"n_layers": layers, "d_model": width}}
    wishes |= {"loop": {"steps": steps}, "tokenizer": {"kind": tokenizer}}
    recipe, task = prepare(wishes, None, 1, torch.device("cpu"), Silence())
    task.begin(recipe)
    began = time.perf_counter()
    model = short_run(recipe, task, torch.device("cpu"), steps)
    seconds = time.perf_counter() - began
    in_blocks = sum(p.numel() for name, p in model.named_parameters() if ".blocks." in name)
    score = task.evaluate(model, whole=False)
    return {
        "size": size,
        "steps": steps,
        "tokens": steps * task.batch(0).n_tokens,
        "unique": task.n_train,  # type: ignore[attr-defined]
        "numbers": in_blocks,
        "vocab_size": recipe.model.vocab_size,
        "loss": score.loss,
        "bits_per_byte": score.bits_per_byte,
        "seconds": seconds,
    }


def fit(rows: list[dict[str, Any]]) -> None:
    """Least squares for a, b and the floors, and how far each run lies from the curve."""
    floors = sorted({row["vocab_size"] for row in rows})
    for beta in (0.28, 0.2, 0.37, 0.5, 0.6):
        columns = [
            [
                (row["numbers"] / 1e6) ** -PIECES.curve.alpha,
                (worth(row["tokens"], row["unique"]) / 1e6) ** -beta,
                *(float(row["vocab_size"] == floor) for floor in floors),
            ]
            for row in rows
        ]
        losses = np.array([row["loss"] for row in rows])
        found, *_ = np.linalg.lstsq(np.array(columns), losses, rcond=None)
        off = losses - np.array(columns) @ found
        print(
            f"beta {beta}: a {found[0]:.3f}, b {found[1]:.3f}; off by {off.std():.3f} rms, {abs(off).max():.3f} at most"
        )
        if beta == PIECES.curve.beta:
            for row, distance in zip(rows, off, strict=True):
                print(
                    f"  {row['size']:>6} {row['tokens']:>9,} of {row['vocab_size']:>6,}: {row['loss']:.3f} ({distance:+.3f})"
                )


if __name__ == "__main__":
    main()
