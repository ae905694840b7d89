"""All parts to a folder of shards: planned once, shared out to processes, gone on with where it was stopped."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from glassformer.data.shards.making import Spec, is_made, prepare_part, quarantine_path, shard_path
from glassformer.data.shards.manifest import (
    MANIFEST,
    PLAN,
    QUARANTINE,
    TOKENIZER,
    Manifest,
    Shards,
    manifest_of,
    open_shards,
    tokenizer_digest,
    write_manifest,
)
from glassformer.data.shards.parts import Part, plan_parts
from glassformer.data.shards.rows import Reading, check_encoding
from glassformer.data.shards.sample import sample_texts
from glassformer.data.shards.shard import Shard
from glassformer.errors import ConfigError, DataError, Interrupted
from glassformer.files import TEMPORARY, whole_file
from glassformer.tokenizers import Tokenizer, load_tokenizer, train_tokenizer

POLL = 0.2  # seconds between looks at how far it is
TOKENS = 50_000_000  # of a shard


class Progress(Protocol):
    """Told how many bytes of input and parts are done; called often."""

    def __call__(self, done: int, total: int, parts_done: int, parts: int) -> None: ...


@dataclass(frozen=True)
class TokenizerChoice:
    """The tokenizer that the shards get: one that exists, or one trained on a share of the text."""

    tokenizer: Tokenizer | None = None
    kind: str = "bpe"
    vocab_size: int | None = None

    def known(self) -> dict[str, Any]:
        """As the plan keeps it."""
        if self.tokenizer is not None:
            return {"digest": tokenizer_digest(self.tokenizer)}
        return {"kind": self.kind, "vocab_size": self.vocab_size}


def prepare(
    sources: Sequence[str | Path],
    folder: Path,
    choice: TokenizerChoice | None = None,
    *,
    reading: Reading | None = None,
    workers: int = 1,
    shard_tokens: int = TOKENS,
    most_bad: float = 0.05,
    progress: Progress | None = None,
    maker: Callable[[Sequence[Part], Spec, int, Progress | None], None] | None = None,
) -> Shards:
    """Make token shards of all text of some sources, or go on where an earlier call with the same arguments was stopped.

    `most_bad`: the share of rows that may be quarantined. `maker`: who makes the shards of all parts; by default this process
    and its own workers. Raises Interrupted at Ctrl-C and SIGTERM with the finished
    shards kept, ConfigError where the folder holds other work, DataError, DiskError, TokenizerError.
    """
    reading, choice = reading or Reading(), choice or TokenizerChoice()
    check_encoding(reading.encoding)
    with stoppable(folder):
        parts, spec = begin(sources, folder.absolute(), choice, reading, shard_tokens)
        if not is_finished(folder):
            (maker or make)(parts, spec, workers, progress)
            finish(parts, folder, most_bad)
        for number in range(len(parts)):
            quarantine_path(folder, number).unlink(missing_ok=True)  # they have been joined
    return open_shards(folder)


def is_finished(folder: Path) -> bool:
    """Whether nothing is left to do. A manifest whose shards are missing or damaged is deleted, so that they are made anew."""
    if not (folder / MANIFEST).exists():
        return False
    try:
        open_shards(folder).verify()
    except DataError:
        (folder / MANIFEST).unlink()
        return False
    return True


def begin(
    sources: Sequence[str | Path], folder: Path, choice: TokenizerChoice, reading: Reading, shard_tokens: int
) -> tuple[list[Part], Spec]:
    """The plan, which is the earlier one where there is one. Raises ConfigError where it is that of other work."""
    parts = plan_parts(sources, shard_tokens, reading.text_key)
    asked = {
        "parts": [{**asdict(part), "groups": part.groups and list(part.groups)} for part in parts],
        "reading": asdict(reading),
        "tokenizer": choice.known(),
    }
    earlier = read_plan(folder / PLAN)
    if earlier is not None and earlier != asked:
        changed = ", ".join(key for key in asked if earlier.get(key) != asked[key])
        raise ConfigError(
            f"{folder}: holds shards of other work (another {changed}: files, their sizes or options); choose another folder"
        )
    if earlier is None:
        if folder.exists() and any(not path.name.startswith(TEMPORARY) for path in folder.iterdir()):
            if not only_tokenizer(folder):
                raise ConfigError(f"{folder}: holds other files; choose a new folder for the shards")
            shutil.rmtree(folder / TOKENIZER)
        made = choice.tokenizer or train_tokenizer(
            choice.kind, sample_texts(parts, reading), vocab_size=choice.vocab_size
        )
        made.save(folder / TOKENIZER)
        with whole_file(folder / PLAN) as path:
            path.write_text(json.dumps(asked, indent=1) + "\n", encoding="utf-8")
    tokenizer = load_tokenizer(folder / TOKENIZER)
    return parts, Spec(str(folder), tokenizer_digest(tokenizer), reading)


def only_tokenizer(folder: Path) -> bool:
    """Whether nothing but a tokenizer stands there, as where the very beginning was interrupted."""
    return {path.name for path in folder.iterdir() if not path.name.startswith(TEMPORARY)} == {TOKENIZER}


def read_plan(path: Path) -> Any:
    """An earlier plan, None where there is none. Raises DataError."""
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise DataError(f"{path}: cannot be read; delete its folder and prepare the data again") from None


def make(parts: Sequence[Part], spec: Spec, workers: int, progress: Progress | None) -> None:
    """The shards that are missing, in this process or in several."""
    todo = [number for number, part in enumerate(parts) if not is_made(number, part, spec)]
    total = sum(part.n_bytes for part in parts)
    state = Count(total - sum(parts[number].n_bytes for number in todo), len(parts) - len(todo), total, len(parts))
    tell = progress or (lambda done, total, parts_done, parts: None)
    tell(state.done, state.total, state.parts_done, state.parts)
    if workers <= 1 or len(todo) <= 1:
        for number in todo:
            prepare_part(number, parts[number], spec, lambda n: state.add(n, tell))
            state.parts_done += 1
            state.add(0, tell)
    else:
        make_in_processes(todo, parts, spec, min(workers, len(todo)), state, tell)


@dataclass
class Count:
    """How far it is."""

    done: int
    parts_done: int
    total: int
    parts: int

    def add(self, n: int, tell: Progress) -> None:
        """So much more."""
        self.done += n
        tell(self.done, self.total, self.parts_done, self.parts)


def make_in_processes(
    todo: Sequence[int], parts: Sequence[Part], spec: Spec, workers: int, state: Count, tell: Progress
) -> None:
    """The same in several processes; which of them makes a shard makes no difference to it."""
    context = multiprocessing.get_context("spawn")
    stop, counted = context.Event(), context.Value("q", 0)
    before = state.done
    pool = ProcessPoolExecutor(workers, context, initializer=begin_worker, initargs=(stop, counted, os.getpid()))
    try:
        waiting: set[Future[Any]] = {pool.submit(work, number, parts[number], spec) for number in todo}
        while waiting:
            done, waiting = wait(waiting, timeout=POLL, return_when=FIRST_COMPLETED)
            for future in done:
                future.result()
            state.parts_done += len(done)
            state.done = before + counted.value
            tell(state.done, state.total, state.parts_done, state.parts)
    except BrokenProcessPool:
        raise DataError(
            "a worker died, perhaps for want of memory; run the same command again to go on, or with fewer --workers"
        ) from None
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


class Stopped(Exception):
    """The parent wants no more."""


SHARED: dict[str, Any] = {}  # of a worker process: what it was begun with


def begin_worker(stop: Any, counted: Any, parent: int) -> None:
    """A worker leaves Ctrl-C to its parent, and does not outlive it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    SHARED.update(stop=stop, counted=counted)

    def follow() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def work(number: int, part: Part, spec: Spec) -> None:
    """One part in a worker process."""

    def watch(n_bytes: int) -> None:
        if SHARED["stop"].is_set():
            raise Stopped
        with SHARED["counted"].get_lock():
            SHARED["counted"].value += n_bytes

    prepare_part(number, part, spec, watch)


