"""Loggers of others beside log.jsonl: TensorBoard, Weights & Biases and trackio, each through its own library, none needed."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import sys
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from glassformer.errors import ConfigError, GlassformerError
from glassformer.files import whole_file
from glassformer.training.log import Log

PROJECT = "glassformer"
IDENTITY = "loggers.json"  # in the run folder: the name under which other libraries know the run


@dataclass(frozen=True)
class Told:
    """What a logger is told when it is opened: the run's folder and recipe, the name that no other run has, the step of
    the checkpoint that it goes on from (0 for a new run), and the last step whose rows it was given before."""

    folder: Path
    recipe: Mapping[str, Any]
    identity: str
    step: int = 0
    sent: int = 0


class Logger(ABC):
    """One library's log of one run."""

    library: ClassVar[str]  # what is imported
    extra: ClassVar[str]  # that brings it

    @abstractmethod
    def __init__(self, told: Told) -> None: ...

    @abstractmethod
    def write(self, row: Mapping[str, Any]) -> None:
        """Log a row of log.jsonl."""

    @abstractmethod
    def close(self) -> None:
        """Have all rows on the disk."""


class TensorBoard(Logger):
    """Event files in `tensorboard` of the run folder: numbers as scalars of the same name, anything else as text."""

    library, extra = "tensorboard", "tensorboard"

    def __init__(self, told: Told) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # TensorBoard forgets what earlier files say of this step and later ones, which are written again.
        purged = told.step + 1 if told.step or told.sent else None
        self.writer = SummaryWriter(str(told.folder / "tensorboard"), purge_step=purged)

    def write(self, row: Mapping[str, Any]) -> None:
        for name, value in row.items():
            if name == "step":
                continue
            if isinstance(value, int | float):
                self.writer.add_scalar(name, value, row["step"])
            else:
                self.writer.add_text(name, str(value), row["step"])
        if "val_loss" in row:  # so that who looks on sees every evaluation at once
            self.writer.flush()

    def close(self) -> None:
        self.writer.close()


class WandB(Logger):
    """A Weights & Biases run in `wandb` of the run folder, offline unless WANDB_MODE says otherwise.

    `wandb sync` sends it later. A resumed run has the same id; of rows that it is given twice, W&B keeps the first.
    """

    library, extra = "wandb", "wandb"

    def __init__(self, told: Told) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # its own crash reports would be sent even when offline
        import wandb  # pyright: ignore[reportMissingImports]

        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            name=os.environ.get("WANDB_NAME") or told.folder.name,
            id=told.identity,
            resume="allow",
            dir=str(told.folder),
            config=dict(told.recipe),
            mode=None if os.environ.get("WANDB_MODE") else "offline",
            settings=wandb.Settings(console="off", silent=True, save_code=False, disable_git=True),
        )

    def write(self, row: Mapping[str, Any]) -> None:
        values = {name: value for name, value in row.items() if name != "step"}
        self.run.log(values, step=row["step"])

    def close(self) -> None:
        self.run.finish()


class Trackio(Logger):
    """A trackio run in its local database, which TRACKIO_DIR may place elsewhere; TRACKIO_SPACE_ID and TRACKIO_SERVER_URL
    are the user's way to have it sent somewhere."""

    library, extra = "trackio", "trackio"

    def __init__(self, told: Told) -> None:
        import trackio  # pyright: ignore[reportMissingImports]

        self.sent = told.sent  # trackio would show a step twice
        self.run = trackio.init(
            project=os.environ.get("TRACKIO_PROJECT") or PROJECT,
            name=f"{told.folder.name}-{told.identity}",
            config=dict(told.recipe),
            resume="allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )

    def write(self, row: Mapping[str, Any]) -> None:
        if row["step"] <= self.sent:
            return
        self.run.log({name: value for name, value in row.items() if name != "step"}, step=row["step"])

    def close(self) -> None:
        import trackio  # pyright: ignore[reportMissingImports]

        trackio.finish()  # which, unlike the run's own, is not done again when Python ends


class Loggers(Log):
    """log.jsonl, and every logger told the same rows. One that fails is told of once and left alone from then on."""

    def __init__(self, log: Log, names: Sequence[str], recipe: Mapping[str, Any], note: Callable[[str], None]) -> None:
        super().__init__(log.path)
        self.log, self.names, self.recipe, self.note = log, tuple(dict.fromkeys(names)), recipe, note
        self.open: dict[str, Logger] = {}

    def resume(self, step: int) -> None:
        sent = max((int(row["step"]) for row in self.log.rows()), default=0)
        self.log.resume(step)
        self.close()
        folder = self.path.parent
        try:
            told = Told(folder, self.recipe, identity_of(folder), step, sent)
        except GlassformerError as error:
            self.note(f"{', '.join(self.names)} cannot be used ({error}); log.jsonl has every row")
            return
        for name in self.names:
            with self.forgiving(name, "cannot be used"):
                self.open[name] = LOGGERS[name](told)

    def write(self, row: dict[str, Any]) -> None:
        self.log.write(row)
        for name, logger in list(self.open.items()):
            with self.forgiving(name, "has failed and gets no more rows"):
                logger.write(row)

    def rows(self) -> list[dict[str, Any]]:
        return self.log.rows()

    def close(self) -> None:
        """Have every logger finish what it was given."""
        for name, logger in list(self.open.items()):
            with self.forgiving(name, "could not be finished"):
                logger.close()
            self.open.pop(name, None)

    @contextlib.contextmanager
    def forgiving(self, name: str, what: str) -> Any:
        """Whatever a library raises is said, and training goes on; what it prints goes where notes go."""
        try:
            with contextlib.redirect_stdout(sys.stderr):
                yield
        except Exception as error:  # libraries raise what they like
            self.open.pop(name, None)
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            self.note(f"{name} {what} ({reason}); training goes on, and log.jsonl has every row")


def with_loggers(log: Log, names: Sequence[str], recipe: Mapping[str, Any], note: Callable[[str], None]) -> Log:
    """The log itself, or one that tells others too. Raises ConfigError where a library is missing."""
    check_loggers(names)
    return Loggers(log, names, recipe, note) if names else log


def check_loggers(names: Sequence[str] | None) -> None:
    """Raise ConfigError for a logger whose library is not installed here."""
    for name in names or ():
        kind = LOGGERS[name]
        if importlib.util.find_spec(kind.library) is None:
            raise ConfigError(
                f"loop.loggers: logging to {name} needs {kind.library}: pip install 'glassformer[{kind.extra}]'"
            )


def identity_of(folder: Path) -> str:
    """The name that the run in this folder has in other libraries: made up once, and kept there."""
    path = folder / IDENTITY
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["id"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    identity = uuid.uuid4().hex[:12]
    with whole_file(path) as draft:
        draft.write_text(json.dumps({"id": identity}), encoding="utf-8")
    return identity


LOGGERS: dict[str, type[Logger]] = {"tensorboard": TensorBoard, "wandb": WandB, "trackio": Trackio}
