"""The sounds that a verb is asked about: files, folders, a pipe, the microphone; and how far the hearing of one is."""

from __future__ import annotations

import io
import itertools
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glassformer.cli.standard_input import is_piped

if TYPE_CHECKING:
    from glassformer.pipeline import Pipeline
    from glassformer.pipeline.transcribe import Spoken

STDIN = "-"
LIVE, PLAIN = 0.2, 10.0  # seconds between words on how far it is


def sources_of(files: Sequence[str] | None, microphone: bool) -> list[str | None]:
    """The files that were named, those of folders in order; None stands for the microphone. Raises ConfigError, DataError."""
    from glassformer.data.utterances.corpus import SOUND_EXTENSIONS
    from glassformer.data.utterances.units import files_below
    from glassformer.errors import ConfigError, DataError

    if microphone:
        if files:
            raise ConfigError("--microphone takes the place of files; give one or the other")
        return [None]
    if not files:
        if not is_piped():
            raise ConfigError("name a file of sound, a folder, or - for standard input; or listen with --microphone")
        files = [STDIN]
    found: list[str | None] = []
    for name in files:
        path = Path(name)
        if name == STDIN or not path.is_dir():
            found.append(name)
            continue
        inside = [str(one) for one in files_below(path) if one.suffix.lower() in SOUND_EXTENSIONS and one.is_file()]
        if not inside:
            raise DataError(f"{path}: holds no file of sound ({', '.join(SOUND_EXTENSIONS)})")
        found += inside
    return found


def label_of(name: str | None) -> str:
    """What a source is called on the screen."""
    return "microphone" if name is None else "standard input" if name == STDIN else name


def stems_of(sources: Sequence[str | None]) -> list[str]:
    """What the files for each source are called: as the sound, with its folders before where two sounds have one name, with
    its extension behind where these are alike too, and a number where even that tells them not apart."""
    spelled = [spellings_of(name) for name in sources]
    counts = [Counter(one.casefold() for one in level) for level in zip(*spelled, strict=True)]  # as some systems do
    found: list[str] = []
    taken: set[str] = set()
    for names in spelled:
        stem = next((one for one, count in zip(names, counts, strict=True) if count[one.casefold()] == 1), names[-1])
        numbered = (stem if number == 1 else f"{stem}-{number}" for number in itertools.count(1))
        found.append(next(one for one in numbered if one.casefold() not in taken))
        taken.add(found[-1].casefold())
    return found


def spellings_of(name: str | None) -> tuple[str, str, str]:
    """A name for a source, one with its folders, and one with its extension too."""
    if name is None or name == STDIN:
        label = label_of(name).replace(" ", "-")
        return label, label, label
    path = Path(name)
    folders = [part for part in path.parent.parts if part not in (path.anchor, "..")]
    return path.stem, "-".join([*folders, path.stem]), "-".join([*folders, path.name])


def source_of(pipe: Pipeline, name: str | None, seconds: float | None) -> tuple[Spoken, dict[str, Any]]:
    """What `listen` reads, and the rate of samples that come without one."""
    from glassformer.errors import DataError

    if name is None:
        from glassformer.cli.microphone import record

        rate = pipe.features.rate if pipe.features is not None else 16_000
        return record(rate, seconds), {"rate": rate}
    if name != STDIN:
        return Path(name), {}
    if sys.stdin is None:
        raise DataError("standard input is closed; name a file or pipe one in")
    return sys.stdin.buffer, {}


def length_of(name: str | None) -> float | None:
    """How many seconds a file lasts, where its header says so."""
    from glassformer.data.sound import sound_info
    from glassformer.errors import GlassformerError

    if name in (None, STDIN):
        return None
    try:
        return sound_info(name or "").seconds
    except GlassformerError:
        return None


class Progress:
    """How far the hearing of a file is, on the error stream: one line that changes on a terminal, plain lines in a pipe."""

    def __init__(self, label: str, length: float | None) -> None:
        self.stream = sys.stderr or io.StringIO()
        self.label, self.length = label, length
        self.began = self.told = time.monotonic()
        self.width = 0

    def __call__(self, segments: Sequence[Any], until: float) -> None:
        """So many seconds have been heard."""
        now, live = time.monotonic(), self.stream.isatty()
        if now - self.told < (LIVE if live else PLAIN):
            return
        self.told = now
        of = "" if self.length is None else f" of {minutes(self.length)}"
        line = f"{self.label}: {minutes(until)}{of}, {until / max(now - self.began, 1e-9):.1f} times real time"
        if live:
            print(f"\r{line:<{self.width}}", end="", file=self.stream, flush=True)
            self.width = len(line)
        else:
            print(line, file=self.stream, flush=True)

    def end(self) -> None:
        """Wipe the line that changes."""
        if self.width:
            print(f"\r{'':<{self.width}}\r", end="", file=self.stream, flush=True)
            self.width = 0


def minutes(seconds: float) -> str:
    """``12:05``."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"