def finish(parts: Sequence[Part], folder: Path, most_bad: float) -> None:
    """Join what is quarantined, and write the manifest, which makes the folder one to train from. Raises DataError
    where too much is bad or nothing is left."""
    shards = [Shard(shard_path(folder, number)) for number in range(len(parts))]
    manifest = manifest_of(shards)
    lists = [path for number in range(len(parts)) if (path := quarantine_path(folder, number)).exists()]
    with whole_file(folder / QUARANTINE) as path, path.open("wb") as file:
        for part in lists:
            with part.open("rb") as listed:
                shutil.copyfileobj(listed, file)
    refuse_unusable(manifest, folder, most_bad)
    for left in folder.glob(f"{TEMPORARY}*"):
        left.unlink(missing_ok=True)
    write_manifest(manifest, folder)


def refuse_unusable(manifest: Manifest, folder: Path, most_bad: float) -> None:
    """Raise DataError where there is no document, or more rows than allowed are bad."""
    if manifest.quarantined > most_bad * manifest.rows or (manifest.quarantined and not manifest.documents):
        with (folder / QUARANTINE).open(encoding="utf-8") as file:
            first = json.loads(file.readline())
        raise DataError(
            f"{manifest.quarantined:,} of {manifest.rows:,} rows are bad, more than --max-bad {most_bad:g} allows; the first,"
            f" in {first['file']}: {first['reason']}; all are listed in {folder / QUARANTINE}"
        )
    if not manifest.documents:
        raise DataError(f"{folder}: no text in the files named; name some that hold text")


@contextlib.contextmanager
def stoppable(folder: Path) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the work with what is finished kept."""

    def stop(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    mine = threading.current_thread() is threading.main_thread()
    usual = signal.signal(signal.SIGTERM, stop) if mine else None
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(
            f"stopped; the finished shards are in {folder}, run the same command again to go on"
        ) from None
    finally:
        if mine:
            signal.signal(signal.SIGTERM, usual)
