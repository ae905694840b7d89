"""The vectors of utterances: read once, extracted once, kept in memory as far as that is allowed, changed in training."""

# N samples of a wave, T vectors of an utterance, F channels of each

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glassformer.data.sound import read_sound, sound_info, trimmed
from glassformer.data.utterances import Utterance, read_vectors
from glassformer.data.utterances.corpus import SOUND_EXTENSIONS
from glassformer.errors import ConfigError, DataError
from glassformer.features import FeatureConfig, extract
from glassformer.training.augment import Draws, Wave, at_speed, hide, stretch_of, white_noise, with_noise
from glassformer.training.recipe import AugmentRecipe

MOST_KEPT = (
    2 << 30
)  # bytes of samples and vectors in memory: some 8 hours of speech at three speeds; the rest is read again
LOOKED_AT = 64  # files whose rate is looked up to decide on one
HIGHEST_RATE = 16_000  # samples a second, above which there is nothing to tell words apart by


class Hearing:
    """What a model hears of some utterances. `rows` by side ("train", "validation"); nothing it gives depends on its memory."""

    def __init__(self, rows: Mapping[str, Sequence[Utterance]], features: FeatureConfig, most: int = MOST_KEPT) -> None:
        self.rows, self.features, self.free = rows, features, most
        self.kept: dict[tuple[object, ...], Any] = {}  # samples and vectors by what they are of
        self.problems: dict[str, dict[int, str]] = {}  # by side and row, why it cannot be read
        self.sizes: dict[str, NDArray[np.int64]] = {}  # by side, the samples of each row; of vectors how many they are
        self.digest = ""  # sha256 of all of them
        self.digests: dict[str, str] = {}  # of each file as it is heard
        self.noise: dict[str, str] = {}  # the same of noise to train under

    def read_all(self) -> None:
        """Read every row once: how long it is, and whether it can be read at all."""
        digest = hashlib.sha256()
        of_files: defaultdict[str, Any] = defaultdict(hashlib.sha256)  # of which a row may be a stretch
        for side, rows in self.rows.items():
            sizes, problems = np.zeros(len(rows), np.int64), {}
            for number in range(len(rows)):
                try:
                    found = self.samples(side, number) if self.is_sound else self.vectors(side, number).numpy()
                    sizes[number] = len(found)
                    content = found.tobytes()
                except DataError as error:
                    problems[number] = str(error)
                    content = b"cannot be read"
                else:
                    digest.update(content)
                of_files[str(rows[number].path)].update(content)
            self.sizes[side], self.problems[side] = sizes, problems
        self.digest = digest.hexdigest()
        self.digests = {path: found.hexdigest() for path, found in of_files.items()}

    @property
    def is_sound(self) -> bool:
        """Whether there are waves behind the vectors."""
        return self.features.kind != "vectors"

    def frames(self, side: str, speed: float = 1.0) -> NDArray[np.int64]:
        """How many vectors each row has at a speed; 0 where it cannot be read."""
        return np.array([self.features.frames(math.ceil(n / speed)) for n in self.sizes[side].tolist()], np.int64)

    def samples(self, side: str, number: int) -> Wave:
        """The wave of a row: N. Raises DataError with the file's name."""
        row = self.rows[side][number]
        return self.keep(
            ("samples", side, number),
            lambda: trimmed(
                read_sound(row.path, self.features.rate, offset=row.offset, duration=row.duration).samples,
                self.features,
            ),
        )

    def vectors(self, side: str, number: int, speed: float = 1.0) -> Tensor:
        """The vectors of a row, its sound played at a speed: T F. Raises DataError with the file's name."""

        def found() -> Tensor:
            if self.is_sound:
                return self.heard(at_speed(self.samples(side, number), self.features.rate, speed))
            return self.heard(read_vectors(self.rows[side][number]))

        return self.keep(("vectors", side, number, speed), found)

    def heard(self, wave: NDArray[np.float32]) -> Tensor:
        """The vectors of a wave: T F."""
        return extract(torch.from_numpy(wave), self.features)

    def changed(self, side: str, number: int, recipe: AugmentRecipe, seed: Callable[[str], int]) -> Tensor:
        """The vectors of a row as a step sees them. `seed` gives that of each purpose. T F."""
        speed = recipe.speeds[Draws(seed("speed")).below(len(recipe.speeds))]
        if recipe.noise_db is None:
            vectors = self.vectors(side, number, speed)
        else:
            draws = Draws(seed("noise"))
            wave = at_speed(self.samples(side, number), self.features.rate, speed)
            noise = self.noise_for(recipe, len(wave), draws)
            vectors = self.heard(with_noise(wave, noise, draws.between(*recipe.noise_db)))
        return hide(vectors, recipe, Draws(seed("hide")))

    def noise_for(self, recipe: AugmentRecipe, n: int, draws: Draws) -> Wave:
        """n samples of noise out of the files that the recipe names, white where it names none."""
        if not recipe.noise:
            return white_noise(n, draws)
        files = self.keep(("noise", recipe.noise), lambda: noise_files(recipe.noise))
        return stretch_of(self.noise_of(files[draws.below(len(files))]), n, draws)

    def noise_of(self, path: Path) -> Wave:
        """The wave of a file of noise: N. Raises DataError with its name."""
        return self.keep(("noise", path), lambda: read_sound(path, self.features.rate).samples)

    def read_noise(self, recipe: AugmentRecipe) -> None:
        """Read every file of noise once, so that one that cannot be read stops a run before its first step.

        Raises ConfigError where there is none, DataError with the name of the first that cannot be read or is empty.
        """
        if not recipe.noise or self.noise:
            return
        for path in noise_files(recipe.noise):
            wave = self.noise_of(path)
            if not len(wave):
                raise DataError(
                    f"{path}: holds no sound, so it is no noise to train under; leave it out of augment.noise"
                )
            self.noise[str(path)] = hashlib.sha256(wave.tobytes()).hexdigest()

    def keep(self, key: Any, make: Callable[[], Any]) -> Any:
        """What is remembered under a key, or else made, and remembered while there is room."""
        if key in self.kept:
            return self.kept[key]
        made = make()
        size = getattr(made, "nbytes", 0)
        if size <= self.free:
            self.kept[key] = made
            self.free -= size
        return made

    @cached_property
    def seconds(self) -> float:
        """How long the training utterances are together; of vectors as if there were a hundred in a second."""
        return float(self.sizes["train"].sum()) / (self.features.rate if self.is_sound else 100)


@contextmanager
def one_thread() -> Generator[None]:
    """Arrays of a single utterance are too small to be shared out: waiting for a second thread took longer than the work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def noise_files(names: Sequence[str]) -> list[Path]:
    """The files of sound that some names of files and folders stand for, in order. Raises ConfigError where there is none."""
    found: list[Path] = []
    for path in map(Path, names):
        inside = sorted(path.rglob("*")) if path.is_dir() else [path]
        found += [file for file in inside if file.is_file() and file.suffix.lower() in SOUND_EXTENSIONS]
    if not found:
        raise ConfigError(f"augment.noise: no file of sound in {', '.join(names)}")
    return found


def usual_rate(rows: Sequence[Utterance]) -> int:
    """The rate of most of the files, looked up in some of them, up to 16 kHz. Raises DataError where none can be read."""
    files = list(dict.fromkeys(row.path for row in rows))
    rates: Counter[int] = Counter()
    problem: DataError | None = None
    for path in files[:: -(-len(files) // LOOKED_AT)]:
        try:
            rates[sound_info(path).rate] += 1
        except DataError as error:
            problem = problem or error
    if problem is not None and not rates:
        raise problem
    return min(HIGHEST_RATE, rates.most_common(1)[0][0])
