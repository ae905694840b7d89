"""Strings of spoken digits with joint CTC and attention against attention alone: word errors on unseen speakers.

Three to seven recordings of one speaker of the Free Spoken Digit Dataset are joined with pauses between them. Two speakers
are held back whole; the strings of the others are made of other recordings each time. Both models have the same sizes, the
same data in the same order, and as many steps; they differ in the weight of CTC alone.

    python benchmarks/digit_strings.py                          # about ten minutes of one core for each model
    python benchmarks/digit_strings.py --held theo,lucas --steps 800
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import sys
import tempfile
import time
import wave
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from glassformer.config import set_dotted
from glassformer.data.sound import read_sound
from glassformer.evaluate import confidence_interval
from glassformer.evaluate.transcription import word_errors
from glassformer.generate.beam import Beam
from glassformer.generate.transcribe import transcribe
from glassformer.models import count_parameters
from glassformer.training import Silence, screen_for, train_run
from glassformer.training.tasks.transcribe import Transcribe

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
RATE = 8000
SHORTEST, LONGEST = 3, 7  # digits in a string
LEAST_PAUSE, MOST_PAUSE = 0.05, 0.35  # seconds
TRAIN_PASSES, TEST_PASSES = 4, 1  # how often each recording is part of a string


def strings(folder: Path, speaker: str, passes: int, draw: np.random.Generator) -> Iterator[tuple[np.ndarray, str]]:
    """Waves and words: all recordings of a speaker, in another order in each pass, joined with pauses."""
    files = sorted(folder.glob(f"*_{speaker}_*.wav"))
    for _ in range(passes):
        order = draw.permutation(len(files)).tolist()
        while order:
            n = int(draw.integers(SHORTEST, LONGEST + 1))
            chosen, order = [files[number] for number in order[:n]], order[n:]
            pieces: list[np.ndarray] = []
            for file in chosen:
                pause = int(RATE * draw.uniform(LEAST_PAUSE, MOST_PAUSE))
                pieces += [read_sound(file, RATE).samples, np.zeros(pause, np.float32)]
            if len(chosen) >= SHORTEST:
                yield np.concatenate(pieces[:-1]), " ".join(WORDS[int(file.name[0])] for file in chosen)


def speakers(folder: Path) -> list[str]:
    """Everybody who speaks in the data."""
    return sorted({file.stem.split("_")[1] for file in folder.glob("*.wav")})


def write(folder: Path, rows: Sequence[tuple[np.ndarray, str]], name: str) -> Path:
    """Files of sound and their manifest."""
    with (folder / f"{name}.csv").open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("path", "text"))
        for number, (samples, text) in enumerate(rows):
            path = folder / f"{name}-{number:05d}.wav"
            with wave.open(str(path), "wb") as sound:
                sound.setnchannels(1)
                sound.setsampwidth(2)
                sound.setframerate(RATE)
                sound.writeframes((samples * 32767).astype("<i2").tobytes())
            table.writerow((path.name, text))
    return folder / f"{name}.csv"


def trained(data: tuple[Path, Path], out: Path, weight: float, steps: int, seed: int, loud: bool) -> dict[str, object]:
    """Train with a weight of CTC; the errors of each way of decoding the unseen speakers' strings."""
    wishes: dict[str, Any] = {"task": "transcribe", "seed": seed}
    for key, value in {
        "data.sources": [str(data[0])],
        "data.validation": [str(data[1])],
        "augment.speeds": [0.8, 0.9, 1.0, 1.1, 1.25],
        "optimiser.ctc_weight": weight,
        "optimiser.label_smoothing": 0.1,
        "optimiser.warmup_steps": steps // 10,
        "loop.batch_tokens": 4096,
        "loop.steps": steps,
        "loop.eval_every": steps // 4,
    }.items():
        set_dotted(wishes, key, value)
    wishes["loop"]["hang_seconds"] = None  # attention that has learnt nothing writes for long
    began, cpu = time.perf_counter(), time.process_time()
    screen = screen_for(sys.stderr) if loud else Silence()
    task = train_run(wishes, out, minutes=1, screen=screen).task
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    assert isinstance(task, Transcribe)
    from glassformer.checkpoints import load_model

    model = load_model(out / "final").model
    rows = task.kept["validation"].tolist()
    wanted = [task.rows["validation"][row].text for row in rows]
    vectors = [task.heard.vectors("validation", row) for row in rows]
    found: dict[str, object] = {"parameters": count_parameters(model), "wall": wall, "cpu": cpu, "rows": len(rows)}
    for method, beams in (("attention", 1), ("ctc", 1), ("joint", 1), ("attention", 5), ("joint", 5)):
        if method != "attention" and not weight:
            continue
        beam = Beam(num_beams=beams, max_new_tokens=model.config.max_len)
        said = transcribe(model, task.tokenizer, vectors, beam=beam, method=method)  # type: ignore[arg-type]
        errors = word_errors([one.text for one in said], wanted)
        low, high = confidence_interval(errors)
        found[f"{method}, {'greedy' if beams == 1 else f'beam of {beams}'}"] = (
            f"{100 * errors.value:6.2f} % [{100 * low:.2f} to {100 * high:.2f}]   {errors.detail}"
        )
    return found


def main() -> None:
    """Run what the flags ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("../shared/data/fsdd/recordings"))
    parser.add_argument("--held", default="theo,nicolas", help="speakers who are not trained on")
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--weights", default="0.3,0", help="of CTC, one model for each")
    parser.add_argument("--loud", action="store_true", help="show the training")
    options = parser.parse_args()
    if not options.folder.is_dir():
        sys.exit(f"{options.folder} holds no recordings of the Free Spoken Digit Dataset")
    held = options.held.split(",")
    print("$", " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]))
    print(
        f"Python {platform.python_version()}, torch {torch.__version__}, {os.cpu_count()} cores, {platform.platform()}"
    )
    draw = np.random.default_rng(options.seed)
    sides: dict[str, list[tuple[np.ndarray, str]]] = {"train": [], "unseen": []}
    for speaker in speakers(options.folder):
        side = "unseen" if speaker in held else "train"
        passes = TEST_PASSES if side == "unseen" else TRAIN_PASSES
        sides[side] += strings(options.folder, speaker, passes, draw)
    with tempfile.TemporaryDirectory() as place:
        data = (write(Path(place), sides["train"], "train"), write(Path(place), sides["unseen"], "unseen"))
        print(
            f"{len(sides['train']):,} strings to train on, {len(sides['unseen']):,} of {' and '.join(held)};"
            f" {options.steps:,} steps, seed {options.seed}"
        )
        for weight in map(float, options.weights.split(",")):
            found = trained(data, Path(place) / f"run-{weight}", weight, options.steps, options.seed, options.loud)
            print(
                f"\nCTC weight {weight:g}: {found.pop('parameters'):,} parameters, trained in {found.pop('wall'):.0f} s"
            )
            print(f"  {found.pop('cpu'):.0f} s of processor; {found.pop('rows')} strings; word errors by")
            for way, errors in found.items():
                print(f"  {way:<22} {errors}")


if __name__ == "__main__":
    main()
