"""A thread that ends the process when training hangs, after writing where each of its threads stands."""

from __future__ import annotations

import faulthandler
import os
import statistics
import sys
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from torch import nn

from glassformer.errors import HUNG

STEP, EVALUATION, SAMPLE, SAVE = "step", "evaluation", "sample", "save"
WAIT = "wait for another process"  # which is watched itself
TIMES = 10  # as long as usual is a hang
FEWEST = 5  # of a kind, before which nothing is usual
FIRST_TIMES = 30  # of the least time, where nothing is usual yet: a first step may compile
SPINNING = 10  # times as long is a hang too, where the process computes all the while
IDLE = 0.02  # of a core: a process that takes less waits for something


class UnderWay(NamedTuple):
    """What the process does, and since when on the watchdog's clock. One object, so that both are read at once."""

    kind: str
    began: float


@dataclass
class Look:
    """What was seen of what is under way: seconds in all, and those in which the process hardly computed."""

    under_way: UnderWay
    at: float
    computed: float
    spent: float = 0.0
    waited: float = 0.0


class Watchdog:
    """Watches how long a step, or whatever `busy` names, goes on without a sign of progress.

    A step may take ten times the median of those before, anything else ten times the longest of its kind, both at least
    `least` seconds and thirty times that until five are known. Seconds count in which the process waits; of those in
    which it computes ten times as many are allowed. Without `least` nothing is a hang. Stacks are written to `file`.
    """

    def __init__(
        self,
        file: Path,
        least: float | None,
        clock: Callable[[], float] = time.monotonic,
        computed: Callable[[], float] = time.process_time,
    ) -> None:
        self.file, self.least, self.clock, self.computed = file, least, clock, computed
        self.steps: deque[float] = deque(maxlen=101)
        self.longest: defaultdict[str, float] = defaultdict(float)
        self.known: defaultdict[str, int] = defaultdict(int)
        self.under_way = UnderWay(STEP, clock())
        self._turn = threading.Lock()  # a save beside the training gives signs from a thread of its own
        self._over = threading.Event()

    def alive(self) -> None:
        """A step is done."""
        with self._turn:
            self._note(STEP)

    def sign(self, kind: str) -> None:
        """Part of this kind is done; of no account while something else is under way."""
        with self._turn:
            if self.under_way.kind == kind:
                self._note(kind)

    def _note(self, kind: str) -> None:
        """Something of this kind is done, and the next begins."""
        now = self.clock()
        spent = now - self.under_way.began
        if kind == STEP:
            self.steps.append(spent)
        self.longest[kind] = max(self.longest[kind], spent)
        self.known[kind] += 1
        self.under_way = UnderWay(kind, now)

    @contextmanager
    def busy(self, kind: str) -> Generator[None]:
        """What the block does is no step, and takes another time."""
        with self._turn:
            before = self.under_way.kind
            self.under_way = UnderWay(kind, self.clock())
        try:
            yield
        finally:
            with self._turn:
                self._note(kind)
                self.under_way = UnderWay(before, self.clock())

    @contextmanager
    def following(self, model: nn.Module, kind: str) -> Generator[None]:
        """While the block runs, every call of the model or of one of its stacks is a sign of this kind."""
        with self.busy(kind):
            hooks = [module.register_forward_hook(lambda *_: self.sign(kind)) for module in (model, *model.children())]
            try:
                yield
            finally:
                for hook in hooks:
                    hook.remove()

    def limit(self, kind: str) -> float:
        """Seconds that this kind may go on without a sign."""
        assert self.least is not None
        if kind == WAIT:
            return SPINNING * FIRST_TIMES * self.least
        if self.known.get(kind, 0) < FEWEST:
            return FIRST_TIMES * self.least
        usual = statistics.median(list(self.steps)) if kind == STEP else self.longest[kind]
        return max(self.least, TIMES * usual)

    def watch(self) -> None:
        """Look now and then until all is over."""
        assert self.least is not None
        pause = min(5.0, self.least / 4)
        look = self.first_look()
        while not self._over.wait(pause):
            look = self.look(look, pause)
            if self.is_hung(look) and self.under_way is look.under_way:
                self.bark(look)

    def first_look(self) -> Look:
        """What there is to see at the beginning."""
        return Look(self.under_way, self.clock(), self.computed())

    def look(self, last: Look, pause: float) -> Look:
        """What there is to see a `pause` after the last look."""
        under_way, now, computed = self.under_way, self.clock(), self.computed()
        passed = min(now - last.at, 2 * pause)  # where it is more the whole process was stopped, and that is no hang
        waited = passed if computed - last.computed < IDLE * passed else 0.0
        if under_way is last.under_way:
            return Look(under_way, now, computed, last.spent + passed, last.waited + waited)
        since = max(0.0, min(passed, now - under_way.began))
        return Look(under_way, now, computed, since, min(waited, since))

    def is_hung(self, look: Look) -> bool:
        """Whether what is under way has gone on for too long."""
        allowed = self.limit(look.under_way.kind)
        return look.waited > allowed or look.spent > SPINNING * allowed

    def bark(self, look: Look) -> None:
        """Write where every thread stands, and end the process."""
        kind, allowed = look.under_way.kind, self.limit(look.under_way.kind)
        with suppress(OSError), self.file.open("w", encoding="utf-8") as file:
            file.write(f"{kind} under way for {look.spent:.0f} s\n")
            file.flush()
            faulthandler.dump_traceback(file, all_threads=True)
        with suppress(OSError, ValueError):
            how = "" if look.waited > allowed else f", computing all the while, which {SPINNING} times as much is for"
            print(
                f"glassformer: hung: a {kind} has taken {look.spent:,.0f} s without a sign of progress, and {allowed:,.0f} "
                f"were allowed{how}; where it stands is in {self.file}; the same command goes on from the last checkpoint",
                file=sys.stderr,
                flush=True,
            )
        os._exit(HUNG)

    @contextmanager
    def on_duty(self) -> Generator[None]:
        """Watch while the block runs."""
        if self.least is None:
            yield
            return
        self.under_way = UnderWay(STEP, self.clock())
        threading.Thread(target=self.watch, name="watchdog", daemon=True).start()
        try:
            yield
        finally:
            self._over.set()


def stacks_file(folder: Path, rank: int, world: int) -> Path:
    """Where a process writes its stacks: ``stacks.txt``, of several ``stacks-1.txt`` for the second."""
    return folder / ("stacks.txt" if world == 1 else f"stacks-{rank}.txt")
