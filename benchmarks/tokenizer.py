"""Tokenizers side by side: ours (definition and fast path), `tokenizers` and `tiktoken`, on English novels.

    python benchmarks/tokenizer.py ../shared/data/novels --rounds 3

Everyone learns the same merges from all novels (tiktoken cannot learn; it is given ours), then merges learned from half of
the novels encode the other half, which nobody has seen, each time with a new tokenizer whose caches are empty. Within a
round everyone takes turns; a ratio compares two times of the same round. Encoding runs on one thread, a novel at a time;
training on as many threads as each tool takes. All results are checked to be equal before any time is printed.
"""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tiktoken

import tokenizers
from glassformer.tokenizers import BytePairTokenizer
from glassformer.tokenizers.patterns import PATTERNS
from glassformer.tokenizers.schema import byte_level, document, split

VOCAB_SIZE = 8192
LONG = {"one letter": "a", "spaces": " ", "line ends": "\n", "emoji": "😀", "letters at random": None}

Times = dict[str, list[float]]


def main() -> None:
    """Print everything."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument(
        "folder", type=Path, nargs="?", default=Path("../shared/data/novels"), help="folder of .txt files"
    )
    arguments.add_argument("--rounds", type=int, default=3)
    options = arguments.parse_args()
    paths = sorted(options.folder.glob("*.txt"))
    if len(paths) < 2:
        sys.exit(f"{options.folder}: expected at least two .txt files, found {len(paths)}")
    novels = [path.read_text(encoding="utf-8") for path in paths]
    megabytes = sum(len(text.encode()) for text in novels) / 1e6
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}" for name in ("gigatoken", "tokenizers", "tiktoken", "regex")
    )
    print(f"python {' '.join(sys.argv)}\n{versions}, Python {platform.python_version()}, {os.cpu_count()} cores")
    print(f"{len(novels)} novels, {megabytes:.1f} MB, vocabulary {VOCAB_SIZE}, {options.rounds} rounds")
    for pattern in ("gpt2", "gpt4"):
        report(
            f"training, pattern {pattern}",
            train_rounds(novels, pattern, options.rounds),
            megabytes,
            baseline="tokenizers",
        )
    for pattern in ("gpt2", "gpt4"):
        unseen = novels[len(novels) // 2 :]
        ours = BytePairTokenizer.train(novels[: len(novels) // 2], vocab_size=VOCAB_SIZE, pattern=pattern)
        times = encode_rounds(ours, unseen, options.rounds)
        size = sum(len(text.encode()) for text in unseen) / 1e6
        report(f"encoding {size:.1f} MB of unseen text, pattern {pattern}", times, size, baseline="tokenizers")
        if pattern == "gpt4":
            worst_cases(ours)


def train_rounds(novels: list[str], pattern: str, rounds: int) -> Times:
    """Seconds to learn VOCAB_SIZE tokens, the two special ones included."""

    def ours(engine: Any) -> list[str]:
        return BytePairTokenizer.train(novels, vocab_size=VOCAB_SIZE, pattern=pattern, engine=engine).to_schema()[
            "model"
        ]["merges"]

    def theirs() -> list[str]:
        tokenizer: Any = tokenizers.Tokenizer(tokenizers.models.BPE())
        cut = {"type": "Sequence", "pretokenizers": [split(PATTERNS[pattern]), byte_level(use_regex=False)]}
        parts = json.loads(tokenizer.to_str()) | {
            "pre_tokenizer": byte_level(use_regex=True) if pattern == "gpt2" else cut
        }
        tokenizer = tokenizers.Tokenizer.from_str(json.dumps(parts))
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=VOCAB_SIZE - 2,
            min_frequency=2,
            show_progress=False,
            initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        )
        tokenizer.train_from_iterator(novels, trainer)
        return [" ".join(merge) for merge in json.loads(tokenizer.to_str())["model"]["merges"]]

    ways: dict[str, Callable[[], list[str]]] = {"tokenizers": theirs, "our definition": lambda: ours("definition")}
    if pattern == "gpt2":  # gigatoken learns over these pieces only; elsewhere the definition is what users get
        ways["our fast path"] = lambda: ours("gigatoken")
    return take_turns(ways, rounds, check=lambda one, other: one == other)


def encode_rounds(ours: BytePairTokenizer, texts: list[str], rounds: int) -> Times:
    """Seconds to encode all texts, with tokenizers made anew (untimed) for every round."""
    content = json.dumps(document(ours.to_schema(), ours.special))

    def fresh(engine: Any) -> BytePairTokenizer:
        copy = BytePairTokenizer(ours.vocab, ours.merges, ours.special, pattern=ours.pattern, engine=engine)
        _ = copy.fast
        return copy

    def definition() -> Callable[[], Any]:
        tokenizer = fresh("definition")
        return lambda: [tokenizer.encode_slowly(text) for text in texts]

    def fast() -> Callable[[], Any]:
        tokenizer = fresh("gigatoken")
        return lambda: [tokenizer.encode_array(text) for text in texts]

    def hugging_face() -> Callable[[], Any]:
        tokenizer: Any = tokenizers.Tokenizer.from_str(content)
        return lambda: [tokenizer.encode_batch_fast([text])[0] for text in texts]

    def tik_token() -> Callable[[], Any]:
        encoding: Any = tiktoken.Encoding(
            "ours", pat_str=PATTERNS[ours.pattern], mergeable_ranks=ours.vocab, special_tokens=ours.special_tokens
        )
        return lambda: [encoding.encode_ordinary(text) for text in texts]

    ways = {"tokenizers": hugging_face, "tiktoken": tik_token, "our definition": definition, "our fast path": fast}
    return take_turns(ways, rounds, check=same_ids, prepare=True)


def same_ids(one: Sequence[Any], other: Sequence[Any]) -> bool:
    """Whether two tools gave each text the same ids, whatever they hold them in."""
    pairs = zip(one, other, strict=True)
    return all(np.array_equal(np.asarray(getattr(a, "ids", a)), np.asarray(getattr(b, "ids", b))) for a, b in pairs)


def take_turns(
    ways: dict[str, Callable[[], Any]], rounds: int, *, check: Callable[[Any, Any], bool], prepare: bool = False
) -> Times:
    """Run each way once in each round. With `prepare`, a way first makes, untimed, what is then timed."""
    times: Times = {name: [] for name in ways}
    for _ in range(rounds):
        first: Any = None
        for name, way in ways.items():
            run = way() if prepare else way
            gc.collect()
            before = time.perf_counter()
            result = run()
            times[name].append(time.perf_counter() - before)
            first = result if first is None else first
            if not check(first, result):
                sys.exit(f"{name} gives another result than {next(iter(ways))}")
    return times


def report(title: str, times: Times, megabytes: float, baseline: str) -> None:
    """One line for each way: median time, rate, and the ratio to the peers with its range over the rounds."""
    print(f"\n{title}")
    for name, seconds in times.items():
        median = statistics.median(seconds)
        line = f"  {name:16} {median:8.3f} s  {megabytes / median:8.2f} MB/s"
        for other in (baseline, "tiktoken"):
            if name.startswith("our") and other in times:
                ratios = [theirs / mine for theirs, mine in zip(times[other], seconds, strict=True)]
                line += f"  {statistics.median(ratios):6.1f}x {other} ({min(ratios):.1f} to {max(ratios):.1f})"
        print(line)


def worst_cases(ours: BytePairTokenizer) -> None:
    """One endless piece: processor seconds for 100 kB and 1 MB, and their ratio (10 is linear, 100 quadratic)."""
    print("\none piece of 100 kB and of 1 MB, pattern gpt4: processor seconds and growth")
    draw = np.random.default_rng(0)
    for name, unit in LONG.items():
        line = f"  {name:18}"
        for engine, encode in (("definition", ours.encode_slowly), ("fast path", ours.encode)):
            seconds: list[float] = []
            for size in (100_000, 1_000_000):
                letters = "".join(draw.choice(list("etaoinshrdlu"), size)) if unit is None else ""
                text = letters or unit * (size // len(unit.encode()))  # type: ignore[operator]
                before = time.process_time()
                encode(text)
                seconds.append(time.process_time() - before)
            line += f"  {engine} {seconds[0]:.3f} {seconds[1]:.3f} ({seconds[1] / seconds[0]:.0f}x)"
        print(line)


if __name__ == "__main__":
    main()
